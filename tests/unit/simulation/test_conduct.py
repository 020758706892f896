"""A method's steps in virtual time, on a model of eight numbers."""

import numpy as np
import pytest
from conduct_builders import SmallBench, an_erasure, carry_out
from simulation_builders import FEDBUFF, a_central, a_federation, a_vector

from letheon.errors import InternalFault
from letheon.simulation.running import train
from letheon.simulation.virtual_time import Partition
from letheon.simulation.workbench import TARGET_STEP_S
from letheon.unlearning.method import (
    AskTarget,
    Calibrate,
    ComputePatch,
    Overwrite,
    PushPatch,
    Replay,
    Retrain,
    Synchronise,
    WaitForDeltas,
)

PACES = {"north": 1.0, "south": 2.0, "west": 2.5}
ASK = AskTarget("ask", {}, 0, timeout_seconds=60.0)


def kinds(federation):
    return [str(row.kind) for row in federation.central.entries]


def test_a_removal_takes_the_contribution_out_and_the_others_go_on():
    federation, erasure = a_federation(PACES), an_erasure()
    carry_out(federation, (0.0, erasure))
    assert federation.central.contribution("south") is None
    assert erasure.removed_at == pytest.approx(6.05)
    assert erasure.finished_at == erasure.removed_at
    assert federation.counts.superseded == 2
    assert kinds(federation).count("removal") == 1
    assert federation.central.entries[-1].site in ("north", "west")


def test_a_wait_for_deltas_ends_with_the_version_it_named():
    federation, erasure = a_federation(PACES), an_erasure(WaitForDeltas(3))
    carry_out(federation, (0.0, erasure))
    (removal,) = [row for row in federation.central.entries if row.kind == "removal"]
    third = next(r for r in federation.central.entries if r.version == removal.version + 3)
    assert erasure.finished_at == pytest.approx((third.at - removal.at).total_seconds() + 6.05)


def test_a_silent_target_ends_the_method_with_its_sentence():
    erasure = an_erasure(ASK, PushPatch("p", "ask", (1.0,), 0.1), reachable=False)
    federation = a_federation(PACES)
    carry_out(federation, (0.0, erasure))
    assert erasure.failed == "the site's agent is gone"
    assert "patch" not in kinds(federation)


def test_a_method_that_gives_up_while_everybody_waits_lets_the_sites_go_on():
    erasure = an_erasure(Synchronise(), ASK, reachable=False)
    federation = a_federation(PACES)
    carry_out(federation, (0.0, erasure))
    assert erasure.failed
    assert federation.now >= 20.0


def test_a_patch_of_the_target_is_capped_scaled_and_added_to_the_head():
    bench = SmallBench(room=0.5)
    federation = a_federation(PACES)
    erasure = an_erasure(ASK, PushPatch("p", "ask", (1.0, 0.5), 0.1), bench=bench)
    carry_out(federation, (0.0, erasure))
    (patch,) = [row for row in federation.central.entries if row.kind == "patch"]
    added = federation.central.payloads[patch.entry]
    rows = [row for row in federation.central.entries if row.site == "south" and row.coefficient]
    contribution = sum(row.coefficient * federation.central.payloads[row.entry] for row in rows)
    change = a_vector(5) * 0.01
    capped = min(1.0, 0.25 * np.linalg.norm(contribution) / np.linalg.norm(change))
    assert capped < 1.0
    assert np.allclose(added, 0.5 * capped * change, rtol=1e-5)
    assert erasure.landed_at == pytest.approx(6.05 + 8 * TARGET_STEP_S)


def test_a_patch_that_costs_too_much_is_refused():
    bench = SmallBench(room=0.1)
    erasure = an_erasure(ASK, PushPatch("p", "ask", (1.0,), 0.1), bench=bench)
    federation = a_federation(PACES)
    carry_out(federation, (0.0, erasure))
    assert erasure.failed == "no scale of the patch keeps accuracy on the audit images"


