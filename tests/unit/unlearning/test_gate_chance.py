"""How often chance alone certifies a method that only suppresses. Seeded, on the pure rules."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from letheon.unlearning.afu_ic_rebased import AfuIcRebased
from letheon.unlearning.evidence.forgetting import ForgetStatistic
from letheon.unlearning.gate import FORGETTING, Rules, SiteUtility, Verdict, judge

Floats = npt.NDArray[np.float64]

RULES = Rules(utility_margin=0.03, worst_site_margin=0.08, forget_margin=0.05)
GOOD = [SiteUtility("sites/south", 500, 0.90, 0.90)]
ATTEMPTS = 20
SEQUENCES = 3000
RIGHT = 0.0  # a record scored above this is classified correctly


def statistics_of(erased: Floats, control: Floats) -> list[ForgetStatistic]:
    """Of scores (-loss) [trials, n] and [trials, m], all trials at once.

    The intervals are those of DeLong et al. (1988), which a bootstrap approaches.
    """
    trials, n = erased.shape
    m = control.shape[1]
    order = np.argsort(np.concatenate([erased, control], axis=1), axis=1)
    ranks = np.empty((trials, n + m))
    np.put_along_axis(ranks, order, np.arange(1.0, n + m + 1)[None, :], axis=1)
    within_erased = erased.argsort(axis=1).argsort(axis=1) + 1
    within_control = control.argsort(axis=1).argsort(axis=1) + 1
    wins = (ranks[:, :n] - within_erased) / m  # [trials, n] share of controls below
    losses = 1 - (ranks[:, n:] - within_control) / n  # [trials, m] share of erased above
    auc = wins.mean(axis=1)
    auc_half = 1.96 * np.sqrt(wins.var(axis=1) / n + losses.var(axis=1) / m)
    right_erased, right_control = (erased > RIGHT).mean(axis=1), (control > RIGHT).mean(axis=1)
    gap_half = 1.96 * np.sqrt(
        right_erased * (1 - right_erased) / n + right_control * (1 - right_control) / m
    )
    threshold = np.sort(control, axis=1)[:, ::-1][:, m // 100]
    tpr = (erased > threshold[:, None]).mean(axis=1)
    return [
        ForgetStatistic(
            erased_records=n,
            control_records=m,
            auc=float(auc[i]),
            auc_low=float(auc[i] - auc_half[i]),
            auc_high=float(auc[i] + auc_half[i]),
            tpr_at_1pct_fpr=float(tpr[i]),
            accuracy_erased=float(right_erased[i]),
            accuracy_control=float(right_control[i]),
            accuracy_gap_low=float(right_erased[i] - right_control[i] - gap_half[i]),
            accuracy_gap_high=float(right_erased[i] - right_control[i] + gap_half[i]),
            mean_loss_erased=float(-erased[i].mean()),
            mean_loss_control=float(-control[i].mean()),
        )
        for i in range(trials)
    ]


def audits(
    rng: np.random.Generator, trials: int, erased: int, control: int, membership: float
) -> list[ForgetStatistic]:
    """Fresh audits; `membership` is by how many deviations erased records are easier."""
    return statistics_of(
        rng.normal(1.0 + membership, 1.0, (trials, erased)),
        rng.normal(1.0, 1.0, (trials, control)),
    )


def is_certified(before: ForgetStatistic, candidates: list[ForgetStatistic]) -> bool:
    """Whether one of the attempts passes, for a method that only suppresses."""
    offer = AfuIcRebased.offer
    return any(judge(GOOD, before, c, RULES, offer).verdict is Verdict.PASS for c in candidates)


def may_pass(before: ForgetStatistic) -> bool:
    """Whether any positive control fired: without one no attempt can pass."""
    tests = judge(GOOD, before, before, RULES, AfuIcRebased.offer).tests
    return any(test.positive_control_fired for test in tests if test.name in FORGETTING)


@pytest.mark.parametrize(
    ("erased", "control"), [(480, 120), (480, 200), (100, 100), (60, 20), (12, 8), (2000, 500)]
)
def test_without_any_membership_chance_certifies_less_than_one_sequence_in_a_hundred(
    erased: int, control: int
) -> None:
    rng = np.random.default_rng(erased)
    sequences = SEQUENCES if erased < 1000 else SEQUENCES // 5
    befores = audits(rng, sequences, erased, control, 0.0)
    certified = sum(
        is_certified(before, audits(rng, ATTEMPTS, erased, control, 0.0))
        for before in befores
        if may_pass(before)
    )
    assert certified < 0.01 * sequences


@pytest.mark.parametrize("membership", [0.4, 0.8, 1.5])
def test_a_membership_that_stays_is_certified_in_less_than_one_sequence_in_a_hundred(
    membership: float,
) -> None:
    """Every attempt is a fresh draw: the worst case for repeated looks."""
    rng = np.random.default_rng(7)
    sequences = 300
    befores = audits(rng, sequences, 480, 120, membership)
    certified = sum(
        is_certified(before, audits(rng, ATTEMPTS, 480, 120, membership)) for before in befores
    )
    assert certified < 0.01 * sequences


def test_a_real_drop_is_still_seen() -> None:
    rng = np.random.default_rng(3)
    befores = audits(rng, 100, 480, 120, 0.8)
    assert sum(is_certified(b, audits(rng, ATTEMPTS, 480, 120, 0.0)) for b in befores) >= 95
