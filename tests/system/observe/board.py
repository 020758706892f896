"""Asks every query of a dashboard, as Grafana would."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .prometheus import Prometheus, Series

DASHBOARDS = Path(__file__).parents[3] / "deploy" / "grafana" / "dashboards"
WINDOW = "15s"
_LEGEND = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Line:
    """A series and what the legend calls it."""

    name: str
    series: Series


@dataclass(frozen=True)
class Answer:
    """A panel with what its queries found."""

    panel: dict[str, Any]
    lines: tuple[Line, ...]
    exemplars: tuple[tuple[float, float, str], ...]

    @property
    def title(self) -> str:
        """Of the panel."""
        return str(self.panel["title"])

    @property
    def found(self) -> int:
        """Series with at least one number."""
        return sum(
            any(not math.isnan(value) for _, value in line.series.points) for line in self.lines
        )


@dataclass(frozen=True)
class Board:
    """A dashboard with the answers of all its panels, rows included."""

    page: dict[str, Any]
    answers: tuple[Answer, ...]
    start: float
    end: float


def pages() -> Iterator[dict[str, Any]]:
    """Every dashboard, the overview first."""
    found = [json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))]
    yield from sorted(found, key=lambda page: page["uid"] != "letheon-overview")


def ask(prometheus: Prometheus, page: dict[str, Any], start: float, end: float) -> Board:
    """Every panel of a page. Raises RuntimeError for an expression Prometheus refuses."""
    answers = [
        _answer(prometheus, panel, start, end) for panel in page["panels"] if panel["type"] != "row"
    ]
    return Board(page, tuple(answers), start, end)


def _answer(prometheus: Prometheus, panel: dict[str, Any], start: float, end: float) -> Answer:
    lines: list[Line] = []
    exemplars: list[tuple[float, float, str]] = []
    for target in panel["targets"]:
        expression = plain(target["expr"])
        if target["instant"]:
            series = prometheus.now(expression)
        else:
            series = prometheus.range(expression, start, end, max(1.0, (end - start) / 150))
        lines += [Line(_legend(target["legendFormat"], one, panel), one) for one in series]
        if target["exemplar"]:
            exemplars += prometheus.exemplars(expression, start, end)
    return Answer(panel, tuple(lines), tuple(exemplars))


def plain(expression: str) -> str:
    """The expression with every variable filled in: all sites, a short window."""
    return expression.replace("$__rate_interval", WINDOW).replace("$site", ".*")


def _legend(form: str, series: Series, panel: dict[str, Any]) -> str:
    if form != "__auto":
        return _LEGEND.sub(lambda match: series.labels.get(match[1], ""), form)
    labels = ", ".join(
        value for name, value in sorted(series.labels.items()) if not name.startswith("__")
    )
    return labels or str(panel["title"])
