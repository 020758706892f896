"""Making a job of a plan: what a site's own code is given."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from letheon.federation.plan import Plan, PlanDraft
from letheon.imaging.models.weights import read_weights
from letheon.imaging.records import Indices, Records
from letheon.imaging.tasks.task import Task
from letheon.site.job import Config, Job

if TYPE_CHECKING:
    from torch import nn


def make_job(
    plan: Plan | PlanDraft,
    task: Task,
    module: nn.Module,
    records: Records,
    *,
    learning_rate: float,
    seed: int,
    should_stop: Callable[[], bool],
    arguments: Mapping[str, Any],
    places: Indices | None = None,
) -> Job:
    """A job from the weights that are in the module.

    What the code does to the network (hooks, frozen layers, another type) stays in its copy, and
    the records' arrays cannot be written: an augmentation in place would stay.
    """
    told = plan.training
    images, labels = (_read_only(array) for array in (records.images, records.labels))
    config = Config(
        seed=seed,
        steps=told.local_steps,
        batch_size=told.batch_size,
        learning_rate=learning_rate,
        momentum=told.momentum,
        clip_norm=told.clip_norm,
        weight_decay=told.weight_decay,
        task=plan.task.plugin,
        classes=plan.classes,
        class_names=plan.class_names,
        shape=plan.image.shape,
        loss=task.loss,
        should_stop=should_stop,
        arguments=dict(arguments),
        device=str(next(module.parameters()).device),
        places=places,
    )
    return Job(
        module=copy.deepcopy(module),
        base=read_weights(module),
        records=replace(records, images=images, labels=labels),
        config=config,
    )


def _read_only(array: Any) -> Any:  # noqa: ANN401 - an array, or a store that gives copies
    if not isinstance(array, np.ndarray):
        return array
    view = array.view()
    view.flags.writeable = False
    return view
