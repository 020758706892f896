"""The chain of the audit log, and its file."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import ProofInvalid
from letheon.proof.audit_chain import AuditRow, follow, line_of, verify_lines, verify_rows

START = datetime(2026, 3, 1, tzinfo=UTC)
words = st.text(max_size=8).filter(lambda text: text.isprintable())


def rows(*actions: str) -> list[AuditRow]:
    made: list[AuditRow] = []
    for number, action in enumerate(actions):
        made.append(
            follow(
                made[-1] if made else None,
                at=START + timedelta(seconds=number),
                role="operator",
                caller="Ada",
                serial="1f",
                action=action,
                object_name="erasures/e1",
                outcome="done",
                details={"version": number},
            )
        )
    return made


def lines(made: list[AuditRow]) -> list[bytes]:
    return [line_of(row.canonical(), row.hash) for row in made]


@given(st.lists(words, min_size=1, max_size=6))
def test_a_written_chain_holds_row_by_row_and_as_a_file(actions: list[str]) -> None:
    made = rows(*actions)
    assert verify_rows(made) == made[-1]
    assert verify_lines(lines(made)) == made[-1]


def test_a_row_that_was_changed_left_out_or_moved_is_named() -> None:
    made = rows("a", "b", "c")
    for bad, place in (
        ([made[0], made[2]], "1"),
        ([made[1]], "0"),
        ([made[0], follow(None, **_as(made[1])), made[2]], "1"),
    ):
        with pytest.raises(ProofInvalid) as caught:
            verify_rows(bad)
        assert caught.value.facts["row"] == place


def _as(row: AuditRow) -> dict[str, object]:
    return {
        "at": row.at,
        "role": row.role,
        "caller": row.caller,
        "serial": row.serial,
        "action": row.action,
        "object_name": row.object,
        "outcome": row.outcome,
        "details": row.details,
    }


def test_a_flip_of_any_byte_of_a_file_is_noticed() -> None:
    whole = lines(rows("a", "b"))
    for number, line in enumerate(whole):
        for place in range(len(line)):
            flipped = bytearray(line)
            flipped[place] ^= 1
            changed = [*whole[:number], bytes(flipped), *whole[number + 1 :]]
            with pytest.raises(ProofInvalid):
                verify_lines(changed)


def test_an_empty_file_and_one_that_was_cut_are_refused() -> None:
    with pytest.raises(ProofInvalid, match="the file has none"):
        verify_lines([])
    with pytest.raises(ProofInvalid, match="was cut there"):
        verify_lines([lines(rows("a"))[0][:-5]])


def test_a_row_of_a_time_before_the_first_year_is_refused() -> None:
    (row,) = rows("a")
    canonical = row.canonical().replace(
        b"2026-03-01T00:00:00.000000Z", b"0001-01-01T00:00:00+23:59"
    )
    assert canonical != row.canonical()
    with pytest.raises(ProofInvalid, match="cannot be read"):
        verify_lines([line_of(canonical, hashlib.sha256(canonical).hexdigest())])
