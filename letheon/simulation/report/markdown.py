"""Numbers and tables as text, always rounded in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from letheon.simulation.report.summary import Compared, Spread

NOTHING = "-"


def number(value: float | None, decimals: int = 1, *, signed: bool = False) -> str:
    """Never a negative zero."""
    if value is None:
        return NOTHING
    text = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text


def spread(found: Spread | None, decimals: int = 1, *, signed: bool = False) -> str:
    """`mean ± sd`; one seed has no sd."""
    if found is None:
        return NOTHING
    mean = number(found.mean, decimals, signed=signed)
    return mean if found.sd is None else f"{mean} ± {number(found.sd, decimals)}"


def compared(found: Compared, decimals: int) -> str:
    """`mean (gap ± sd)`."""
    if found.value is None:
        return NOTHING
    gap = spread(found.gap, decimals, signed=True)
    return f"{number(found.value.mean, decimals)} ({gap})"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def bullets(sentences: Sequence[str]) -> str:
    """A list in Markdown."""
    return "".join(f"- {sentence}\n" for sentence in sentences)
