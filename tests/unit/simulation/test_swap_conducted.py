"""Records at a site that stays: the swap from its request to its patch."""

from __future__ import annotations

import numpy as np
import pytest
from conduct_builders import SmallBench, an_erasure, carry_out, rows_of
from simulation_builders import FEDBUFF, PullTrainer, a_central, a_federation

from letheon.errors import MethodRefused
from letheon.federation.arithmetic import norm
from letheon.simulation.erasure import Reduced
from letheon.simulation.swap import swapped
from letheon.unlearning.patient_swap import PatientSwap

PACES = {"north": 1.0, "south": 1.7}


class ShiftedTrainer(PullTrainer):
    """Pulls one site elsewhere: what some records of it make of every training."""

    def __init__(self, shift):
        super().__init__()
        self.shift = shift

    def delta(self, site, base, *, learning_rate, seed, steps=None):
        delta = super().delta(site, base, learning_rate=learning_rate, seed=seed)
        moved = self.shift * learning_rate if site == "south" else 0.0
        return (delta + np.float32(moved)).astype(np.float32)


def reduced():
    trainer = ShiftedTrainer(0.0)

    def recompute(base, rate, seed):
        return trainer.delta("south", base, learning_rate=rate, seed=seed)

    return Reduced(trainer, recompute)


def a_swap(readmits=True, **more):
    method = PatientSwap(readmits=readmits)
    return an_erasure(kind=lambda _: method, reduced=reduced(), **more)


def a_run(strategy=None, cap=1.0, share=1.0, **more):
    limits = {"patch_cap_ratio": cap, "epoch_share": share}
    plan = {"strategy": strategy or {"plugin": "fedasync"}, "erasure": limits}
    federation = a_federation(PACES, central=a_central(**plan), trainer=ShiftedTrainer(1.0))
    erasure = a_swap(**more)
    carry_out(federation, (0.0, erasure))
    return federation, erasure


@pytest.mark.parametrize("strategy", [{"plugin": "fedasync"}, FEDBUFF])
def test_the_site_stays_and_its_patch_is_its_own(strategy):
    federation, erasure = a_run(strategy)
    assert (erasure.failed, erasure.readmitted) == ("", "")
    assert federation.central.fenced == set()
    assert federation.central.epoch == 0
    (patch,) = rows_of(federation, "patch")
    assert patch.site == "south"
    assert norm(federation.central.payloads[patch.entry]) > 1e-3
    assert [row.site for row in federation.central.entries[patch.entry + 1 :]].count("south") > 2


@pytest.mark.parametrize("strategy", [{"plugin": "fedasync"}, FEDBUFF])
def test_after_a_swap_nothing_of_the_site_is_left_that_the_records_made(strategy):
    federation, _ = a_run(strategy)
    patch = swapped(federation.central, "south", reduced().recompute, seed=federation.setting.seed)
    (added,) = rows_of(federation, "patch")
    # Exchanging everything once more finds what the first exchange has found, and nothing newer.
    assert np.allclose(patch, federation.central.payloads[added.entry], atol=1e-6)


def test_the_task_at_hand_is_dropped_and_counted_and_the_others_go_on():
    federation, _ = a_run()
    assert federation.counts.excluded == 1
    assert federation.counts.superseded == 0


def test_a_swap_takes_as_long_as_the_past_trainings_took():
    federation, erasure = a_run()
    before = [
        row
        for row in federation.central.entries
        if row.site == "south" and row.base_version is not None and row.at.second < 6
    ]
    assert erasure.landed_at == pytest.approx(6.0 + 1.7 * len(before))


@pytest.mark.parametrize(
    ("more", "why"),
    [({"bench": SmallBench(room=0.5)}, "accuracy on the audit images"), ({"cap": 1e-6}, "allowed")],
)
def test_where_a_swap_is_refused_the_site_begins_again_at_zero(more, why):
    federation, erasure = a_run(**more)
    assert rows_of(federation, "patch") == []
    (row,) = rows_of(federation, "removal")
    assert (row.site, row.details["subtracted"], row.epoch) == ("south", True, 1)
    assert erasure.failed == ""
    assert why in erasure.readmitted
    assert federation.central.fenced == set()
    later = federation.central.entries[row.entry + 1 :]
    assert {entry.site for entry in later} == set(PACES)
    # What the site trained meanwhile, without the records, left with the rest.
    assert erasure.landed_at == erasure.finished_at


def test_without_a_readmission_a_refused_swap_gives_up():
    federation, erasure = a_run(readmits=False, bench=SmallBench(room=0.5))
    assert erasure.failed
    assert rows_of(federation, "patch", "removal") == []


def test_a_large_exchange_begins_an_epoch_and_a_small_one_does_not():
    small, _ = a_run(share=1.0)
    large, erasure = a_run(share=1e-6)
    assert (small.central.epoch, large.central.epoch) == (0, 1)
    began, patch = rows_of(large, "removal", "patch")
    assert (began.details["subtracted"], patch.entry) == (False, began.entry + 1)
    assert large.counts.superseded > 0
    assert erasure.restarts == 0


def test_a_swap_under_way_when_another_site_is_removed_starts_over():
    central = a_central(erasure={"patch_cap_ratio": 1.0, "epoch_share": 1.0})
    paces = {**PACES, "west": 1.3}
    federation = a_federation(paces, central=central, trainer=ShiftedTrainer(1.0))
    erasure = a_swap()
    carry_out(federation, (0.0, erasure), (0.5, an_erasure(name="two", site="north")))
    (patch,) = rows_of(federation, "patch")
    assert (erasure.restarts, patch.epoch, patch.site) == (1, 1, "south")


def test_a_swap_is_refused_for_a_whole_site():
    with pytest.raises(MethodRefused, match="not for a whole site"):
        carry_out(a_federation(PACES), (0.0, an_erasure(kind=lambda _: PatientSwap())))
