"""The contact sheet of `letheon data inspect`: a few records of each class, or histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from letheon.errors import BadConfig
from letheon.imaging.records import LabelKind, Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 8
_LINES = 6
_MOST_LINES = 14  # classes beyond are not drawn
_FEATURES = 24
_MASK_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#f0e442", "#d55e00")
_MASK_OPACITY = 0.55

Values = npt.NDArray[Any]


def draw(path: Path, records: Records, *, title: str, features: Sequence[str] = ()) -> None:
    """Writes a PNG. No record or patient identifier is drawn. Raises BadConfig, OSError."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise BadConfig('--sheet needs matplotlib: pip install "letheon[local]"') from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    tabular = len(records.images.shape) == 2
    figure = _features(records, features) if tabular else _images(records)
    shape = "x".join(map(str, records.images.shape[1:]))
    kind = "features" if tabular else "pixels"
    figure.suptitle(f"{title}: {len(records)} records of {shape} {kind}", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _images(records: Records) -> Any:  # noqa: ANN401 - a figure; matplotlib is imported late
    from matplotlib import pyplot as plt

    lines = _chosen(records)
    height, width = _plane(records.images[lines[0][0]]).shape[1:]
    tall = 1.35 * height / width + 0.25
    figure, grid = plt.subplots(
        len(lines),
        _COLUMNS,
        figsize=(11.0, len(lines) * tall + 0.6),
        squeeze=False,
        layout="constrained",
    )
    for axes in grid.flat:
        axes.axis("off")
    for line, rows in zip(grid, lines, strict=True):
        for place, (axes, row) in enumerate(zip(line, rows, strict=False)):
            _show(axes, records, row, first=place == 0)
    if records.label_kind is LabelKind.MASK:
        _legend(figure, records.class_names)
    return figure


def _chosen(records: Records) -> list[list[int]]:
    """Rows by line, spread over the data; each class begins a line."""
    if records.label_kind is not LabelKind.CLASS:
        return _in_lines(_spread(np.arange(len(records)), _LINES * _COLUMNS))
    classes = np.unique(records.labels)[:_MOST_LINES]
    each = max(1, _LINES // len(classes)) * _COLUMNS
    return [
        line
        for one in classes
        for line in _in_lines(_spread(np.flatnonzero(records.labels == one), each))
    ]


def _in_lines(rows: list[int]) -> list[list[int]]:
    return [rows[start : start + _COLUMNS] for start in range(0, len(rows), _COLUMNS)]


def _spread(rows: npt.NDArray[np.int64], count: int) -> list[int]:
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [int(rows[place]) for place in places]


def _show(axes: Axes, records: Records, row: int, *, first: bool) -> None:
    image = records.images[row]
    mask = records.labels[row] if records.label_kind is LabelKind.MASK else None
    at = _slice(image, mask)
    plane = _plane(image, at)
    if plane.shape[0] == 3:
        axes.imshow(np.moveaxis(plane, 0, -1).clip(0, 1), interpolation="nearest")
    else:
        axes.imshow(plane[0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    if mask is not None:
        _overlay(axes, mask if at is None else mask[at], len(records.class_names))
    caption = _caption(records, row, at, first=first)
    # A class is named once a line, and may run on over its neighbours.
    title = axes.set_title(caption, fontsize=7, pad=2, loc="left")
    title.set_in_layout(False)


def _plane(image: Values, at: int | None = None) -> Values:
    """[channels, height, width]: of a volume, one slice of it."""
    return image if image.ndim == 3 else image[:, image.shape[1] // 2 if at is None else at]


def _slice(image: Values, mask: Values | None) -> int | None:
    """Of a volume the slice that shows the most of the mask, else the middle one."""
    if image.ndim == 3:
        return None
    if mask is None or not mask.any():
        return int(image.shape[1] // 2)
    return int((mask > 0).sum(axis=(1, 2)).argmax())


def _overlay(axes: Axes, mask: Values, classes: int) -> None:
    from matplotlib.colors import to_rgba

    colours = np.zeros((*mask.shape, 4))
    for value in range(1, classes):
        colours[mask == value] = to_rgba(_colour(value), _MASK_OPACITY)
    axes.imshow(colours, interpolation="nearest")


def _colour(value: int) -> str:
    return _MASK_COLOURS[(value - 1) % len(_MASK_COLOURS)]


def _legend(figure: Any, names: tuple[str, ...]) -> None:  # noqa: ANN401 - see _images
    from matplotlib.patches import Patch

    patches = [Patch(color=_colour(value), label=name) for value, name in enumerate(names) if value]
    figure.legend(handles=patches, loc="outside lower center", ncols=6, frameon=False, fontsize=8)


def _caption(records: Records, row: int, at: int | None, *, first: bool) -> str:
    match records.label_kind:
        case LabelKind.MASK:
            return "" if at is None else f"slice {at + 1}"
        case LabelKind.MULTI:
            names = [
                n for n, v in zip(records.class_names, records.labels[row], strict=True) if v == 1
            ]
            return ", ".join(names)[:24] or "none"
    label = int(records.labels[row])
    return records.class_names[label] if first and label >= 0 else ""


def _features(records: Records, names: Sequence[str]) -> Any:  # noqa: ANN401 - see _images
    from matplotlib import pyplot as plt

    values = np.asarray(records.images)
    count = min(values.shape[1], _FEATURES)
    lines = math.ceil(count / 4)
    figure, grid = plt.subplots(
        lines, 4, figsize=(11.0, 2.0 * lines + 0.8), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[count:]:
        axes.axis("off")
    for feature, axes in enumerate(grid.flat[:count]):
        column = values[:, feature]
        bins = np.histogram_bin_edges(column, bins=20)
        groups = [column[records.labels == label] for label in range(len(records.class_names))]
        axes.hist(
            groups,
            bins=[float(edge) for edge in bins],
            stacked=True,
            label=list(records.class_names),
            color=[_colour(label + 1) for label in range(len(groups))],
        )
        name = names[feature] if feature < len(names) else f"feature {feature + 1}"
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7)
    handles, classes = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, classes, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    return figure
