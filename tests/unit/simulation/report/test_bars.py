import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_builders import (
    attempt,
    evidence,
    falling,
    level,
    looks,
    method,
    parsed,
    retraining,
    unit,
)

from letheon.simulation.report import bars
from letheon.simulation.report.bars import Outcome, Shown, judge_gaps
from letheon.simulation.report.gate_tally import floor_missed, tally_gate
from letheon.simulation.report.quantities import QUANTITIES
from letheon.simulation.report.time_to_bar import time_bar, time_to_bar


def _units(seeds: int = 5, **told):
    return parsed(*(unit(seed, runs={"removal": method(**told)}) for seed in range(seeds)))


def test_accuracy_at_the_limit_meets_its_bar_and_below_it_misses():
    assert bars.accuracy_early(_units(accuracy=level(0.875)), "removal").verdict is Outcome.MET
    missed = bars.accuracy_early(_units(accuracy=level(0.874)), "removal")
    assert missed.verdict is Outcome.MISSED
    assert missed.value == pytest.approx(-2.6)


def test_the_gap_is_to_the_mean_of_both_retrainings_at_the_same_budget():
    again = retraining(accuracy=falling(0.1, 0.94, at=50))
    (one,) = parsed(unit(runs={"removal": method()}, retrain_again=again))
    assert QUANTITIES["accuracy_60"].gap(one, "removal") == pytest.approx(-2.0)
    assert QUANTITIES["accuracy_60"].floor(one) == pytest.approx(4.0)


def test_a_retraining_counts_from_its_start():
    (one,) = parsed(unit())
    assert one.runs["retrain"].looks.accepted[0] == 0
    assert one.looks("retrain").accepted[0] == -100


def test_one_bad_site_misses_the_bar_of_the_worst_site_though_the_mean_is_fine():
    found = _units(site_accuracy=(0.94, 0.94, 0.94, 0.86))
    assert bars.worst_site_early(found, "removal").value == pytest.approx(-4.0)
    assert bars.worst_site_early(found, "removal").verdict is Outcome.MISSED


def test_a_backdoor_that_comes_back_misses_only_the_bar_of_the_maximum():
    found = _units(disclosed=falling(0.02, 0.12, at=100))
    assert bars.disclosed(found, "removal").verdict is Outcome.MET
    highest = bars.disclosed_highest(found, "removal")
    assert highest.verdict is Outcome.MISSED
    assert highest.value == pytest.approx(10.0)
    assert bars.undisclosed_highest(found, "removal").verdict is Outcome.MET


def test_a_window_that_ends_early_makes_the_maximum_not_measurable():
    highest = bars.disclosed_highest(_units(last=100), "removal")
    assert highest.verdict is Outcome.NOT_MEASURABLE
    assert highest.seeds == 0


def test_the_forget_margin_grows_with_the_spread_of_the_floor():
    found = parsed(
        *(
            unit(
                seed,
                runs={"removal": method(evidence=evidence(forget=0.84))},
                retrain_again=retraining(evidence=evidence(forget=0.8 + shift)),
            )
            for seed, shift in enumerate((0.03, -0.03, 0.03, -0.03))
        )
    )
    bar = bars.forget_set(found, "removal")
    assert bar.high == pytest.approx(2 * math.sqrt(12))
    assert bar.verdict is Outcome.MET


def test_relearning_slower_than_retraining_is_a_trace_too():
    found = parsed(
        unit(
            runs={"removal": method(evidence=evidence(relearned=0.0))},
            retrain=retraining(evidence=evidence(relearned=0.3)),
            retrain_again=retraining(evidence=evidence(relearned=0.3)),
        )
    )
    assert bars.relearning(found, "removal").verdict is Outcome.MISSED


def _honest(before_auc):
    runs = {"removal": method()}
    return parsed(*(unit(s, kind="honest", runs=runs, before_auc=before_auc) for s in range(3)))


def test_membership_needs_an_attack_that_sees_the_target_before():
    assert bars.membership(_honest((0.65, 0.61, 0.69)), "removal").verdict is Outcome.MET
    blind = bars.membership(_honest((0.51, 0.47, 0.55)), "removal")
    assert blind.verdict is Outcome.INCONCLUSIVE
    assert blind.value == pytest.approx(0.0)


