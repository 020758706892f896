"""The picture of a watched federation: a line a site over versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

# Okabe and Ito's colours: told apart by every kind of colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
Line = Sequence[tuple[int, float]]  # version, score


def draw_scores(
    path: Path,
    lines: Mapping[str, Line],
    *,
    title: str,
    score: str,
    marks: Mapping[str, int] | None = None,
    dashed: Sequence[str] = (),
) -> Path:
    """Writes a PNG: scores in [0, 1] over versions; `marks` are named versions.

    Lines named in `dashed` are of an erased site.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9.0, 4.8), layout="constrained")
    for number, (name, line) in enumerate(lines.items()):
        axes.plot(
            [version for version, _ in line],
            [value for _, value in line],
            label=name,
            color=_COLOURS[number % len(_COLOURS)],
            linestyle="--" if name in dashed else "-",
            marker="o",
            markersize=3,
        )
    for number, (name, version) in enumerate((marks or {}).items()):
        axes.axvline(version, color="black", linewidth=1.1, linestyle=("-", ":", "-.")[number % 3])
        axes.annotate(
            f" {name}",
            (version, 0.02 + 0.06 * number),
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1},
        )
    axes.set(xlabel="model version", ylabel=score, ylim=(-0.02, 1.02), title=title)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=min(4, len(lines)), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path
