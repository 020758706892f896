"""One unit as a piece of work for a worker, and what is told of it on the way.

A unit is one function of its task, whoever runs it: a worker process of this machine or a task
of Ray. Its results are files; what travels back is only news.
"""

from __future__ import annotations

import fcntl
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from letheon.errors import LetheonError
from letheon.simulation.config import StudyConfig
from letheon.simulation.units import Unit, state_folder


@dataclass(frozen=True)
class Task:
    """A unit with everything that decides its results, and where they go."""

    study: StudyConfig
    unit: Unit
    out: Path
    data: Path | None

    @property
    def log(self) -> Path:
        """Where the stack of a failure is written."""
        return self.out / "logs" / f"{self.unit.name}.log"


@dataclass(frozen=True)
class Begun:
    """A unit has begun a branch: what it began before is done."""

    unit: str
    branch: str


@dataclass(frozen=True)
class Finished:
    """Every branch of a unit is done."""

    unit: str


@dataclass(frozen=True)
class Failed:
    """A unit stopped. What it had finished is kept; the next run takes it up again."""

    unit: str
    message: str


Event: TypeAlias = Begun | Finished | Failed


def perform(task: Task, tell: Callable[[Event], None]) -> None:
    """Carries a unit out and tells of it. Whatever goes wrong becomes a `Failed`."""
    name = task.unit.name
    try:
        _carry_out(task, lambda branch: tell(Begun(name, branch)))
    except Exception as error:  # noqa: BLE001 - one unit never ends the others
        task.log.parent.mkdir(parents=True, exist_ok=True)
        task.log.write_text(traceback.format_exc())
        tell(Failed(name, _sentence(error, task.log)))
    else:
        tell(Finished(name))


def _carry_out(task: Task, report: Callable[[str], None]) -> None:
    import torch  # here: whoever hands tasks out needs no network library

    from letheon.simulation.patients import run_of

    # One thread: sums are then the same on every machine with as many workers as it likes.
    torch.set_num_threads(1)
    with _alone(state_folder(task.out, task.unit)):
        run_of(task.study)(task.unit, task.out, task.data).run(report)


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Waits for whoever works on the same unit; the kernel lets go of the dead."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sentence(error: Exception, log: Path) -> str:
    if isinstance(error, LetheonError):
        return error.message
    return f"{type(error).__name__}: {error} (the stack is in {log})"
