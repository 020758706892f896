"""What Grafana would make of names, numbers and colours, for pictures drawn without it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

# Its classic palette in the order in which series take it, and the names that our pages use.
_HEX = {
    "green": "#73bf69", "light-green": "#96d98d", "dark-green": "#37872d",
    "yellow": "#e8c613", "light-yellow": "#f4de5a", "semi-dark-yellow": "#e0b400",
    "dark-yellow": "#b58b00",
    "orange": "#ff9830", "light-orange": "#ffb357", "semi-dark-orange": "#ff780a",
    "dark-orange": "#fa6400",
    "red": "#e24d58", "light-red": "#ff7383", "semi-dark-red": "#e02f44", "dark-red": "#c4162a",
    "blue": "#5794f2", "light-blue": "#8ab8ff", "dark-blue": "#1f60c4",
    "purple": "#b877d9", "light-purple": "#ca95e5", "dark-purple": "#8f3bb8",
}  # fmt: skip
_PALETTE = (
    "green", "semi-dark-yellow", "light-blue", "semi-dark-orange", "red", "blue", "purple",
    "#705da0", "dark-green", "yellow", "#447ebc", "#c15c17", "#890f02", "#0a437c", "#6d1f62",
    "#584477", "#b7dbab", "#f4d598", "#70dbed", "#f9ba8f", "#f29191", "#82b5d8",
)  # fmt: skip
# Numbers of states are read as text: darker than lines.
_TEXT = {"green": "#2a8f4f", "yellow": "#c98a00", "red": "#c0392b"}
_DECADES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 60, 600, 3600, 6 * 3600, 86400, 7 * 86400)


_CLOCK = (15, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 86400, 2 * 86400, 7 * 86400)


def colours(panel: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Of each series: what an override says, else the palette's in order."""
    fixed = {
        each["matcher"]["options"]: each["properties"][0]["value"]["fixedColor"]
        for each in panel["fieldConfig"]["overrides"]
    }
    wanted = [fixed.get(name, _PALETTE[n % len(_PALETTE)]) for n, name in enumerate(names)]
    return [_HEX.get(colour, colour) for colour in wanted]


def colour_of(value: float, steps: Sequence[dict[str, Any]]) -> str:
    """Of a number among thresholds."""
    found = steps[0]["color"]
    for step in steps[1:]:
        if value >= step["value"]:
            found = step["color"]
    return threshold(found)


def threshold(name: str) -> str:
    """Of a line that stands for a threshold."""
    return _TEXT[name]


def ticks_of_seconds(low: float, high: float) -> list[float]:
    """Places on a logarithmic axis of time that people have names for."""
    return [place for place in _DECADES if low <= place <= high]


def told(value: float, unit: str) -> str:
    """The number with its unit."""
    if math.isnan(value):
        return "-"
    match unit:
        case "s":
            return _seconds(value)
        case "bytes" | "Bps":
            return _bytes(value) + ("/s" if unit == "Bps" else "")
        case "percentunit":
            return f"{100 * value:.3g} %"
        case "ops" | "reqps":
            return f"{value:.3g}/s"
        case _:
            return f"{value:.4g}"


def step(high: float, unit: str) -> float | None:
    """The distance of ticks on an axis that ends at `high`, some four of them, or None for any."""
    if unit in ("bytes", "Bps"):
        return float(2 ** max(0, math.ceil(math.log2(max(high, 1.0) / 4))))
    if unit == "s" and high > 60:
        return next(each for each in _CLOCK if each * 4 >= high or each == _CLOCK[-1])
    return None


def legend(names: Sequence[str], most: int) -> Iterator[str]:
    """The first names, and how many there are beyond."""
    yield from names[:most]
    if len(names) > most:
        yield f"and {len(names) - most} more"


def _seconds(value: float) -> str:
    for limit, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {name}"
    return "0 s" if value == 0 else f"{value * 1e6:.3g} µs"


def _bytes(value: float) -> str:
    for power, name in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if abs(value) >= 1 << power:
            return f"{value / (1 << power):.3g} {name}"
    return f"{value:.3g} B"
