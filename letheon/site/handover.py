"""`receive` and `send`, and the mark of a training function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from letheon.errors import TrainingCodeFailed
from letheon.imaging.records import Records
from letheon.site.checks import checked
from letheon.site.job import Config, Job, Sent

if TYPE_CHECKING:
    import torch
    from torch import nn

MARK = "__letheon_train__"

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass
class Handover:
    """A job at hand, and what came of it."""

    job: Job
    sent: Sent | None = None


# Of the process, not of the thread: code may ask should_stop() from threads of its own.
_at_hand: list[Handover] = []


@contextmanager
def at_hand(job: Job) -> Iterator[Handover]:
    """`receive` and `send` speak of this job inside."""
    handover = Handover(job)
    _at_hand.append(handover)
    try:
        yield handover
    finally:
        _at_hand.remove(handover)


@dataclass(frozen=True)
class Received:
    """What to train: the records of this site, from the weights of the base."""

    records: Records
    config: Config
    model: nn.Module
    """The plan's network, with the weights of the base in it; yours to change."""

    @property
    def state_dict(self) -> dict[str, torch.Tensor]:
        """The weights of the base, float32, by tensor; copies."""
        import torch

        return {name: torch.tensor(values) for name, values in _job().job.base.items()}


def receive() -> Received:
    """The training task at hand. Raises TrainingCodeFailed where no agent runs this code."""
    job = _job().job
    return Received(records=job.records, config=job.config, model=job.module)


def send(
    state_dict: Mapping[str, Any],
    *,
    num_examples: int | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Gives the trained weights back; once a task.

    `state_dict` holds every tensor of the model, as torch tensors or arrays of any floating type.
    `num_examples`: how many records the training stands for, all unless told (the metric
    "num-examples" is understood too). `metrics` are numbers; "loss" is the mean training loss.

    Raises MalformedUpdate naming the tensor and the rule it breaks, TrainingCodeFailed for a
    second call or a metric that is no number.
    """
    handover = _job()
    if handover.sent is not None:
        raise TrainingCodeFailed("the code called send() twice: one task, one answer")
    job = handover.job
    handover.sent = checked(
        state_dict,
        job.base,
        records=len(job.records),
        num_examples=num_examples,
        metrics=metrics,
    )


def should_stop() -> bool:
    """Whether this training has become useless (a new epoch began): end soon, send nothing.

    Cheap: ask at every step. Code that does not is ended by force after some seconds.
    """
    return _job().job.config.should_stop()


def train(function: _Function) -> _Function:
    """Marks `function(model, records, config)` as the training of this file.

    It trains `model` in place and returns None or a mapping of numbers: "loss", "num-examples".
    """
    setattr(function, MARK, True)
    return function


def _job() -> Handover:
    if not _at_hand:
        raise TrainingCodeFailed(
            "no training task is at hand: an agent runs this code ([training] code in its "
            "agent.toml), and `letheon rehearse` tries it out"
        )
    return _at_hand[-1]