def test_changes_made_beside_the_coordinator_are_added_to_the_head_of_their_moment():
    federation = a_federation(PACES)
    erasure = an_erasure(Calibrate(0, {}, 0.1), ComputePatch("any", {}, None))
    carry_out(federation, (0.0, erasure))
    assert [kind for kind in kinds(federation) if kind in ("calibration", "patch")] == [
        "calibration",
        "patch",
    ]


@pytest.mark.parametrize(("strategy", "lost"), [({"plugin": "fedasync"}, 3), (FEDBUFF, 3)])
def test_an_overwrite_counts_every_delta_accepted_since_its_base(strategy, lost):
    # From 6.05 to 7.05 north delivers at 6.4 and 6.8, west at 6.6.
    federation = a_federation(
        {"north": 0.4, "south": 2.0, "west": 0.6}, central=a_central(strategy=strategy)
    )
    erasure = an_erasure(ASK, Overwrite("ask"), overwrites=True)
    carry_out(federation, (0.0, erasure), begin=6.2)
    assert federation.counts.overwritten == lost
    assert federation.counts.superseded == 0
    (row,) = [row for row in federation.central.entries if row.kind == "patch"]
    base, change, _ = erasure.uploads["ask"]
    before = {r.entry: r for r in federation.central.entries}[row.entry - 1]
    assert before.version + 1 == row.version
    assert np.isfinite(base + change).all()


def test_a_retraining_begins_anew_and_supersedes_each_retained_site_once():
    federation = a_federation(PACES)
    carry_out(federation, (0.0, an_erasure(Retrain({"seed": 7}))), until=6.04)
    assert np.allclose(federation.central.head, a_vector(7), atol=1e-6)
    assert federation.counts.superseded == 2


def test_two_erasures_beside_each_other_both_come_to_an_end():
    federation = a_federation({**PACES, "east": 1.5})
    one = an_erasure(WaitForDeltas(2), name="one")
    two = an_erasure(WaitForDeltas(4), name="two", site="west")
    carry_out(federation, (0.0, one), (0.0, two))
    assert one.finished_at
    assert two.finished_at
    assert federation.central.epoch == 2
    assert federation.central.contribution("south") is None
    assert federation.central.contribution("west") is None
    late = [row.site for row in federation.central.entries if row.epoch == 2][1:]
    assert set(late) == {"north", "east"}


def test_an_erasure_requested_during_a_partition_does_not_wait_for_who_is_cut_off():
    partition = Partition(frozenset({"west"}), start=5.5, end=9.0)
    federation, erasure = a_federation(PACES, partition=partition), an_erasure(WaitForDeltas(1))
    carry_out(federation, (0.0, erasure))
    assert erasure.finished_at < 9.0
    assert federation.counts.superseded == 2
    assert [r.epoch for r in federation.central.entries if r.site == "west"][-1] == 1


def test_the_history_is_replayed_while_everybody_waits():
    federation = a_federation(PACES)
    told = {"groups": 3, "local_steps": 8, "learning_rate": 0.5}
    erasure = an_erasure(Replay(told))
    carry_out(federation, (0.0, erasure), begin=8.0, until=30.0)
    # Three groups, each half a training (8 of 16 steps) of the slowest retained site.
    assert erasure.landed_at == pytest.approx(8.05 + 3 * 0.5 * 2.5)
    assert federation.counts.stalled == 2
    row = next(row for row in federation.central.entries if row.kind == "patch")
    behind = [r for r in federation.central.entries if r.entry > row.entry]
    assert {r.kind for r in behind} == {"buffered", "flush"}
    assert all(r.base_version >= row.version for r in behind if r.kind == "buffered")


def test_training_stops_loudly_when_nobody_works_any_more():
    federation = a_federation(PACES)
    federation.synchronise()
    with pytest.raises(InternalFault, match="no site works any more"):
        train(federation, lambda _: False, lambda _: None)
