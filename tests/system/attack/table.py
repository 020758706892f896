"""The outcome of a run as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .attacks import Done

PAGE = Path("docs/security/attacks.md")
_BEGIN, _END = "<!-- make attack PAGE=1 -->", "<!-- end -->"


def table(done: Sequence[Done]) -> str:
    """Markdown: attack, what was expected, what happened, verdict."""
    lines = ["| attack | expected | what happened | verdict |", "|---|---|---|---|"]
    family = ""
    for each in done:
        one = each.attack
        if one.family != family:
            family = one.family
            lines.append(f"| **{family}** | | | |")
        happened = each.outcome.happened.replace("|", "\\|")
        lines.append(f"| {one.name} | {one.expected} | {happened} | {each.outcome.verdict} |")
    return "\n".join(lines)


def document(done: Sequence[Done], seconds: float) -> dict[str, Any]:
    """The same for a program."""
    return {
        "seconds": round(seconds, 1),
        "attacks": [
            {
                "family": each.attack.family,
                "name": each.attack.name,
                "expected": each.attack.expected,
                "verdict": str(each.outcome.verdict),
                "happened": each.outcome.happened,
                "seconds": round(each.seconds, 2),
            }
            for each in done
        ],
    }


def write_page(done: Sequence[Done]) -> None:
    """Replaces what stands between the markers of the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    middle = f"{_BEGIN}\n{table(done)}\n{_END}"
    PAGE.write_text(f"{before}{middle}{after}", encoding="utf-8")
