from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from federation_builders import MORNING, LiveFederation, a_vector
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import LedgerBroken
from letheon.federation.ledger import (
    FIRST_ENTRY,
    GENESIS_HASH,
    Entry,
    EntryKind,
    canonical_bytes,
    merges,
    parse,
    read_merges,
    seal,
    verify_chain,
    waiting,
)


def a_ledger(length: int = 8) -> list[Entry]:
    live = LiveFederation(a_vector(5))
    for i in range(length - 1):
        live.delta(f"site-{i % 3}", a_vector(5, i), 0.5 / (i + 1))
    return live.rows


def altered(row: Entry, name: str) -> Entry:
    value = getattr(row, name)
    if isinstance(value, bool) or value is None:
        return replace(row, **{name: "other"})
    if isinstance(value, datetime):
        return replace(row, at=value + timedelta(microseconds=1))
    if isinstance(value, EntryKind):
        return replace(row, kind=EntryKind.PATCH)
    if isinstance(value, int | float):
        return replace(row, **{name: value + 1})
    if isinstance(value, str):
        return replace(row, **{name: value[:-1] + ("0" if value[-1:] != "0" else "1")})
    return replace(row, details={**value, "more": 1})


FIELDS = ("entry", "kind", "version", "epoch", "site", "at", "update_id", "base_version")
FIELDS += ("staleness", "coefficient", "payload_sha256", "payload_bytes", "encoding", "details")
FIELDS += ("previous_hash", "hash")


@given(st.integers(1, 7), st.sampled_from(FIELDS))
def test_an_altered_row_is_named(index: int, name: str) -> None:
    rows = a_ledger()
    rows[index] = altered(rows[index], name)
    with pytest.raises(LedgerBroken) as broken:
        verify_chain(rows)
    assert broken.value.facts["entry"] == str(index)


@given(st.integers(0, 6))
def test_a_row_altered_and_hashed_again_breaks_the_row_after_it(index: int) -> None:
    rows = a_ledger()
    previous = rows[index - 1] if index else None
    old = rows[index]
    rows[index] = seal(previous, kind=old.kind, version=old.version, epoch=9, at=old.at)
    with pytest.raises(LedgerBroken) as broken:
        verify_chain(rows)
    assert broken.value.facts["entry"] == str(index + 1)


@given(st.integers(0, 6))
def test_a_missing_row_is_named(index: int) -> None:
    rows = a_ledger()
    del rows[index]
    with pytest.raises(LedgerBroken, match="missing") as broken:
        verify_chain(rows)
    assert broken.value.facts["entry"] == str(index)


@given(st.data())
def test_two_rows_in_each_others_place_are_named(data: st.DataObject) -> None:
    rows = a_ledger()
    first, second = sorted(
        data.draw(st.lists(st.integers(0, 7), min_size=2, max_size=2, unique=True))
    )
    rows[first], rows[second] = rows[second], rows[first]
    with pytest.raises(LedgerBroken) as broken:
        verify_chain(rows)
    assert broken.value.facts["entry"] == str(first)


@given(st.integers(0, 7))
def test_missing_last_rows_show_against_the_known_tip(kept: int) -> None:
    rows = a_ledger()
    tip = rows[-1].hash
    with pytest.raises(LedgerBroken, match="too early") as broken:
        verify_chain(rows[:kept], tip=tip)
    assert broken.value.facts["entry"] == str(kept)


def test_an_unbroken_chain_gives_its_last_row_and_can_be_checked_in_parts() -> None:
    rows = a_ledger()
    assert rows[0].entry == FIRST_ENTRY
    assert rows[0].previous_hash == GENESIS_HASH
    half = verify_chain(iter(rows[:4]))
    assert half == rows[3]
    assert verify_chain(rows[4:], after=half, tip=rows[-1].hash) == rows[-1]
    assert verify_chain([], tip=GENESIS_HASH) is None


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.dictionaries(st.text(), st.integers() | st.text() | st.booleans() | st.none()),
)
def test_a_row_survives_its_canonical_bytes(coefficient: float, details: dict[str, Any]) -> None:
    row = seal(
        None,
        kind=EntryKind.DELTA,
        version=0,
        epoch=0,
        at=MORNING,
        site="north",
        coefficient=coefficient,
        details=details,
    )
    again = parse(canonical_bytes(row))
    assert again == row
    assert canonical_bytes(again) == canonical_bytes(row)


def test_floats_are_written_without_rounding_and_times_in_utc() -> None:
    east = timezone(timedelta(hours=2))
    row = seal(
        None,
        kind=EntryKind.DELTA,
        version=0,
        epoch=0,
        at=MORNING.astimezone(east),
        coefficient=0.1,
        details={"loss": 0.2, "parts": (1, [0.5])},
    )
    text = canonical_bytes(row).decode()
    assert (0.1).hex() in text
    assert (0.2).hex() in text
    assert '"2026-03-02T08:00:00.000000+00:00"' in text
    assert row.at.tzinfo is UTC
    assert " " not in text


@pytest.mark.parametrize(
    ("field", "error"),
    [
        ({"coefficient": float("nan")}, ValueError),
        ({"details": {"x": float("inf")}}, ValueError),
        ({"details": {"x": b"bytes"}}, TypeError),
        ({"details": {1: "x"}}, TypeError),
        ({"at": MORNING.replace(tzinfo=None)}, ValueError),
    ],
)
def test_what_canonical_bytes_cannot_carry_is_never_sealed(
    field: dict[str, Any], error: type[Exception]
) -> None:
    arguments = {"kind": EntryKind.DELTA, "version": 0, "epoch": 0, "at": MORNING, **field}
    with pytest.raises(error):
        seal(None, **arguments)


@pytest.mark.parametrize("bad", [b"", b"[]", b"{}", b'{"kind": "other"}', b"\xff"])
def test_bytes_that_are_no_row_are_refused(bad: bytes) -> None:
    with pytest.raises(LedgerBroken):
        parse(bad)


def test_merges_survive_the_ledger_exactly() -> None:
    pairs = [(3, 0.1), (4, 1 / 3)]
    row = seal(
        None,
        kind=EntryKind.FLUSH,
        version=0,
        epoch=0,
        at=MORNING,
        details={"merged": merges(pairs)},
    )
    assert read_merges(parse(canonical_bytes(row))) == pairs


def test_the_waiting_rows_are_those_neither_merged_nor_voided() -> None:
    live = LiveFederation(a_vector(5))
    live.buffer("north", a_vector(5, 1))
    live.flush(0.5)
    live.buffer("north", a_vector(5, 2))
    last = live.buffer("south", a_vector(5, 3))
    live.void("north")
    assert list(waiting(live.rows)) == [last.entry]
    live.remove("north")
    assert waiting(live.rows) == {}
