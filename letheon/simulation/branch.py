"""One method, from the stored state before the request to the end of the study's window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from letheon import registry
from letheon.federation.guard import directions, guard_delta
from letheon.federation.parameters import Vector
from letheon.simulation.central import Alter, Rules
from letheon.simulation.conduct import conduct, later
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
    target, second = unit.hospitals.target, unit.hospitals.second
    erasures = [_erasure(unit, method, "study", target)]
    conductors = [conduct(erasures[0], federation, seed)]
    if second is not None:
        erasures.append(_erasure(unit, method, "second", second))
        after = study.second_request_after or 0.0
        conductors.append(later(after, conduct(erasures[1], federation, seed), federation))
    if method.guard is not None:
        federation.alter = _guard(federation, target, method)
    watcher = _Watcher(unit, federation, erasures, study, kind, seed)
    train_and_erase(
        federation,
        conductors,
        lambda now: watcher.accepted(now) >= study.window(kind),
        watcher.watch,
    )
    return watcher.finished(federation)


def _erasure(unit: UnitRun, method: MethodConfig, name: str, site: str) -> Erasure:
    return Erasure(
        name=name,
        site=site,
        method=registry.build(registry.UNLEARNING, method.method, method.arguments),
        workbench=unit.workbench(site),
        calibrate=method.calibrate,
        overwrites=method.overwrites,
        subtracted_share=method.subtracted_share,
    )


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
        erasures: Sequence[Erasure],
        study: StudyConfig,
        kind: Kind,
        seed: int,
    ) -> None:
        self._unit, self._erasures, self._study, self._kind = unit, erasures, study, kind
        self._began = federation.now
        self._offset = federation.accepted(without=unit.hospitals.erased)
        self._branch = Branch()
        self._gate = SimulatedGate(
            unit.network, unit.hospitals, unit.plan.gate, np.array(federation.central.head), seed
        )
        self._passed_in: int | None = None  # the epoch
        self._seen = -1

    def accepted(self, federation: Federation) -> int:
        """Retained deltas since the request."""
        return federation.accepted(without=self._unit.hospitals.erased) - self._offset

    def watch(self, federation: Federation) -> None:
        """After every event."""
        accepted = self.accepted(federation)
        if self._erasures[0].removed_at is None or accepted == self._seen:
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
        counts = federation.counts
        self._branch.moments = {
            "removed": self._since([one.removed_at for one in self._erasures]),
            "landed": self._since([one.landed_at for one in self._erasures]),
            "finished": self._since([one.finished_at for one in self._erasures]),
            "end": self._since([federation.now]),
        }
        self._branch.counts = {
            "superseded": counts.superseded,
            "stalled": counts.stalled,
            "overwritten": counts.overwritten,
        }
        if len(self._erasures) > 1:
            self._branch.counts["restarts"] = sum(one.restarts for one in self._erasures)
        self._branch.failed = "; ".join(one.failed for one in self._erasures if one.failed)
        return self._branch

    def _since(self, moments: Sequence[float | None]) -> float | None:
        """Of the last of them; None as long as one is to come."""
        past = [moment for moment in moments if moment is not None]
        return round(max(past) - self._began, 3) if len(past) == len(moments) else None

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
        central = federation.central
        filed = [one for one in self._erasures if one.site in central.fenced]
        through = all(one.finished_at is not None and not one.failed for one in filed)
        if (
            self._passed_in == central.epoch
            or not through
            or len(attempts) >= settings.max_attempts
        ):
            return
        if accepted < last + settings.every:
            return
        judgement = self._gate.judge(np.array(central.head), filed[0].method.offer)
        if judgement.verdict is Verdict.PASS:
            self._passed_in = central.epoch
            for one in filed:
                one.passed = True
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
