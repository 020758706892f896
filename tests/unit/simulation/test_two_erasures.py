"""Erasures beside each other: what was made before a later removal is void."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from conduct_builders import Prepared, SmallBench, an_erasure, carry_out, rows_of
from simulation_builders import a_federation

from letheon.federation.arithmetic import relative_error
from letheon.simulation.virtual_time import Partition
from letheon.unlearning.method import AskTarget, Calibrate, ComputePatch, PushPatch

PACES = {"north": 1.0, "south": 2.0, "west": 2.5, "east": 1.5}
ASK = AskTarget("ask", {}, 0, timeout_seconds=60.0)
SLOW = SmallBench(server_steps=400)  # two virtual seconds
METHODS = {
    "computed": (ComputePatch("any", {}, None),),
    "calibrated": (Calibrate(0, {}, 0.1),),
    "of the target": (ASK, PushPatch("p", "ask", (1.0,), 0.1)),
}


@pytest.mark.parametrize("steps", METHODS.values(), ids=METHODS)
def test_a_patch_begun_before_a_later_removal_is_void_and_the_method_starts_over(steps):
    federation = a_federation(PACES)
    one = an_erasure(*steps, name="one", bench=SLOW)
    two = an_erasure(name="two", site="west")
    carry_out(federation, (0.0, one), (0.5, two))
    (patch,) = rows_of(federation, "patch", "calibration")
    assert patch.epoch == federation.central.epoch == 2
    assert (one.restarts, two.restarts) == (1, 0)
    # Begun anew once the first attempt had taken its time.
    taken = 2.0 if len(steps) == 1 else 1.0
    assert one.landed_at == pytest.approx(6.05 + 2 * taken)
    assert two.removed_at == pytest.approx(6.55)


@pytest.mark.parametrize(("passed", "patches"), [(False, 2), (True, 1)])
def test_a_method_that_had_ended_starts_over_unless_its_gate_had_passed(passed, patches):
    federation = a_federation(PACES)
    one = an_erasure(ComputePatch("any", {}, None), name="one", passed=passed)
    carry_out(federation, (0.0, one), (3.0, an_erasure(name="two", site="west")))
    assert len(rows_of(federation, "patch")) == patches
    assert one.restarts == patches - 1


def test_a_method_as_published_knows_no_epochs_and_never_starts_over():
    federation = a_federation(PACES)
    one = an_erasure(ComputePatch("any", {}, None), name="one", bench=SLOW, overwrites=True)
    carry_out(federation, (0.0, one), (0.5, an_erasure(name="two", site="west")))
    assert len(rows_of(federation, "patch")) == 1
    assert one.restarts == 0


def test_a_recombination_is_a_row_of_each_site_right_after_the_removal():
    federation = a_federation(PACES)
    one = an_erasure(kind=Prepared)
    carry_out(federation, (0.0, one))
    (removal,) = rows_of(federation, "removal")
    patches = rows_of(federation, "patch")
    assert {row.site for row in patches} == {"north", "west", "east"}
    assert [row.entry for row in patches] == [removal.entry + n for n in (1, 2, 3)]


def test_a_later_erasure_of_a_site_takes_its_share_of_a_recombination_out():
    federation = a_federation(PACES)
    one, two = an_erasure(kind=Prepared, name="one"), an_erasure(name="two", site="west")
    one.passed = True
    carry_out(federation, (0.0, one), (4.0, two))
    central = federation.central
    kept = [central.contribution(site) for site in ("north", "east")]
    assert central.contribution("west") is None
    initial = central.payloads[0]
    assert relative_error(central.head, reduce(np.add, kept, initial)) < 1e-5


def test_what_was_prepared_before_another_site_was_fenced_is_made_again_without_it():
    federation = a_federation(PACES)
    one = an_erasure(kind=Prepared, name="one", bench=SLOW)
    carry_out(federation, (0.0, one), (0.5, an_erasure(name="two", site="west")))
    assert {row.site for row in rows_of(federation, "patch")} == {"north", "east"}
    assert all(row.epoch == 2 for row in rows_of(federation, "patch"))


def test_no_share_of_a_site_that_is_fenced_meanwhile_enters():
    federation = a_federation(PACES)
    one = an_erasure(kind=Prepared, name="one")
    bench = SmallBench(server_steps=300)
    two = an_erasure(kind=Prepared, name="two", site="west", bench=bench)
    carry_out(federation, (0.0, one), (1.0, two), (2.0, an_erasure(name="three", site="east")))
    late = [
        row for row in rows_of(federation, "patch") if row.at > federation.central.entries[0].at
    ]
    ends = {row.site: row.entry for row in rows_of(federation, "removal")}
    assert all(row.site not in ends or row.entry < ends[row.site] for row in late)


def test_an_erasure_beside_sites_that_are_cut_off_removes_at_once():
    partition = Partition(frozenset({"west"}), start=5.0, end=9.0)
    federation = a_federation(PACES, partition=partition)
    one = an_erasure(kind=Prepared)
    carry_out(federation, (0.0, one))
    assert one.finished_at == pytest.approx(6.1)
    assert "west" in {row.site for row in rows_of(federation, "patch")}
