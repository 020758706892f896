"""A federation without a network: deltas are seeded functions of the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from letheon.federation.parameters import Layout, TensorSpec, Vector
from letheon.federation.plan import PlanDraft
from letheon.simulation.central import Central, Rules
from letheon.simulation.federation import Federation, Setting
from letheon.simulation.virtual_time import Partition, TrainingTimes

LAYOUT = Layout((TensorSpec("first", (3, 2)), TensorSpec("out", (2,))))
FEDBUFF = {"plugin": "fedbuff", "arguments": {"buffer_size": 3}}


class PullTrainer:
    """Implements `Trainer`: a step from the base towards noise of the task's seed."""

    def __init__(self, size: int = LAYOUT.size, counts: Mapping[str, int] | None = None) -> None:
        self._size, self._counts = size, counts or {}

    def records(self, site: str) -> int:
        return self._counts.get(site, 100)

    def delta(
        self,
        site: str,
        base: Vector,
        *,
        learning_rate: float,
        seed: int,
        steps: int | None = None,
    ) -> Vector:
        noise = np.random.default_rng(seed).standard_normal(self._size).astype(np.float32)
        return (np.float32(learning_rate) * (noise - base)).astype(np.float32)


def a_vector(seed: int = 0, size: int = LAYOUT.size) -> Vector:
    """Normal noise [d]."""
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def some_rules(*, refuse_old_epochs: bool = True, **plan: Any) -> Rules:
    """The rules of a small plan; keywords are fields of PlanDraft."""
    fields: dict[str, Any] = {
        "name": "test",
        "model": {"plugin": "small_cnn", "arguments": {}},
        "image": {"channels": 1, "height": 8, "width": 8},
        "classes": 3,
    }
    draft = PlanDraft.model_validate({**fields, **plan})
    return Rules(draft, LAYOUT, draft.build_strategy(), refuse_old_epochs)


def a_central(**plan: Any) -> Central:
    """Version 0."""
    return Central.begin(some_rules(**plan), a_vector(1001))


def some_times(paces: Mapping[str, float], **more: Any) -> TrainingTimes:
    """Constant times unless told otherwise."""
    return TrainingTimes(**{"paces": paces, "seed": 3, "distribution": "constant", **more})


def a_federation(
    paces: Mapping[str, float],
    *,
    central: Central | None = None,
    partition: Partition | None = None,
    trainer: Any = None,
    **times: Any,
) -> Federation:
    """All sites of `paces` [seconds] begin from version 0."""
    setting = Setting(
        sites=tuple(paces),
        trainer=trainer or PullTrainer(),
        times=some_times(paces, **times),
        seed=11,
        partition=partition,
    )
    return Federation.begin(setting, central or a_central())


def advance(federation: Federation, until: float) -> None:
    """Every event up to a virtual second."""
    while (due := federation.next_event()) is not None and due <= until:
        federation.step()


def sites_merged(federation: Federation) -> Sequence[str]:
    """Sites in the order their deltas became rows."""
    return [row.site for row in federation.central.entries if row.base_version is not None]
