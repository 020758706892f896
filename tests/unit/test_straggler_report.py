"""The numbers that the straggler's benchmark makes of what it measured."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from straggler_report import ASYNC_EVEN, ASYNC_SLOW, CASES, Measured, ratios

GATE = "gate, asynchronous: straggler / none"
ONE = Measured(
    case="",
    seed=0,
    state="CERTIFIED",
    fenced_s=0.001,
    erased_head_s=0.1,
    repaired_s=8.0,
    gate_s=10.0,
    attempts=1,
    retained_deltas_to_gate=16,
    accuracy_before=0.9,
    accuracy_at_gate=0.9,
    window_s=20.0,
    per_second_before=2.0,
    per_second_during=2.0,
    during_to_before=1.0,
    superseded=4,
    own_cores_busy=0.3,
    all_cores_busy=0.5,
)


def measured(gate_s: dict[str, list[float | None]]) -> list[Measured]:
    return [
        replace(ONE, case=case, seed=seed, gate_s=seconds)
        for case, several in gate_s.items()
        for seed, seconds in enumerate(several)
    ]


def test_a_ratio_is_of_the_medians_over_the_seeds() -> None:
    found = ratios(
        measured({ASYNC_EVEN.name: [10.0, 90.0, 20.0], ASYNC_SLOW.name: [30.0, 30.0, 1.0]})
    )
    assert found[GATE] == 1.5


def test_a_gate_that_never_passed_is_not_left_out_of_a_median() -> None:
    found = ratios(measured({ASYNC_EVEN.name: [10.0, 10.0], ASYNC_SLOW.name: [10.0, None]}))
    assert found[GATE] is None


def test_a_case_that_was_not_run_has_no_ratio() -> None:
    assert set(ratios(measured({CASES[3].name: [10.0]})).values()) == {None}
