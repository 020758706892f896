"""The demo's command line and its order of events.

Exit code 0 if every promise was kept, 1 if not, 78 for data that cannot be used.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.demo.data import Found, find_images, resplit, trimmed
from letheon.cli.demo.memory import Usage
from letheon.cli.demo.picture import draw
from letheon.cli.demo.report import Run, print_report, summary
from letheon.cli.demo.runs import (
    CERTIFICATE_FILE,
    KEY_FILE,
    LOG_KEY_FILE,
    Lab,
    reference_run,
    withdrawal_run,
)
from letheon.cli.demo.settings import DemoSettings, short
from letheon.cli.exits import ExitCode, advice, exit_code
from letheon.cli.interrupts import INTERRUPTED, terminated_as_interrupt
from letheon.cli.screen import console, say
from letheon.errors import LetheonError

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def demo(
    data: Annotated[
        Path | None, typer.Option(envvar="LETHEON_DATA", help="A .npz, or a folder to look in.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Name of the file in the folder, or synthetic.")
    ] = None,
    method: Annotated[str, typer.Option(envvar="METHOD")] = "removal",
    calibrate: Annotated[bool, typer.Option("--calibrate", envvar="CALIBRATE")] = False,
    with_retrain: Annotated[
        bool, typer.Option("--with-retrain", help="Also train without the site, to compare.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Table, picture, certificate, logs.")] = Path(
        "out/demo"
    ),
    official_split: Annotated[
        bool, typer.Option("--official-split", help="The file's own test images.")
    ] = False,
    short_story: Annotated[bool, typer.Option("--short", help="Smaller, for CI.")] = False,
    kill_coordinator: Annotated[
        bool, typer.Option("--kill-coordinator", help="kill -9 it during training.")
    ] = False,
    secure: Annotated[
        bool,
        typer.Option("--secure", envvar="SECURE", help="TLS everywhere, enrolment by token."),
    ] = False,
) -> None:
    """Five hospitals train, one withdraws, the model forgets it; real processes throughout."""
    settings = DemoSettings(
        method=method,
        calibrate=calibrate,
        with_retrain=with_retrain,
        kill_coordinator=kill_coordinator,
        secure=secure,
        seed=seed,
        out=out,
        official_split=official_split,
    )
    settings = short(settings) if short_story else settings
    raise typer.Exit(_run(settings, data, dataset))


def _run(settings: DemoSettings, data: Path | None, dataset: str | None) -> int:
    """Tells the story; the exit code."""
    try:
        with terminated_as_interrupt():
            began = time.monotonic()
            kept = _tell(settings, _images(settings, data, dataset), began)
    except LetheonError as error:
        stderr = console(stderr=True)
        stderr.print(f"{error.message}. {advice(error)}", markup=False)
        stderr.print(f"Logs are in {settings.out / 'federation' / 'logs'}.", markup=False)
        return int(exit_code(error))
    except KeyboardInterrupt:
        say(f"Stopped; no process is left. Logs are in {settings.out / 'federation' / 'logs'}.")
        return INTERRUPTED
    return int(ExitCode.OK if kept else ExitCode.DOES_NOT_HOLD)


def _images(settings: DemoSettings, data: Path | None, dataset: str | None) -> Found:
    """The images of this run. The rest of the file is not kept in memory."""
    found = find_images(data, dataset, seed=settings.seed, download_to=settings.out / "download")
    whole = found.dataset
    return Found(
        trimmed(
            whole if settings.official_split else resplit(whole, seed=settings.seed),
            training=settings.training_images,
            test=settings.test_images,
            seed=settings.seed,
        ),
        found.origin,
    )


def _tell(settings: DemoSettings, found: Found, began: float) -> bool:
    out, dataset = settings.out, found.dataset
    for stale in ("federation", "retrained"):
        shutil.rmtree(out / stale, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    say(f"{found.origin}")
    split = "official split" if settings.official_split else "split anew"
    say(
        f"{dataset.name}: {len(dataset.training)} training and {len(dataset.test)} test images, "
        f"{dataset.classes} classes, {split}, small CNN, {settings.sites} sites"
    )
    with Usage() as usage:
        lab = Lab(settings, dataset, began)
        outcome = withdrawal_run(lab)
        reference = reference_run(lab, outcome) if settings.with_retrain else None
    run = Run(
        settings=settings,
        origin=found.origin,
        dataset=dataset.name,
        images={"training": len(dataset.training), "test": len(dataset.test)},
        told=outcome.told,
        counts=outcome.counts,
        promises=outcome.promises,
        series=outcome.series,
        reference=reference,
        usage=usage,
        total_s=time.monotonic() - began,
    )
    _publish(run)
    return all(promise.kept for promise in run.promises)


def _publish(run: Run) -> None:
    out, erasure = run.settings.out, run.told.erasure
    (out / "summary.json").write_text(json.dumps(summary(run), indent=2) + "\n")
    promoted = erasure.attempts[-1].version if erasure.HasField("promoted_at") else None
    draw(
        out / "demo.png",
        run.series,
        title=f"{run.dataset}: {erasure.site} withdraws, {erasure.method}",
        removed_at=erasure.removal.version_after if erasure.HasField("removal") else None,
        removed_label="site removed" if erasure.removal.subtracted else "erasure begins",
        promoted_at=promoted,
        reference=run.reference,
    )
    print_report(run)
    files = ["summary.json", "demo.png"]
    certified = run.told.certificate is not None
    files += [CERTIFICATE_FILE, KEY_FILE, LOG_KEY_FILE] if certified else []
    say(f"Written to {out}: {', '.join(files)}; logs in {out / 'federation' / 'logs'}.")
    if certified:
        say(
            f"Check it yourself: letheon certificate verify {out / CERTIFICATE_FILE} "
            f"--key {out / KEY_FILE} --log-key {out / LOG_KEY_FILE}"
        )


def run() -> None:
    """Entry point."""
    app()
