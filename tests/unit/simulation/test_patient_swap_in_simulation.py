"""A patient at a site that stays: past deltas recomputed without some records."""

import numpy as np
import pytest
from simulation_builders import FEDBUFF, LAYOUT, PullTrainer, a_central, a_federation, advance

from letheon.errors import BadData
from letheon.federation.arithmetic import relative_error
from letheon.simulation.swap import rebuilt_bases, swapped

PACES = {"north": 1.0, "south": 1.7}
STRATEGIES = [FEDBUFF, {"plugin": "fedasync"}]


class MeanTrainer(PullTrainer):
    """Minimises w . mean(records): one step of it does not depend on where it begins."""

    def __init__(self, records):
        super().__init__()
        self.held = records  # site -> [n, d]

    def delta(self, site, base, *, learning_rate, seed, steps=None):
        return self.delta_on(self.held[site], learning_rate)

    def delta_on(self, records, learning_rate):
        return (-learning_rate * records.mean(axis=0)).astype(np.float32)


def some_records():
    rng = np.random.default_rng(4)
    return {site: rng.standard_normal((20, LAYOUT.size)) for site in PACES}


def trained(strategy, trainer, until=20.0):
    federation = a_federation(PACES, central=a_central(strategy=strategy), trainer=trainer)
    advance(federation, until)
    return federation


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("encoding", ["float32", "float16", "bfloat16"])
def test_without_records_that_were_never_trained_on_the_patch_is_exactly_zero(strategy, encoding):
    assert not a_patch_that_changes_no_record(strategy, encoding)[0].any()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_with_error_feedback_such_a_patch_is_only_what_the_encoding_took(strategy):
    patch, contribution = a_patch_that_changes_no_record(strategy, "int8")
    assert patch.any()
    # One delta of 127 steps is kept within half a step, whatever the number of deltas.
    assert relative_error(contribution + patch, contribution) < 0.5 / 127


def a_patch_that_changes_no_record(strategy, encoding):
    """The patch [d] of the same records, and the contribution [d] it is added to."""
    central = a_central(strategy=strategy, encoding=encoding)
    federation = a_federation(PACES, central=central)
    advance(federation, 20.0)

    def recompute(base, rate, seed):
        return PullTrainer().delta("south", base, learning_rate=rate, seed=seed)

    contribution = central.contribution("south")
    return swapped(central, "south", recompute, seed=federation.setting.seed), contribution


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_where_training_is_linear_a_swap_is_the_same_as_retraining_without_the_patient(strategy):
    records = some_records()
    trainer = MeanTrainer(records)
    federation = trained(strategy, trainer)
    left = {**records, "south": records["south"][3:]}
    retrained = trained(strategy, MeanTrainer(left))
    assert relative_error(federation.central.head, retrained.central.head) > 1e-3
    patch = swapped(
        federation.central,
        "south",
        lambda _base, rate, _seed: trainer.delta_on(left["south"], rate),
        seed=federation.setting.seed,
    )
    federation.central.patch(patch, federation.now, site="south")
    assert relative_error(federation.central.head, retrained.central.head) <= 1e-5
    for site in PACES:
        ours, theirs = (f.central.contribution(site) for f in (federation, retrained))
        assert relative_error(ours, theirs) <= 1e-5


def test_bases_are_rebuilt_to_the_bit():
    federation = a_federation(PACES)
    heads = {0: np.array(federation.central.head)}
    while federation.now < 6.0:
        federation.step()
        heads[federation.central.version] = np.array(federation.central.head)
    rebuilt = rebuilt_bases(federation.central, heads.keys())
    assert all(np.array_equal(rebuilt[version], heads[version]) for version in heads)


def test_a_site_that_merged_nothing_has_nothing_to_exchange():
    federation = a_federation(PACES)
    with pytest.raises(BadData):
        swapped(federation.central, "south", lambda base, _rate, _seed: base, seed=1)
