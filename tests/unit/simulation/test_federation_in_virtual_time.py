"""Who trains when, what arrives, and in which order."""

import numpy as np
import pytest
from simulation_builders import (
    PullTrainer,
    a_central,
    a_federation,
    advance,
    sites_merged,
    some_rules,
)

from letheon.simulation.central import Rules
from letheon.simulation.federation import NOTICE_S, training_seed
from letheon.simulation.virtual_time import Partition

TWO = {"fast": 1.0, "slow": 2.5}


def deltas(federation):
    return [row for row in federation.central.entries if row.base_version is not None]


def erase(federation, site, *, subtract=True):
    federation.central.remove(site, federation.now, subtract=subtract)
    federation.supersede()


def test_two_sites_with_constant_times_arrive_in_order_with_the_staleness_of_a_hand_count():
    federation = a_federation(TWO)
    advance(federation, 5.0)
    # fast ends at 1, 2, 3, 4, 5; slow at 2.5 (base 0, after two) and 5 (base 3, after two).
    assert sites_merged(federation) == ["fast", "fast", "slow", "fast", "fast", "slow", "fast"]
    assert [row.staleness for row in deltas(federation)] == [0, 0, 2, 1, 0, 2, 1]
    assert [row.base_version for row in deltas(federation)] == [0, 1, 0, 2, 4, 3, 5]


def test_a_delta_is_that_of_its_base_its_rate_and_its_seed_as_the_row_records_them():
    federation = a_federation(TWO)
    base = np.array(federation.central.head)
    advance(federation, 1.0)
    (row,) = deltas(federation)
    rate = federation.central.rules.plan.training.learning_rate
    assert row.details == {"task": 0, "learning_rate": rate.hex()}
    seed = training_seed(federation.setting.seed, "fast", 0)
    again = PullTrainer().delta("fast", base, learning_rate=rate, seed=seed)
    assert np.array_equal(federation.central.payloads[row.entry], again)


def test_an_epoch_costs_each_retained_site_one_task_and_they_begin_again_at_once():
    federation = a_federation({**TWO, "south": 4.0})
    advance(federation, 1.5)
    federation.now = 1.5
    federation.central.fence("south", 1.5)
    erase(federation, "south")
    assert (federation.counts.superseded, federation.counts.fenced) == (2, 1)
    assert federation.next_event() == pytest.approx(1.5 + NOTICE_S + 1.0)
    advance(federation, 10.0)
    assert federation.counts.superseded == 2
    assert "south" not in sites_merged(federation)


def test_a_task_that_has_not_begun_is_not_counted_as_lost_twice():
    federation = a_federation(TWO)
    erase(federation, "nobody")
    federation.supersede()
    assert federation.counts.superseded == 2


def test_in_the_ablation_tasks_in_flight_are_delivered_after_the_removal():
    rules = some_rules()
    central = a_central()
    central.rules = Rules(rules.plan, rules.layout, rules.strategy, refuse_old_epochs=False)
    federation = a_federation({**TWO, "south": 2.0}, central=central)
    advance(federation, 2.0)
    erase(federation, "south")
    advance(federation, 2.5)
    assert federation.counts.superseded == 0
    assert [row.site for row in deltas(federation)][-1] == "slow"


def test_a_task_that_is_lost_brings_nothing_and_its_site_comes_back():
    federation = a_federation({"north": 1.0}, drop_out=0.5, away_s=3.0)
    lost = [federation.setting.times.drops_out("north", number) for number in range(12)]
    advance(federation, sum(3.0 if gone else 1.0 for gone in lost))
    assert federation.counts.dropped == sum(lost) > 0
    assert len(sites_merged(federation)) == 12 - sum(lost) > 0


def test_a_site_that_is_cut_off_delivers_late_and_the_others_go_on():
    partition = Partition(frozenset({"slow"}), start=1.0, end=7.0)
    federation = a_federation(TWO, partition=partition)
    advance(federation, 7.0)
    assert sites_merged(federation)[:7] == ["fast"] * 6 + ["slow"]
    assert deltas(federation)[6].staleness == 6


def test_an_epoch_that_begins_during_a_partition_is_heard_of_at_its_end():
    partition = Partition(frozenset({"slow"}), start=1.0, end=7.0)
    federation = a_federation(TWO, partition=partition)
    advance(federation, 3.0)
    erase(federation, "nobody")
    assert federation.counts.superseded == 1
    advance(federation, 7.0)
    assert federation.counts.superseded == 2
    assert "slow" not in sites_merged(federation)
    head = federation.central.version
    advance(federation, 9.5)
    (row,) = [row for row in deltas(federation) if row.site == "slow"]
    assert row.base_version in (head - 1, head)  # the head when it was back, not of the erasure


def test_a_round_waits_for_the_slowest_and_merges_the_mean():
    federation = a_federation(TWO)
    federation.synchronise()
    federation.resume()
    start = np.array(federation.central.head)
    advance(federation, 2.4)
    assert np.array_equal(federation.central.head, start)
    advance(federation, 2.5)
    first, second = (federation.central.payloads[row.entry] for row in deltas(federation))
    assert federation.central.version == 1
    assert np.allclose(federation.central.head, start + (first + second) / 2, atol=1e-6)
    advance(federation, 5.0)
    assert [row.base_version for row in deltas(federation)] == [0, 0, 1, 1]


def test_a_halt_throws_work_away_until_it_ends():
    federation = a_federation(TWO)
    advance(federation, 1.0)
    federation.synchronise()
    assert federation.next_event() is None
    assert federation.counts.stalled == 2
    federation.now = 9.0
    federation.resume()
    assert federation.next_event() == 10.0


@pytest.mark.parametrize("removed", [True, False])
def test_a_round_ends_although_the_last_site_it_waits_for_was_fenced(removed):
    federation = a_federation({**TWO, "south": 4.0})
    federation.synchronise()
    federation.resume()
    advance(federation, 3.0)
    federation.central.fence("south", 3.0)
    if removed:
        erase(federation, "south")
    advance(federation, 8.0)
    assert federation.central.version >= 1
    assert set(sites_merged(federation)) == {"fast", "slow"}
    assert federation.next_event() is not None


def test_a_copy_goes_on_as_the_original_would():
    federation = a_federation(TWO, distribution="lognormal", drop_out=0.1)
    advance(federation, 3.0)
    copy = federation.copy()
    advance(federation, 9.0)
    assert copy.central.version < federation.central.version
    advance(copy, 9.0)
    assert np.array_equal(copy.central.head, federation.central.head)
    assert copy.central.entries == federation.central.entries
    assert copy.counts == federation.counts
