"""When things happen, and how long they take."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation_builders import some_times

from letheon.simulation.virtual_time import Partition, derived_seed

DISTRIBUTIONS = ["constant", "lognormal", "pareto"]


def durations(count=4000, **more):
    times = some_times({"north": 2.0}, **more)
    return np.array([times.seconds("north", number) for number in range(count)])


@given(st.integers(0, 2**40), st.integers(0, 10**6), st.sampled_from(DISTRIBUTIONS))
def test_the_same_arguments_give_the_same_time_whatever_was_asked_before(seed, number, kind):
    first = some_times({"north": 2.0, "south": 1.0}, seed=seed, distribution=kind)
    second = some_times({"north": 2.0}, seed=seed, distribution=kind)
    first.seconds("south", number)
    assert first.seconds("north", number) == second.seconds("north", number) > 0


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_the_pace_is_the_median(kind):
    assert np.median(durations(distribution=kind, spread=0.5)) == pytest.approx(2.0, rel=0.05)


def test_a_pareto_tail_is_heavier_than_a_lognormal_one():
    heavy = durations(distribution="pareto", shape=1.5)
    light = durations(distribution="lognormal", spread=0.1)
    assert heavy.max() > 20 * 2.0
    assert light.max() < 2 * 2.0
    # P(T > 8 medians) of the law is (2 ** (1 / 1.5) * 8) ** -1.5.
    assert np.mean(heavy > 16.0) == pytest.approx((2 ** (1 / 1.5) * 8) ** -1.5, rel=0.3)


def test_the_share_of_lost_tasks_is_the_one_asked_for():
    times = some_times({"north": 1.0}, drop_out=0.2)
    lost = [times.drops_out("north", number) for number in range(4000)]
    assert np.mean(lost) == pytest.approx(0.2, abs=0.02)
    assert lost == [times.drops_out("north", number) for number in range(4000)]


@pytest.mark.parametrize(
    "wrong",
    [{"spread": -1.0}, {"shape": 0.0}, {"away_s": -1.0}, {"drop_out": 1.0}, {"paces": {}}],
)
def test_times_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"paces|spread"):
        some_times(**{"paces": {"north": 1.0}, **wrong})


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_a_derived_seed_is_a_63_bit_number_that_depends_on_every_part(parts):
    seed = derived_seed(*parts)
    assert 0 <= seed < 2**63
    assert seed != derived_seed(*parts, "more")


def test_only_what_is_sent_by_a_site_that_is_cut_off_arrives_late():
    partition = Partition(frozenset({"north"}), start=2.0, end=5.0)
    arrivals = [partition.arrival("north", at) for at in (1.0, 2.0, 4.9, 5.0)]
    assert arrivals == [1.0, 5.0, 5.0, 5.0]
    assert partition.arrival("south", 3.0) == 3.0
