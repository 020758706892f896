from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.unlearning.afu_ic_rebased import AfuIcRebased
from letheon.unlearning.evidence.forgetting import ForgetStatistic
from letheon.unlearning.gate import (
    FORGETTING,
    Rules,
    SiteUtility,
    Verdict,
    judge,
    judge_tpr,
    judge_utility,
)
from letheon.unlearning.removal import Removal

RULES = Rules(utility_margin=0.03, worst_site_margin=0.08, forget_margin=0.05)
GOOD = [SiteUtility("sites/south", 500, 0.90, 0.89), SiteUtility("sites/east", 300, 0.85, 0.86)]
SUBTRACTS, SUPPRESSES = Removal.offer, AfuIcRebased.offer


def a_statistic(auc=0.5, half=0.03, gap=0.0, tpr=0.01, **fields) -> ForgetStatistic:
    base = ForgetStatistic(
        erased_records=400,
        control_records=200,
        auc=auc,
        auc_low=auc - half,
        auc_high=auc + half,
        tpr_at_1pct_fpr=tpr,
        accuracy_erased=0.8 + gap,
        accuracy_control=0.8,
        accuracy_gap_low=gap - half,
        accuracy_gap_high=gap + half,
        mean_loss_erased=0.3,
        mean_loss_control=0.4,
    )
    return replace(base, **fields)


MEMBER = a_statistic(auc=0.7, gap=0.2, tpr=0.2)


def verdicts(judgement):
    return {test.name: test.verdict for test in judgement.tests}


def test_a_model_that_forgot_and_kept_its_utility_passes():
    judgement = judge(GOOD, MEMBER, a_statistic(), RULES, SUBTRACTS)
    assert judgement.verdict is Verdict.PASS
    assert judgement.statistically_verified
    assert set(verdicts(judgement).values()) == {Verdict.PASS}


def test_a_model_that_was_not_erased_fails_every_forgetting_test():
    judgement = judge(GOOD, MEMBER, MEMBER, RULES, SUBTRACTS)
    assert judgement.verdict is Verdict.FAIL
    assert all(verdicts(judgement)[name] is Verdict.FAIL for name in FORGETTING)


def test_without_a_positive_control_forgetting_is_inconclusive():
    judgement = judge(GOOD, a_statistic(0.51), a_statistic(), RULES, SUBTRACTS)
    assert all(verdicts(judgement)[name] is Verdict.INCONCLUSIVE for name in FORGETTING)
    assert not any(t.positive_control_fired for t in judgement.tests if t.name in FORGETTING)
    assert judgement.verdict is Verdict.PASS
    assert not judgement.statistically_verified


@pytest.mark.parametrize("before", [None, MEMBER])
def test_a_method_that_only_suppresses_needs_a_forgetting_test_that_passed(before):
    assert judge(GOOD, before, None, RULES, SUPPRESSES).verdict is Verdict.INCONCLUSIVE
    assert judge(GOOD, before, None, RULES, SUBTRACTS).verdict is Verdict.PASS
    assert judge(GOOD, MEMBER, a_statistic(), RULES, SUPPRESSES).verdict is Verdict.PASS


def test_one_failed_forgetting_test_outweighs_those_that_passed():
    candidate = a_statistic(tpr=0.15)
    judgement = judge(GOOD, MEMBER, candidate, RULES, SUBTRACTS)
    assert verdicts(judgement)["forget_auc"] is Verdict.PASS
    assert judgement.verdict is Verdict.FAIL
    assert "forget_tpr" in judgement.reason


def test_a_large_sample_just_above_the_null_is_within_the_margin():
    judgement = judge(GOOD, MEMBER, a_statistic(0.52, half=0.01), RULES, SUBTRACTS)
    assert verdicts(judgement)["forget_auc"] is Verdict.PASS


def test_a_small_sample_that_cannot_tell_is_inconclusive_and_no_pass():
    judgement = judge(GOOD, MEMBER, a_statistic(0.58, half=0.15), RULES, SUBTRACTS)
    assert verdicts(judgement)["forget_auc"] is Verdict.INCONCLUSIVE


def test_over_forgetting_is_told_and_does_not_fail():
    judgement = judge(GOOD, MEMBER, a_statistic(0.3, gap=-0.3), RULES, SUBTRACTS)
    auc = next(test for test in judgement.tests if test.name == "forget_auc")
    assert auc.verdict is Verdict.PASS
    assert auc.numbers["over_forgotten"] is True
    assert "over-forgotten" in auc.detail


