"""The simulated coordinator: what it takes, what it refuses, what a row does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation_builders import FEDBUFF, a_central, a_vector

from letheon.errors import ContributionNotSubtractable, MalformedUpdate, UnknownModelVersion
from letheon.federation.arithmetic import relative_error
from letheon.federation.ledger import EntryKind, verify_chain
from letheon.federation.replay import ReplayState, replay
from letheon.simulation.central import Fate, Rules


def accept(central, site, seed=0, **more):
    told = {"base_version": central.version, "epoch": central.epoch, "records": 10, "now": 1.0}
    return central.accept(site, a_vector(seed), **{**told, **more})


def kinds(central):
    return [row.kind for row in central.entries]


def test_nothing_of_a_fenced_site_is_taken():
    central = a_central()
    central.fence("south", 0.0)
    head = np.array(central.head)
    assert accept(central, "south") is Fate.FENCED
    assert np.array_equal(central.head, head)
    assert accept(central, "north") is Fate.MERGED


def test_a_delta_of_an_earlier_epoch_is_superseded():
    central = a_central()
    accept(central, "north")
    central.remove("south", 2.0, subtract=True)
    assert accept(central, "north", epoch=0) is Fate.SUPERSEDED
    assert accept(central, "north") is Fate.MERGED


def test_in_the_ablation_a_delta_of_an_earlier_epoch_is_merged_at_its_staleness():
    central = a_central()
    old = central.rules
    central.rules = Rules(old.plan, old.layout, old.strategy, refuse_old_epochs=False)
    accept(central, "south")
    central.remove("south", 2.0, subtract=True)
    assert accept(central, "north", epoch=0, base_version=0) is Fate.MERGED
    assert central.entries[-1].staleness == 2


@pytest.mark.parametrize("base", [0, 3])
def test_a_base_that_is_none_of_the_epoch_is_refused_by_name(base):
    central = a_central()
    accept(central, "south")
    central.remove("south", 2.0, subtract=True)
    with pytest.raises(UnknownModelVersion, match=f"base {base} is not one of epoch 1"):
        accept(central, "north", base_version=base)


def test_a_delta_that_is_too_long_is_refused():
    with pytest.raises(MalformedUpdate, match=r"the plan allows 0\.1"):
        accept(a_central(max_delta_norm=0.1), "north")


def test_deltas_wait_until_the_buffer_is_full():
    central = a_central(strategy=FEDBUFF)
    fates = [accept(central, site, n) for n, site in enumerate(["north", "south", "west"])]
    assert fates == [Fate.BUFFERED] * 3
    assert kinds(central) == ["initial", "buffered", "buffered", "buffered", "flush"]
    assert central.version == 1


def test_what_waits_of_a_site_is_voided_as_soon_as_it_is_fenced():
    central = a_central(strategy=FEDBUFF)
    accept(central, "south", 1)
    accept(central, "north", 2)
    central.fence("south", 0.0)
    accept(central, "north", 3)
    accept(central, "west", 4)
    assert central.contribution("south") is None
    central.remove("south", 0.0, subtract=True)
    assert kinds(central)[-2:] == [EntryKind.FLUSH, EntryKind.REMOVAL]
    assert kinds(central).count(EntryKind.VOID) == 1


def test_a_removal_flushes_the_others_and_takes_the_contribution_out():
    central = a_central(strategy=FEDBUFF)
    for number, site in enumerate(["south", "north", "west", "north"]):
        accept(central, site, number)
    central.remove("south", 0.0, subtract=True)
    assert central.contribution("south") is None
    assert not central.state.buffered
    start = ReplayState.before_first(central.head.size)
    without = replay(
        start, central.entries, lambda r: central.payloads[r.entry], without=frozenset({"south"})
    )
    assert relative_error(central.head, without.head) <= 1e-5


def test_a_removal_that_subtracts_nothing_leaves_the_head_and_begins_an_epoch():
    central = a_central()
    accept(central, "south")
    head = np.array(central.head)
    central.remove("south", 0.0, subtract=False)
    assert np.array_equal(central.head, head)
    assert (central.version, central.epoch) == (1, 1)


def test_a_strategy_that_is_not_linear_allows_no_subtraction():
    class Median:
        linear, buffers = False, False

    central = a_central()
    central.rules = Rules(central.rules.plan, central.rules.layout, Median())
    with pytest.raises(ContributionNotSubtractable, match="sites/south"):
        central.remove("south", 0.0, subtract=True)


def test_a_patch_is_added_whole_and_can_be_attributed():
    central = a_central()
    head, patch = np.array(central.head), a_vector(5)
    central.patch(patch, 0.0, site="north")
    assert np.array_equal(central.head, head + patch)
    assert np.array_equal(central.contribution("north"), patch)


def test_the_guard_changes_what_is_merged_and_kept():
    central = a_central()
    seen = []

    def alter(site, delta, version):
        seen.append((site, version))
        return delta * np.float32(0.5)

    accept(central, "north", 1, alter=alter)
    assert seen == [("north", 0)]
    assert np.array_equal(central.payloads[1], a_vector(1) * np.float32(0.5))


def test_the_rate_falls_with_versions_and_begins_anew_with_an_epoch():
    training = {"learning_rate": 1.0, "final_learning_rate": 0.5, "decay_versions": 10}
    central = a_central(training=training)
    for number in range(5):
        accept(central, "north", number)
    assert central.learning_rate() == pytest.approx(0.75)
    central.remove("south", 0.0, subtract=True)
    assert central.learning_rate() == 1.0


@given(
    st.lists(st.tuples(st.sampled_from(["north", "south", "west"]), st.integers(0, 99))),
    st.sampled_from([FEDBUFF, {"plugin": "fedasync"}]),
    st.integers(0, 12),
)
def test_the_chain_holds_and_a_copy_goes_its_own_way(moves, strategy, removed_after):
    central = a_central(strategy=strategy)
    for number, (site, seed) in enumerate(moves):
        if number == removed_after:
            central.remove("south", 0.0, subtract=True)
        accept(central, site, seed)
    rows, head = len(central.entries), np.array(central.head)
    other = central.copy()
    accept(other, "north", 7)
    other.remove("west", 0.0, subtract=True)
    assert verify_chain(central.entries, tip=central.entries[-1].hash)
    assert len(central.entries) == rows
    assert np.array_equal(central.head, head)
