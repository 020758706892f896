from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import BadData, PayloadMissing
from letheon.federation.ledger import Entry, EntryKind, seal
from letheon.federation.parameters import Vector, digest
from letheon.federation.replay import (
    ReplayState,
    fold,
    merge_delta,
    remove_contribution,
)
from letheon.federation.replay import (
    replay as replay_rows,
)
from letheon.unlearning.evidence.finding import Finding, Verdict
from letheon.unlearning.evidence.ledger_replay import judge_ledger_replay, ledger_replay

SIZE = 11
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def a_vector(seed: int) -> Vector:
    return np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)


@dataclass
class Federation:
    """Two sites train, north is removed, south trains on."""

    head: Vector = field(default_factory=lambda: a_vector(0))
    rows: list[Entry] = field(default_factory=list)
    payloads: dict[int, Vector] = field(default_factory=dict)
    north: Vector | None = None
    before: Vector = field(default_factory=lambda: a_vector(0))

    def add(self, kind: EntryKind, version: int, epoch: int = 0, **fields: Any) -> None:
        previous = self.rows[-1] if self.rows else None
        self.rows.append(seal(previous, kind=kind, version=version, epoch=epoch, at=NOON, **fields))

    def delta(self, site: str, version: int, epoch: int = 0, base: int | None = None) -> None:
        payload = a_vector(100 + len(self.rows))
        self.payloads[len(self.rows)] = payload
        merge_delta(self.head, 0.5, payload)
        if site == "north":
            self.north = fold(self.north, 0.5, payload)
        base = version - 1 if base is None else base
        sent = {"site": site, "coefficient": 0.5, "base_version": base}
        self.add(EntryKind.DELTA, version, epoch, **sent)

    def remove_north(self, version: int) -> None:
        self.before = self.head.copy()
        assert self.north is not None
        details = {"subtracted": True, "contribution_sha256": digest(self.north)}
        remove_contribution(self.head, self.north)
        self.add(EntryKind.REMOVAL, version, 1, site="north", details=details)

    def read(self, row: Entry) -> Vector:
        if row.entry not in self.payloads:
            raise PayloadMissing(f"the payload of row {row.entry} is gone", entry=row.entry)
        return self.payloads[row.entry]

    def replayed(self, rows: list[Entry] | None = None, **options: Any):
        start = ReplayState.before_first(SIZE)
        options = {"tip": self.rows[-1].hash, "subject": "north"} | options
        head = options.pop("head", self.head)
        return ledger_replay(start, rows or self.rows, self.read, head, **options)

    def judged(self, rows: list[Entry] | None = None, **options: Any) -> Finding:
        return judge_ledger_replay(self.replayed(rows, **options), self.before, self.head)


def a_federation() -> Federation:
    made = Federation()
    made.payloads[0] = made.head.copy()
    made.add(EntryKind.INITIAL, 0)
    for version, site in enumerate(["north", "south", "north"], start=1):
        made.delta(site, version)
    made.remove_north(4)
    made.delta("south", 5, 1)
    return made


def test_rows_that_hold_make_the_model_bit_for_bit() -> None:
    made = a_federation()
    result = made.replayed()
    assert (result.rows, result.bit_equal, result.max_abs_difference) == (6, True, 0.0)
    assert (result.broken_entry, result.missing_entry, result.reason) == (None, None, "")
    finding = made.judged()
    assert finding.verdict is Verdict.PASS
    assert finding.control_fired
    assert "bit for bit" in finding.detail


def test_a_model_within_rounding_passes_without_being_bit_equal() -> None:
    made = a_federation()
    made.head = np.nextafter(made.head, np.float32(9))
    assert not made.replayed().bit_equal
    finding = made.judged()
    assert finding.verdict is Verdict.PASS
    assert "within" in finding.detail


@given(place=st.integers(0, SIZE - 1), change=st.floats(0.001, 10))
def test_a_model_changed_anywhere_fails(place: int, change: float) -> None:
    made = a_federation()
    made.head[place] += np.float32(change)
    finding = made.judged()
    assert finding.verdict is Verdict.FAIL
    assert finding.value == pytest.approx(change, rel=1e-3)


@given(altered=st.integers(0, 5))
def test_an_altered_row_is_the_first_that_does_not_hold(altered: int) -> None:
    made = a_federation()
    rows = list(made.rows)
    rows[altered] = replace(rows[altered], staleness=7)
    result = made.replayed(rows)
    assert result.broken_entry == altered
    assert result.rows == altered
    assert made.judged(rows).verdict is Verdict.FAIL


def test_a_ledger_cut_short_fails() -> None:
    made = a_federation()
    result = made.replayed(made.rows[:-1])
    assert result.broken_entry == 5
    assert "ends too early" in result.reason


def test_a_delta_of_the_subject_after_its_removal_does_not_hold() -> None:
    made = a_federation()
    made.delta("north", 6, 1)
    assert made.replayed().broken_entry == 6
    assert made.judged().verdict is Verdict.FAIL
    assert made.replayed(subject=None).bit_equal


def test_a_delta_trained_from_before_the_removal_does_not_hold() -> None:
    made = a_federation()
    made.delta("south", 6, 1, base=3)
    result = made.replayed()
    assert result.broken_entry == 6
    assert "trained from version 3" in result.reason


def test_a_payload_that_is_gone_is_inconclusive_and_no_fault() -> None:
    made = a_federation()
    del made.payloads[1]
    result = made.replayed()
    assert (result.missing_entry, result.broken_entry) == (1, None)
    assert made.judged().verdict is Verdict.INCONCLUSIVE


def test_a_model_that_the_erasure_did_not_change_is_inconclusive() -> None:
    made = a_federation()
    made.before = made.head
    finding = made.judged()
    assert not finding.control_fired
    assert finding.verdict is Verdict.INCONCLUSIVE


def test_a_replay_goes_on_from_an_anchor() -> None:
    made = a_federation()
    start = ReplayState.before_first(SIZE)
    middle = replay_rows(start, made.rows[:5], made.read)
    result = ledger_replay(middle, made.rows[5:], made.read, made.head, after=made.rows[4])
    assert (result.rows, result.bit_equal) == (1, True)


def test_models_of_other_sizes_are_refused() -> None:
    made = a_federation()
    with pytest.raises(BadData, match="elements"):
        made.replayed(head=made.head[:-1])
    with pytest.raises(BadData, match="elements"):
        judge_ledger_replay(made.replayed(), made.before[:-1], made.head)
