"""The demo's picture: accuracy and backdoor success over versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from letheon.cli.demo.observer import Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACCURACY = "#0b5fa5"  # blue and orange: told apart by every kind of colour vision
_BACKDOOR = "#d55e00"


def draw(
    path: Path,
    series: Sequence[Measurement],
    *,
    title: str,
    removed_at: int | None,
    removed_label: str,
    promoted_at: int | None,
    reference: Measurement | None,
) -> None:
    """Writes a PNG. `removed_at` and `promoted_at` are versions; absent ones are not marked."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9.0, 4.8), layout="constrained")
    versions = [point.version for point in series]
    axes.plot(versions, [p.accuracy for p in series], color=_ACCURACY, label="accuracy")
    axes.plot(
        versions,
        [p.backdoor_success for p in series],
        color=_BACKDOOR,
        linestyle="--",
        label="backdoor success",
    )
    if reference is not None:
        _draw_reference(axes, reference)
    if removed_at is not None:
        axes.axvline(removed_at, color="black", linewidth=1.2, label=removed_label)
    if promoted_at is not None:
        axes.axvline(
            promoted_at, color="green", linewidth=1.2, linestyle=":", label="gate passed, promoted"
        )
    axes.set(xlabel="model version", ylabel="share of test images", ylim=(-0.02, 1.02), title=title)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_reference(axes: Axes, reference: Measurement) -> None:
    axes.axhline(
        reference.accuracy, color=_ACCURACY, linewidth=0.8, alpha=0.7,
        label="accuracy, retrained without the site",
    )  # fmt: skip
    axes.axhline(
        reference.backdoor_success, color=_BACKDOOR, linewidth=0.8, alpha=0.7,
        label="backdoor success, retrained",
    )  # fmt: skip
