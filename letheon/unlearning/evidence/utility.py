"""Utility of a model at the retained sites, and against a reference model on the same records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.unlearning.bounds import wilson
from letheon.unlearning.evidence.finding import Finding, Verdict
from letheon.unlearning.evidence.residue import Z95

Correct = Mapping[str, npt.ArrayLike]  # by site, whether each record is classified right, bool [n]


@dataclass(frozen=True)
class SiteAccuracy:
    """Accuracy on the records of one site with its 95 % interval (Wilson 1927)."""

    site: str
    records: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class SiteUtilities:
    """One model at all retained sites; the mean weighs sites by their records."""

    sites: tuple[SiteAccuracy, ...]
    worst: SiteAccuracy
    mean: float
    mean_low: float
    mean_high: float
    records: int


@dataclass(frozen=True)
class SiteDifference:
    """Accuracy of a model minus that of a reference at one site, paired, with its interval."""

    site: str
    records: int
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class UtilityDifference:
    """A model against a reference on the same records of all retained sites."""

    sites: tuple[SiteDifference, ...]
    worst: SiteDifference
    mean: float  # weighs sites by their records
    low: float
    high: float
    records: int


def site_utilities(correct: Correct) -> SiteUtilities:
    """Accuracy at each site, the mean and the worst. Raises BadData without sites or records."""
    answers = {site: _answers(site, right) for site, right in correct.items()}
    sites = tuple(_accuracy(site, right) for site, right in answers.items())
    if not sites:
        raise BadData("utility needs at least one site")
    mean = _accuracy("", np.concatenate(list(answers.values())))
    worst = min(sites, key=lambda site: site.accuracy)
    return SiteUtilities(sites, worst, mean.accuracy, mean.low, mean.high, mean.records)


def compare_utility(correct: Correct, reference: Correct) -> UtilityDifference:
    """Paired differences with 95 % intervals (A. Agresti and Y. Min, Statistics in Medicine 2005).

    Their interval adds half a record to each of the four outcomes of a pair, so that models which
    agree on few records are not called equal. Raises BadData for no record, or sites and records
    that are not the same in both.
    """
    if set(correct) != set(reference) or not correct:
        raise BadData(f"utility: sites {sorted(correct)} and {sorted(reference)} do not pair")
    pairs = {
        site: _pair(site, _answers(site, correct[site]), _answers(site, reference[site]))
        for site in correct
    }
    sites = tuple(_difference(site, *pair) for site, pair in pairs.items())
    whole = np.array(list(pairs.values())).sum(axis=0)
    mean = _difference("", *(int(count) for count in whole))
    worst = min(sites, key=lambda site: site.difference)
    return UtilityDifference(sites, worst, mean.difference, mean.low, mean.high, mean.records)


def judge_utility(
    candidate: UtilityDifference,
    control: UtilityDifference | None = None,
    *,
    margin: float = 0.01,
    worst_margin: float = 0.02,
) -> Finding:
    """Non-inferiority to the reference: no worse than the margin on average, nor at any site.

    Fail: the whole interval of the mean, or of a site, lies below its margin; each site has its
    own 95 % interval, so that many sites raise the chance of a false alarm. Pass: the whole
    interval of the mean lies within the margin. `control`, if given, compares a model known to be
    worse, such as the head right after a removal: it must fail, else inconclusive. Without it the
    verdict stands on the interval alone.
    """
    fired = None if control is None else _fails(control, margin, worst_margin)
    verdict, words = _verdict(candidate, fired, margin, worst_margin)
    worst = candidate.worst
    detail = (
        f"mean accuracy against the reference {candidate.mean:+.3f} "
        f"[{candidate.low:+.3f}, {candidate.high:+.3f}], allowed {-margin:+.3f}; worst site "
        f"{worst.site} {worst.difference:+.3f} [{worst.low:+.3f}, {worst.high:+.3f}], allowed "
        f"{-worst_margin:+.3f}: {words}"
    )
    return Finding(
        name="utility",
        value=candidate.mean,
        low=candidate.low,
        high=candidate.high,
        null_low=-margin,
        null_high=math.inf,
        positive_control=None if control is None else control.mean,
        control_fired=fired,
        verdict=verdict,
        records=candidate.records,
        unit="share",
        detail=detail,
    )


def _verdict(
    candidate: UtilityDifference, fired: bool | None, margin: float, worst_margin: float
) -> tuple[Verdict, str]:
    if fired is False:
        return Verdict.INCONCLUSIVE, "these records do not even show the model known to be worse"
    if _fails(candidate, margin, worst_margin):
        return Verdict.FAIL, "worse than the reference"
    if candidate.low >= -margin:
        return Verdict.PASS, "no worse than the reference"
    return Verdict.INCONCLUSIVE, "too few records to exclude a loss"


def _fails(measured: UtilityDifference, margin: float, worst_margin: float) -> bool:
    return measured.high < -margin or any(site.high < -worst_margin for site in measured.sites)


def _answers(site: str, correct: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    right = np.asarray(correct, dtype=np.bool_)
    if right.ndim != 1 or right.size == 0:
        raise BadData(f"utility of {site} needs at least one record", site=site)
    return right


def _accuracy(site: str, right: npt.NDArray[np.bool_]) -> SiteAccuracy:
    share = float(right.mean())
    return SiteAccuracy(site, right.size, share, *wilson(share, right.size, Z95))


def _pair(
    site: str, right: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_]
) -> tuple[int, int, int]:
    """Records won (only the model is right), lost (only the reference is), and all."""
    if right.shape != reference.shape:
        raise BadData(
            f"utility of {site}: {right.size} records, {reference.size} of the reference", site=site
        )
    return int((right & ~reference).sum()), int((~right & reference).sum()), right.size


def _difference(site: str, won: int, lost: int, records: int) -> SiteDifference:
    more, count = (won - lost), records + 2
    centre = more / count
    error = math.sqrt((won + lost + 1) / count - centre**2) / math.sqrt(count)
    low, high = max(-1.0, centre - Z95 * error), min(1.0, centre + Z95 * error)
    return SiteDifference(site, records, more / records, low, high)
