"""What `straggler.py` measured: one row a federation, ratios, a table and a file."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from letheon.cli.screen import JsonValue, print_rows, say


@dataclass(frozen=True)
class Case:
    """One federation."""

    strategy: str
    straggler: bool

    @property
    def name(self) -> str:
        kind = "asynchronous" if self.strategy == "fedasync" else "synchronous rounds"
        return f"{kind}, {'10x straggler' if self.straggler else 'no straggler'}"


CASES = tuple(Case(s, straggler) for s in ("fedasync", "fedavg") for straggler in (False, True))
ASYNC_EVEN, ASYNC_SLOW, SYNC_EVEN, SYNC_SLOW = CASES


@dataclass(frozen=True)
class Measured:
    """Seconds count from the request; rates are accepted deltas of the retained sites."""

    case: str
    seed: int
    state: str
    fenced_s: float | None
    erased_head_s: float | None
    repaired_s: float | None  # when the version that passed came to be; none: none passed
    gate_s: float | None  # when it had passed
    attempts: int
    retained_deltas_to_gate: int
    accuracy_before: float | None  # as the retained sites told the gate
    accuracy_at_gate: float | None
    window_s: float  # of each of the two rates
    per_second_before: float
    per_second_during: float
    during_to_before: float
    superseded: int
    own_cores_busy: float  # share of all cores, by this federation
    all_cores_busy: float  # by everything on this machine


def _median(results: Iterable[Measured], case: Case, field: str) -> float | None:
    """Over the seeds; None if any has no such value: a gate that never passed is not left out."""
    values = [getattr(one, field) for one in results if one.case == case.name]
    return None if not values or None in values else statistics.median(values)


def ratios(results: Sequence[Measured]) -> dict[str, float | None]:
    """Of medians, within this run."""

    def ratio(field: str, above: Case, below: Case) -> float | None:
        a, b = _median(results, above, field), _median(results, below, field)
        return round(a / b, 2) if a is not None and b else None

    repaired, gate = "repaired_s", "gate_s"
    before, during = "per_second_before", "per_second_during"
    return {
        "repaired, asynchronous: straggler / none": ratio(repaired, ASYNC_SLOW, ASYNC_EVEN),
        "repaired, synchronous: straggler / none": ratio(repaired, SYNC_SLOW, SYNC_EVEN),
        "repaired, straggler: synchronous / asynchronous": ratio(repaired, SYNC_SLOW, ASYNC_SLOW),
        "gate, asynchronous: straggler / none": ratio(gate, ASYNC_SLOW, ASYNC_EVEN),
        "gate, synchronous: straggler / none": ratio(gate, SYNC_SLOW, SYNC_EVEN),
        "gate, straggler: synchronous / asynchronous": ratio(gate, SYNC_SLOW, ASYNC_SLOW),
        "gate, no straggler: synchronous / asynchronous": ratio(gate, SYNC_EVEN, ASYNC_EVEN),
        "deltas per second before, straggler: asynchronous / synchronous": ratio(
            before, ASYNC_SLOW, SYNC_SLOW
        ),
        "deltas per second during, straggler: asynchronous / synchronous": ratio(
            during, ASYNC_SLOW, SYNC_SLOW
        ),
    }


def print_table(results: Sequence[Measured]) -> None:
    """Every federation, then the ratios."""
    columns = (
        "federation", "seed", "fenced", "erased head", "repaired", "gate passed", "attempts",
        "deltas to gate", "accuracy before / at gate", "deltas per s before / during",
        "during : before", "cores own / all",
    )  # fmt: skip
    print_rows("one site erased by removal", columns, [_cells(one) for one in results])
    for name, ratio in ratios(results).items():
        say(f"{name}: {'-' if ratio is None else ratio}")


def _cells(one: Measured) -> tuple[str, ...]:
    return (
        one.case,
        str(one.seed),
        _seconds(one.fenced_s, 3),
        _seconds(one.erased_head_s, 2),
        _seconds(one.repaired_s, 1),
        _seconds(one.gate_s, 1) if one.gate_s is not None else f"no ({one.state})",
        str(one.attempts),
        str(one.retained_deltas_to_gate),
        f"{_share(one.accuracy_before)} / {_share(one.accuracy_at_gate)}",
        f"{one.per_second_before:.2f} / {one.per_second_during:.2f}",
        f"{one.during_to_before:.2f}",
        f"{100 * one.own_cores_busy:.0f} / {100 * one.all_cores_busy:.0f} %",
    )


def _seconds(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f} s"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def write(path: Path, results: Sequence[Measured], setting: Mapping[str, JsonValue]) -> None:
    """The results with what they were measured on."""
    document = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "setting": setting,
        "results": [asdict(one) for one in results],
        "ratios_of_medians": ratios(results),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")
