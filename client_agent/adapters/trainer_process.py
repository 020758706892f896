"""The `Trainer` port: one long-lived training process, started when first needed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from client_agent.adapters.child_link import ChildLink
from client_agent.adapters.site_key import FILE as SITE_KEY
from client_agent.adapters.state_dir import RESIDUALS
from client_agent.config import AgentConfig
from client_agent.domain.answers import ForgetStatistic, Utility
from client_agent.domain.privacy import Charge, PrivacyStanding, Quote
from client_agent.domain.tasks import ModelFile, TaskAbandoned, TrainingProcessDied, TrainTask
from client_agent.domain.upload import Payload
from client_agent.ports import ErasePatch, Holdings, TrainedDelta
from letheon.federation.plan import Plan

log = logging.getLogger(__name__)


class TrainerProcess:
    """Starts the process, starts it anew after its death, and brings it up to date then."""

    def __init__(
        self,
        config: AgentConfig,
        state_dir: Path,
        on_death: Callable[[], None],
        excluded: Callable[[], frozenset[str]],
        on_wait: Callable[[], None] = lambda: None,
        spent: Callable[[], Sequence[Charge]] = tuple,
    ) -> None:
        """`excluded` is asked before every command: tokens of records that may not be used.

        `spent` is what private trainings were charged before.
        """
        self._config = config
        self._spent = spent
        self._quoted: Charge | None = None  # charged, and not trained yet
        self._excluded = excluded
        self._told: frozenset[str] = frozenset()  # the excluded tokens that the process knows
        self._state_dir = state_dir
        self._on_death = on_death
        self._on_wait = on_wait
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

    def adopt(self, plan: Plan) -> PrivacyStanding | None:
        """As the port says."""
        link = self._ready(with_plan=False)
        told = self._ask(link, "adopt", adoption(self._config, plan, self._spent()))
        self._plan = plan
        return PrivacyStanding(**told["privacy"]) if "privacy" in told else None

    def quote(self) -> Quote:
        """As the port says."""
        told = self._do("quote", spent=_rows(self._spent()))
        self._quoted = Charge(**told["charge"])
        return Quote(self._quoted, PrivacyStanding(**told["standing"]))

    def train(self, base: ModelFile, task: TrainTask, target: Path) -> TrainedDelta:
        """As the port says."""
        told = self._do(
            "train",
            base=str(base.path),
            seed=task.seed,
            learning_rate=task.learning_rate,
            epoch=task.epoch,
            exclusion_counter=task.exclusion_counter,
            target=str(target),
            **self._charged(),
        )
        self._holdings = holdings(told["holdings"])
        return TrainedDelta(
            payload=_payload(told["payload"]),
            mean_loss=told["mean_loss"],
            steps=told["steps"],
            num_examples=told["num_examples"],
            holdings=self._holdings,
            is_private=told["is_private"],
        )

    def evaluate(self, model: ModelFile) -> Utility:
        """Utility on the validation records."""
        return Utility(version=model.version, **self._do("evaluate", model=str(model.path)))

    def audit(self, model: ModelFile, seed: int) -> ForgetStatistic:
        """Training records against control records."""
        told = self._do("audit", model=str(model.path), seed=seed)
        return ForgetStatistic(version=model.version, **told)

    def retrain(
        self, base: ModelFile, record_ids: Path, rate: float, seed: int, target: Path
    ) -> Payload:
        """As the port says."""
        told = self._do(
            "train",
            base=str(base.path),
            seed=seed,
            learning_rate=rate,
            target=str(target),
            record_ids=str(record_ids),
        )
        return _payload(told["payload"])

    def audit_subject(self, model: ModelFile, seed: int, tokens: Sequence[str]) -> ForgetStatistic:
        """The subject's training records against control records like them, told coarsely."""
        told = self._do("audit", model=str(model.path), seed=seed, subject=list(tokens))
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

    def _charged(self) -> dict[str, object]:
        """A quote is good for one training."""
        quoted, self._quoted = self._quoted, None
        if self._config.privacy is None:
            return {}
        return {
            "spent": _rows(self._spent()),
            "charged": None if quoted is None else asdict(quoted),
        }

    def _do(self, command: str, **arguments: object) -> Mapping[str, Any]:
        link = self._ready()
        excluded = self._excluded()
        if excluded != self._told:
            told = self._ask(link, "exclude", {"excluded": sorted(excluded)})
            self._told, self._holdings = excluded, holdings(told)
        return self._ask(link, command, arguments)

    def _ready(self, *, with_plan: bool = True) -> ChildLink:
        """A process that is running, with the data open and the plan adopted."""
        with self._state:
            if self._stopped:
                raise TaskAbandoned
            if self._link is not None and not self._link.has_ended:
                return self._link
            training = self._config.training
            link = self._link = ChildLink(
                memory_limit_bytes=training.memory_limit_bytes,
                log_level=self._config.log_level,
                on_wait=self._on_wait,
            )
        log.info("training_process_started", extra={"pid": link.pid})
        excluded = self._excluded()
        opened = opening(self._config, self._state_dir, excluded)
        try:
            self._holdings = holdings(self._ask(link, "open", opened))
            self._told = excluded
            if with_plan and self._plan is not None:
                self._ask(link, "adopt", adoption(self._config, self._plan, self._spent()))
        except BaseException:
            # A process that did not get this far must not pass for a ready one.
            link.end(0.0)
            raise
        return link

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


def opening(config: AgentConfig, state_dir: Path, excluded: Collection[str]) -> dict[str, Any]:
    """Arguments of the command that loads the data and fixes the split in `state_dir`."""
    return {
        "plugin": config.data.plugin,
        "plugin_arguments": config.data.arguments,
        "state_dir": str(state_dir),
        "residuals": str(state_dir / RESIDUALS),
        "control_share": config.control_share,
        "validation_share": config.validation_share,
        "split_seed": config.split_seed,
        "site_key": str(state_dir / SITE_KEY),
        "excluded": sorted(excluded),
        "code": config.training.code,
        "code_arguments": config.training.code_arguments,
    }


def adoption(config: AgentConfig, plan: Plan, spent: Sequence[Charge] = ()) -> dict[str, Any]:
    """Arguments of the command that fits data and network to the plan."""
    return {
        "plan": plan.canonical_json().decode(),
        "threads": config.training.threads,
        "encoding": config.encoding,
        "device": config.training.device,
        "mixed_precision": config.training.mixed_precision,
        "privacy": None if config.privacy is None else config.privacy.model_dump(),
        "spent": _rows(spent),
    }


def holdings(told: Mapping[str, Any]) -> Holdings:
    """What the training process tells of the records."""
    files = {name: Path(told[name]) for name in ("record_set_file", "index_file")}
    return Holdings(**{**told, **files})


def _rows(spent: Sequence[Charge]) -> list[list[float]]:
    return [[one.noise_multiplier, one.sampling_rate, one.steps] for one in spent]


def _payload(told: Mapping[str, Any]) -> Payload:
    return Payload(Path(told["path"]), told["size_bytes"], told["sha256"], told["encoding"])
