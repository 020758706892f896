"""The ledger as a file, the canonical bytes it carries, and what docs/ledger.md says of both."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from federation_builders import LiveFederation, a_vector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_examples import a_payload, a_row_of_every_kind

from letheon.errors import LedgerBroken
from letheon.federation.ledger import Entry, EntryKind, canonical_bytes, parse, verify_chain
from letheon.federation.ledger_file import ROW_OFFSET, line_of, verify_lines
from letheon.federation.parameters import digest
from letheon.federation.replay import ReplayState, apply

PAGE = (Path(__file__).parents[3] / "docs" / "ledger.md").read_text()
# The format is a promise to whoever kept a ledger: these never change.
GOLDEN = {
    0: ("initial", "5dbc4daf10551bc87c67509c8300ecbcdd1214334c3223f2f251bc3392d7a0a0"),
    1: ("delta", "8936194119685cacb9d3cd0cf466aa7bd431b9a963626ba5231199eb01d163d2"),
    2: ("buffered", "08cf62e65f43d7c9b69a8374afd628ad6377ff5783f0e3272a7efc04b9497a2c"),
    3: ("buffered", "009dbeb5370dfd7f220075e9ca0399bbbff3d2885fa0c179dfa532efa492b527"),
    4: ("flush", "ecad17f329e884aad1db9708e891bff26bcae29d3d9c2ff59a683496124f3f9d"),
    5: ("buffered", "1c6bc8c670c94a56df928240d5e291705d0970450eeba12099f2e0da2df8923c"),
    6: ("void", "ff436c6c3089507a61d01b042acdf4bf6da423adbfe09aaeda7788e48b8fc207"),
    7: ("buffered", "f1a32dfaaefcf42ab734e7f7393706edd7b801eac79b7dfe5aac094777da530e"),
    8: ("patch", "0c88de89f0e8ed21471b2135e9aef11bfd829143b3144c14de1b41c465c3dd1f"),
    9: ("calibration", "f19023d617df79bdc0d0de14a981d679f0a02039654a3936dfb5160ee1af522f"),
    10: ("removal", "878a0d590caa179c2261b728d33e65197fd532b4df35348d41256e80f466d54c"),
    11: ("promotion", "22b86430fff37c4d2e1d59240ab07819d7ae4f575d86c96a70b0315a2c0e8fd4"),
    12: ("anchor", "28c6fef8d56e8dce5ee587de8b4ae833840d042eb17f210823c98070f9984bde"),
}


def lines(rows: list[Entry]) -> list[bytes]:
    return [line_of(canonical_bytes(row), row.hash) for row in rows]


def test_the_hash_of_a_row_of_every_kind_never_changes() -> None:
    rows = a_row_of_every_kind()
    assert {row.entry: (row.kind.value, row.hash) for row in rows} == GOLDEN
    assert {row.kind for row in rows} == set(EntryKind)


def test_the_page_shows_the_lines_the_hashes_and_the_heads_of_the_example() -> None:
    rows = a_row_of_every_kind()
    state = ReplayState.before_first(2)
    for row in rows:
        apply(state, row, lambda entry: a_payload(entry.entry))
        first, second = state.head.tolist()
        cells = f"| {row.entry} | {row.kind} | {row.version} | {first:g}, {second:g} |"
        assert f"{cells} `{row.hash[:16]}` |" in PAGE
    assert all(line.decode() in PAGE for line in lines(rows)[:2])
    assert f"`{digest(state.head)}`" in PAGE
    assert f"byte {ROW_OFFSET}" in PAGE


def test_the_row_of_a_line_is_hashed_where_it_stands() -> None:
    for line in lines(a_row_of_every_kind()):
        document = json.loads(line)
        row = line[ROW_OFFSET:-2]
        assert hashlib.sha256(row).hexdigest() == document["hash"]
        assert json.loads(row) == document["row"]


@st.composite
def ledgers(draw: st.DrawFn) -> list[Entry]:
    """Any order of every kind of row, of three sites."""
    live = LiveFederation(a_vector(3))
    sites = st.sampled_from(("north", "south", "west"))
    for seed, step in enumerate(
        draw(st.lists(st.sampled_from("dbfvrcpqa"), min_size=1, max_size=12)), start=1
    ):
        site, vector = draw(sites), a_vector(3, seed)
        match step:
            case "d":
                live.delta(site, vector, draw(st.floats(0.0078125, 1.0, width=32)))
            case "b":
                live.buffer(site, vector)
            case "f":
                live.flush(0.5)
            case "v":
                live.void(site)
            case "r":
                live.remove(site, subtracted=draw(st.booleans()))
            case "c":
                live.patch(vector, kind=EntryKind.CALIBRATION)
            case "p":
                live.patch(vector, site=site)
            case "q":
                live.promote()
            case "a":
                live.anchor()
    return live.rows


@given(ledgers())
def test_an_exported_ledger_reads_back_and_its_chain_holds(rows: list[Entry]) -> None:
    written = lines(rows)
    again = [parse(line[ROW_OFFSET:-2]) for line in written]
    assert [row.hash for row in again] == [row.hash for row in rows]
    assert verify_chain(again) == again[-1]
    assert verify_lines(written, tip=rows[-1].hash) == again[-1]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(ledgers(), st.data())
def test_any_changed_byte_of_a_file_is_found_in_its_row(
    rows: list[Entry], data: st.DataObject
) -> None:
    written = b"".join(lines(rows))
    at = data.draw(st.integers(0, len(written) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != written[at]))
    changed = written[:at] + bytes([byte]) + written[at + 1 :]
    with pytest.raises(LedgerBroken) as broken:
        verify_lines(_lines(changed))
    assert broken.value.facts["entry"] == str(written[:at].count(b"\n"))


def _lines(content: bytes) -> list[bytes]:
    """Lines end with a line feed and nothing else, as files are read."""
    return [line + b"\n" for line in content.split(b"\n")[:-1]] + [
        rest for rest in content.split(b"\n")[-1:] if rest
    ]


@given(ledgers(), st.data())
def test_a_file_cut_anywhere_but_between_rows_is_found(
    rows: list[Entry], data: st.DataObject
) -> None:
    written = b"".join(lines(rows))
    kept = data.draw(st.integers(0, len(written) - 1))
    cut = _lines(written[:kept])
    whole = written[:kept].endswith(b"\n")
    with pytest.raises(LedgerBroken) as broken:
        verify_lines(cut, tip=rows[-1].hash)
    assert broken.value.facts["entry"] == str(written[:kept].count(b"\n"))
    if whole:  # whole rows missing at the end show only against a known tip
        assert verify_lines(cut).hash == rows[written[:kept].count(b"\n") - 1].hash


@pytest.mark.parametrize(
    "row",
    [
        b"{}",
        b"[" * 100_000,
        b'"text"',
        b'{"kind":[]}',
        canonical_bytes(a_row_of_every_kind()[0]).replace(b'"details":{}', b'"details":{"x":NaN}'),
        canonical_bytes(a_row_of_every_kind()[0]).replace(b'"details":{}', b'"details": {}'),
        canonical_bytes(a_row_of_every_kind()[0]).replace(b"+00:00", b""),
        canonical_bytes(a_row_of_every_kind()[1]).replace(b"p-1", b"p99999"),
    ],
)
def test_a_row_that_is_hashed_but_no_row_is_named(row: bytes) -> None:
    with pytest.raises(LedgerBroken, match="row 0") as broken:
        verify_lines([line_of(row, hashlib.sha256(row).hexdigest())])
    assert broken.value.facts["entry"] == "0"


def test_a_file_without_rows_or_from_a_later_row_does_not_hold() -> None:
    with pytest.raises(LedgerBroken, match="no row"):
        verify_lines([])
    with pytest.raises(LedgerBroken, match="row 0 is missing"):
        verify_lines(lines(a_row_of_every_kind())[3:])
