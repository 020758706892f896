"""Draws a dashboard from what its queries answered, laid out as the JSON says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.patches import Patch
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    MultipleLocator,
    NullLocator,
)

from . import look
from .board import Answer, Board, Line

_COLUMN_IN, _ROW_IN, _HEAD_IN = 0.62, 0.36, 0.7
_MARGIN = (0.66, 0.72, 0.14, 0.36)  # left, bottom, right, top of a plot in its panel, inches
_GREY, _CARD = "#5b6470", "#ffffff"
_LETTER_IN, _MARK_IN = 0.044, 0.3  # of a legend
_LEGEND_LINES = 3
_MOST_EXEMPLARS = 60


def draw(board: Board, path: Path) -> None:
    """Writes one PNG."""
    high = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board.page["panels"])
    size = (24 * _COLUMN_IN, high * _ROW_IN + _HEAD_IN)
    figure = plt.figure(figsize=size, facecolor="#eef0f3")
    figure.text(0.01, 1 - 0.42 / size[1], board.page["title"], size=15, weight="bold")
    figure.text(
        0.01, 1 - 0.62 / size[1], board.page["description"], size=8.5, color=_GREY, va="center"
    )
    answers = {answer.panel["id"]: answer for answer in board.answers}
    for panel in board.page["panels"]:
        x, y, w, h = _inches(panel["gridPos"], size[1])
        if panel["type"] == "row":
            bottom = (y + 0.08) / size[1]
            figure.text(0.01, bottom, panel["title"], size=10.5, weight="bold", color="#2f3b4a")
            continue
        card = [(x + 0.04) / size[0], (y + 0.04) / size[1], (w - 0.08) / size[0]]
        figure.add_axes((*card, (h - 0.08) / size[1]), facecolor=_CARD, xticks=[], yticks=[])
        left, bottom, right, top = _MARGIN if panel["type"] not in ("stat", "table") else (
            0.1, 0.08, 0.1, 0.3,
        )  # fmt: skip
        if panel["type"] == "bargauge":
            left = 1.0
        axes = figure.add_axes(
            (
                (x + left) / size[0],
                (y + bottom) / size[1],
                (w - left - right) / size[0],
                (h - bottom - top) / size[1],
            )
        )
        figure.text((x + 0.14) / size[0], (y + h - 0.24) / size[1], panel["title"], size=8.5,
                    weight="bold")  # fmt: skip
        _KINDS[panel["type"]](axes, answers[panel["id"]], board)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _inches(place: dict[str, int], total: float) -> tuple[float, float, float, float]:
    top = total - _HEAD_IN - place["y"] * _ROW_IN
    height = place["h"] * _ROW_IN
    return place["x"] * _COLUMN_IN, top - height, place["w"] * _COLUMN_IN, height


def _timeseries(axes: Axes, answer: Answer, board: Board) -> None:
    custom = answer.panel["fieldConfig"]["defaults"]["custom"]
    lines = [line for line in answer.lines if _numbers(line)]
    if not lines:
        _nothing(axes)
        return
    names = [line.name for line in lines]
    painted = look.colours(answer.panel, names)
    if custom["stacking"]["mode"] == "normal":
        times = sorted({t for line in lines for t, _ in line.series.points})
        rows = [[dict(line.series.points).get(t, 0.0) for t in times] for line in lines]
        axes.stackplot(np.array(times) - board.start, rows, colors=painted, alpha=0.8)
    else:
        for line, colour in zip(lines, painted, strict=True):
            points = [(t - board.start, v) for t, v in line.series.points if not math.isnan(v)]
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.4)
    _mark_exemplars(axes, answer, board)
    if custom["scaleDistribution"]["type"] == "log":
        axes.set_yscale("log")
    _finish(axes, answer, board)
    _name(axes, names, painted)


def _name(axes: Axes, names: Sequence[str], painted: Sequence[str]) -> None:
    """The legend, below the plot and flush with it however wide the panel is."""
    place, figure = axes.get_position(), axes.figure
    width = place.width * figure.get_figwidth() + 0.3
    longest = max(len(name) for name in names)
    columns = max(1, int(width / (longest * _LETTER_IN + _MARK_IN)))
    room = _LEGEND_LINES * columns
    labels = list(look.legend(names, room - (len(names) > room)))
    marks = [Patch(color=colour) for colour in painted[: len(labels)]]
    if len(labels) > len(marks) or len(names) > len(labels):
        marks[len(labels) - 1 :] = [Patch(alpha=0)]
    axes.legend(
        marks,
        labels,
        fontsize=6.5,
        ncol=columns,
        loc="upper left",
        bbox_to_anchor=(place.x0 - 0.035, place.y0 - 0.2 / figure.get_figheight()),
        bbox_transform=figure.transFigure,
        frameon=False,
        handlelength=0.9,
        handleheight=0.5,
        columnspacing=0.9,
        labelspacing=0.3,
    )


def _heatmap(axes: Axes, answer: Answer, board: Board) -> None:
    buckets = sorted(
        (line for line in answer.lines if line.series.labels.get("le") not in (None, "+Inf")),
        key=lambda line: float(line.series.labels["le"]),
    )
    times = sorted({t for line in buckets for t, _ in line.series.points})
    if not buckets or not times:
        _nothing(axes)
        return
    rows = np.array([[dict(b.series.points).get(t, 0.0) for t in times] for b in buckets])
    cells = np.maximum(np.diff(np.nan_to_num(rows), axis=0, prepend=0.0), 0.0)
    edges = np.array([float(b.series.labels["le"]) for b in buckets])
    lowest = edges[edges > 0].min() / 3
    # A bucket of zero has no place on a logarithmic scale: it becomes the lowest one.
    edges = np.concatenate([[lowest / 3], np.maximum(edges, lowest)])
    step = times[1] - times[0] if len(times) > 1 else 1.0
    moments = np.array([*times, times[-1] + step]) - board.start
    shown = np.ma.masked_less_equal(cells, 1e-9)
    axes.pcolormesh(moments, edges, shown, cmap="Oranges", norm=PowerNorm(0.5, vmin=0))
    axes.set_yscale("log")
    used = np.flatnonzero(cells.sum(axis=1) > 0)
    if used.size:
        axes.set_ylim(edges[max(0, used[0] - 1)], edges[min(len(edges) - 1, used[-1] + 3)])
    _mark_exemplars(axes, answer, board)
    _finish(axes, answer, board)


def _mark_exemplars(axes: Axes, answer: Answer, board: Board) -> None:
    """Each stands for a trace."""
    marks = [(t - board.start, v) for t, v, trace in answer.exemplars if trace and v > 0]
    # As Grafana does, the slowest of many: they are what somebody looks for.
    marks = sorted(marks, key=lambda mark: -mark[1])[:_MOST_EXEMPLARS]
    if marks:
        axes.plot(*zip(*marks, strict=True), "D", ms=2.2, color="#1f78c1", alpha=0.55, zorder=5)


def _stat(axes: Axes, answer: Answer, board: Board) -> None:
    axes.axis("off")
    values = [line.series.points[-1][1] for line in answer.lines if _numbers(line)]
    if not values:
        _nothing(axes)
        return
    defaults = answer.panel["fieldConfig"]["defaults"]
    called = defaults["mappings"][0]["options"] if defaults["mappings"] else {}
    text = look.told(values[-1], defaults["unit"])
    text = called.get(text, {}).get("text", text)
    axes.text(0.5, 0.45, text, ha="center", va="center", size=19, weight="bold",
              color=look.colour_of(values[-1], defaults["thresholds"]["steps"]))  # fmt: skip


def _bargauge(axes: Axes, answer: Answer, board: Board) -> None:
    lines = [line for line in answer.lines if _numbers(line)]
    if not lines:
        _nothing(axes)
        return
    defaults = answer.panel["fieldConfig"]["defaults"]
    values = [line.series.points[-1][1] for line in lines]
    steps = defaults["thresholds"]["steps"]
    bars = axes.barh([one.name for one in lines], values,
                     color=[look.colour_of(value, steps) for value in values])  # fmt: skip
    axes.bar_label(
        bars, [look.told(value, defaults["unit"]) for value in values], size=7, padding=3
    )
    axes.set_xlim(0, max(values) * 1.25 + 1e-9)
    axes.tick_params(labelsize=7, length=0)
    axes.xaxis.set_major_locator(NullLocator())
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _table(axes: Axes, answer: Answer, board: Board) -> None:
    axes.axis("off")
    if not answer.lines:
        _nothing(axes)
        return
    names = sorted({name for line in answer.lines for name in line.series.labels})
    rows = [
        [*(line.series.labels.get(name, "") for name in names), f"{line.series.points[-1][1]:g}"]
        for line in answer.lines
    ]
    table = axes.table(rows, colLabels=[*names, "value"], loc="upper center", cellLoc="left")
    table.set_fontsize(7.5)


def _finish(axes: Axes, answer: Answer, board: Board) -> None:
    defaults = answer.panel["fieldConfig"]["defaults"]
    unit = defaults["unit"]
    axes.set_xlim(0, board.end - board.start)
    if axes.get_yscale() == "linear":
        _scale(axes, defaults)
    elif unit == "s":
        axes.yaxis.set_major_locator(FixedLocator(look.ticks_of_seconds(*axes.get_ylim())))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: look.told(value, unit)))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda _value, _: ""))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
    axes.tick_params(labelsize=6.5, colors=_GREY, length=2)
    axes.grid(color="#e3e6ea", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for step in defaults["thresholds"]["steps"][1:]:
        low, high = sorted(axes.get_ylim())
        if low <= step["value"] <= high and defaults["custom"].get("thresholdsStyle"):
            axes.axhline(step["value"], color=look.threshold(step["color"]), lw=0.8, ls="--")


def _scale(axes: Axes, defaults: dict[str, Any]) -> None:
    low, high = axes.get_ylim()
    low = defaults.get("min", low)
    top = max((float(np.nanmax(line.get_ydata())) for line in axes.lines), default=high)
    high = defaults["max"] if "max" in defaults else max(top, high)
    if not high > low or not top > low:
        # Nothing but zeros: an axis that shows the thresholds, or ends at one.
        high = 2 * max((step["value"] for step in defaults["thresholds"]["steps"][1:]), default=0.5)
    # A line at the lowest or highest value is to be seen, too.
    room = 0.03 * (high - low)
    axes.set_ylim(low - room, high + room)
    apart = look.step(high, defaults["unit"])
    if apart is not None:
        axes.yaxis.set_major_locator(MultipleLocator(apart))
    else:
        whole = all(np.all(np.mod(line.get_ydata(), 1) == 0) for line in axes.lines)
        counts = defaults["unit"] == "none" and (whole or high - low >= 4)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=counts))


def _nothing(axes: Axes) -> None:
    axes.axis("off")
    axes.text(0.5, 0.5, "no data", ha="center", va="center", color=_GREY, size=9)


def _numbers(line: Line) -> bool:
    return any(not math.isnan(value) for _, value in line.series.points)


_KINDS: dict[str, Callable[[Axes, Answer, Board], None]] = {
    "timeseries": _timeseries,
    "heatmap": _heatmap,
    "stat": _stat,
    "bargauge": _bargauge,
    "table": _table,
}
