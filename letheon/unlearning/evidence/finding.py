"""What a test of the evidence found, in one shape that tables and reports read."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import StrEnum

Plain = float | int | str | bool | None


class Verdict(StrEnum):
    """How a test, or the gate, ended."""

    PASS = "pass"  # noqa: S105 (a verdict, no password)
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Finding:
    """One test on one model version, judged.

    The verdict follows from the interval, the null band and the positive control: the same test
    on the version from before the erasure, which must fail for a pass to mean anything.
    """

    name: str
    value: float
    low: float  # 95 % interval of the value
    high: float
    null_low: float  # the values that count as "nothing is left"; infinite: open on that side
    null_high: float
    positive_control: float | None  # the value before the erasure; None: not measured
    control_fired: bool | None
    verdict: Verdict
    records: int  # the value rests on
    unit: str  # of value and band: "AUC", "share", "nats", "ratio", ...
    detail: str  # a sentence

    def to_json(self) -> dict[str, Plain]:
        """The fields as JSON carries them; a number that is not finite becomes null."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: Plain) -> Plain:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Verdict) else value
