import itertools

import numpy as np
import pytest
from erasure_world import BEFORE, ScriptedCoordinator

from calibrator.ports import Certified
from letheon.proof import certificate
from letheon.v1 import erasures_pb2 as pb


class Killed(BaseException):
    """kill -9: nothing after it runs."""


class Dying:
    """A coordinator whose caller is killed right after the answer to its n-th call."""

    def __init__(self, inner, last_call):
        self.inner, self.last_call, self.calls = inner, last_call, 0

    def __getattr__(self, name):
        method = getattr(self.inner, name)

        def call(*arguments, **keywords):
            answer = method(*arguments, **keywords)
            self.calls += 1
            if self.calls == self.last_call:
                raise Killed
            return answer

        return call


def erase_with_a_kill(bench, method, last_call, same_disk):
    world = ScriptedCoordinator(method, calibrate=True)
    world.target_patch = np.full(world.layout.size, 0.01, "<f4")
    made = bench(world)
    made.clock.deltas = 20
    made.directory = made.directory / f"run-{last_call}"
    made.directory.mkdir()
    killed = False
    try:
        made.run(Dying(made.client, last_call))
    except Killed:
        killed = True
        if not same_disk:
            made.directory = made.directory / "another-machine"
            made.directory.mkdir()
        if world.erasure.state != pb.Erasure.CERTIFIED:
            world.holder = ""  # the lease ran out
            assert isinstance(made.run(), Certified)
    return world, killed


@pytest.mark.parametrize(
    ("method", "same_disk", "calls"),
    [
        ("removal", False, itertools.count(1)),
        ("removal_distilled", False, itertools.count(1, 2)),
        ("removal_recombined", True, itertools.count(1, 2)),
        ("afu_ic_rebased", True, itertools.count(1, 2)),
        ("afu_ic_rebased", False, itertools.count(2, 2)),
    ],
)
def test_killed_after_any_call_another_calibrator_ends_with_the_same_result(
    bench, method, same_disk, calls
):
    undisturbed, _ = erase_with_a_kill(bench, method, 0, True)
    for last_call in calls:
        world, killed = erase_with_a_kill(bench, method, last_call, same_disk)
        if not killed:
            break
        assert world.erasure.state == pb.Erasure.CERTIFIED
        certificate.verify(world.certificate, None)
        assert [a.number for a in world.attempts] == [1]
        # Every patch is in the head exactly once, and no delta was lost.
        assert len(world.patches) == len(undisturbed.patches)
        assert len({update_id for update_id, _, _ in world.patches}) == len(world.patches)
        for (_, patch, _), (_, expected, _) in zip(world.patches, undisturbed.patches, strict=True):
            np.testing.assert_array_equal(patch, expected)
        removed = -0.5 if world.subtracts else 0.0
        steps = world.version - BEFORE - len(world.patches) - world.subtracts
        total = world.weights[BEFORE] + removed + sum(p for _, p, _ in world.patches) + steps * 1e-3
        np.testing.assert_allclose(world.weights[world.version], total, atol=1e-4)
    assert last_call > 15


@pytest.mark.parametrize("last_call", range(1, 20))
def test_killed_amid_a_recombination_another_machine_recombines_anew(bench, last_call):
    world, _ = erase_with_a_kill(bench, "removal_recombined", last_call, same_disk=False)
    assert world.erasure.state == pb.Erasure.CERTIFIED
    # What had arrived stays, attributed to its site; a whole set of patches follows, each once.
    sites = [purpose.site for _, _, purpose in world.patches if purpose.site]
    assert sites[-2:] == ["sites/south", "sites/east"]
    assert sites[:-2] in ([], ["sites/south"])
    assert len({update_id for update_id, _, _ in world.patches}) == len(world.patches)
    steps = world.version - BEFORE - len(world.patches) - 1
    total = world.weights[BEFORE] - 0.5 + sum(p for _, p, _ in world.patches) + steps * 1e-3
    np.testing.assert_allclose(world.weights[world.version], total, atol=1e-4)
