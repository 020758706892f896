"""`letheon ledger verify` after an erasure destroyed payloads, and after alterations."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from erasure_builders import Federation, a_running_federation
from typer.testing import CliRunner

from letheon.cli.main import app
from letheon.servicekit.signing import SigningKey
from letheon.v1 import ledger_pb2


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[Federation]:
    """South certified, then training, then west removed: an anchor with rows of every use."""
    with a_running_federation(tmp_path) as federation:
        federation.train("north", "south", "west")
        federation.train("north", "south", "west", seed=50)
        job = federation.job(federation.request("south").name)
        job.remove()
        federation.train("north", "west", seed=100)
        job.passes()
        job.certify(SigningKey.load_or_create(tmp_path / "key.pem"))
        federation.train("north", "west", seed=150)
        federation.job(federation.request("west", "r2").name).remove()
        federation.train("north", seed=200)
        yield federation


def row(federation: Federation, kind: str, index: int = 0) -> ledger_pb2.Entry:
    """The row of a kind, the last ones counted from -1."""
    return [entry for entry in federation.rows() if entry.kind == kind][index]


def sql(federation: Federation, statement: str, *values: object) -> None:
    (database,) = federation.data.glob("coordinator.sqlite")
    with sqlite3.connect(database) as connection:
        assert connection.execute(statement, values).rowcount > 0


def flip(federation: Federation, area: str, sha256: str) -> None:
    """Turns one bit of a stored file."""
    path = next(path for path in (federation.data / area).rglob(sha256))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def content(entry: ledger_pb2.Entry, key: str) -> str:

    found = json.loads(entry.canonical_json)
    return str(found[key] if key in found else found["details"][key])


def test_the_ledger_holds_after_an_erasure_destroyed_payloads(audited: Federation) -> None:
    gone = content(row(audited, "delta", 1), "payload_sha256")
    assert gone not in audited.blobs("payloads")
    verdict = audited.verify_ledger()
    assert verdict.holds, verdict.reason
    assert verdict.entries == len(audited.rows())
    assert verdict.replayed_from == row(audited, "anchor").entry
    address = audited.coordinator.address
    shown = CliRunner().invoke(app, ["--coordinator", address, "ledger", "verify"])
    assert shown.exit_code == 0, shown.output
    assert "The ledger holds" in shown.stdout
    assert f"replay from entry {verdict.replayed_from} equals head" in shown.stdout


def a_coefficient(audited: Federation) -> int:
    bad = row(audited, "delta", 2).entry
    sql(audited, "UPDATE entries SET coefficient = coefficient * 2 WHERE entry = ?", bad)
    return bad


def a_site(audited: Federation) -> int:
    bad = row(audited, "delta", -1).entry
    sql(audited, "UPDATE entries SET site = 'south' WHERE entry = ?", bad)
    return bad


def a_row_in_the_middle(audited: Federation) -> int:
    bad = row(audited, "delta", 3).entry
    sql(audited, "DELETE FROM entries WHERE entry = ?", bad)
    return bad


def two_rows_swapped(audited: Federation) -> int:
    bad = row(audited, "delta", 2).entry
    for old, new in ((bad, -7), (bad + 1, bad), (-7, bad + 1)):
        sql(audited, "UPDATE entries SET entry = ? WHERE entry = ?", new, old)
    return bad


def the_tail(audited: Federation) -> int:
    bad = len(audited.rows()) - 1
    sql(audited, "DELETE FROM entries WHERE entry = ?", bad)
    return bad


def the_anchor_row(audited: Federation) -> int:
    bad = row(audited, "anchor").entry
    sql(audited, "UPDATE entries SET details = '{}' WHERE entry = ?", bad)
    return bad


def the_checkpoint_an_anchor_has(audited: Federation) -> int:
    bad = row(audited, "anchor").entry
    sql(audited, "UPDATE checkpoints SET sha256 = ? WHERE entry = ?", "0" * 64, bad)
    return bad


def a_payload_after_the_anchor(audited: Federation) -> int:
    bad = row(audited, "delta", -1)
    flip(audited, "payloads", content(bad, "payload_sha256"))
    return bad.entry


def the_checkpoint_file_of_the_anchor(audited: Federation) -> int:
    bad = row(audited, "anchor")
    flip(audited, "checkpoints", content(bad, "checkpoint_sha256"))
    return bad.entry


def a_contribution_file_of_the_anchor(audited: Federation) -> int:

    bad = row(audited, "anchor")
    flip(
        audited,
        "contributions",
        json.loads(bad.canonical_json)["details"]["contributions"]["west"],
    )
    return bad.entry


@pytest.mark.parametrize(
    ("alter", "why"),
    [
        (a_coefficient, "was altered: its hash differs"),
        (a_site, "was altered: its hash differs"),
        (a_row_in_the_middle, "is missing or out of order"),
        (two_rows_swapped, "does not continue the row before it"),
        (the_tail, "the ledger ends too early"),
        (the_anchor_row, "was altered: its hash differs"),
        (the_checkpoint_an_anchor_has, "the anchor names another checkpoint"),
        (a_payload_after_the_anchor, "digest"),
        (the_checkpoint_file_of_the_anchor, "digest"),
        (a_contribution_file_of_the_anchor, "digest"),
    ],
)
def test_what_was_altered_is_named_with_its_row(
    audited: Federation, alter: Callable[[Federation], int], why: str
) -> None:
    bad = alter(audited)
    verdict = audited.verify_ledger()
    assert not verdict.holds
    assert verdict.HasField("first_bad_entry"), verdict.reason
    assert (verdict.first_bad_entry, why in verdict.reason) == (bad, True), verdict.reason
    address = audited.coordinator.address
    shown = CliRunner().invoke(app, ["--coordinator", address, "ledger", "verify"])
    assert shown.exit_code == 1
    assert f"First bad entry: {bad}." in shown.stdout
