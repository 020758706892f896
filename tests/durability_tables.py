"""The tables of docs/durability.md as the tests read them."""

from __future__ import annotations

import re
from pathlib import Path

from calibrator.domain.progress import Stage

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "durability.md").read_text(encoding="utf-8")
POINT = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)`")


def table(heading: str) -> dict[str, dict[str, str]]:
    """The rows below a heading, by point; a row by column."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    columns = _cells(lines[0])
    rows = [dict(zip(columns, _cells(line), strict=True)) for line in lines[2:]]
    return {row["point"].strip("`"): row for row in rows}


def documented_points() -> set[str]:
    """Every point that has a row."""
    rows = (line for line in TEXT.splitlines() if line.startswith("| `"))
    return {match[1] for row in rows if (match := POINT.match(row.removeprefix("| ")))}


def points_in_the_code() -> set[str]:
    """Every point that the product reaches."""
    found: set[str] = set()
    for package in ("coordinator", "calibrator", "client_agent", "letheon"):
        for path in (ROOT / package).rglob("*.py"):
            code = path.read_text(encoding="utf-8")
            for name in re.findall(r'\breach\(\s*f?"([a-z_.{}]+)"', code):
                found |= {name.replace("{stage}", stage.value) for stage in Stage}
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
