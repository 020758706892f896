"""`letheon simulate`: a study of unlearning methods on this machine, taken up where it stopped."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from letheon.cli.exits import ExitCode
from letheon.cli.interrupts import INTERRUPTED, terminated_as_interrupt
from letheon.cli.screen import (
    Document,
    Format,
    FormatOption,
    console,
    print_document,
    print_rows,
)
from letheon.cli.study_progress import StudyProgress, study_document
from letheon.errors import BadConfig, MalformedRequest
from letheon.simulation.check import check_study
from letheon.simulation.config import StudyConfig, load_study
from letheon.simulation.folder import claim_folder, keep_finished
from letheon.simulation.images import ImagesConfig
from letheon.simulation.on_ray import run_units_on_ray
from letheon.simulation.pool import run_units
from letheon.simulation.report.patients import read_patients, section
from letheon.simulation.task import Event, Task
from letheon.simulation.units import Unit, branches_of, done_of, units_of

STUDIES = Path("out/studies")


@dataclass(frozen=True)
class _Order:
    """A study with where it goes and how it is run."""

    study: StudyConfig
    out: Path
    data: Path | None
    workers: int
    ray: str | None
    keep: Path | None
    output: Format

    @property
    def units(self) -> list[Unit]:
        """All units of the study."""
        return units_of(self.study)

    def waiting(self) -> list[Unit]:
        """Units with a branch still to run."""
        study, out = self.study, self.out
        return [u for u in self.units if done_of(study, u, out) != branches_of(study, u)]


def simulate(
    config: Annotated[Path, typer.Option(help="The study, TOML; docs/simulation.md has the keys.")],
    out: Annotated[
        Path | None, typer.Option(help="Results; out/studies/NAME of the study without it.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the images, or one .npz to use instead of all of them."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Units at once; one for each core without it.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0,1,...", help="Instead of the study's seeds.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="LABEL,...", help="Only these of the study's methods.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on this Ray cluster instead.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Copy the results of finished units to this folder.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check the study and say what is done.")
    ] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Run a study of unlearning methods under a virtual clock; go on where it stopped.

    Each unit (images, kind of target, seed) is one file in the folder, written after each of its
    branches. Run the same command again after it was stopped, or with more seeds or methods.
    """
    study = narrowed(load_study(config), data=data, seeds=seeds, only=only)
    order = _Order(
        study=study,
        out=(out or STUDIES / study.name).absolute(),
        data=data if data is None else data.absolute(),
        workers=workers or len(os.sched_getaffinity(0)),
        ray=ray,
        keep=keep,
        output=output,
    )
    check_study(study, order.units if dry_run else order.waiting(), order.out, order.data)
    if dry_run:
        _print_state(order)
        return
    claim_folder(study, order.out)
    raise typer.Exit(_carry_out(order))


def narrowed(
    study: StudyConfig, *, data: Path | None, seeds: str | None, only: str | None
) -> StudyConfig:
    """The study with what the command line says instead.

    Raises MalformedRequest for seeds that are no numbers, BadConfig for an unknown label.
    """
    changes: dict[str, Any] = {}
    if seeds is not None:
        if not re.fullmatch(r"\d+(,\d+)*", seeds):
            raise MalformedRequest(f"--seeds takes whole numbers, as in 0,1,2; not {seeds!r}")
        changes["seeds"] = tuple(dict.fromkeys(int(word) for word in seeds.split(",")))
    if only is not None:
        changes["methods"] = _chosen(study, only.split(","))
    if data is not None and data.is_file():
        # Of the study's images only their number applies to others.
        most = max(images.most for images in study.images)
        name = re.sub(r"[^a-z0-9_]+", "_", data.stem.lower())
        changes["images"] = (ImagesConfig(name=name, file=str(data.absolute()), most=most),)
    elif data is not None and not data.is_dir():
        raise BadConfig(f"--data: there is no file or folder {data}")
    return study.model_copy(update=changes)


def _chosen(study: StudyConfig, labels: Sequence[str]) -> tuple[Any, ...]:
    known = [method.label for method in study.methods]
    for label in labels:
        if label not in known:
            raise BadConfig(
                f"--only: the study has no method {label!r}; it has: {', '.join(known) or 'none'}"
            )
    return tuple(method for method in study.methods if method.label in labels)


def _carry_out(order: _Order) -> int:
    """Runs what is missing and prints what there is; the exit code."""
    quiet = order.output is Format.JSON
    progress = StudyProgress(order.study, order.units, order.out, quiet=quiet)
    try:
        # closing: an interrupt may come while the events are looked at, not only while waiting.
        with terminated_as_interrupt(), progress, closing(_events(order)) as events:
            for event in events:
                progress.heard(event)
    except KeyboardInterrupt:
        console(stderr=True).print(
            "Stopped; no worker is left. The same command goes on where it stopped.", markup=False
        )
        return INTERRUPTED
    _print_end(order, progress.failed)
    return int(ExitCode.DOES_NOT_HOLD if progress.failed else ExitCode.OK)


def _events(order: _Order) -> Generator[Event, None, None]:
    tasks = [Task(order.study, unit, order.out, order.data) for unit in order.waiting()]
    if order.ray is not None:
        yield from run_units_on_ray(tasks, order.ray)
    else:
        yield from run_units(tasks, order.workers)


def _print_end(order: _Order, failed: dict[str, str]) -> None:
    if order.keep is not None:
        keep_finished(order.study, order.units, order.out, order.keep)
    report = None if order.study.patients else _Report.of(order.out)
    if order.study.patients and order.output is not Format.JSON:
        console().print(section(order.study.name, read_patients(order.out)), markup=False)
    if order.output is Format.JSON:
        told = None if report is None else report.summary.to_json()
        print_document(_document(order, failed, told))
        return
    if report is not None:
        report.show()
    screen = console(stderr=bool(failed))
    for unit, message in failed.items():
        screen.print(f"{unit} failed: {message}", markup=False)
    if failed:
        screen.print("The same command tries them again.", markup=False)
    console().print(f"Results are in {order.out}.", markup=False)


@dataclass(frozen=True)
class _Report:
    """The tables of a folder."""

    summary: Any
    terminal: Any

    @classmethod
    def of(cls, folder: Path) -> _Report | None:
        """None where the report, whose libraries are an extra, cannot be loaded."""
        try:
            summary, terminal = (
                importlib.import_module(f"letheon.simulation.report.{name}")
                for name in ("summary", "terminal")
            )
        except ImportError:
            return None
        return cls(summary.summarise(folder), terminal)

    def show(self) -> None:
        """Prints them."""
        self.terminal.print_summary(self.summary, console())


def _document(order: _Order, failed: dict[str, str], summary: Document | None) -> Document:
    return study_document(order.study, order.units, order.out, failed=failed, summary=summary)


def _print_state(order: _Order) -> None:
    if order.output is Format.JSON:
        print_document(_document(order, {}, None))
        return
    rows = []
    for unit in order.units:
        branches, done = branches_of(order.study, unit), done_of(order.study, unit, order.out)
        missing = ", ".join(label for label in branches if label not in done)
        rows.append((unit.name, f"{len(done)} of {len(branches)}", missing))
    print_rows(f"{order.study.name} in {order.out}", ("unit", "done", "to do"), rows)
