"""The records, the network, and what is done with them. Imports torch only when it is needed.

Arguments and results are the JSON of `lines.py`; paths are files of the daemon's state directory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client_agent.adapters.residual_files import ResidualKey
from client_agent.domain.privacy import NOT_MADE_AGAIN
from client_agent.privacy_config import PrivacyConfig
from client_agent.training_child.devices import choose_device, describe
from client_agent.training_child.excluded import matched_controls, named, of_subject
from client_agent.training_child.feedback import write_delta
from client_agent.training_child.held_records import HeldRecords, load_records
from client_agent.training_child.local_steps import LocalSteps, SiteCode
from client_agent.training_child.private_steps import PrivateSteps, as_json
from client_agent.training_child.vector_files import read_vector, write_payload
from letheon.errors import BadConfig, InternalFault, MethodRefused, Refused, WrongPlan
from letheon.federation.parameters import Layout, Vector, flatten, unflatten
from letheon.federation.plan import Plan
from letheon.imaging.models.model import Spec, spec_of
from letheon.imaging.tasks.task import Task, build_task
from letheon.unlearning.evidence.forgetting import coarse, forget_statistic

if TYPE_CHECKING:
    import torch
    from torch import nn

Arguments = Mapping[str, Any]

_REASON = re.compile(r"[a-z][a-z_]{0,39}")
_MOST_REASONS = 32


@dataclass(frozen=True)
class _Fitted:
    """A plan and its network; the network's weights are overwritten before each use."""

    plan: Plan
    encoding: str  # of deltas
    task: Task
    layout: Layout
    spec: Spec
    module: nn.Module
    device: torch.device  # of everything but the ascent, which takes the processor
    mixed_precision: bool
    private: PrivateSteps | None  # where the site trains privately