def test_the_mean_is_weighted_by_records():
    sites = [SiteUtility("sites/big", 10_000, 0.9, 0.9), SiteUtility("sites/small", 10, 0.9, 0.5)]
    assert judge_utility(sites, RULES).numbers["mean_candidate"] == pytest.approx(0.8996, abs=1e-4)


def test_one_site_that_lost_too_much_fails_utility_though_the_mean_holds():
    sites = [SiteUtility("sites/big", 10_000, 0.9, 0.9), SiteUtility("sites/worse", 400, 0.9, 0.7)]
    test = judge_utility(sites, RULES)
    assert test.verdict is Verdict.FAIL
    assert test.numbers["worst_site"] == "sites/worse"


def test_the_worst_site_has_its_sampling_error():
    few = [SiteUtility("sites/big", 10_000, 0.9, 0.9), SiteUtility("sites/small", 10, 0.9, 0.7)]
    assert judge_utility(few, RULES).verdict is Verdict.PASS


def test_without_any_utility_nothing_passes():
    judgement = judge([], MEMBER, a_statistic(), RULES, SUBTRACTS)
    assert judgement.verdict is Verdict.INCONCLUSIVE


def test_a_mean_drop_beyond_the_margin_fails():
    sites = [SiteUtility("sites/south", 1000, 0.90, 0.86)]
    assert judge_utility(sites, RULES).verdict is Verdict.FAIL
    assert judge_utility(sites, replace(RULES, utility_margin=0.05)).verdict is Verdict.PASS


def test_a_positive_control_does_not_fire_by_chance():
    """0.055 against a limit of 0.048: the backdoor of this model was still at 100 %."""
    sizes = {"erased_records": 480, "control_records": 120}
    test = judge_tpr(a_statistic(tpr=0.055, **sizes), a_statistic(tpr=0.042, **sizes))
    assert test.numbers["limit"] == pytest.approx(0.0435, abs=0.01)
    assert not test.positive_control_fired
    assert test.verdict is Verdict.INCONCLUSIVE


def test_too_few_control_records_cannot_resolve_one_percent():
    sizes = {"erased_records": 480, "control_records": 99}
    test = judge_tpr(a_statistic(tpr=0.9, **sizes), a_statistic(tpr=0.0, **sizes))
    assert test.verdict is Verdict.INCONCLUSIVE
    assert "99 control records" in test.detail


def test_records_of_few_patients_resolve_less():
    wide = {"half": 0.12}  # what a bootstrap by patient gives when patients have many records
    assert judge_tpr(a_statistic(tpr=0.12), a_statistic()).verdict is Verdict.PASS
    test = judge_tpr(a_statistic(tpr=0.12, **wide), a_statistic(**wide))
    assert test.verdict is Verdict.INCONCLUSIVE


def test_a_candidate_within_the_margin_passes_only_if_something_dropped():
    slight = a_statistic(0.54, half=0.01, gap=0.04, erased_records=20_000, control_records=10_000)
    judgement = judge(GOOD, slight, slight, RULES, SUPPRESSES)
    auc = next(test for test in judgement.tests if test.name == "forget_auc")
    assert auc.positive_control_fired
    assert auc.verdict is Verdict.INCONCLUSIVE
    assert judgement.verdict is Verdict.INCONCLUSIVE


def test_sites_that_were_not_waited_for_are_named():
    test = judge_utility(GOOD, RULES, ["sites/slow"])
    assert test.numbers["late_sites"] == "sites/slow"
    assert "not waited for: sites/slow" in test.detail


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 5000), st.integers(1, 5000))
def test_a_higher_true_positive_rate_never_turns_a_failure_into_a_pass(low, high, erased, control):
    low, high = sorted((low, high))
    sizes = {"erased_records": erased, "control_records": control}
    before = replace(MEMBER, tpr_at_1pct_fpr=1.0, **sizes)
    worse = judge_tpr(before, a_statistic(tpr=high, **sizes)).verdict
    better = judge_tpr(before, a_statistic(tpr=low, **sizes)).verdict
    assert not (worse is Verdict.PASS and better is Verdict.FAIL)


@given(st.floats(0.0, 1.0), st.floats(0.0, 0.3))
def test_a_pass_always_rests_on_utility_and_never_on_a_failed_test(auc, half):
    judgement = judge(GOOD, MEMBER, a_statistic(auc, half), RULES, SUPPRESSES)
    if judgement.verdict is Verdict.PASS:
        found = verdicts(judgement)
        assert found["utility"] is Verdict.PASS
        assert Verdict.FAIL not in found.values()
        assert judgement.statistically_verified
