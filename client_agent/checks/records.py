"""Device, data and model, looked at by a training process of its own, on a copy of the split."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from client_agent.adapters.child_link import ChildLink
from client_agent.adapters.site_key import load_site_key
from client_agent.adapters.trainer_process import adoption, opening
from client_agent.checks.finding import Finding, Obstacle, Status, failed, ok, skipped, warning
from client_agent.config import AgentConfig
from client_agent.domain.tasks import TaskAbandoned, TrainingProcessDied
from client_agent.training_child import fixed_split
from letheon.errors import LetheonError, UnknownPlugin, WrongPlan
from letheon.federation.plan import Plan

_GIB = 1024**3


def check_training(
    config: AgentConfig, plan: Plan | None, *, has_data: bool, limit_s: float
) -> Iterator[Finding]:
    """One finding each: data, device, model. All of it takes `limit_s` seconds at most.

    Nothing is written to the agent's own state; a split that was fixed there is honoured.
    """
    training = config.training
    link = ChildLink(memory_limit_bytes=training.memory_limit_bytes, log_level="CRITICAL")
    alarm = threading.Timer(limit_s, link.end, (0.0,))
    alarm.start()
    try:
        with tempfile.TemporaryDirectory(prefix="letheon-doctor-") as scratch:
            data = skipped("data", "the [data] table cannot be used")
            if has_data:
                data = _data(link, config, Path(scratch), limit_s)
            yield data
            yield _device(link, training.device, limit_s)
            if plan is None:
                yield skipped("model", "there is no plan to fit")
            elif data.status in (Status.FAILED, Status.SKIPPED):
                yield skipped("model", "the data cannot be used")
            else:
                yield _model(link, config, plan, limit_s)
    finally:
        alarm.cancel()
        link.end(0.0)


def _device(link: ChildLink, wanted: str, limit_s: float) -> Finding:
    try:
        told = link.ask("device", {"device": wanted})
    except LetheonError as error:
        return failed("device", _obstacle(error, limit_s, "Correct training.device."))
    gpus = [f"{one['name']} ({one['free_bytes'] / _GIB:.1f} GiB free)" for one in told["gpus"]]
    seen = "; ".join(gpus) or "no GPU"
    return ok("device", f"training on {told['device']}; torch {told['torch']} sees {seen}")


def _data(link: ChildLink, config: AgentConfig, scratch: Path, limit_s: float) -> Finding:
    own = config.state_dir / fixed_split.FILE
    try:
        fixed = own.is_file()
        if fixed:
            shutil.copyfile(own, scratch / fixed_split.FILE)
        load_site_key(scratch, may_make=True)  # pseudonyms of this look alone
        told = link.ask("open", opening(config, scratch, ()))
    except OSError as error:
        sentence = f"the split {own} cannot be read: {error.strerror}"
        return failed("data", Obstacle(sentence, "Run doctor as the agent's user."))
    except LetheonError as error:
        return failed("data", _obstacle(error, limit_s, "Correct [data], or the files it names."))
    return _counted(told, fixed=fixed)


def _counted(told: Mapping[str, Any], *, fixed: bool) -> Finding:
    classes = ", ".join(f"{name}: {count}" for name, count in told["class_counts"].items())
    sentence = (
        f"{told['train_records']} records to train on ({classes}), {told['control_records']} for"
        f" control, {told['validation_records']} for validation"
    )
    if left_out := {why: count for why, count in told.get("skipped", {}).items() if count}:
        sentence += "; left out: " + ", ".join(f"{count} {why}" for why, count in left_out.items())
    if told["control_records"] == 0:
        return warning(
            "data",
            sentence,
            "Without control records an erasure cannot be verified: control_share.",
        )
    if not fixed:
        return warning("data", f"{sentence}; not set aside yet", "letheon-agent enroll sets aside.")
    if left_out:
        return warning("data", sentence, "Look at what was left out.")
    return ok("data", sentence)


def _model(link: ChildLink, config: AgentConfig, plan: Plan, limit_s: float) -> Finding:
    try:
        link.ask("adopt", adoption(config, plan))
    except (UnknownPlugin, WrongPlan) as error:
        advice = "Install the version of the model that the federation uses."
        return failed("model", _obstacle(error, limit_s, advice))
    except LetheonError as error:
        advice = (
            "The plan is the federation's: correct the data, or ask the coordinator's operator."
        )
        return failed("model", _obstacle(error, limit_s, advice))
    name, size = plan.model.plugin, plan.parameters.size
    return ok("model", f"plan {plan.digest[:12]}: {name} with {size} parameters fits these records")


def _obstacle(error: LetheonError, limit_s: float, advice: str) -> Obstacle:
    if isinstance(error, TaskAbandoned):
        return Obstacle(
            f"it was not done within {limit_s:.0f} s", "Give doctor more: --timeout SECONDS."
        )
    if isinstance(error, TrainingProcessDied):
        return Obstacle(
            f"{error.message}, perhaps for want of memory", "Raise training.memory_limit_bytes."
        )
    return Obstacle(error.message.rstrip("."), advice)
