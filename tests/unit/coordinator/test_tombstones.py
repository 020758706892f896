"""The tombstone log: signed, chained, torn at the end at worst, and what it says of a database."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from builders import NOON, an_erasure
from hypothesis import given
from hypothesis import strategies as st

from coordinator.adapters.tombstone_file import TombstoneFile
from coordinator.domain.erasure import Erasure, ErasureState
from coordinator.domain.tombstones import (
    Step,
    Tombstone,
    TombstoneEvent,
    due,
    missing,
    standings,
)
from letheon.errors import BadConfig, TombstonesBroken
from letheon.servicekit.signing import SigningKey

E = TombstoneEvent
STATE = ErasureState


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.load_or_create(tmp_path / "key.pem")


@pytest.fixture
def log(tmp_path: Path, key: SigningKey) -> TombstoneFile:
    return TombstoneFile(tmp_path / "log", key)


def fill(log: TombstoneFile, lines: int = 3) -> list[Tombstone]:
    return [log.append(E.REQUESTED, an_erasure(f"e{n}"), NOON) for n in range(lines)]


def test_lines_come_back_as_they_went_in(
    log: TombstoneFile, tmp_path: Path, key: SigningKey
) -> None:
    lines = fill(log)
    assert log.all() == lines
    assert TombstoneFile(tmp_path / "log", key).all() == lines
    assert [line.number for line in lines] == [0, 1, 2]


def test_a_line_says_who_asked_and_who_approved_and_older_lines_do_not(
    log: TombstoneFile, tmp_path: Path
) -> None:
    who = {"requested_by": "operator/ada", "approved_by": "operator/grace", "share": 0.5}
    log.append(E.REQUESTED, an_erasure("e0", **who), NOON)
    log.append(E.REQUESTED, an_erasure("e1"), NOON)
    asked, older = (line.erasure for line in log.all())
    assert (asked.requested_by, asked.approved_by, asked.share) == tuple(who.values())
    assert (older.requested_by, older.approved_by, older.share) == ("", "", 0.0)
    assert b"requested_by" not in (tmp_path / "log").read_bytes().splitlines()[1]


def test_half_a_line_after_a_power_cut_is_cut_off(log: TombstoneFile, tmp_path: Path) -> None:
    lines = fill(log)
    path = tmp_path / "log"
    path.write_bytes(path.read_bytes()[:-9])
    assert log.all() == lines[:2]
    again = log.append(E.REQUESTED, an_erasure("e9"), NOON)
    assert log.all() == [*lines[:2], again]
    assert again.number == 2


@pytest.mark.parametrize("line", [0, 1])
@pytest.mark.parametrize("what", ["site", "removed", "swapped", "unreadable"])
def test_what_was_altered_is_named(
    log: TombstoneFile, tmp_path: Path, line: int, what: str
) -> None:
    fill(log)
    path = tmp_path / "log"
    lines = path.read_bytes().splitlines(keepends=True)
    match what:
        case "site":
            lines[line] = lines[line].replace(b'"site":"north"', b'"site":"south"')
        case "removed":
            del lines[line]
        case "swapped":
            lines[line], lines[line + 1] = lines[line + 1], lines[line]
        case "unreadable":
            lines[line] = b"{}\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(TombstonesBroken) as caught:
        log.all()
    assert caught.value.facts["line"] == str(line + 1)


def test_another_key_does_not_do(log: TombstoneFile, tmp_path: Path) -> None:
    fill(log, 1)
    other = SigningKey.load_or_create(tmp_path / "other.pem")
    with pytest.raises(TombstonesBroken, match="another key"):
        TombstoneFile(tmp_path / "log", other).all()


def test_a_place_that_is_not_mounted_is_named(tmp_path: Path, key: SigningKey) -> None:
    with pytest.raises(BadConfig, match="mount or make it"):
        TombstoneFile(tmp_path / "absent" / "log", key)


def test_nothing_in_the_log_is_more_than_was_asked(log: TombstoneFile, tmp_path: Path) -> None:
    log.append(E.REQUESTED, an_erasure(), NOON)
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert set(json.loads(line)["tombstone"]) == {
        "at", "calibrate", "deadline", "erasure", "event", "legal_basis", "level", "method",
        "number", "previous_hash", "request_id", "requested_at", "requester", "site",
    }  # fmt: skip


def line(event: E, erasure: Erasure, number: int = 0) -> Tombstone:
    return Tombstone(number, event, erasure, NOON)


# What waits for an approval is in no log: nothing of it is fenced yet.
STATES = st.sampled_from([state for state in ErasureState if state is not STATE.AWAITING_APPROVAL])


@given(state=STATES)
def test_a_log_that_was_kept_up_lacks_nothing_and_asks_for_nothing(state: ErasureState) -> None:
    erasure = replace(an_erasure(), state=state)
    log: list[Tombstone] = []
    for event in due(erasure, None):
        log.append(line(event, erasure, len(log)))
    standing = standings(log)
    assert not due(erasure, standing["e1"])
    assert missing({"e1": erasure}, standing) == []


@given(before=STATES, after=STATES)
def test_an_older_database_is_behind_exactly_where_the_log_went_further(
    before: ErasureState, after: ErasureState
) -> None:
    later = replace(an_erasure(), state=after)
    standing = standings(line(event, later) for event in due(later, None))
    found = missing({"e1": replace(later, state=before)}, standing)
    if after is STATE.CANCELLED and before in {STATE.RECEIVED, STATE.CLAIMED}:
        assert [each.step for each in found] == [Step.CANCEL]
    elif after is STATE.CERTIFIED and before is not STATE.CERTIFIED:
        assert [each.step for each in found] == [Step.GO_ON]
    else:
        assert found == []


@given(state=STATES)
def test_a_database_without_the_erasure_lacks_it_unless_it_was_withdrawn(
    state: ErasureState,
) -> None:
    later = replace(an_erasure(), state=state)
    standing = standings(line(event, later) for event in due(later, None))
    steps = [each.step for each in missing({}, standing)]
    assert steps == ([] if state is STATE.CANCELLED else [Step.FILE])


def test_what_still_waits_for_an_approval_in_an_older_database_is_filed() -> None:
    waiting = an_erasure("e1", state=STATE.AWAITING_APPROVAL, share=0.5)
    for event in (E.REQUESTED, E.RESTORED, E.CERTIFIED):
        line = Tombstone(0, event, an_erasure("e1"), NOON)
        (found,) = missing({"e1": waiting}, standings([line]))
        assert found.step is Step.FILE


def test_nothing_is_logged_of_what_waits_for_an_approval() -> None:
    assert due(an_erasure(state=STATE.AWAITING_APPROVAL), None) == []


def test_a_withdrawal_is_caught_up_before_the_site_is_named_again() -> None:
    first = an_erasure("e1")
    second = replace(an_erasure("e2"), requested_at=NOON.replace(year=2025))
    standing = {
        "e2": line(E.REQUESTED, second),
        "e1": line(E.CANCELLED, first),
    }
    steps = [(each.erasure.id, each.step) for each in missing({"e1": first}, standing)]
    assert steps == [("e1", Step.CANCEL), ("e2", Step.FILE)]
