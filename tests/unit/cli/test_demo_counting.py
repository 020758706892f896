"""What the demo counts: throughput, lost updates, a crossed fence."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.cli.demo.ledger_reading import (
    AgentReceipt,
    Row,
    crossed_fence,
    lost_updates,
    throughput,
)


def a_row(entry: int, site: str = "sites/site-1", at: float = 0.0, kind: str = "delta") -> Row:
    return Row(entry, kind, entry, 0, site, at, f"hash-{entry}", f"update-{entry}")


def arriving(site: str, begin: float, end: float, every: float) -> list[Row]:
    times, at = [], begin
    while at <= end:
        times.append(at)
        at += every
    return [a_row(n, site, at) for n, at in enumerate(times)]


@given(
    every=st.floats(0.5, 5.0), phase=st.floats(0.0, 1.0), window=st.floats(5.0, 40.0),
)  # fmt: skip
def test_sites_that_go_on_at_their_pace_keep_a_throughput_of_one(
    every: float, phase: float, window: float
) -> None:
    rows = arriving("sites/site-1", phase, 200.0, every)
    measured = throughput(rows, "sites/site-3", requested=100, begin=100, end=100 + window)
    assert measured.ratio == pytest.approx(1.0, abs=0.02)


def test_a_stall_lowers_the_throughput() -> None:
    rows = arriving("sites/site-1", 0, 100, 1.0) + arriving("sites/site-1", 110, 140, 1.0)
    measured = throughput(rows, "sites/site-3", requested=100, begin=100, end=120)
    assert measured.ratio == pytest.approx(11 / 20, abs=0.05)


def test_the_one_task_in_flight_at_the_removal_is_not_counted() -> None:
    rows = arriving("sites/site-1", 0, 99.5, 1.0) + arriving("sites/site-1", 101, 140, 1.0)
    measured = throughput(rows, "sites/site-3", requested=100, begin=100, end=120)
    assert measured.ratio == pytest.approx(1.0, abs=0.02)


def test_a_site_that_never_comes_back_counts_as_nothing() -> None:
    rows = arriving("sites/site-1", 0, 140, 1.0) + arriving("sites/site-2", 0, 100, 1.0)
    rows.sort(key=lambda row: row.at)
    measured = throughput(rows, "sites/site-3", requested=100, begin=100, end=120)
    assert measured.ratio < 0.6


def test_the_withdrawn_site_does_not_count() -> None:
    rows = arriving("sites/site-1", 0, 140, 1.0)
    rows += arriving("sites/site-3", 0, 100, 0.2)
    measured = throughput(rows, "sites/site-3", requested=100, begin=100, end=120)
    assert measured.ratio == pytest.approx(1.0, abs=0.02)


def test_a_window_longer_than_the_training_before_it_is_scaled() -> None:
    rows = arriving("sites/site-1", 90, 140, 1.0)
    measured = throughput(rows, "sites/site-3", requested=100, begin=100, end=130)
    assert measured.ratio == pytest.approx(1.0, abs=0.02)


def test_a_receipt_without_its_row_is_lost() -> None:
    rows = [a_row(1), a_row(2)]
    kept = AgentReceipt("site-1", "update-1", 1, "hash-1")
    altered = AgentReceipt("site-1", "update-2", 2, "another hash")
    gone = AgentReceipt("site-1", "update-3", 3, "hash-3")
    assert lost_updates([kept, altered, gone], rows) == [altered, gone]


def test_only_deltas_of_the_site_after_the_fence_cross_it() -> None:
    fenced = datetime.fromtimestamp(100, UTC)
    rows = [
        a_row(1, "sites/site-3", 99.0),
        a_row(2, "sites/site-3", 101.0, kind="removal"),
        a_row(3, "sites/site-1", 101.0),
        a_row(4, "sites/site-3", 101.0),
    ]
    assert [row.entry for row in crossed_fence(rows, "sites/site-3", fenced)] == [4]
