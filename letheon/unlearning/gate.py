"""The gate: the tests an erased model passes before it serves. Pure rules on numbers.

Each forgetting test has a positive control: the same test must see the subject in the version
from before the erasure, beyond sampling error, else it is inconclusive and proves nothing. It
passes only on evidence of a drop: the candidate's upper bound lies below the lower bound of the
version before. How often chance passes over all attempts of an erasure: see `bounds`. Thresholds
follow V2 to V5 of the project's study of verification; each test says its numbers in a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from letheon.unlearning.bounds import (
    CONTROL_Z,
    DROP_Z,
    Interval,
    auc_of,
    false_positives_at_most,
    gap_of,
    true_positives,
)
from letheon.unlearning.evidence.finding import Verdict as Verdict
from letheon.unlearning.evidence.forgetting import ForgetStatistic
from letheon.unlearning.evidence.ranking import CONTROLS_AT_LEAST, FALSE_POSITIVE_RATE
from letheon.unlearning.method import Offer

ONE_SIDED = 1.645  # 95 % quantile of the normal distribution
OVER_FORGETTING = 0.10  # of AUC or accuracy gap, below the null
FORGETTING = ("forget_auc", "forget_tpr", "forget_gap")

Number = int | float | str | bool | None


@dataclass(frozen=True)
class Rules:
    """Margins, from the plan."""

    utility_margin: float  # of accuracy, record-weighted over retained sites
    worst_site_margin: float  # of accuracy, any one site
    forget_margin: float  # of AUC or accuracy gap above the null


@dataclass(frozen=True)
class SiteUtility:
    """Accuracy of both versions on one retained site's validation records."""

    site: str
    records: int
    before: float  # version from before the erasure
    candidate: float


@dataclass(frozen=True)
class Test:
    """One test with its numbers."""

    __test__ = False  # not a pytest class

    name: str
    verdict: Verdict
    positive_control_fired: bool
    detail: str
    numbers: Mapping[str, Number]


@dataclass(frozen=True)
class Judgement:
    """What the gate decided."""

    verdict: Verdict
    tests: tuple[Test, ...]
    reason: str  # a sentence

    @property
    def statistically_verified(self) -> bool:
        """Whether a forgetting test passed."""
        return any(t.verdict is Verdict.PASS for t in self.tests if t.name in FORGETTING)


def judge(
    sites: Sequence[SiteUtility],
    before: ForgetStatistic | None,
    candidate: ForgetStatistic | None,
    rules: Rules,
    offer: Offer,
    *,
    late: Sequence[str] = (),
    no_audit: str = "",
) -> Judgement:
    """Runs all tests of the gate but the ledger's, which the coordinator runs at promotion.

    `before` and `candidate` are the subject's own audit of both versions, None when its data are
    gone or it did not answer; `no_audit` says why, where it is known. `late` are retained sites
    that were asked and not waited for.
    """
    forgetting = _judge_forgetting(before, candidate, rules, no_audit)
    tests = (judge_utility(sites, rules, late), *forgetting)
    verdict, reason = _conclude(tests, offer)
    return Judgement(verdict, tests, reason)


def _conclude(tests: Sequence[Test], offer: Offer) -> tuple[Verdict, str]:
    failed = [test.name for test in tests if test.verdict is Verdict.FAIL]
    if failed:
        return Verdict.FAIL, f"failed: {', '.join(failed)}"
    utility = next(test for test in tests if test.name == "utility")
    if utility.verdict is not Verdict.PASS:
        return Verdict.INCONCLUSIVE, utility.detail
    if any(test.verdict is Verdict.PASS for test in tests if test.name in FORGETTING):
        return Verdict.PASS, "utility holds and forgetting was verified"
    if offer.suppresses:
        return Verdict.INCONCLUSIVE, (
            f"{offer.name} only suppresses influence and no forgetting test passed"
        )
    return Verdict.PASS, "utility holds; no forgetting test was conclusive"


def judge_utility(sites: Sequence[SiteUtility], rules: Rules, late: Sequence[str] = ()) -> Test:
    """Record-weighted mean accuracy, and the worst site, against the version from before."""
    records = sum(site.records for site in sites)
    if records == 0:
        detail = "no retained site reported utility for both versions"
        numbers: dict[str, Number] = {"sites": 0, "late_sites": ", ".join(late)}
        return Test("utility", Verdict.INCONCLUSIVE, False, detail, numbers)
    before = sum(site.before * site.records for site in sites) / records
    after = sum(site.candidate * site.records for site in sites) / records
    excess = {site.site: _drop(site) - _allowed_drop(site, rules) for site in sites}
    worst = max(sites, key=lambda site: excess[site.site])
    mean_holds = after >= before - rules.utility_margin
    worst_holds = excess[worst.site] <= 0
    detail = (
        f"mean accuracy over {len(sites)} retained sites ({records} records) {before:.3f} before, "
        f"{after:.3f} now, allowed drop {rules.utility_margin:.3f}; worst site "
        f"{worst.site} {worst.before:.3f} before, {worst.candidate:.3f} now, allowed drop "
        f"{_allowed_drop(worst, rules):.3f}"
    )
    if late:
        detail += f"; not waited for: {', '.join(late)}"
    numbers = {
        "sites": len(sites),
        "late_sites": ", ".join(late),
        "records": records,
        "mean_before": before,
        "mean_candidate": after,
        "utility_margin": rules.utility_margin,
        "worst_site": worst.site,
        "worst_before": worst.before,
        "worst_candidate": worst.candidate,
        "worst_allowed_drop": _allowed_drop(worst, rules),
    }
    passed = Verdict.PASS if mean_holds and worst_holds else Verdict.FAIL
    return Test("utility", passed, True, detail, numbers)


