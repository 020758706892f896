"""What a run did and found, as a table for docs/durability.md."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .evidence import Evidence


@dataclass
class Summary:
    """Counts over all federations of a run."""

    database: str
    command: str
    injected: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    erasures: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)  # by first word
    federations: int = 0
    acknowledged: int = 0
    rows: int = 0
    seconds: float = 0.0

    @property
    def faults(self) -> int:
        """How many really happened."""
        return self.injected.total()

    def add(self, evidence: Evidence, violations: list[str]) -> None:
        """Takes in a federation that was checked."""
        self.federations += 1
        self.acknowledged += len(evidence.receipts)
        self.rows += len(evidence.records.rows)
        self.erasures.update(str(e.state).upper() for e in evidence.records.erasures)
        self.violations.update(v.partition(" ")[0].rstrip(":") for v in violations)

    def table(self) -> str:
        """Markdown."""
        ends = ", ".join(f"{n} {state}" for state, n in sorted(self.erasures.items()))
        lines = [
            f"`{self.command}`",
            "",
            "| what | count |",
            "|---|---|",
            f"| database | {self.database} |",
            f"| federations | {self.federations} |",
            f"| faults injected | {self.faults} |",
            f"| updates acknowledged | {self.acknowledged} |",
            f"| ledger rows | {self.rows} |",
            f"| erasures | {ends or 'none'} |",
            f"| updates lost | {self.violations['lost']} |",
            f"| updates doubled | {self.violations['doubled']} |",
            f"| fences crossed | {self.violations['crossed']} |",
            f"| violations in all | {self.violations.total()} |",
            f"| wall time | {self.seconds:.0f} s |",
            "",
            "| fault | injected |",
            "|---|---|",
            *(f"| {label} | {count} |" for label, count in sorted(self.injected.items())),
        ]
        if self.missed:
            missed = ", ".join(f"{label} ({n})" for label, n in sorted(self.missed.items()))
            lines += ["", f"Armed and not reached, not counted: {missed}."]
        return "\n".join(lines)
