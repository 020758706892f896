"""How far a study is: a bar on a terminal, plain lines in a pipe, and the document at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from letheon.cli.screen import Document, age_text, console
from letheon.simulation.config import StudyConfig
from letheon.simulation.task import Begun, Event, Failed, Finished
from letheon.simulation.units import Unit, branches_of, done_of


class StudyProgress:
    """Counts branches as their units tell of them. `failed` holds a sentence by unit.

    The bar is on standard error; with `quiet` so are the lines of a pipe, because standard
    output then belongs to a document.
    """

    def __init__(
        self,
        study: StudyConfig,
        units: Sequence[Unit],
        out: Path,
        *,
        quiet: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._totals = {unit.name: len(branches_of(study, unit)) for unit in units}
        self._done = {unit.name: len(done_of(study, unit, out)) for unit in units}
        self._branch: dict[str, str] = {}
        self._clock = clock
        self._began: float | None = None  # when the first branch began: starting takes a while
        self._done_before = self.done
        self.failed: dict[str, str] = {}
        stderr = console(stderr=True)
        self._lines = None if stderr.is_terminal else console(stderr=quiet)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=stderr, disable=not stderr.is_terminal)
        self._task = self._bar.add_task("", total=self.total, completed=self.done)

    @property
    def done(self) -> int:
        """Branches done, of all units."""
        return sum(self._done.values())

    @property
    def total(self) -> int:
        """Branches of all units."""
        return sum(self._totals.values())

    def heard(self, event: Event) -> None:
        """Takes an event in and shows it."""
        name = event.unit
        self._began = self._clock() if self._began is None else self._began
        match event:
            case Begun(branch=branch):
                self._done[name] += self._branch.pop(name, None) is not None
                self._branch[name] = branch
                self._show(f"{name}: {branch}")
            case Finished():
                self._branch.pop(name, None)
                self._done[name] = self._totals[name]
                self._show(f"{name}: done")
            case Failed(message=message):
                self._branch.pop(name, None)
                self.failed[name] = message
                self._say(f"{name} failed: {message}")

    def left_s(self) -> float | None:
        """Seconds until all is done at the pace so far; None before the first branch is done."""
        since = self.done - self._done_before
        if since <= 0 or self._began is None:
            return None
        return (self._clock() - self._began) / since * (self.total - self.done)

    def _show(self, line: str) -> None:
        left = self.left_s()
        estimate = "" if not left else f", about {age_text(left)} left"
        self._bar.update(self._task, completed=self.done, description=f"{line}{estimate}")
        if self._lines is not None:
            self._say(f"{line} ({self.done} of {self.total} branches done{estimate})")

    def _say(self, line: str) -> None:
        (self._lines or self._bar.console).print(line, markup=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()


def study_document(
    study: StudyConfig,
    units: Sequence[Unit],
    out: Path,
    *,
    failed: dict[str, str],
    summary: Document | None = None,
) -> Document:
    """What the folder holds of the study."""
    rows: list[Document] = []
    for unit in units:
        branches, done = branches_of(study, unit), done_of(study, unit, out)
        rows.append(
            {
                "unit": unit.name,
                "images": unit.images.name,
                "kind": unit.kind,
                "seed": unit.seed,
                "branches": len(branches),
                "done": len(done),
                "missing": [label for label in branches if label not in done],
                "failure": failed.get(unit.name),
            }
        )
    return {"study": study.name, "out": str(out), "units": rows, "summary": summary}
