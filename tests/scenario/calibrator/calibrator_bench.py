"""Shared by the scenarios: a clock that makes sites work, and a scripted laboratory."""

import random
import threading
from datetime import timedelta

import numpy as np
from erasure_world import START, ScriptedCoordinator
from prometheus_client import CollectorRegistry

from calibrator.adapters.coordinator_client import CoordinatorClient
from calibrator.domain.contributions import Recombination, RetainedPart
from calibrator.domain.progress import Progress, read_progress
from calibrator.drive import Drive, Signals
from calibrator.metrics import CalibratorMetrics
from calibrator.ports import Rejected, Trial
from calibrator.services.job import Job, Workshop
from letheon import registry
from letheon.federation import arithmetic
from letheon.servicekit.backoff import Backoff
from letheon.servicekit.channel import open_channel
from letheon.servicekit.signing import SigningKey


class WorkingClock:
    """Whoever waits sees the retained sites work on: each wait is `seconds` and some deltas."""

    def __init__(self, world: ScriptedCoordinator, deltas_per_wait: int = 2):
        self.world, self.deltas = world, deltas_per_wait
        self.elapsed_s, self.waits = 0.0, 0
        self.on_wait = lambda number: None

    def now(self):
        return START + timedelta(seconds=self.elapsed_s)

    def monotonic(self):
        return self.elapsed_s

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.elapsed_s += seconds
        self.waits += 1
        if self.waits > 2000:
            raise AssertionError("the drive waits for ever")
        self.world.deltas(self.deltas)
        self.on_wait(self.waits)
        return event.is_set()


class ScriptedLaboratory:
    """Accepts every patch at the first scale; calibration and rules add a constant."""

    def __init__(self):
        self.refusal = ""
        self.unequipped = False
        self.tried: list[np.ndarray] = []
        self.computed: list[tuple[str, dict, float | None]] = []
        self.recombined_heads: list[np.ndarray] = []
        self.recombined: list[tuple[tuple[RetainedPart, ...], dict, float]] = []

    def try_patch(self, head, patch, scales, allowed_drop):
        self.tried.append(patch.copy())
        if self.refusal:
            return Rejected(self.refusal, self.unequipped)
        return Trial(patch * np.float32(scales[0]), scales[0], 0.9, 0.88, {})

    def calibrate(self, head, parameters, *, seed, cap_norm, allowed_drop):
        if self.refusal:
            return Rejected(self.refusal, self.unequipped)
        change = np.full_like(head, 1e-3)
        assert arithmetic.norm(change) <= cap_norm
        return Trial(change, 1.0, 0.9, 0.9, {"invariance_before": 0.2, "invariance_after": 0.1})

    def compute_patch(self, head, rule, parameters, *, seed, allowed_drop):
        self.computed.append((rule, dict(parameters), allowed_drop))
        if self.refusal:
            return Rejected(self.refusal, self.unequipped)
        return Trial(np.full_like(head, 2.0), 1.0, 0.4, 0.8, {"agreement_after": 0.95})

    def recombine(self, head, parts, parameters, *, seed, allowed_drop):
        self.recombined.append((tuple(parts), dict(parameters), allowed_drop))
        self.recombined_heads.append(head)
        if self.refusal:
            return Rejected(self.refusal, self.unequipped)
        patches: dict[str, np.ndarray] = {}
        for part in parts:
            patches[part.site] = patches.get(part.site, 0) + part.values
        numbers = {"parts": float(len(parts)), "loss_before": 2.0, "loss_after": 0.5}
        return Recombination(patches, 0.4, 0.8, numbers)


class Bench:
    """A calibrator's parts around a scripted coordinator behind real gRPC."""

    def __init__(self, world: ScriptedCoordinator, address: str, directory):
        self.world = world
        self.channel = open_channel(address)
        self.client = CoordinatorClient(self.channel, reader="calibrator-1")
        self.clock = WorkingClock(world)
        self.laboratory = ScriptedLaboratory()
        self.directory = directory
        self.key = SigningKey.load_or_create(directory / "key.pem")
        self.registry = CollectorRegistry()
        self.metrics = CalibratorMetrics(self.registry)

    def backoff(self) -> Backoff:
        return Backoff(0.1, 1.0, random.Random(0))

    def workshop(self, coordinator=None) -> Workshop:
        return Workshop(
            coordinator=coordinator or self.client,
            plan=self.world.plan,
            method=lambda name: registry.build(registry.UNLEARNING, name, {}),
            laboratory=lambda: self.laboratory,
            has_images=not self.laboratory.unequipped,
            clock=self.clock,
            directory=self.directory,
            key=self.key,
        )

    def drive(self, coordinator=None) -> Drive:
        return Drive(self.workshop(coordinator), self.metrics, self.backoff, poll_s=1.0)

    def job(self, coordinator=None, holder: str = "calibrator-1") -> Job:
        claim = (coordinator or self.client).claim("erasures/e1", holder)
        fresh = Progress(stage_since=self.clock.now(), salt="00ff")
        return Job(claim.ticket, claim.erasure, read_progress(claim.progress_json) or fresh)

    def run(self, coordinator=None):
        signals = Signals(threading.Event(), threading.Event())
        return self.drive(coordinator).run(self.job(coordinator), signals)
