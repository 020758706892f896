"""Rounds of the synchronous baseline: whom they wait for, and who waits for them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from builders import NOON, a_plan, a_vector
from erasure_bench import Bench, a_bench

from coordinator.domain.privacy import PrivacyLoss
from coordinator.domain.training_task import TrainTask
from coordinator.domain.upload import Outcome
from coordinator.services.claim_erasure import claim_erasure
from coordinator.services.next_task import NextTask, Polling
from coordinator.services.remove_contribution import remove_contribution
from coordinator.services.rounds import CloseRound
from letheon.federation.arithmetic import accumulate
from letheon.federation.ledger import EntryKind, read_merges
from letheon.servicekit.clock import FakeClock

PLAN = a_plan(strategy={"plugin": "fedavg"})
PATIENCE_S = 60.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON)


@pytest.fixture
def bench(tmp_path: Path, clock: FakeClock, chosen_database: str | None) -> Iterator[Bench]:
    made = a_bench(tmp_path, plan=PLAN, clock=clock, database_url=chosen_database)
    yield made
    made.close()


def next_task(bench: Bench) -> NextTask:
    core = bench.coordinator.core
    return NextTask(
        store=core.store,
        live=core.live,
        presence=core.presence,
        rounds=core.rounds,
        meter=core.metrics,
        clock=core.clock,
        rng=random.Random(1),
        polling=Polling(),
        federation="f",
        training=core.plan.training,
    )


def close_round(bench: Bench) -> None:
    core = bench.coordinator.core
    CloseRound(core.rounds, core.store, core.live)()


def kinds(bench: Bench) -> list[EntryKind]:
    return [row.kind for row in bench.rows()]


def test_a_round_waits_for_the_slowest_and_merges_the_mean(bench: Bench) -> None:
    expected = bench.head
    bench.train("north", "south")
    close_round(bench)
    assert bench.position.version == 0
    bench.train("west", seed=14)
    assert kinds(bench)[-4:] == [EntryKind.BUFFERED] * 3 + [EntryKind.FLUSH]
    assert bench.position.version == 1
    flush = bench.rows()[-1]
    deltas = {1: a_vector(7), 2: a_vector(14), 3: a_vector(21)}
    for entry, coefficient in read_merges(flush):
        assert coefficient == np.float32(1 / 3)
        accumulate(expected, coefficient, deltas[entry])
    assert np.array_equal(bench.head, expected)
    assert bench.ledger_holds()


def test_a_site_whose_delta_waits_gets_no_task_until_the_round_ends(bench: Bench) -> None:
    ask = next_task(bench)
    bench.train("north", "south")
    assert isinstance(ask("north", abandoned=None), timedelta)
    assert isinstance(ask("west", abandoned=None), TrainTask)
    bench.train("west")
    assert isinstance(ask("north", abandoned=None), TrainTask)


def test_a_site_that_enrols_in_mid_round_takes_part_in_it(bench: Bench) -> None:
    bench.train("north", "south")
    bench.register("east")
    bench.train("west")
    assert bench.position.version == 0
    bench.train("east")
    assert bench.position.version == 1


def test_a_fenced_site_no_longer_holds_the_round_up(bench: Bench) -> None:
    bench.train("north", "west")
    close_round(bench)
    assert bench.position.version == 0
    bench.request("south")
    close_round(bench)
    assert bench.position.version == 1
    assert kinds(bench)[-1] is EntryKind.FLUSH
    assert bench.ledger_holds()


def test_the_delta_of_a_site_that_is_fenced_is_voided_and_its_round_goes_on(bench: Bench) -> None:
    bench.train("south", "north")
    bench.request("south")
    close_round(bench)
    assert bench.position.version == 0  # west has not delivered
    bench.train("west")
    merged = [entry for entry, _ in read_merges(bench.rows()[-1])]
    assert [bench.rows()[entry].site for entry in merged] == ["north", "west"]
    assert bench.ledger_holds()


def test_an_erasure_voids_the_delta_of_its_subject_and_merges_the_others(bench: Bench) -> None:
    bench.train("north", "south", "west")
    bench.train("south", "north")
    erasure = bench.request("south")
    _, claim = claim_erasure(erasure.id, "c1", bench.context)
    removal = remove_contribution(erasure.id, claim.token, bench.context)
    assert (removal.voided_entries, removal.removed_entries) == (1, 1)
    flushed = read_merges(bench.rows()[-1])
    assert [(bench.rows()[entry].site, c) for entry, c in flushed] == [("north", 1.0)]
    ask = next_task(bench)
    assert isinstance(ask("north", abandoned=None), TrainTask)
    bench.train("north", "west")
    assert bench.position.version == removal.version_after + 1
    assert bench.ledger_holds()


def test_a_site_whose_privacy_budget_is_spent_is_not_waited_for(bench: Bench) -> None:
    ask = next_task(bench)
    bench.train("north", "south")
    spent = PrivacyLoss(epsilon=7.9, delta=1e-5, budget=8.0, unit="record", is_spent=True)
    assert isinstance(ask("west", abandoned=None, privacy=spent), timedelta)
    close_round(bench)
    assert bench.position.version == 1
    assert isinstance(ask("north", abandoned=None), TrainTask)


def test_a_site_that_vanishes_is_waited_for_and_then_left_out(
    bench: Bench, clock: FakeClock
) -> None:
    ask = next_task(bench)
    bench.train("north", "south")
    clock.advance(PATIENCE_S)
    for site in ("north", "south"):
        ask(site, abandoned=None)
    close_round(bench)
    assert bench.position.version == 0
    clock.advance(1.0)
    close_round(bench)
    assert bench.position.version == 1


def test_a_slow_site_that_is_heard_of_is_waited_for_however_long_it_takes(
    bench: Bench, clock: FakeClock
) -> None:
    ask = next_task(bench)
    bench.train("north", "south")
    for _ in range(20):
        clock.advance(PATIENCE_S - 1)
        assert not ask.should_abandon("west", "train-0-0-0")
        close_round(bench)
    assert bench.position.version == 0


def test_a_delta_that_comes_after_its_round_counts_in_the_next(
    bench: Bench, clock: FakeClock
) -> None:
    ask = next_task(bench)
    bench.train("north", "south")
    clock.advance(PATIENCE_S + 1)
    close_round(bench)
    for site in ("north", "south", "west"):  # it is back
        ask(site, abandoned=None)
    late = bench.push("west", a_vector(30), base_version=0)
    assert (late.outcome, late.staleness) == (Outcome.BUFFERED, 1)
    bench.train("north", "south")
    assert bench.position.version == 2
    assert len(read_merges(bench.rows()[-1])) == 3


def test_an_outage_of_the_coordinator_does_not_count_as_silence_of_the_sites(
    tmp_path: Path, clock: FakeClock
) -> None:
    first = a_bench(tmp_path, plan=PLAN, clock=clock)
    first.train("north", "south")
    head = first.head
    first.close()
    clock.advance(10 * PATIENCE_S)
    again = a_bench(tmp_path, clock=clock)
    assert np.array_equal(again.head, head)
    close_round(again)
    assert again.position.version == 0
    clock.advance(PATIENCE_S + 1)
    close_round(again)
    assert again.position.version == 1
    assert again.ledger_holds()
    again.close()
