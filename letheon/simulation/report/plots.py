"""The pictures of the page: the same bytes from the same numbers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from letheon.simulation.report.ablations import bases_of, principal_of
from letheon.simulation.report.quantities import EARLY, RESURFACING
from letheon.simulation.report.summary import Group
from letheon.simulation.report.unit_file import RETRAININGS, Looks, UnitFile, labels_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito: told apart by every kind of colour vision. No yellow: too faint on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", ":", "-.")
_MARKS = ("o", "s", "^", "D", "v", "P")
_GREY = "#999999"
_GRID = np.arange(0, EARLY + RESURFACING + 1, 5)
_PANELS = {
    "backdoored": ("accuracy", "disclosed", "undisclosed"),
    "honest": ("accuracy", "forget_accuracy"),
}
_TITLES = {
    "accuracy": "accuracy, %",
    "disclosed": "backdoor success,\ndisclosed trigger, %",
    "undisclosed": "backdoor success,\nundisclosed trigger, %",
    "forget_accuracy": "accuracy on the\nforget set, %",
}

Curves = npt.NDArray[np.float64]  # [seeds, moments of the grid], points


def draw_curves(units: Sequence[UnitFile], images: str, kind: str) -> bytes:
    """Every method over accepted deltas; retraining as a grey band. A PNG.

    A variant has the colour of the method that it varies and another line.
    """
    panels = _PANELS[kind]
    figure, axes = _figure(len(panels), width=9.0, height=2.3 * len(panels) + 1.3)
    styles = _styles(labels_of(units), bases_of(units))
    for axis, column in zip(axes, panels, strict=True):
        _retraining(axis, units, column)
        for label, (colour, line, _) in styles.items():
            curves = _curves(units, [label], column)
            if len(curves):
                _band(axis, curves, colour)
                axis.plot(_GRID, curves.mean(axis=0), color=colour, linestyle=line, label=label)
        axis.set_ylabel(_TITLES[column])
        axis.grid(alpha=0.25)
    axes[-1].set_xlabel("accepted deltas of the retained sites since the request")
    seeds = len({unit.seed for unit in units})
    axes[0].set_title(f"{images}, {kind} target: mean and standard deviation over {seeds} seeds")
    _legend(figure, axes)
    return _png(figure)


def draw_residue(groups: Sequence[Group], images: str) -> bytes:
    """Utility against what is left of the target, gaps to retraining at +60. A PNG."""
    axes_of = {
        "backdoored": ("undisclosed_max", "backdoor success, undisclosed,\nhighest gap, points"),
        "honest": ("reference_auc_60", "membership AUC,\nreference model, gap"),
    }
    figure, axes = _figure(len(groups), width=9.0, height=3.2 * len(groups) + 1.2, share=False)
    methods = [method for group in groups for method in group.methods]
    bases = {method.label: method.variant_of for method in methods if method.variant_of}
    styles = _styles(sorted({method.label for method in methods}), bases)
    for axis, group in zip(axes, groups, strict=True):
        key, title = axes_of[group.kind]
        _floor_box(axis, group, key)
        for method in group.methods:
            across, up = method.figures["accuracy_60"].gap, method.figures[key].gap
            if across is not None and up is not None:
                colour, _, mark = styles[method.label]
                axis.errorbar(
                    across.mean, up.mean, xerr=across.sd, yerr=up.sd, color=colour, marker=mark,
                    linestyle="none", elinewidth=0.8, label=method.label,
                )  # fmt: skip
        axis.set(xlabel="accuracy at +60, gap to retraining, points", ylabel=title)
        axis.set_title(f"{images}, {group.kind} target: best is 0, 0")
        axis.grid(alpha=0.25)
    _legend(figure, axes)
    return _png(figure)


def draw_latency(group: Group, images: str) -> bytes:
    """Virtual seconds to the bar and to the gate, beside retraining's. A PNG."""
    methods = [method for method in reversed(group.methods) if method.time.method]
    figure, (axis,) = _figure(1, width=9.0, height=0.42 * len(methods) + 1.8)
    places = np.arange(len(methods), dtype=np.float64)
    for place, method in zip(places, methods, strict=True):
        time = method.time
        own = float(np.mean([moment.seconds for moment in time.method]))
        axis.barh(place, own, height=0.6, color=_COLOURS[0], label="to the bar")
        if time.censored:
            text = f" never in {time.censored} of {len(time.method)}"
            axis.text(own, place, text, va="center", fontsize=8)
        gate = method.moments["gate"]
        if gate is not None:
            axis.plot(gate.mean, place, color=_COLOURS[1], marker="D", linestyle="none",
                      label="gate passed (mean of those that did)")  # fmt: skip
    whole = [moment.seconds for method in methods for moment in method.time.retraining]
    if whole:
        axis.axvline(float(np.mean(whole)), color="#555555", linestyle="--",
                     label="retraining to the same bar")  # fmt: skip
    axis.set_yticks(places, [method.label for method in methods])
    axis.set_xlabel("virtual seconds since the request (retraining: since its start)")
    axis.set_title(f"{images}, backdoored target: n = {len(group.seeds)}")
    axis.set_xlim(0, max(axis.get_xlim()[1] * 1.15, 1.0))
    axis.grid(alpha=0.25, axis="x")
    _legend(figure, [axis])
    return _png(figure)


