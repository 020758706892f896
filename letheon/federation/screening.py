"""Robust screening: does a delta look like those that were accepted of late?

Two looks. How long it is (L2), against the recent deltas of the other sites and its own. Where it
points, by the cosine with the mean direction of the site's own recent deltas: sites whose records
differ pull the model in opposite directions quite honestly, so where the others point says nothing
(`make bench-screening` has the numbers). A bound follows from the spread of what was accepted, and
never falls below a floor of the plan. With too few deltas nothing is said.

It finds what is scaled up, and a site that turns round. It does not find a site that was poisoned
from its first delta on and keeps to a usual length, and it does not prove intent.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from letheon.federation.parameters import Vector

Sketch = npt.NDArray[np.float32]

_WIDTH: Final = 4096
_EXACT: Final = 16 * _WIDTH  # shorter vectors are compared as they are
_TO_SIGMA: Final = 1.4826  # of a median absolute deviation, for normal numbers


@dataclass(frozen=True)
class Rules:
    """Of the plan's `[screening]`."""

    history: int = 48  # accepted deltas looked back on
    least: int = 8  # fewer by other sites than this: nothing is said of the length
    own: int = 3  # fewer of its own than this: nothing is said of the direction
    norm_ratio: float = 4.0  # times the median norm: always tolerated
    cosine_floor: float = -0.3  # a cosine above it is always tolerated
    deviations: float = 4.0  # of the spread, beyond which a delta is an outlier


@dataclass(frozen=True)
class Seen:
    """What is remembered of an accepted delta. The sketch tells of its site: it goes with it."""

    site: str
    norm: float
    sketch: Sketch


@dataclass(frozen=True)
class Finding:
    """What the two looks saw; None where nothing could be said. `reason` is empty if it passes."""

    norm_ratio: float | None = None
    cosine: float | None = None
    reason: str = ""


def sketch(delta: Vector) -> Sketch:
    """A short vector [<= 65536] whose inner products are those of the deltas, nearly.

    Rows of 4096 values are added up with fixed random signs: one pass over the delta. Shorter
    deltas are kept whole, so that nothing is lost of them.
    """
    values = np.asarray(delta, dtype=np.float32)
    if values.size <= _EXACT:
        return np.array(values)
    rows, rest = divmod(values.size, _WIDTH)
    signs = np.random.default_rng(rows).choice(np.array([-1, 1], np.float32), rows + 1)
    found: Sketch = signs[:rows] @ values[: rows * _WIDTH].reshape(rows, _WIDTH)
    found[:rest] += signs[rows] * values[rows * _WIDTH :]
    return found


def judge(site: str, norm: float, own: Sketch, recent: Sequence[Seen], rules: Rules) -> Finding:
    """Looks at a delta of that L2 norm and sketch; `recent` are accepted ones, oldest first."""
    ratio = cosine = None
    reasons = []
    for whose, few, theirs in (("the others", rules.least, False), ("its own", rules.own, True)):
        norms = [one.norm for one in recent if (one.site == site) is theirs and one.norm > 0]
        if len(norms) < few:
            continue
        found, most = _of_norms(norm, norms, rules)
        ratio = found if ratio is None else max(ratio, found)
        if found > most:
            reasons.append(
                f"its norm is {found:.1f} times the median of {whose} (limit {most:.1f})"
            )
    known = _by_site(recent)
    if len(known.get(site, ())) >= rules.own:
        cosine = _cosine(_unit(own), known[site])
        least = _least_cosine(known, rules)
        if cosine is not None and cosine < least:
            reasons.append(
                f"it points away from what the site sent before: cosine {cosine:.2f} "
                f"(limit {least:.2f})"
            )
    return Finding(ratio, cosine, "; ".join(reasons))


def _of_norms(norm: float, others: Sequence[float], rules: Rules) -> tuple[float, float]:
    logs = [math.log(one) for one in others]
    middle = statistics.median(logs)
    spread = _TO_SIGMA * statistics.median(abs(one - middle) for one in logs)
    most = max(rules.norm_ratio, math.exp(min(rules.deviations * spread, 50.0)))
    return norm / math.exp(middle), most


def _by_site(recent: Sequence[Seen]) -> dict[str, list[Sketch]]:
    """Unit sketches of what each site sent."""
    found: dict[str, list[Sketch]] = {}
    for seen in recent:
        unit = _unit(seen.sketch)
        if unit is not None:
            found.setdefault(seen.site, []).append(unit)
    return found


def _least_cosine(known: dict[str, list[Sketch]], rules: Rules) -> float:
    """The same look at each that was accepted says how far sites turn by themselves."""
    cosines = [
        cosine
        for units in known.values()
        if len(units) > rules.own
        for n, unit in enumerate(units)
        if (cosine := _cosine(unit, [*units[:n], *units[n + 1 :]])) is not None
    ]
    if not cosines:
        return rules.cosine_floor
    middle = statistics.median(cosines)
    spread = _TO_SIGMA * statistics.median(abs(one - middle) for one in cosines)
    return min(rules.cosine_floor, middle - rules.deviations * spread)


def _cosine(unit: Sketch | None, others: Sequence[Sketch]) -> float | None:
    """With the mean of unit vectors; None if either has no direction."""
    towards = _unit(np.sum(others, axis=0, dtype=np.float32))
    return None if unit is None or towards is None else float(unit @ towards)


def _unit(vector: Sketch) -> Sketch | None:
    length = float(np.linalg.norm(vector))
    if not math.isfinite(length) or length == 0:
        return None
    found: Sketch = vector / np.float32(length)
    return found
