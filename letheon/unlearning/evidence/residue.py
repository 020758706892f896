"""How a test of forgetting is judged: one rule for all of them, that of the gate.

Every such test measures an excess: the further above the null, the more of the subject is left.
"""

from __future__ import annotations

import math

from letheon.errors import BadData
from letheon.unlearning.bounds import CONTROL_Z, Interval
from letheon.unlearning.evidence.finding import Finding, Verdict

Z95 = 1.959964  # two-sided 95 % quantile of the normal distribution


def judge_residue(
    name: str,
    candidate: Interval,
    before: Interval | None,
    *,
    null: float,
    margin: float,
    records: int,
    unit: str,
) -> Finding:
    """Judges an excess against `null` and `null + margin`, with the version before as control.

    Fail: the 95 % interval lies above the null and not within the margin. Control: the version
    before fails, its lower bound at 99.9 % as the gate has it. Pass: the control fired, and the
    interval is within the margin, or reaches the null with its value within the margin, and lies
    wholly below the interval of before. Anything else is inconclusive. Raises BadData for a null
    or a value that is not finite, a margin below 0.
    """
    if not (math.isfinite(null) and math.isfinite(candidate.value)) or not margin >= 0:
        raise BadData(f"{name}: value {candidate.value}, null {null}, margin {margin}")
    limit = null + margin
    fired = None if before is None else _fails(before, null, limit, CONTROL_Z)
    verdict, words = _verdict(candidate, before, fired, null, limit)
    if candidate.upper(Z95) < null - margin:
        words += f"; over-forgotten: more than {margin:g} below the null"
    band = f"null {null:.3f}, margin {margin:.3f}"
    return Finding(
        name=name,
        value=candidate.value,
        low=candidate.lower(Z95),
        high=candidate.upper(Z95),
        null_low=null - margin,
        null_high=limit,
        positive_control=None if before is None else before.value,
        control_fired=fired,
        verdict=verdict,
        records=records,
        unit=unit,
        detail=f"{candidate} now, {before or 'not measured'} before, {band}: {words}",
    )


def _fails(interval: Interval, null: float, limit: float, z: float) -> bool:
    return interval.lower(z) > null and interval.upper(Z95) > limit


def _verdict(
    candidate: Interval, before: Interval | None, fired: bool | None, null: float, limit: float
) -> tuple[Verdict, str]:
    if before is None or not fired:
        return Verdict.INCONCLUSIVE, "the version before shows nothing to lose"
    if _fails(candidate, null, limit, Z95):
        return Verdict.FAIL, "still above the null"
    # What is not above the null may be above the limit only by chance: the value decides.
    if candidate.value <= limit and candidate.upper(Z95) < before.lower(Z95):
        return Verdict.PASS, "no more than without the subject"
    return Verdict.INCONCLUSIVE, "too few records to tell a drop from chance"
