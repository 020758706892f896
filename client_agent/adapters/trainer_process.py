"""The `Trainer` port: one long-lived training process, started when first needed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from client_agent.adapters.child_link import ChildLink
from client_agent.config import AgentConfig
from client_agent.domain.answers import ForgetStatistic, Utility
from client_agent.domain.tasks import ModelFile, TaskAbandoned, TrainingProcessDied, TrainTask
from client_agent.domain.upload import Payload
from client_agent.ports import ErasePatch, Holdings, TrainedDelta
from letheon.federation.plan import Plan

log = logging.getLogger(__name__)


class TrainerProcess:
    """Starts the process, starts it anew after its death, and brings it up to date then."""

    def __init__(self, config: AgentConfig, state_dir: Path, on_death: Callable[[], None]) -> None:
        self._config = config
        self._state_dir = state_dir
        self._on_death = on_death
        self._plan: Plan | None = None
        self._holdings: Holdings | None = None
        self._link: ChildLink | None = None
        self._state = threading.Lock()  # of _link and _stopped; never held while a command runs
        self._stopped = False

    def open(self) -> Holdings:
        """Loads the data and fixes the split; cheap when that is done."""
        self._ready()
        if self._holdings is None:
            raise TaskAbandoned
        return self._holdings

    def adopt(self, plan: Plan) -> None:
        """Checks that model plug-in and data fit the plan and keeps it for what follows."""
        link = self._ready(with_plan=False)
        self._ask(link, "adopt", self._adoption(plan))
        self._plan = plan

    def train(self, base: ModelFile, task: TrainTask, target: Path) -> TrainedDelta:
        """Local steps from `base`; the encoded delta is durable at `target` on return."""
        told = self._do(
            "train",
            base=str(base.path),
            seed=task.seed,
            learning_rate=task.learning_rate,
            target=str(target),
        )
        self._holdings = _holdings(told["holdings"])
        return TrainedDelta(
            payload=_payload(told["payload"]),
            mean_loss=told["mean_loss"],
            steps=told["steps"],
            holdings=self._holdings,
        )

    def evaluate(self, model: ModelFile) -> Utility:
        """Utility on the validation records."""
        return Utility(version=model.version, **self._do("evaluate", model=str(model.path)))

    def audit(self, model: ModelFile, seed: int) -> ForgetStatistic:
        """Training records against control records."""
        told = self._do("audit", model=str(model.path), seed=seed)
        return ForgetStatistic(version=model.version, **told)

    def erase(
        self, model: ModelFile, parameters: Mapping[str, Any], seed: int, target: Path
    ) -> ErasePatch:
        """Projected gradient ascent from `model`; the encoded patch is durable at `target`."""
        told = self._do(
            "erase",
            model=str(model.path),
            parameters=dict(parameters),
            seed=seed,
            target=str(target),
        )
        return ErasePatch(
            payload=_payload(told["payload"]),
            norm=told["payload"]["norm"],
            steps=told["steps"],
            loss_before=told["loss_before"],
            loss_after=told["loss_after"],
        )

    def abandon(self) -> None:
        """Ends the command in flight, from any thread; harmless when there is none."""
        with self._state:
            link = self._link
        if link is not None:
            link.abandon()

    def stop(self, grace_s: float) -> None:
        """Ends the process and refuses further commands; from any thread."""
        with self._state:
            self._stopped = True
            link = self._link
        if link is not None:
            link.end(grace_s)

    def _do(self, command: str, **arguments: object) -> Mapping[str, Any]:
        return self._ask(self._ready(), command, arguments)

    def _ready(self, *, with_plan: bool = True) -> ChildLink:
        """A process that is running, with the data open and the plan adopted."""
        with self._state:
            if self._stopped:
                raise TaskAbandoned
            if self._link is not None and not self._link.has_ended:
                return self._link
            training = self._config.training
            link = self._link = ChildLink(
                memory_limit_bytes=training.memory_limit_bytes, log_level=self._config.log_level
            )
        log.info("training_process_started", extra={"pid": link.pid})
        config = self._config
        opened = {
            "plugin": config.data.plugin,
            "plugin_arguments": config.data.arguments,
            "state_dir": str(self._state_dir),
            "control_share": config.control_share,
            "validation_share": config.validation_share,
            "split_seed": config.split_seed,
        }
        try:
            self._holdings = _holdings(self._ask(link, "open", opened))
            if with_plan and self._plan is not None:
                self._ask(link, "adopt", self._adoption(self._plan))
        except BaseException:
            # A process that did not get this far must not pass for a ready one.
            link.end(0.0)
            raise
        return link

    def _adoption(self, plan: Plan) -> dict[str, Any]:
        return {
            "plan": plan.canonical_json().decode(),
            "threads": self._config.training.threads,
        }

    def _ask(
        self, link: ChildLink, command: str, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        try:
            return link.ask(command, arguments)
        except TrainingProcessDied as death:
            log.warning(
                "training_process_died",
                extra={"command": command, "returncode": death.facts.get("returncode")},
            )
            self._on_death()
            raise


def _holdings(told: Mapping[str, Any]) -> Holdings:
    return Holdings(**{**told, "record_set_file": Path(told["record_set_file"])})


def _payload(told: Mapping[str, Any]) -> Payload:
    return Payload(Path(told["path"]), told["size_bytes"], told["sha256"], told["encoding"])
