"""`letheon ledger export` from a real coordinator, and the check of its file without one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import NOON
from erasure_builders import Federation, a_running_federation
from typer.testing import CliRunner, Result

from coordinator.domain.ledger_rows import follow
from letheon.cli import ledger_export
from letheon.cli.main import app
from letheon.federation.ledger import EntryKind
from letheon.v1 import ledger_pb2

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    with a_running_federation(tmp_path / "federation") as running:
        running.train("north", "south", "west")
        running.job(running.request("south").name).remove()
        running.train("north")
        yield running


def ledger(federation: Federation, *words: str) -> Result:
    address = federation.coordinator.address
    return CliRunner().invoke(app, ["--coordinator", address, "ledger", *words])


def verify(*words: str) -> Result:
    return CliRunner().invoke(app, ["--coordinator", NOWHERE, "ledger", "verify", *words])


@pytest.fixture
def file(federation: Federation, tmp_path: Path) -> Path:
    out = tmp_path / "out" / "ledger.jsonl"
    result = ledger(federation, "export", "--out", str(out))
    assert result.exit_code == 0, result.output
    return out


def test_a_file_holds_without_a_coordinator_and_says_what_is_not_checked(
    federation: Federation, file: Path
) -> None:
    rows = federation.rows()
    result = verify("--file", str(file))
    assert result.exit_code == 0, result.output
    assert f"{len(rows)} entries from 0 to {rows[-1].entry}" in result.stdout
    assert rows[-1].hash in result.stdout
    assert "Not checked: the replay" in result.stdout
    assert [path.name for path in file.parent.iterdir()] == ["ledger.jsonl"]
    with_tip = verify("--file", str(file), "--tip", rows[-1].hash, "--format", "json")
    assert json.loads(with_tip.stdout)["holds"] is True


def test_a_file_that_exists_is_kept(federation: Federation, file: Path) -> None:
    before = file.read_bytes()
    result = ledger(federation, "export", "--out", str(file))
    assert result.exit_code == 78
    assert "exists; choose another --out" in result.stderr
    assert file.read_bytes() == before


@pytest.mark.parametrize("out", [[], ["--out", "-"]])
def test_standard_output_gets_the_same_lines(
    federation: Federation, file: Path, out: list[str]
) -> None:
    result = ledger(federation, "export", *out)
    assert result.stdout_bytes == file.read_bytes()


def test_pages_are_joined_and_a_range_is_cut_out(
    federation: Federation, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_export, "_PAGE", 2)
    assert ledger(federation, "export").stdout_bytes == file.read_bytes()
    part = ledger(federation, "export", "--first", "1", "--last", "3").stdout_bytes
    assert part.splitlines() == file.read_bytes().splitlines()[1:4]


def test_a_range_the_ledger_does_not_have_is_a_usage_error(
    federation: Federation, tmp_path: Path
) -> None:
    for words in (["--last", "900"], ["--first", "900"], ["--first", "3", "--last", "2"]):
        result = ledger(federation, "export", "--out", str(tmp_path / "x"), *words)
        assert result.exit_code == 2
        assert "the ledger has entries 0 to" in result.stderr
        assert not (tmp_path / "x").exists()


def test_what_was_done_to_a_file_is_named_with_its_row(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    rows = whole.splitlines(keepends=True)
    bad = {
        "altered": (whole.replace(b'"north"', b'"south"', 1), 1, "was altered: its hash differs"),
        "cut": (whole[:-40], len(rows) - 1, "the file was cut there"),
        "dropped": (b"".join(rows[:2] + rows[3:]), 2, "is missing or out of order"),
        "swapped": (b"".join([rows[0], rows[2], rows[1], *rows[3:]]), 1, "is missing or out of"),
        "empty": (b"", 0, "the file has no row"),
        "spaced": (whole.replace(b'","row":', b'", "row":', 1), 0, "no line of an exported"),
        "other": (b"\x00" * 300, 0, "no line of an exported ledger"),
    }
    for name, (content, row, why) in bad.items():
        changed = tmp_path / name
        changed.write_bytes(content)
        result = verify("--file", str(changed))
        assert result.exit_code == 1, name
        assert why in result.stdout, name
        assert f"First bad entry: {row}." in result.stdout, name
        document = json.loads(verify("--file", str(changed), "--format", "json").stdout)
        assert (document["holds"], document["first_bad_entry"]) == (False, row)


def test_whole_rows_missing_at_the_end_show_against_the_tip(file: Path) -> None:
    rows = file.read_bytes().splitlines(keepends=True)
    tip = json.loads(rows[-1])["hash"]
    file.write_bytes(b"".join(rows[:-1]))
    assert verify("--file", str(file)).exit_code == 0
    result = verify("--file", str(file), "--tip", tip)
    assert result.exit_code == 1
    assert f"row {len(rows) - 1} is missing, or this is another ledger" in result.stdout


def test_a_file_that_cannot_be_read_and_a_tip_without_a_file_are_refused(tmp_path: Path) -> None:
    missing = verify("--file", str(tmp_path / "none"))
    assert missing.exit_code == 78
    assert "cannot be read: No such file" in missing.stderr
    assert verify("--tip", "a" * 64).exit_code == 2


def test_a_page_of_long_rows_fits_a_message(federation: Federation) -> None:
    store = federation.coordinator.core.store
    sums = {f"site-{i}": "a" * 64 for i in range(1000)}
    with store.write() as uow:
        newest = uow.entries.newest()
        assert newest is not None
        for _ in range(40):
            newest = follow(newest, EntryKind.ANCHOR, at=NOON, details={"contributions": sums})
            uow.entries.add(newest)
        uow.commit()
    first, pages = 0, 0
    while page := federation.client.ledger.ListEntries(
        ledger_pb2.ListEntriesRequest(first=first, page_size=1000)
    ).entries:
        assert page[0].entry == first
        first, pages = page[-1].entry + 1, pages + 1
    assert first == newest.entry + 1
    assert pages > 2
