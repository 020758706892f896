"""What was measured of each system, side by side, and whether the promises hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.ingestion.report import table_rows

PROMISED_MB = (25, 100)
AS_SHIPPED, WITHOUT_WAITING = 3.0, 1.5  # times the best peer, at least
OURS = "Letheon"


@dataclass(frozen=True)
class Result:
    """Medians in seconds; None where the variant does not tell."""

    system: str
    version: str
    variant: str
    megabytes: int
    tensors: int
    repeats: int
    without_waiting: float | None
    as_shipped: float | None
    spans: dict[str, float]
    durable: bool  # the delta is on disk, synced or not, before its sender is answered


@dataclass(frozen=True)
class Promise:
    """How many times as long the best peer takes, at one size and layout."""

    what: str
    case: str
    best_peer: str
    times: float
    at_least: float

    @property
    def is_kept(self) -> bool:
        return self.times >= self.at_least

    @property
    def sentence(self) -> str:
        word = "kept" if self.is_kept else "NOT KEPT"
        return (
            f"{self.case}, {self.what}: {self.best_peer} takes {self.times:.1f} times as long "
            f"({word}: {self.at_least:g})"
        )


def promises(results: Sequence[Result]) -> list[Promise]:
    """Of every size and layout that is promised and was sent to a peer."""
    return list(_promises(results))


def _promises(results: Sequence[Result]) -> Iterator[Promise]:
    for ours in results:
        if ours.system != OURS or ours.megabytes not in PROMISED_MB:
            continue
        case = f"{ours.megabytes} MB, {ours.tensors} tensors"
        peers = [r for r in results if r.system != OURS and _size(r) == _size(ours)]
        for what, at_least, seconds in (
            ("as shipped", AS_SHIPPED, lambda r: r.as_shipped),
            ("without waiting", WITHOUT_WAITING, lambda r: r.without_waiting),
        ):
            told = [(seconds(r), r) for r in peers if seconds(r) is not None]
            if told:
                least, best = min(told, key=lambda pair: pair[0])
                times = least / seconds(ours)
                yield Promise(what, case, f"{best.system} {best.variant}".strip(), times, at_least)


def _size(result: Result) -> tuple[int, int]:
    return result.megabytes, result.tensors


_COLUMNS = ("system", "variant", "MB", "tensors", "seconds", "times", "as shipped", "on disk")


def table(results: Sequence[Result]) -> str:
    """Columns of text; `times` is against Letheon's figure of the same size and layout."""
    lines = [_COLUMNS, *_cells(results)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def rows(document: dict[str, Any]) -> list[str]:
    """The table of the page, what failed, and the promises."""
    results = [Result(**figure) for figure in document["figures"]]
    lines = table_rows(_COLUMNS, _cells(results))
    told = [promise.sentence for promise in promises(results)] + document["failed"]
    return [*lines, "", *(f"- {sentence}" for sentence in told)] if told else lines


def _cells(results: Sequence[Result]) -> list[tuple[str, ...]]:
    ours = {_size(r): r.without_waiting for r in results if r.system == OURS}
    found = []
    for r in results:
        seconds, base = r.without_waiting, ours.get(_size(r))
        found.append(
            (
                r.system,
                r.variant,
                str(r.megabytes),
                str(r.tensors),
                f"{seconds:.3f}" if seconds else "-",
                f"{seconds / base:.1f}" if seconds and base else "-",
                f"{r.as_shipped:.3f}" if r.as_shipped else "-",
                "yes" if r.durable else "no",
            )
        )
    return found
