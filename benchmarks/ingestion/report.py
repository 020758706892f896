"""What was found: a table for a terminal, JSON to keep, the table of docs/performance.md."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
_COLUMNS = ("what", "case", "found", "bound", "share")
_DELTA = "delta to durable receipt"
_STAGE = "stage "
_DELTA_COLUMNS = (
    _DELTA,
    "found",
    "share of the reference pipeline",
    "of the bare stream",
    "of the slowest stage alone",
    "receive, validate, persist, merge",
)


def machine() -> dict[str, object]:
    """What the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line for line in lines if line.startswith("model name")), ": unknown")
    return {
        "commit": commit(),
        "processor": model.partition(":")[2].strip(),
        "cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "system": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "grpc": grpc.__version__,
    }


def commit() -> str:
    """The commit measured, with a + if files differ from it; unknown outside of a repository."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write(path: Path, figures: Sequence[dict[str, Any]], **more: object) -> None:
    """The JSON of a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "date": datetime.now(UTC).date().isoformat(),
        **more,
        "figures": list(figures),
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def line(figure: dict[str, Any]) -> str:
    """One figure, as it comes."""
    what, case, found, bound, share = _cells(figure)
    return f"{what} ({case}): {found}; {bound}; share {share}"


def table(figures: Sequence[dict[str, Any]]) -> str:
    """Columns of text."""
    rows = [_COLUMNS, *(_cells(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def write_page(
    name: str,
    document: dict[str, Any],
    page: Path = PAGE,
    *,
    rows: Callable[[dict[str, Any]], list[str]] | None = None,
) -> None:
    """Puts the run between the marks of that name in the page: its figures, or other `rows`."""
    text = page.read_text()
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    if not rest or not after:
        raise SystemExit(f"{page.name} has no marks {begin} and {end}")
    page.write_text(f"{before}{begin}\n{markdown(document, rows or figure_rows)}\n{end}{after}")


def markdown(document: dict[str, Any], rows: Callable[[dict[str, Any]], list[str]]) -> str:
    """A sentence on the run, and a table."""
    about = document["machine"]
    lines = [
        f"Commit {about['commit']}, {document['date']}, {about['processor']}, "
        f"{about['cores']} cores, load {about['load_at_start']} before the start.",
        "",
        *rows(document),
    ]
    return "\n".join(lines)


def figure_rows(document: dict[str, Any]) -> list[str]:
    """The table of figures."""
    return table_rows(_COLUMNS, [_cells(figure) for figure in document["figures"]])


def ingestion_rows(document: dict[str, Any]) -> list[str]:
    """One line for each case of a delta, then the other figures."""
    cases: dict[str, list[dict[str, Any]]] = {}
    others = []
    for figure in document["figures"]:
        if figure["what"] == _DELTA or figure["what"].startswith(_STAGE):
            cases.setdefault(figure["case"], []).append(figure)
        else:
            others.append(figure)
    deltas = [_delta_cells(case, found) for case, found in cases.items()]
    rest = table_rows(_COLUMNS, [_cells(figure) for figure in others])
    return [*table_rows(_DELTA_COLUMNS, deltas), "", *rest] if deltas else rest


def _delta_cells(case: str, figures: Sequence[dict[str, Any]]) -> list[str]:
    pipeline, stream, slowest = (f for f in figures if f["what"] == _DELTA)
    stages = (f for f in figures if f["what"] != _DELTA)
    return [
        case,
        _number(pipeline["value"], "s"),
        _share(pipeline),
        _share(stream),
        _share(slowest),
        ", ".join(f"{_number(stage['value'], 's')}" for stage in stages),
    ]


def table_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def _cells(figure: dict[str, Any]) -> tuple[str, ...]:
    unit = figure["unit"]
    return (
        figure["what"],
        figure["case"],
        _number(figure["value"], unit),
        f"{figure['bound']}: {_number(figure['bound_value'], unit)}",
        _share(figure),
    )


def _share(figure: dict[str, Any]) -> str:
    promised, share = figure["at_least"], f"{figure['share']:.2f}"
    if promised is None:
        return share
    return f"{share} ({'kept' if figure['kept'] else 'NOT KEPT'}: {promised:.3g})"


def _number(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
    return f"{value:.4g} {unit}"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