def _curves(units: Sequence[UnitFile], labels: Sequence[str], column: str) -> Curves:
    found = [_on_grid(unit.looks(label), column) for unit in units for label in labels]
    present = [curve for curve in found if curve is not None]
    return np.array(present) if present else np.empty((0, len(_GRID)))


def _on_grid(looks: Looks, column: str) -> Curves | None:
    """Interpolated between looks; not a number outside of them."""
    values = getattr(looks, column)
    if not values or None in values:
        return None
    shares = np.asarray(values, dtype=np.float64)
    # The first look comes a moment after the request, so it stands for the start as well.
    return 100 * np.interp(_GRID, looks.accepted, shares, right=np.nan)


def _retraining(axis: Axes, units: Sequence[UnitFile], column: str) -> None:
    curves = _curves(units, RETRAININGS, column)
    if len(curves):
        low, high = curves.min(axis=0), curves.max(axis=0)
        axis.fill_between(_GRID, low, high, color=_GREY, alpha=0.45, linewidth=0,
                          label="retrained, same budget (range)")  # fmt: skip


def _band(axis: Axes, curves: Curves, colour: str) -> None:
    if len(curves) > 1:
        mean, sd = curves.mean(axis=0), curves.std(axis=0, ddof=1)
        low, high = np.clip(mean - sd, 0, 100), np.clip(mean + sd, 0, 100)
        axis.fill_between(_GRID, low, high, color=colour, alpha=0.12, linewidth=0)


def _floor_box(axis: Axes, group: Group, key: str) -> None:
    """Within two standard deviations of the floor: what chance does."""
    across, up = group.floor["accuracy_60"], group.floor[key]
    axis.axhline(0, color="#555555", linewidth=0.8)
    axis.axvline(0, color="#555555", linewidth=0.8)
    if across is not None and up is not None and across.sd is not None and up.sd is not None:
        axis.fill_between(
            [-2 * across.sd, 2 * across.sd], -2 * up.sd, 2 * up.sd, color=_GREY, alpha=0.3,
            linewidth=0, label="two standard deviations of retraining again",
        )  # fmt: skip


def _styles(labels: Sequence[str], bases: Mapping[str, str]) -> dict[str, tuple[str, str, str]]:
    """Colour, line and mark by label: the colour of the principal, the line by the variant."""
    styles = {}
    for place, base in enumerate(label for label in labels if label not in bases):
        colour, turn = _COLOURS[place % len(_COLOURS)], place // len(_COLOURS)
        family = [base, *(o for o in labels if o != base and principal_of(o, bases) == base)]
        for variant, label in enumerate(family, start=turn):
            styles[label] = (colour, _LINES[variant % len(_LINES)], _MARKS[variant % len(_MARKS)])
    return styles


def _figure(
    rows: int, *, width: float, height: float, share: bool = True
) -> tuple[Figure, list[Axes]]:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"font.family": "DejaVu Sans", "font.size": 9}):
        figure, axes = plt.subplots(
            rows, 1, figsize=(width, height), sharex=share, layout="constrained", squeeze=False
        )
    return figure, [axis for row in axes for axis in row]


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One for the whole picture."""
    shown: dict[str, Artist] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    handles, labels = list(shown.values()), list(shown)
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)


def _png(figure: Figure) -> bytes:
    from matplotlib import pyplot as plt

    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return file.getvalue()
