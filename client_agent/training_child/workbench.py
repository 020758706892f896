"""The records, the network, and what is done with them. Imports torch only when it is needed.

Arguments and results are the JSON of `lines.py`; paths are files of the daemon's state directory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from client_agent.domain.tasks import TaskAbandoned
from client_agent.training_child.fixed_split import SplitRecords, split_records, write_durably
from client_agent.training_child.vector_files import read_vector, write_payload
from letheon import registry
from letheon.errors import BadConfig, BadData, InternalFault, MethodRefused, Refused, WrongPlan
from letheon.federation.parameters import Layout, Vector, flatten, unflatten
from letheon.federation.plan import Plan
from letheon.imaging.fitness import check_fit
from letheon.imaging.models.model import ImageSpec
from letheon.imaging.records import Records
from letheon.unlearning.evidence.forgetting import forget_statistic

if TYPE_CHECKING:
    from torch import nn

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class _Loaded:
    """The site's records by use, and the fingerprint of those it trains on."""

    parts: SplitRecords
    record_set: str
    record_set_file: Path


@dataclass(frozen=True)
class _Fitted:
    """A plan and its network; the network's weights are overwritten before each use."""

    plan: Plan
    layout: Layout
    spec: ImageSpec
    module: nn.Module


class Workbench:
    """State of the training process: `open` first, then `adopt`, then work."""

    def __init__(self) -> None:
        self._loaded: _Loaded | None = None
        self._fitted: _Fitted | None = None

    def open(self, arguments: Arguments) -> dict[str, Any]:
        """Loads the records and fixes the split. Raises BadData, BadConfig, UnknownPlugin."""
        source = registry.build(
            registry.SOURCES, arguments["plugin"], arguments["plugin_arguments"]
        )
        records = source.load()
        if not isinstance(records, Records):
            raise BadData(f"source plug-in {arguments['plugin']!r} returned no records")
        if len(records) == 0:
            raise BadData("the data source has no records")
        folder = Path(arguments["state_dir"])
        parts = split_records(
            records,
            folder,
            control=arguments["control_share"],
            validation=arguments["validation_share"],
            seed=arguments["split_seed"],
        )
        fingerprint = parts.train.fingerprint()
        ids = folder / "records.json"
        write_durably(ids, json.dumps(parts.train.record_ids).encode())
        self._loaded = _Loaded(parts, fingerprint, ids)
        return self._holdings()

    def adopt(self, arguments: Arguments) -> dict[str, Any]:
        """Checks records and network against the plan.

        Raises BadData, UnknownPlugin, BadConfig, or WrongPlan if the network has other tensors.
        """
        import torch

        from letheon.imaging.models.weights import initialise, read_weights

        torch.set_num_threads(arguments["threads"])
        plan = Plan.from_canonical(arguments["plan"].encode())
        image = plan.image
        parts = self._records().parts
        check_fit(
            parts.train,
            classes=plan.classes,
            channels=image.channels,
            height=image.height,
            width=image.width,
            class_names=plan.class_names or None,
        )
        # A part that is set aside may well hold a single class, but none beyond the plan's.
        for part in (parts.control, parts.validation):
            if len(part) > 0 and not 0 <= part.labels.min() <= part.labels.max() < plan.classes:
                raise BadData(f"labels must be 0 to {plan.classes - 1} in all records")
        spec = ImageSpec(channels=image.channels, height=image.height, width=image.width)
        module = initialise(plan.model.plugin, plan.model.arguments, spec, plan.classes, seed=0)
        layout = plan.parameters
        own = {name: tuple(values.shape) for name, values in read_weights(module).items()}
        if own != {tensor.name: tensor.shape for tensor in layout.tensors}:
            raise WrongPlan(
                f"the installed model plug-in {plan.model.plugin!r} has other tensors than the"
                " plan: install the version of it that the federation uses"
            )
        self._fitted = _Fitted(plan, layout, spec, module)
        return {}

    def train(self, arguments: Arguments, should_abandon: Callable[[], bool]) -> dict[str, Any]:
        """Local steps from a base; the encoded delta is written to `target`."""
        from letheon.imaging.local_training import LocalTraining, train_locally

        fitted = self._model()
        base = self._write_weights(Path(arguments["base"]))
        told = fitted.plan.training
        settings = LocalTraining(
            steps=told.local_steps,
            batch_size=told.batch_size,
            learning_rate=float(arguments["learning_rate"]),
            momentum=told.momentum,
            clip_norm=told.clip_norm,
            weight_decay=told.weight_decay,
        )
        records = self._records().parts.train
        outcome = train_locally(fitted.module, records, settings, _seed(arguments), should_abandon)
        if outcome.abandoned:
            raise TaskAbandoned
        payload = self._write_difference(
            base, Path(arguments["target"]), max_norm=fitted.plan.max_delta_norm
        )
        return {
            "payload": payload,
            "mean_loss": outcome.mean_loss,
            "steps": outcome.steps,
            "holdings": self._holdings(),
        }

    def evaluate(self, arguments: Arguments) -> dict[str, Any]:
        """Utility of one model on the validation records."""
        from letheon.imaging.scores import utility

        records = self._records().parts.validation
        if len(records) == 0:
            raise Refused("this site has no validation records: its validation_share is too small")
        self._write_weights(Path(arguments["model"]))
        return asdict(utility(self._model().module, records))

    def audit(self, arguments: Arguments) -> dict[str, Any]:
        """Forget statistic of one model: training records against control records."""
        from letheon.imaging.scores import record_losses

        parts = self._records().parts
        if len(parts.control) == 0:
            raise Refused("this site has no control records: its control_share is too small")
        fitted = self._model()
        self._write_weights(Path(arguments["model"]))
        erased_losses, erased_correct = record_losses(fitted.module, parts.train)
        control_losses, control_correct = record_losses(fitted.module, parts.control)
        statistic = forget_statistic(
            erased_losses,
            control_losses,
            erased_correct,
            control_correct,
            parts.train.patients,
            parts.control.patients,
            resamples=fitted.plan.gate.bootstrap,
            seed=_seed(arguments),
        )
        return asdict(statistic)

    def erase(self, arguments: Arguments) -> dict[str, Any]:
        """Ascent on the records to erase; the encoded patch is written to `target`.

        Raises MethodRefused for parameters the ascent does not take.
        """
        from letheon.imaging.models.weights import initialise
        from letheon.unlearning.ascent import ascend

        fitted = self._model()
        plugin, classes = fitted.plan.model, fitted.plan.classes
        model = self._write_weights(Path(arguments["model"]))

        def fresh_network(seed: int) -> nn.Module:
            return initialise(plugin.plugin, plugin.arguments, fitted.spec, classes, seed)

        try:
            outcome = ascend(
                fitted.module,
                self._records().parts.train,
                arguments["parameters"],
                _seed(arguments),
                fresh_network,
            )
        except BadConfig as error:
            raise MethodRefused(error.message) from error
        return {
            "payload": self._write_difference(model, Path(arguments["target"]), max_norm=None),
            "steps": outcome.steps,
            "loss_before": outcome.loss_before,
            "loss_after": outcome.loss_after,
        }

    def _holdings(self) -> dict[str, Any]:
        loaded = self._records()
        train = loaded.parts.train
        counts = np.bincount(train.labels[train.labels >= 0]).tolist()
        names = dict(enumerate(train.class_names))
        return {
            "train_records": len(train),
            "control_records": len(loaded.parts.control),
            "validation_records": len(loaded.parts.validation),
            "class_counts": {names.get(i, str(i)): count for i, count in enumerate(counts)},
            "record_set": loaded.record_set,
            "record_set_file": str(loaded.record_set_file),
        }

    def _write_weights(self, path: Path) -> Vector:
        from letheon.imaging.models.weights import write_weights

        fitted = self._model()
        vector = read_vector(path, fitted.layout)
        write_weights(fitted.module, unflatten(vector, fitted.layout))
        return vector

    def _write_difference(
        self, base: Vector, target: Path, *, max_norm: float | None
    ) -> dict[str, Any]:
        from letheon.imaging.models.weights import read_weights

        fitted = self._model()
        difference = flatten(read_weights(fitted.module), fitted.layout)
        difference -= base
        return write_payload(difference, fitted.plan, target, max_norm=max_norm)

    def _records(self) -> _Loaded:
        if self._loaded is None:
            raise InternalFault("no data source was opened")
        return self._loaded

    def _model(self) -> _Fitted:
        if self._fitted is None:
            raise InternalFault("no plan was adopted")
        return self._fitted


def _seed(arguments: Arguments) -> int:
    """The wire carries a signed number, generators take none below zero."""
    return int(arguments["seed"]) % 2**63