def test_membership_of_a_backdoored_target_is_not_measurable():
    assert bars.membership(_units(), "removal").verdict is Outcome.NOT_MEASURABLE


def test_one_lost_update_misses_the_bar():
    assert bars.updates_lost(_units(), "removal").verdict is Outcome.MET
    assert bars.updates_lost(_units(overwritten=1), "removal").verdict is Outcome.MISSED


def test_means_inside_the_limits_are_no_proof_and_outside_can_be():
    wide = judge_gaps("x", "x", "points", [-9.0, 8.0, 0.5], low=-2.5, high=math.inf)
    assert (wide.verdict, wide.shown) == (Outcome.MET, Shown.NOT_SHOWN)
    narrow = judge_gaps("x", "x", "points", [-0.1, 0.1, 0.0], low=-2.5, high=math.inf)
    assert narrow.shown is Shown.EQUIVALENT
    low = judge_gaps("x", "x", "points", [-9.0, -9.1, -9.2], low=-2.5, high=math.inf)
    assert (low.verdict, low.shown) == (Outcome.MISSED, Shown.DIFFERENT)


def test_one_seed_shows_nothing():
    assert bars.accuracy_early(_units(1), "removal").shown is Shown.NOT_SHOWN


def test_time_runs_from_the_request_to_the_first_of_three_good_looks():
    blip = {45: 0.9}
    found = _units(accuracy=lambda m: blip.get(m, 0.9 if m >= 60 else 0.5))
    time = time_to_bar(found, "removal")
    assert [moment.seconds for moment in time.method] == [30.0] * 5
    assert time.censored == 0


def test_retraining_is_timed_from_its_start_and_both_are_divided():
    late = retraining(accuracy=falling(0.5, 0.9, at=0))
    found = parsed(
        unit(
            runs={"removal": method(accuracy=falling(0.5, 0.9, at=40))},
            retrain=late,
            retrain_again=late,
        )
    )
    bar = time_bar(found, "removal")
    assert bar.value == pytest.approx(20.0 / 50.0)
    assert bar.verdict is Outcome.MET


def test_a_censored_run_counts_as_long_as_the_window():
    found = _units(disclosed=level(0.5))
    time = time_to_bar(found, "removal")
    assert time.censored == 5
    assert time.method[0].seconds == 80.0
    assert "never met in 5 of 5" in time_bar(found, "removal").note


def test_the_undisclosed_trigger_counts_for_the_time_as_well():
    assert time_to_bar(_units(undisclosed=level(0.5)), "removal").censored == 5


def test_the_gate_passing_on_a_backdoor_is_a_wrong_pass():
    (case,) = tally_gate(_units(1, undisclosed=level(0.5)), "removal").wrong_passes
    assert case.missed == ("backdoor, undisclosed",)


def test_the_gate_refusing_a_good_model_is_a_wrong_failure():
    tally = tally_gate(_units(2, gate=[attempt(60, "inconclusive")]), "removal")
    assert len(tally.wrong_failures) == 2
    assert tally.passed == 0


def test_a_method_the_gate_never_saw_is_counted_apart():
    tally = tally_gate(_units(2, gate=[]), "removal")
    assert (tally.never_asked, tally.cases) == (2, ())


def test_retraining_itself_is_judged_by_the_bars_of_the_gate():
    (bad,) = parsed(unit(retrain_again=retraining(accuracy=level(0.8))))
    assert floor_missed([bad]) == (1, 1)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8), st.randoms())
def test_the_order_of_seeds_does_not_change_a_verdict(gaps, random):
    mixed = list(gaps)
    random.shuffle(mixed)
    one, other = (judge_gaps("x", "x", "points", g, low=-2.5, high=2.5) for g in (gaps, mixed))
    assert one.value == pytest.approx(other.value)
    assert one.seeds == other.seeds


@given(st.integers(0, 160))
def test_the_nearest_look_is_never_further_than_half_the_spacing(accepted):
    found = parsed(unit(runs={"removal": {"looks": looks()}}))[0].looks("removal")
    index = found.nearest(accepted)
    assert index is not None
    assert abs(found.accepted[index] - accepted) <= 2.5
