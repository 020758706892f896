"""One method, from the stored state before the request to the end of the study's window."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from letheon import registry
from letheon.federation.guard import directions, guard_delta
from letheon.federation.parameters import Vector
from letheon.simulation.central import Alter, Rules
from letheon.simulation.conduct import conduct
from letheon.simulation.config import Kind, MethodConfig, StudyConfig
from letheon.simulation.erasure import Erasure
from letheon.simulation.federation import Federation
from letheon.simulation.measure import Look
from letheon.simulation.running import train_and_erase
from letheon.simulation.watch_gate import Attempt, SimulatedGate
from letheon.unlearning.gate import Verdict

if TYPE_CHECKING:
    from letheon.simulation.unit import UnitRun


@dataclass
class Branch:
    """What a method did in the window."""

    looks: list[Look] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    kept: dict[str, Vector] = field(default_factory=dict)  # heads at the study's snapshots [d]
    moments: dict[str, float | None] = field(default_factory=dict)  # seconds since the request
    counts: dict[str, int] = field(default_factory=dict)
    failed: str = ""


def run_branch(
    unit: UnitRun,
    before: Federation,
    method: MethodConfig,
    *,
    study: StudyConfig,
    kind: Kind,
    seed: int,
) -> Branch:
    """Erases the target by the method and trains on. The federation `before` stays as it is."""
    federation = _resumed(before, method)
    target = unit.hospitals.target
    erasure = Erasure(
        name="study",
        site=target,
        method=registry.build(registry.UNLEARNING, method.method, method.arguments),
        workbench=unit.workbench(),
        calibrate=method.calibrate,
        overwrites=method.overwrites,
    )
    if method.guard is not None:
        federation.alter = _guard(federation, target, method)
    watcher = _Watcher(unit, federation, erasure, study, kind, seed)
    train_and_erase(
        federation,
        [conduct(erasure, federation, seed)],
        lambda now: watcher.accepted(now) >= study.window(kind),
        watcher.watch,
    )
    return watcher.finished(federation)


def _resumed(before: Federation, method: MethodConfig) -> Federation:
    federation = before.copy()
    old = federation.central.rules
    federation.central.rules = Rules(
        old.plan, old.layout, old.strategy, method.refuse_old_epochs and not method.overwrites
    )
    return federation


def _guard(federation: Federation, target: str, method: MethodConfig) -> Alter | None:
    """The guard along C_T, engaged from the removal on until its time to live ends."""
    contribution = federation.central.contribution(target)
    if contribution is None or method.guard is None:
        return None
    along = directions([np.array(contribution)], rank=1)
    last, strength = federation.central.version + method.guard_time_to_live, method.guard

    def alter(_site: str, delta: Vector, version: int) -> Vector:
        return guard_delta(delta, along, strength) if version <= last else delta

    return alter


class _Watcher:
    """Looks, snapshots and gate attempts along the way."""

    def __init__(
        self,
        unit: UnitRun,
        federation: Federation,
        erasure: Erasure,
        study: StudyConfig,
        kind: Kind,
        seed: int,
    ) -> None:
        self._unit, self._erasure, self._study, self._kind = unit, erasure, study, kind
        self._site, self._began = erasure.site, federation.now
        self._offset = federation.accepted(without=self._site)
        self._branch = Branch()
        self._gate = SimulatedGate(
            unit.network, unit.hospitals, unit.plan.gate, np.array(federation.central.head), seed
        )
        self._passed = False
        self._seen = -1

    def accepted(self, federation: Federation) -> int:
        """Retained deltas since the request."""
        return federation.accepted(without=self._site) - self._offset

    def watch(self, federation: Federation) -> None:
        """After every event."""
        accepted = self.accepted(federation)
        if self._erasure.removed_at is None or accepted == self._seen:
            return
        first, self._seen = self._seen < 0, accepted
        for moment in self._study.moments(self._kind):
            if accepted >= moment and str(moment) not in self._branch.kept:
                self._branch.kept[str(moment)] = np.array(federation.central.head)
        looks = self._branch.looks
        last = looks[-1].accepted if looks else -1
        if first or accepted // self._study.look_every > last // self._study.look_every:
            self._look(federation, accepted)
        self._try_gate(federation, accepted)

    def finished(self, federation: Federation) -> Branch:
        """What was seen."""
        erasure, counts = self._erasure, federation.counts
        self._branch.moments = {
            "removed": self._since(erasure.removed_at),
            "landed": self._since(erasure.landed_at),
            "finished": self._since(erasure.finished_at),
            "end": self._since(federation.now),
        }
        self._branch.counts = {
            "superseded": counts.superseded,
            "stalled": counts.stalled,
            "overwritten": counts.overwritten,
        }
        self._branch.failed = erasure.failed
        return self._branch

    def _since(self, moment: float | None) -> float | None:
        return None if moment is None else round(moment - self._began, 3)

    def _look(self, federation: Federation, accepted: int) -> None:
        self._branch.looks.append(
            self._unit.lens.look(
                federation.central.head,
                accepted=accepted,
                seconds=federation.now - self._began,
                version=federation.central.version,
            )
        )

    def _try_gate(self, federation: Federation, accepted: int) -> None:
        """As the calibrator: every so many deltas once the method is through, until it passes."""
        settings, attempts = self._unit.plan.gate, self._branch.attempts
        last = attempts[-1].accepted if attempts else 0
        through = self._erasure.finished_at is not None and not self._erasure.failed
        if self._passed or not through or len(attempts) >= settings.max_attempts:
            return
        if accepted < last + settings.every:
            return
        judgement = self._gate.judge(np.array(federation.central.head), self._erasure.method.offer)
        self._passed = judgement.verdict is Verdict.PASS
        attempts.append(
            Attempt(
                accepted=accepted,
                seconds=round(federation.now - self._began, 3),
                version=federation.central.version,
                verdict=judgement.verdict,
                verified=judgement.statistically_verified,
                tests={test.name: test.verdict.value for test in judgement.tests},
            )
        )
