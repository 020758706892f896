"""The work that methods ask for, done on one machine: what agents and the calibrator do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import nn

from letheon.federation import arithmetic
from letheon.federation.parameters import Vector
from letheon.imaging.backdoor import Mark
from letheon.imaging.records import Records
from letheon.imaging.scores import utility
from letheon.simulation.sites import Network, fresh_module
from letheon.unlearning.ascent import AscentOutcome, ascend
from letheon.unlearning.augmentations import augment
from letheon.unlearning.calibration import calibrate, read_parameters
from letheon.unlearning.orthogonal_descent import OrthogonalOutcome, descend_orthogonally
from letheon.unlearning.recombination import add_share, fit, read_settings
from letheon.unlearning.server_rules import find_rule

TARGET_STEP_S = 0.125  # virtual seconds of one step at the target: 16 steps are one training
SERVER_STEP_S = 0.005  # of one step beside the coordinator, whose machine is faster
SERVER_BATCH = 64  # images of such a step


@dataclass(frozen=True)
class Made:
    """A change [d] of the weights it started from."""

    change: Vector
    steps: int
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class Recombined:
    """A recombination as what it changes of each site's contribution."""

    shares: Mapping[str, Vector]  # site -> [d]
    steps: int
    numbers: Mapping[str, float]

    @property
    def change(self) -> Vector:
        """Of the head [d]: the sum of all shares."""
        return reduce(np.add, self.shares.values())


class Workbench:
    """Runs networks for a conductor."""

    def __init__(
        self,
        network: Network,
        *,
        erased: Records,
        calibration: Records,
        audit: Records,
        disclosed: Mark,
    ) -> None:
        self._network = network
        self.erased = erased
        self._calibration = calibration
        self._audit = audit
        self._disclosed = disclosed

    def at_target(
        self,
        rule: str,
        parameters: Mapping[str, Any],
        start: Vector,
        *,
        last_local: Vector | None,
        rows: Sequence[Vector],
        seed: int,
    ) -> Made:
        """The target's part. `rows` [k, d] are other sites' last deltas: the laboratory's leave.

        Raises BadConfig or BadData as the rules do, KeyError for a rule there is none of.
        """
        module = self._network.load(start)
        factory = self._factory
        told: AscentOutcome | OrthogonalOutcome
        match rule:
            case "ascent":
                told = ascend(module, self.erased, parameters, seed, factory, last_local)
            case "orthogonal_descent":
                told = descend_orthogonally(
                    module, self.erased, parameters, seed, _stacked(rows, start)
                )
            case _:
                raise KeyError(rule)
        change = self._network.weights() - start
        numbers = {"loss_before": told.loss_before, "loss_after": told.loss_after}
        return Made(change, told.steps, numbers)

    def calibrate(self, head: Vector, parameters: Mapping[str, Any], *, seed: int) -> Made:
        """One round of invariance calibration. transform = "probe" is told the disclosed mark."""
        settings, family = read_parameters(parameters)
        transform = self._transform(family)
        module = self._network.load(head)
        outcome = calibrate(
            module, np.asarray(self._calibration.images), settings, seed, transform=transform
        )
        numbers = {
            "invariance_before": outcome.invariance_before,
            "invariance_after": outcome.invariance_after,
        }
        return Made(self._network.weights() - head, outcome.steps, numbers)

    def compute(self, rule: str, parameters: Mapping[str, Any], head: Vector, *, seed: int) -> Made:
        """A patch computed beside the coordinator."""
        module = self._network.load(head)
        numbers = find_rule(rule)(module, self._calibration, parameters, seed, self._factory)
        steps = sum(int(v) for k, v in parameters.items() if k.endswith("steps"))
        return Made(self._network.weights() - head, max(1, steps), numbers)

    def recombine(
        self,
        head: Vector,
        parts: Sequence[tuple[str, Vector]],
        parameters: Mapping[str, Any],
        *,
        seed: int,
    ) -> Recombined:
        """The head refitted in the span of the parts [k] of (site, [d])."""
        module = self._network.load(head)
        vectors = [part for _, part in parts]
        fitted = fit(module, vectors, self._calibration, parameters, seed)
        sizes = [tensor.size for tensor in self._network.layout.tensors]
        shares: dict[str, Vector] = {}
        for (site, part), factors in zip(parts, fitted.factors, strict=True):
            add_share(shares.setdefault(site, np.zeros_like(part)), part, factors, sizes)
        settings = read_settings(parameters)
        steps = math.ceil(settings.steps * settings.batch_size / SERVER_BATCH)
        return Recombined(shares, steps, fitted.numbers)

    def accuracy(self, weights: Vector) -> float:
        """On the calibrator's audit images."""
        return utility(self._network.load(weights), self._audit).accuracy

    def largest_scale(
        self, head: Vector, patch: Vector, scales: Sequence[float], allowed_drop: float
    ) -> float | None:
        """The largest scale whose accuracy on the audit images drops by at most that much."""
        before = self.accuracy(head)
        for scale in sorted(scales, reverse=True):
            if before - self.accuracy(head + patch * np.float32(scale)) <= allowed_drop:
                return scale
        return None

    def initial(self, seed: int) -> Vector:
        """Fresh random weights [d]."""
        return self._network.initial(seed)

    def _factory(self, seed: int) -> nn.Module:
        return fresh_module(self._network.plan, seed)

    def _transform(self, name: str) -> Callable[[torch.Tensor, torch.Generator], torch.Tensor]:
        if name == "family":
            return augment
        return self._stamp

    def _stamp(self, images: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
        return torch.from_numpy(self._disclosed.stamp(images.numpy()))


def _stacked(rows: Sequence[Vector], like: Vector) -> Vector:
    """[k, d], also for k = 0."""
    return np.stack(rows) if rows else np.empty((0, like.size), dtype=np.float32)


def capped(patch: Vector, limit: float) -> Vector:
    """The patch, shortened to an L2 norm of `limit` where it is longer."""
    length = arithmetic.norm(patch)
    if length <= limit or length == 0.0:
        return patch
    return patch * np.float32(arithmetic.as_coefficient(limit / length))