def _drop(site: SiteUtility) -> float:
    return site.before - site.candidate


def _allowed_drop(site: SiteUtility, rules: Rules) -> float:
    """The margin, plus the sampling error of a difference of two proportions."""
    if site.records == 0:
        return math.inf
    variance = sum(share * (1 - share) for share in (site.before, site.candidate))
    return rules.worst_site_margin + ONE_SIDED * math.sqrt(variance / site.records)


def _judge_forgetting(
    before: ForgetStatistic | None,
    candidate: ForgetStatistic | None,
    rules: Rules,
    no_audit: str,
) -> tuple[Test, ...]:
    if before is None or candidate is None:
        detail = no_audit or "its data are gone: the subject's agent did not audit both versions"
        return tuple(Test(n, Verdict.INCONCLUSIVE, False, detail, {}) for n in FORGETTING)
    return (
        _judge_interval(
            "forget_auc",
            "AUC of erased against control losses",
            0.5,
            auc_of(before),
            auc_of(candidate),
            rules.forget_margin,
        ),
        judge_tpr(before, candidate),
        _judge_interval(
            "forget_gap",
            "accuracy on erased minus control records",
            0.0,
            gap_of(before),
            gap_of(candidate),
            rules.forget_margin,
        ),
    )


def _judge_interval(
    name: str, what: str, null: float, before: Interval, candidate: Interval, margin: float
) -> Test:
    """One-sided: only the member side (above the null) is a failure.

    Control: the lower bound of the version before lies above the null. Pass: evidence of a drop,
    and the candidate's whole interval is below null + margin, or it reaches the null with its
    value within the margin. Fail: the interval lies above the null, and not within the margin.
    Anything else: too few records to tell, inconclusive.
    """
    floor, ceiling = before.lower(CONTROL_Z), candidate.upper(DROP_Z)
    fired = floor > null
    equivalent = candidate.high <= null + margin
    gone = candidate.low <= null and candidate.value <= null + margin
    if not fired:
        verdict, words = Verdict.INCONCLUSIVE, "the version before shows no membership to lose"
    elif (equivalent or gone) and ceiling < floor:
        verdict, words = Verdict.PASS, "no longer on the member side"
    elif candidate.low > null and not equivalent:
        verdict, words = Verdict.FAIL, "still on the member side"
    else:
        verdict, words = Verdict.INCONCLUSIVE, "too few records to tell a drop from chance"
    over = candidate.high < null - OVER_FORGETTING
    if over:
        words += f"; over-forgotten: more than {OVER_FORGETTING:.2f} below the null"
    detail = f"{what}: {before} before, {candidate} now, null {null:g}: {words}"
    numbers: dict[str, Number] = {
        "null": null,
        "margin": margin,
        "before": before.value,
        "before_low": before.low,
        "before_high": before.high,
        "candidate": candidate.value,
        "candidate_low": candidate.low,
        "candidate_high": candidate.high,
        "before_lower_bound": floor,
        "candidate_upper_bound": ceiling,
        "over_forgotten": over,
    }
    return Test(name, verdict, fired, detail, numbers)


def judge_tpr(before: ForgetStatistic, candidate: ForgetStatistic) -> Test:
    """True positives at 1 % false positives: at most twice that rate plus sampling error.

    Control: the lower bound of the rate before lies above the limit and above the upper bound of
    the rate of false positives at its threshold, which few controls place only roughly. Pass: the
    candidate is within its limit, and its upper bound is below the lower bound of before. With
    fewer than 100 control records the rate cannot be resolved: inconclusive.
    """
    limit = _tpr_limit(candidate)
    floor, _ = true_positives(before, CONTROL_Z)
    _, ceiling = true_positives(candidate, DROP_Z)
    controls = min(before.control_records, candidate.control_records)
    resolved = controls >= CONTROLS_AT_LEAST
    fired = resolved and floor > max(_tpr_limit(before), false_positives_at_most(before, CONTROL_Z))
    if not resolved:
        verdict, words = Verdict.INCONCLUSIVE, f"{controls} control records cannot resolve 1 %"
    elif not fired:
        verdict, words = Verdict.INCONCLUSIVE, "the version before shows no membership to lose"
    elif candidate.tpr_at_1pct_fpr > limit:
        verdict, words = Verdict.FAIL, "still above the limit"
    elif ceiling < floor:
        verdict, words = Verdict.PASS, "no longer above the limit"
    else:
        verdict, words = Verdict.INCONCLUSIVE, "too few records to tell a drop from chance"
    detail = (
        f"true positive rate at 1 % false positives: {before.tpr_at_1pct_fpr:.3f} before (at least "
        f"{floor:.3f}), {candidate.tpr_at_1pct_fpr:.3f} now, limit {limit:.3f}: {words}"
    )
    numbers: dict[str, Number] = {
        "before": before.tpr_at_1pct_fpr,
        "candidate": candidate.tpr_at_1pct_fpr,
        "limit": limit,
        "before_lower_bound": floor,
        "candidate_upper_bound": ceiling,
        "erased_records": candidate.erased_records,
        "control_records": candidate.control_records,
    }
    return Test("forget_tpr", verdict, fired, detail, numbers)


def _tpr_limit(statistic: ForgetStatistic) -> float:
    """2 x 1 % plus the sampling error of both groups at that rate."""
    rate = 2 * FALSE_POSITIVE_RATE
    spread = 1 / statistic.erased_records + 1 / statistic.control_records
    return rate + ONE_SIDED * math.sqrt(rate * (1 - rate) * spread)