class Workbench:
    """State of the training process: `open` first, then `adopt`, then work."""

    def __init__(self) -> None:
        self._held: HeldRecords | None = None
        self._fitted: _Fitted | None = None
        self._code: SiteCode | None = None

    def device(self, arguments: Arguments) -> dict[str, Any]:
        """What there is to train on. Raises BadConfig."""
        return describe(arguments["device"])

    def open(self, arguments: Arguments) -> dict[str, Any]:
        """Loads the records and fixes the split, and the site's own code if it has some.

        Raises BadData, BadConfig, UnknownPlugin.
        """
        self._held = load_records(arguments)
        self._load_code(arguments, Path(arguments["state_dir"]))
        return self._held.to_json()

    def exclude(self, arguments: Arguments) -> dict[str, Any]:
        """Uses the excluded records no longer. Raises BadData if none is left to train on."""
        self._held = self._records().without(frozenset(arguments["excluded"]))
        return self._held.to_json()

    def _load_code(self, arguments: Arguments, folder: Path) -> None:
        told = arguments.get("code")
        if told is None:
            return
        from letheon.site.code import load_code

        self._code = SiteCode(load_code(told), arguments.get("code_arguments", {}), folder)

    def adopt(self, arguments: Arguments) -> dict[str, Any]:
        """Checks records and network against the plan. Where the site trains privately, it says
        how much is spent.

        Raises BadData, UnknownPlugin, BadConfig, or WrongPlan if the network has other tensors.
        """
        import torch

        from letheon.imaging.models.weights import initialise, read_weights

        torch.set_num_threads(arguments["threads"])
        plan = Plan.from_canonical(arguments["plan"].encode())
        shape = plan.image.shape
        task = build_task(plan.task.plugin, plan.task.arguments)
        parts = self._records().parts
        task.check_fit(
            parts.train,
            shape=shape,
            classes=plan.classes,
            class_names=plan.class_names or None,
        )
        # A part that is set aside may well hold a single class, but none beyond the plan's.
        for part in (parts.control, parts.validation):
            if len(part) > 0:
                task.check_labels(part, plan.classes)
        spec = spec_of(shape)
        module = initialise(plan.model.plugin, plan.model.arguments, spec, plan.classes, seed=0)
        layout = plan.parameters
        own = {name: tuple(values.shape) for name, values in read_weights(module).items()}
        if own != {tensor.name: tensor.shape for tensor in layout.tensors}:
            raise WrongPlan(
                f"the installed model plug-in {plan.model.plugin!r} has other tensors than the"
                " plan: install the version of it that the federation uses"
            )
        encoding = chosen_encoding(plan, arguments["encoding"])
        device = choose_device(arguments["device"])
        mixed = bool(arguments["mixed_precision"]) and device.type == "cuda"
        module = module.to(device)
        told: dict[str, Any] = {"device": str(device)}
        private = None
        if arguments.get("privacy") is not None:
            config = PrivacyConfig.model_validate(arguments["privacy"])
            private = PrivateSteps(config, plan, task)
            private.check(module, parts.train)
            told["privacy"] = as_json(private.standing(parts.train, arguments["spent"]))
        self._fitted = _Fitted(plan, encoding, task, layout, spec, module, device, mixed, private)
        return told

    def train(self, arguments: Arguments, should_abandon: Callable[[], bool]) -> dict[str, Any]:
        """Local steps from a base, or the site's own code; the delta is written to `target`.

        With `record_ids`, a file, on these records: as an earlier delta was trained, but for some,
        in whose places None stands.
        """
        fitted = self._model()
        if fitted.private is not None:
            return self._train_privately(fitted.private, arguments, should_abandon)
        base = self._write_weights(Path(arguments["base"]))
        steps = LocalSteps(fitted.plan, fitted.task, fitted.module, fitted.mixed_precision)
        train = steps.by_plan if self._code is None else partial(steps.by_code, self._code)
        records, places = self._records().parts.train, None
        if "record_ids" in arguments:
            ids = json.loads(Path(arguments["record_ids"]).read_text(encoding="utf-8"))
            records, places = named(self._records().everything.train, ids)
        outcome = train(
            records,
            learning_rate=float(arguments["learning_rate"]),
            seed=_seed(arguments),
            should_abandon=should_abandon,
            places=places,
        )
        return {
            "payload": self._write_delta(self._difference(base), arguments),
            "mean_loss": outcome.mean_loss,
            "steps": outcome.steps,
            "num_examples": outcome.num_examples,
            "holdings": self._records().to_json(),
            "is_private": False,
        }

    def quote(self, arguments: Arguments) -> dict[str, Any]:
        """What the next training costs, and where the site stands with it."""
        private = self._model().private
        if private is None:
            raise InternalFault("the plan was adopted without [privacy]")
        return private.quote(self._records().parts.train, arguments["spent"])

    def _train_privately(
        self, private: PrivateSteps, arguments: Arguments, should_abandon: Callable[[], bool]
    ) -> dict[str, Any]:
        if "record_ids" in arguments:
            raise Refused(NOT_MADE_AGAIN)
        records = self._records().parts.train
        private.check_charged(records, arguments["spent"], arguments["charged"])
        base = self._write_weights(Path(arguments["base"]))
        outcome = private.train(
            self._model().module,
            records,
            learning_rate=float(arguments["learning_rate"]),
            seed=_seed(arguments),
            should_abandon=should_abandon,
        )
        return {
            "payload": self._write_delta(self._difference(base), arguments),
            "mean_loss": outcome.mean_loss,
            "steps": outcome.steps,
            "num_examples": outcome.num_examples,
            "holdings": self._records().to_json(),
            "is_private": True,
        }

    def evaluate(self, arguments: Arguments) -> dict[str, Any]:
        """Utility of one model on the validation records."""
        records = self._records().parts.validation
        if len(records) == 0:
            raise Refused("this site has no validation records: its validation_share is too small")
        self._write_weights(Path(arguments["model"]))
        fitted = self._model()
        return asdict(fitted.task.utility(fitted.module, records))

    def audit(self, arguments: Arguments) -> dict[str, Any]:
        """Forget statistic of one model: training records against control records."""
        held = self._records()
        erased, control = held.parts.train, held.parts.control
        if len(control) == 0:
            raise Refused("this site has no control records: its control_share is too small")
        if "subject" in arguments:
            erased = of_subject(held.everything.train, held.key, arguments["subject"])
            control = matched_controls(control, erased)
        fitted = self._model()
        self._write_weights(Path(arguments["model"]))
        erased_losses, erased_correct = fitted.task.judge_records(fitted.module, erased)
        control_losses, control_correct = fitted.task.judge_records(fitted.module, control)
        statistic = forget_statistic(
            erased_losses,
            control_losses,
            erased_correct,
            control_correct,
            # One patient cannot be resampled: what is asked is whether these records are known.
            None if "subject" in arguments else erased.patients,
            control.patients,
            resamples=fitted.plan.gate.bootstrap,
            seed=_seed(arguments),
        )
        return asdict(coarse(statistic) if "subject" in arguments else statistic)

    def erase(self, arguments: Arguments) -> dict[str, Any]:
        """Ascent on the records to erase; the encoded patch is written to `target`.

        Raises MethodRefused for a task it is not made for, or parameters it does not take.
        """
        from letheon.imaging.models.weights import initialise
        from letheon.unlearning.ascent import ascend

        fitted = self._model()
        if fitted.private is not None:
            raise MethodRefused(
                "this site trains under differential privacy, and what the ascent computes from "
                "its records is not private: take the method removal"
            )
        if not fitted.task.one_class:
            raise MethodRefused(
                "the ascent is made for records of one class each, and the plan's task is "
                f"{fitted.plan.task.plugin}: take the method removal"
            )
        plugin, classes = fitted.plan.model, fitted.plan.classes
        model = self._write_weights(Path(arguments["model"]))
        fitted.module.to("cpu")

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
        finally:
            fitted.module.to(fitted.device)
        return {
            "payload": write_payload(
                self._difference(model),
                fitted.plan,
                Path(arguments["target"]),
                encoding=fitted.plan.patch_encoding,
                max_norm=None,
            ),
            "steps": outcome.steps,
            "loss_before": outcome.loss_before,
            "loss_after": outcome.loss_after,
        }

    def _write_weights(self, path: Path) -> Vector:
        from letheon.imaging.models.weights import write_weights

        fitted = self._model()
        vector = read_vector(path, fitted.layout)
        write_weights(fitted.module, unflatten(vector, fitted.layout))
        return vector

    def _write_delta(self, delta: Vector, arguments: Arguments) -> dict[str, Any]:
        fitted, target = self._model(), Path(arguments["target"])
        plan = fitted.plan
        if "record_ids" in arguments:  # becomes part of a patch
            limit = plan.max_delta_norm
            return write_payload(delta, plan, target, encoding=plan.patch_encoding, max_norm=limit)
        key = ResidualKey(
            plan.digest,
            fitted.encoding,
            int(arguments["epoch"]),
            int(arguments["exclusion_counter"]),
            is_private=fitted.private is not None,
        )
        return write_delta(delta, plan, target, self._records().residuals, key)

    def _difference(self, base: Vector) -> Vector:
        from letheon.imaging.models.weights import read_weights

        fitted = self._model()
        difference = flatten(read_weights(fitted.module), fitted.layout)
        difference -= base
        return difference

    def _records(self) -> HeldRecords:
        if self._held is None:
            raise InternalFault("no data source was opened")
        return self._held

    def _model(self) -> _Fitted:
        if self._fitted is None:
            raise InternalFault("no plan was adopted")
        return self._fitted


def chosen_encoding(plan: Plan, wanted: str | None) -> str:
    """How this site's deltas travel. Raises BadConfig for what the plan does not accept."""
    if wanted is None:
        return plan.encoding
    if wanted not in plan.delta_encodings:
        accepted = ", ".join(plan.delta_encodings)
        raise BadConfig(f"encoding = {wanted!r}: the plan accepts {accepted}")
    return wanted


def _seed(arguments: Arguments) -> int:
    """The wire carries a signed number, generators take none below zero."""
    return int(arguments["seed"]) % 2**63
