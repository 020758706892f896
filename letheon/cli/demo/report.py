"""What the demo prints at its end, and summary.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from letheon.cli.demo.memory import Usage
from letheon.cli.demo.observer import Measurement
from letheon.cli.demo.promises import Counts, Promise
from letheon.cli.demo.settings import DemoSettings
from letheon.cli.demo.story import Told
from letheon.cli.documents import (
    Fields,
    erasure_document,
    federation_document,
    seconds_between,
    verdict_document,
)
from letheon.cli.screen import console, say


@dataclass(frozen=True)
class Run:
    """Everything of one run that is told."""

    settings: DemoSettings
    origin: str
    dataset: str
    images: dict[str, int]
    told: Told
    counts: Counts
    promises: Sequence[Promise]
    series: Sequence[Measurement]
    reference: Measurement | None
    usage: Usage
    total_s: float


def moments_of(run: Run) -> list[tuple[str, Measurement | None]]:
    """The rows of the table, in order of time."""
    moments = run.told.moments
    rows: list[tuple[str, Measurement | None]] = [
        ("before the erasure", moments.before),
        (
            "right after the removal"
            if run.told.erasure.removal.subtracted
            else "when its epoch began",
            moments.removed,
        ),
        ("at the gate", moments.gate),
        (f"at the end, {run.told.retained_after} deltas later", moments.end),
    ]
    return [*rows, ("retrained without the site", run.reference)] if run.reference else rows


def timings(told: Told) -> dict[str, float | None]:
    """Seconds from the request to each stage."""
    erasure = told.erasure
    asked = erasure.requested_at
    gate = erasure.attempts[-1].at if erasure.attempts else erasure.promoted_at
    return {
        "fenced": seconds_between(asked, erasure.fenced_at),
        "erased_head": seconds_between(asked, erasure.removed_at),
        "gate": seconds_between(asked, gate),
        "certificate": seconds_between(asked, erasure.concluded_at),
    }


def summary(run: Run) -> Fields:
    """summary.json"""
    settings = run.settings
    measured = run.counts.throughput
    return {
        "method": settings.method,
        "calibrate": settings.calibrate,
        "seed": settings.seed,
        "data": {"name": run.dataset, "origin": run.origin, "images": run.images},
        "moments": {name: _document(each) for name, each in moments_of(run)},
        "seconds": timings(run.told),
        "throughput": (
            {**asdict(measured), "ratio": measured.ratio} if measured is not None else None
        ),
        "updates": {
            "receipts": run.counts.receipts,
            "lost": len(run.counts.lost),
            "superseded": run.told.status.updates.get("superseded", 0),
            "retained_after_removal": run.told.retained_after,
        },
        "promises": [asdict(promise) for promise in run.promises],
        "erasure": erasure_document(run.told.erasure),
        "ledger": verdict_document(run.told.verdict),
        "federation": federation_document(run.told.status),
        "series": [_document(point) for point in run.series],
        "peak_memory_bytes": run.usage.peak_bytes,
        "cores_busy": {"demo": run.usage.own_busy, "machine": run.usage.mean_busy},
        "total_seconds": run.total_s,
    }


def _document(measured: Measurement | None) -> Fields | None:
    return asdict(measured) if measured is not None else None


def print_report(run: Run) -> None:
    """The table and what surrounds it."""
    settings = run.settings
    table = Table(
        title=f"{run.dataset}, {settings.method}"
        + (" + calibration" if settings.calibrate else ""),
        header_style="bold",
        title_justify="left",
    )
    for column in ("model", "version", "accuracy", "macro AUC", "backdoor", "forget AUC (95 %)"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, measured in moments_of(run):
        table.add_row(name, *_cells(measured))
    console().print(table)
    for line in _lines(run):
        say(line)


def _cells(measured: Measurement | None) -> list[str]:
    if measured is None:
        return ["-"] * 5
    forget = measured.forget
    auc = "-" if measured.macro_auc is None else f"{measured.macro_auc:.3f}"
    interval = (
        "-" if forget is None
        else f"{forget.auc:.3f} ({forget.auc_low:.3f}-{forget.auc_high:.3f})"
    )  # fmt: skip
    return [
        str(measured.version),
        f"{100 * measured.accuracy:.1f} %",
        auc,
        f"{100 * measured.backdoor_success:.1f} %",
        interval,
    ]


def _lines(run: Run) -> list[str]:
    told = run.told
    took = ", ".join(
        f"{name.replace('_', ' ')} {seconds:.2f} s"
        for name, seconds in timings(told).items()
        if seconds is not None
    )
    superseded = told.status.updates.get("superseded", 0)
    lines = [
        "Forget AUC: 0.5 means the withdrawn site's records look like records never trained on.",
        f"From the request: {took}.",
        f"Superseded tasks: {superseded} (at most the one in flight at each site when it began).",
        f"{run.total_s:.0f} s in all, peak memory {run.usage.peak_bytes / 1e9:.2f} GB, cores "
        f"{100 * run.usage.own_busy:.0f} % busy with the demo, {100 * run.usage.mean_busy:.0f} % "
        "with everything on this machine.",
    ]
    lines += [
        f"{'kept  ' if promise.kept else 'BROKEN'}  {promise.name}: {promise.detail}"
        for promise in run.promises
    ]
    return lines
