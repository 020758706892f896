"""docs/cli.md names every command, option, exit code and JSON field there is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from letheon.cli import documents
from letheon.cli.exits import MEANINGS
from letheon.cli.ledger_export import ChainVerdict, chain_document
from letheon.cli.main import app
from letheon.cli.study_progress import study_document
from letheon.simulation.config import parse_study
from letheon.simulation.units import units_of
from letheon.v1 import erasures_pb2, federation_pb2, ledger_pb2, models_pb2, sites_pb2

TEXT = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
FOR_EVERY_COMMAND = {"--coordinator", "--format"}


def commands_below(command: Any, path: str = "letheon") -> Iterator[tuple[str, Any]]:
    inner: Mapping[str, Any] = getattr(command, "commands", {})
    for name, each in inner.items():
        yield from commands_below(each, f"{path} {name}")
    if not inner:
        yield path, command


STUDY = parse_study(
    {"name": "core", "seeds": [0], "images": [{"name": "lungs", "file": "lungs.npz"}]},
    origin="the study",
)
COMMANDS = dict(commands_below(typer.main.get_command(app)))
Erasure = erasures_pb2.Erasure
DOCUMENTS: dict[str, dict[str, Any]] = {
    "federation": documents.federation_document(federation_pb2.FederationStatus()),
    "site": documents.site_document(sites_pb2.Site(), datetime.now(UTC)),
    "model": documents.model_document(models_pb2.Model()),
    "export": documents.export_document(models_pb2.Export()),
    "erasure": documents.erasure_document(
        Erasure(
            removal=erasures_pb2.Removal(epoch=1),
            attempts=[erasures_pb2.Attempt(tests=[erasures_pb2.Attempt.Test()])],
        )
    ),
    "entry": documents.entry_document(ledger_pb2.Entry()),
    "verdict": documents.verdict_document(ledger_pb2.LedgerVerdict()),
    "study": study_document(STUDY, units_of(STUDY), Path("out"), failed={}),
    "chain": chain_document(ChainVerdict(Path("ledger.jsonl"), None)),
}


def fields_of(document: object) -> set[str]:
    """Names of the fields of the document and of what is in it."""
    if isinstance(document, Mapping):
        return set(document).union(*map(fields_of, document.values()))
    if isinstance(document, list):
        return set().union(*map(fields_of, document))
    return set()


def section(title: str) -> str:
    found = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^##|\Z)", TEXT, re.M | re.S)
    assert found, f"docs/cli.md has no section {title}"
    return found.group(1)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section_with_its_options(name: str) -> None:
    text = section(name)
    options = {option for each in COMMANDS[name].params for option in each.opts}
    for option in options - FOR_EVERY_COMMAND:
        if option.startswith("--"):
            assert f"`{option}`" in text
    assert "JSON:" in text


def test_no_section_is_of_a_command_that_is_gone() -> None:
    assert set(re.findall(r"^### (letheon .+)$", TEXT, re.M)) == set(COMMANDS)


@pytest.mark.parametrize("code", MEANINGS)
def test_every_exit_code_has_a_row(code: int) -> None:
    assert f"| {int(code)} | {MEANINGS[code]} |" in TEXT


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_field_of_a_document_is_named(name: str) -> None:
    text = section(name)
    assert [each for each in fields_of(DOCUMENTS[name]) if f"`{each}`" not in text] == []


def test_every_state_of_an_erasure_is_named() -> None:
    states = [name for name, _ in Erasure.State.items() if not name.endswith("UNSPECIFIED")]
    assert [state for state in states if state not in section("erasure")] == []
