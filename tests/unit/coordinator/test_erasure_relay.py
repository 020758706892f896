"""From the outbox to the stream, and again when the stream forgot."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from erasure_bench import Bench, a_bench

from coordinator.services.cancel_erasure import cancel_erasure
from coordinator.services.claim_erasure import claim_erasure, renew_claim
from coordinator.services.erasure_relay import ErasureRelay
from letheon.errors import StorageUnavailable
from letheon.servicekit.clock import FakeClock
from letheon.servicekit.erasure_queue import MemoryErasureQueue


class BrokenStream:
    """A stream that does not answer."""

    def announce(self, erasure_id: str) -> None:
        raise StorageUnavailable("Redis does not answer")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def bench(tmp_path: Path, clock: FakeClock, chosen_database: str | None) -> Iterator[Bench]:
    made = a_bench(tmp_path, database_url=chosen_database, clock=clock)
    yield made
    made.close()


@pytest.fixture
def queue() -> MemoryErasureQueue:
    return MemoryErasureQueue()


@pytest.fixture
def relay(bench: Bench, queue: MemoryErasureQueue, clock: FakeClock) -> ErasureRelay:
    return ErasureRelay(bench.context.store, queue, clock, bench.context.limits)


def test_a_request_is_announced_once(
    bench: Bench, relay: ErasureRelay, queue: MemoryErasureQueue
) -> None:
    erasure = bench.request("south").id
    assert relay.relay() == [erasure]
    assert relay.relay() == []
    assert queue.depth() == 1


def test_a_request_waits_while_the_stream_is_down(
    bench: Bench, relay: ErasureRelay, clock: FakeClock
) -> None:
    erasure = bench.request("south").id
    broken = ErasureRelay(bench.context.store, BrokenStream(), clock, bench.context.limits)
    with pytest.raises(StorageUnavailable):
        broken.relay()
    assert relay.relay() == [erasure]


def test_a_cancelled_request_is_not_announced(
    bench: Bench, relay: ErasureRelay, queue: MemoryErasureQueue
) -> None:
    cancel_erasure(bench.request("south").id, bench.context)
    assert relay.relay() == []
    assert relay.relay() == []
    assert queue.depth() == 0


def test_what_nobody_claims_is_announced_again(
    bench: Bench, relay: ErasureRelay, clock: FakeClock
) -> None:
    erasure = bench.request("south").id
    relay.relay()
    clock.advance(60)
    assert relay.reconcile() == []
    clock.advance(61)
    assert relay.reconcile() == [erasure]
    assert relay.reconcile() == []


def test_what_is_in_hand_is_not_announced_again(
    bench: Bench, relay: ErasureRelay, clock: FakeClock
) -> None:
    erasure = bench.request("south").id
    relay.relay()
    _, claim = claim_erasure(erasure, "c1", bench.context)
    for _ in range(10):
        clock.advance(25)
        renew_claim(erasure, claim.token, bench.context)
        assert relay.reconcile() == []
    clock.advance(200)
    assert relay.reconcile() == [erasure]


def test_after_a_restart_patience_begins_anew(
    bench: Bench, relay: ErasureRelay, queue: MemoryErasureQueue, clock: FakeClock
) -> None:
    erasure = bench.request("south").id
    relay.relay()
    restarted = ErasureRelay(bench.context.store, queue, clock, bench.context.limits)
    assert restarted.reconcile() == []
    clock.advance(121)
    assert restarted.reconcile() == [erasure]
