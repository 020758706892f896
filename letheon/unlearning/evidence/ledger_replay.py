"""The ledger's own evidence: its rows hold, and their replay is the model that serves.

Primary among all tests (V1): a model can arise from many data sets, so only the run that made it
can be audited (Thudi et al., arXiv 2110.11891).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from letheon.errors import BadData, LedgerBroken, ModelDestroyed, PayloadMissing
from letheon.federation.ledger import Entry, EntryKind, verify_chain
from letheon.federation.parameters import Vector
from letheon.federation.replay import ReadPayload, ReplayState, apply
from letheon.unlearning.evidence.finding import Finding, Verdict

TOLERANCE = 1e-5  # largest absolute difference that rounding may leave

_TRAINED = (EntryKind.DELTA, EntryKind.BUFFERED)


@dataclass(frozen=True)
class LedgerReplay:
    """Rows against a model. Without bytes for a row the replay stops: `missing_entry`."""

    rows: int  # that hold
    bit_equal: bool  # the replayed head and the model, in every bit
    max_abs_difference: float  # infinite if the replay did not reach the last row
    broken_entry: int | None  # first row that does not hold
    missing_entry: int | None  # row at which a payload was gone, which is no fault by itself
    reason: str  # a sentence; empty if all rows hold


def ledger_replay(
    start: ReplayState,
    entries: Iterable[Entry],
    read_payload: ReadPayload,
    head: Vector,
    *,
    after: Entry | None = None,
    tip: str | None = None,
    subject: str | None = None,
) -> LedgerReplay:
    """Replays the rows from a copy of `start` and compares with `head` [d].

    `after` is the verified row that `start` stands at (None: the rows begin with the first), `tip`
    the hash the last row must have. With `subject`, a delta of that site after its last removal,
    or one trained from a version before it, does not hold either. Raises BadData if the head has
    another shape than the start.
    """
    if head.shape != start.head.shape:
        raise BadData(f"a model of {head.size} elements, a ledger of {start.head.size}")
    state, last, rows, removed = start.copy(), after, 0, None
    try:
        for row in entries:
            last = verify_chain([row], after=last)
            if row.kind is EntryKind.REMOVAL and row.site == subject:
                removed = row
            _check_fence(row, removed)
            apply(state, row, read_payload)
            rows += 1
        verify_chain((), after=last, tip=tip)
    except LedgerBroken as error:
        broken = int(error.facts["entry"])
        return LedgerReplay(rows, False, float("inf"), broken, None, error.message)
    except (PayloadMissing, ModelDestroyed) as error:
        missing = None if last is None else last.entry
        return LedgerReplay(rows, False, float("inf"), None, missing, error.message)
    return LedgerReplay(rows, *_compare(state.head, head), None, None, "")


def judge_ledger_replay(
    measured: LedgerReplay,
    before_head: Vector,
    head: Vector,
    *,
    tolerance: float = TOLERANCE,
) -> Finding:
    """The replay is the model within `tolerance`, absolute, in every element.

    Control: the model from before the erasure lies further from the model judged than the
    tolerance, so that the comparison could tell the two apart. Inconclusive without that, and
    where payloads are gone. Raises BadData for models of two shapes.
    """
    if before_head.shape != head.shape:
        raise BadData(f"models of {before_head.size} and {head.size} elements")
    _, moved = _compare(before_head, head)
    fired = moved > tolerance
    verdict, words = _verdict(measured, fired, tolerance)
    difference = measured.max_abs_difference
    return Finding(
        name="ledger_replay",
        value=difference,
        low=difference,  # arithmetic, not a sample: no interval
        high=difference,
        null_low=0.0,
        null_high=tolerance,
        positive_control=moved,
        control_fired=fired,
        verdict=verdict,
        records=measured.rows,
        unit="weight",
        detail=words,
    )


def _verdict(measured: LedgerReplay, fired: bool, tolerance: float) -> tuple[Verdict, str]:
    if measured.broken_entry is not None:
        return Verdict.FAIL, measured.reason
    if measured.missing_entry is not None:
        return Verdict.INCONCLUSIVE, measured.reason
    if not measured.max_abs_difference <= tolerance:
        return Verdict.FAIL, "the rows make another model than this one"
    if not fired:
        return Verdict.INCONCLUSIVE, "the model from before the erasure is this one, too"
    exact = "bit for bit" if measured.bit_equal else f"within {tolerance:g}"
    return Verdict.PASS, f"{measured.rows} rows hold and make this model {exact}"


def _check_fence(row: Entry, removed: Entry | None) -> None:
    if removed is None or row.kind not in _TRAINED:
        return
    if row.site == removed.site:
        raise LedgerBroken(f"row {row.entry} is of a site removed by then", entry=row.entry)
    if row.base_version is not None and row.base_version < removed.version:
        raise LedgerBroken(
            f"row {row.entry} was trained from version {row.base_version}, "
            f"before the removal at version {removed.version}",
            entry=row.entry,
        )


def _compare(replayed: Vector, head: Vector) -> tuple[bool, float]:
    bits = np.array_equal(replayed.view(np.uint32), np.asarray(head, np.float32).view(np.uint32))
    difference = np.abs(replayed.astype(np.float64) - head.astype(np.float64)).max()
    return bits, float(difference)
