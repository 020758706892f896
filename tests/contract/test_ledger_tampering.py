"""VerifyLedger after an erasure, and after somebody altered a row or a file."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from builders import NOON, a_plan
from erasure_builders import Federation, a_running_federation
from typer.testing import CliRunner

from coordinator.domain.model import Compaction
from letheon.cli.main import app
from letheon.federation.ledger import Entry, EntryKind, canonical_bytes
from letheon.servicekit.signing import SigningKey


@dataclass
class Archive:
    """A federation after a certified erasure of south: rows, files, and ways to damage them.

    Rows 0..: initial, north, south, west, removal, north, west, promotion, anchor, north, west.
    """

    federation: Federation

    def rows(self) -> list[Entry]:
        with self.federation.coordinator.core.store.read() as uow:
            return uow.entries.page(0, 100)

    def numbers(self, kind: EntryKind) -> list[int]:
        return [row.entry for row in self.rows() if row.kind is kind]

    @property
    def anchor(self) -> Entry:
        return self.rows()[self.numbers(EntryKind.ANCHOR)[0]]

    def sql(self, statement: str, *values: Any) -> None:
        database = sqlite3.connect(self.federation.data / "coordinator.sqlite", timeout=10.0)
        with database:
            assert database.execute(statement, values).rowcount
        database.close()

    def swap(self, first: int, second: int) -> None:
        for old, new in ((first, -1), (second, first), (-1, second)):
            self.sql("UPDATE entries SET entry = ? WHERE entry = ?", new, old)

    def write_anew(self, entry: int) -> None:
        """Another site in one row, and every hash from there on computed again."""
        rows = self.rows()
        last = rows[entry - 1]
        for row in rows[entry:]:
            site = "north" if row.entry == entry else row.site
            draft = replace(row, site=site, previous_hash=last.hash)
            last = replace(draft, hash=hashlib.sha256(canonical_bytes(draft)).hexdigest())
            self.sql(
                "UPDATE entries SET site = ?, previous_hash = ?, hash = ? WHERE entry = ?",
                last.site, last.previous_hash, last.hash, last.entry,
            )  # fmt: skip

    def flip(self, area: str, sha256: str | None) -> None:
        path = self.federation.data / area / (sha256 or "")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o600)
        path.write_bytes(data)

    def payload(self, number: int) -> str | None:
        return self.rows()[number].payload_sha256

    def letheon(self, *words: str) -> Any:
        address = self.federation.coordinator.address
        return CliRunner().invoke(app, ["--coordinator", address, *words])


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with a_running_federation(tmp_path / "f") as federation:
        federation.train("north", "south", "west")
        job = federation.job(federation.request("south").name)
        job.remove()
        federation.train("north", "west", seed=40)
        job.passes()
        job.certify(SigningKey.load_or_create(tmp_path / "key.pem"))
        federation.train("north", "west", seed=80)
        yield Archive(federation)


def test_the_ledger_holds_after_an_erasure_destroyed_payloads(archive: Archive) -> None:
    rows = archive.rows()
    gone = [
        row
        for row in rows
        if row.payload_sha256
        and not (archive.federation.data / "payloads" / row.payload_sha256).exists()
    ]
    assert [row.site for row in gone] == ["south"]
    verdict = archive.federation.verify_ledger()
    assert verdict.holds
    assert verdict.reason == ""
    assert (verdict.entries, verdict.replayed_from) == (len(rows), archive.anchor.entry)
    shown = archive.letheon("ledger", "verify")
    assert shown.exit_code == 0
    assert shown.stdout == (
        f"The ledger holds: {len(rows)} entries chained, replay from entry {archive.anchor.entry} "
        f"equals head version {verdict.version} bit for bit ({verdict.sha256_head[:16]}). "
        "Signatures of sites checked: 0 deltas, 7 of sites that had no key then.\n"
    )
    listed = archive.letheon("ledger", "list").stdout
    for kind in ("initial", "delta", "removal", "promotion", "anchor"):
        assert kind in listed


Damage = Callable[[Archive], None]
UPDATE = "UPDATE entries SET {} = ? WHERE entry = ?"
CASES: dict[str, tuple[Damage, int, str]] = {
    "a coefficient": (
        lambda a: a.sql(UPDATE.format("coefficient"), 0.125, 3), 3, "row 3 was altered"),
    "a site": (lambda a: a.sql(UPDATE.format("site"), "north", 3), 3, "row 3 was altered"),
    "a kind": (lambda a: a.sql(UPDATE.format("kind"), "patch", 1), 1, "row 1 was altered"),
    "a time": (
        lambda a: a.sql("UPDATE entries SET at = (SELECT at FROM entries WHERE entry = 0) "
                        "WHERE entry = ?", 3), 3, "row 3 was altered"),
    "a hash": (lambda a: a.sql(UPDATE.format("hash"), "0" * 64, 3), 3, "row 3 was altered"),
    "a row in the middle is gone": (
        lambda a: a.sql("DELETE FROM entries WHERE entry = ?", 3), 3, "row 3 is missing"),
    "the first row is gone": (
        lambda a: a.sql("DELETE FROM entries WHERE entry = ?", 0), 0, "row 0 is missing"),
    "two rows in each other's place": (
        lambda a: a.swap(2, 3), 2, "row 2 does not continue"),
    "the last row is gone": (
        lambda a: a.sql("DELETE FROM entries WHERE entry = ?", 10), 10, "row 10 is missing"),
    "the last two rows are gone": (
        lambda a: a.sql("DELETE FROM entries WHERE entry >= ?", 9), 9, "row 9 is missing"),
    "a row and every hash after it": (
        lambda a: a.write_anew(3), 10, "row 10 is not the one this process wrote"),
    "the anchor row": (
        lambda a: a.sql(UPDATE.format("details"), '{"checkpoint_sha256": "00"}', 8), 8,
        "row 8 was altered"),
    "a payload after the anchor": (
        lambda a: a.flip("payloads", a.payload(9)), 9, "row 9: "),
    "a payload before the anchor": (
        lambda a: a.flip("payloads", a.payload(3)), 3, "row 3: "),
    "the first weights": (
        lambda a: a.flip("payloads", a.payload(0)), 0, "row 0: "),
    "the anchor's checkpoint": (
        lambda a: a.flip("checkpoints", a.anchor.details["checkpoint_sha256"]), 8, "row 8: "),
    "a contribution the anchor names": (
        lambda a: a.flip("contributions", a.anchor.details["contributions"]["north"]), 8,
        "row 8: "),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_was_altered_is_named_with_its_first_bad_row(archive: Archive, case: str) -> None:
    damage, entry, says = CASES[case]
    damage(archive)
    verdict = archive.federation.verify_ledger()
    assert not verdict.holds
    assert verdict.HasField("first_bad_entry"), verdict.reason
    assert (verdict.first_bad_entry, says in verdict.reason) == (entry, True), verdict.reason
    shown = archive.letheon("ledger", "verify")
    assert shown.exit_code == 1
    assert shown.stdout.startswith("THE LEDGER DOES NOT HOLD: row")
    assert shown.stdout.endswith(f"First bad entry: {entry}.\n")


def test_a_payload_that_an_erasure_destroyed_is_not_missed(archive: Archive) -> None:
    path = archive.federation.data / "payloads" / (archive.payload(2) or "")
    assert not path.exists()
    path.write_bytes(b"whatever somebody puts in its place")
    assert archive.federation.verify_ledger().holds


def test_a_payload_that_still_waits_to_be_merged_is_read_too(tmp_path: Path) -> None:
    plan = a_plan(strategy={"plugin": "fedbuff", "arguments": {"buffer_size": 3}})
    with a_running_federation(tmp_path / "f", plan=plan) as federation:
        archive = Archive(federation)
        federation.train("north", "west", "north", "south")
        assert federation.verify_ledger().holds
        federation.request("south")
        federation.train("west", seed=50)
        archive.flip("payloads", archive.payload(5))  # voided: never read, so never missed
        assert federation.verify_ledger().holds
        archive.flip("payloads", archive.payload(7))
        verdict = federation.verify_ledger()
        assert (verdict.holds, verdict.first_bad_entry) == (False, 7)


def test_payloads_that_retention_gave_up_are_not_missed(archive: Archive) -> None:
    core, anchor = archive.federation.coordinator.core, archive.anchor
    with core.store.write() as uow:
        uow.compactions.save(Compaction(anchor.entry, 4, 100, NOON, finished=True))
        uow.commit()
    for row in archive.rows()[: anchor.entry]:
        core.blobs.payloads.destroy(row.payload_sha256 or "0" * 64)
    assert archive.federation.verify_ledger().holds
    core.blobs.payloads.destroy(archive.payload(9) or "")
    assert archive.federation.verify_ledger().first_bad_entry == 9
