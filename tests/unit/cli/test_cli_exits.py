"""Every error has an exit code that the help names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from letheon import errors
from letheon.cli.exits import MEANINGS, ExitCode, advice, exit_code
from letheon.cli.main import app


def every_error(root: type[errors.LetheonError] = errors.LetheonError) -> Iterator[type]:
    yield root
    for kind in root.__subclasses__():
        if kind.__module__ == "letheon.errors":
            yield from every_error(kind)


@pytest.mark.parametrize("kind", list(every_error()), ids=lambda kind: kind.__name__)
def test_every_error_has_a_code_that_the_help_names(kind: type[errors.LetheonError]) -> None:
    assert exit_code(kind("a sentence")) in MEANINGS
    assert exit_code(kind("a sentence")) is not ExitCode.OK


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.LedgerBroken, 1),
        (errors.CertificateInvalid, 1),
        (errors.MalformedName, 2),
        (errors.UnknownErasure, 3),
        (errors.ErasureNotCancellable, 4),
        (errors.ErasureAlreadyRequested, 4),
        (errors.CoordinatorUnreachable, 5),
        (errors.BadConfig, 78),
        (errors.BadData, 78),
        (errors.InternalFault, 70),
    ],
)
def test_the_most_specific_class_decides(kind: type[errors.LetheonError], code: int) -> None:
    assert exit_code(kind("a sentence")) == code


def test_whoever_finds_no_coordinator_is_told_how_to_start_one() -> None:
    assert "letheon up" in advice(errors.CoordinatorUnreachable("away"))


def test_the_help_lists_every_exit_code() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert all(meaning in shown for meaning in MEANINGS.values())
