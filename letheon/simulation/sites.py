"""What each simulated site holds, and its local training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from letheon.federation.parameters import Layout, Vector, flatten, unflatten
from letheon.federation.plan import PlanDraft
from letheon.imaging.local_training import LocalTraining, train_locally
from letheon.imaging.models.model import spec_of
from letheon.imaging.models.weights import initialise, read_weights, write_weights
from letheon.imaging.records import Indices, Records


@dataclass(frozen=True)
class SiteRecords:
    """The records of a site by use; disjoint by patient."""

    train: Records
    control: Records  # never trained on: what erased records are compared with
    validation: Records  # never trained on: the gate's utility
    test: Records  # never seen by anything but the study's measurements


@dataclass(frozen=True)
class Network:
    """A network of the plan's kind whose weights are overwritten before each use."""

    plan: PlanDraft
    module: nn.Module
    layout: Layout

    @classmethod
    def of(cls, plan: PlanDraft, layout: Layout | None = None) -> Network:
        """The network of a plan, with weights of no meaning."""
        module = fresh_module(plan, 0)
        return cls(plan, module, layout or layout_of(module))

    def load(self, weights: Vector) -> nn.Module:
        """The module with these weights [d]."""
        write_weights(self.module, unflatten(weights, self.layout))
        return self.module

    def weights(self) -> Vector:
        """The module's weights [d], copied."""
        return flatten(read_weights(self.module), self.layout)

    def initial(self, seed: int) -> Vector:
        """Fresh random weights [d]."""
        return flatten(read_weights(fresh_module(self.plan, seed)), self.layout)


def fresh_module(plan: PlanDraft, seed: int) -> nn.Module:
    """A network of the plan with random weights."""
    spec = spec_of(plan.image.shape)
    return initialise(plan.model.plugin, plan.model.arguments, spec, plan.classes, seed)


def layout_of(module: nn.Module) -> Layout:
    """The layout of a network's parameters, in the module's own order."""
    shapes = [{"name": n, "shape": list(a.shape)} for n, a in read_weights(module).items()]
    return Layout.from_json(shapes)


class Trainer(Protocol):
    """Local training of one site. The conformance test has one that needs no network."""

    def records(self, site: str) -> int:
        """How many records the site trains on."""
        ...

    def delta(
        self,
        site: str,
        base: Vector,
        *,
        learning_rate: float,
        seed: int,
        steps: int | None = None,
    ) -> Vector:
        """w_local - w_base [d] after the plan's local steps, or after so many."""
        ...


class TorchTrainer:
    """Implements `Trainer` as the agents do: the same steps, the same order of batches."""

    def __init__(self, network: Network, records: Mapping[str, Records]) -> None:
        self._network = network
        self._records = records

    def records(self, site: str) -> int:
        """How many records the site trains on."""
        return len(self._records[site])

    def delta(
        self,
        site: str,
        base: Vector,
        *,
        learning_rate: float,
        seed: int,
        steps: int | None = None,
    ) -> Vector:
        """w_local - w_base [d] after the plan's local steps, or after so many."""
        return self.delta_on(
            self._records[site], base, learning_rate=learning_rate, seed=seed, steps=steps
        )

    def delta_on(
        self,
        records: Records,
        base: Vector,
        *,
        learning_rate: float,
        seed: int,
        steps: int | None = None,
        places: Indices | None = None,
    ) -> Vector:
        """As `delta`, on other records than the site's own: a counterfactual.

        `places` as `train_locally`: the site's records but for some, in the batches they were in.
        """
        told = self._network.plan.training
        settings = LocalTraining(
            steps=told.local_steps if steps is None else steps,
            batch_size=told.batch_size,
            learning_rate=learning_rate,
            momentum=told.momentum,
            clip_norm=told.clip_norm,
            weight_decay=told.weight_decay,
        )
        train_locally(self._network.load(base), records, settings, seed, places=places)
        difference = self._network.weights()
        difference -= base
        return difference
