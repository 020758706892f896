"""How long a call may be waited for: a law on a fake clock."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from jumping_clock import JumpingClock

from letheon.servicekit.call_rate import CallsAtOnce
from letheon.servicekit.chunks import RawChunk
from letheon.servicekit.clock import SystemClock
from letheon.servicekit.slow_calls import SlowCalls, Waiting, size_of
from letheon.v1.models_pb2 import Chunk

_PATIENCE_S, _PER_S = 10.0, 1000.0


class Call:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 20_000)), max_size=20))
def test_a_call_is_cut_when_its_silence_outlasts_patience_and_what_its_bytes_need(
    messages: list[tuple[float, int]],
) -> None:
    clock, call = JumpingClock(), Call()
    waiting = Waiting(call, clock, _PATIENCE_S, _PER_S)
    waited, came = 0.0, 0
    for silence_s, size in messages:
        with waiting.message(in_flight=0):
            clock.at += silence_s
            waited += silence_s
            waiting.look()
        assert call.cancelled is (waited > _PATIENCE_S + came / _PER_S)
        if call.cancelled:
            return
        waiting.moved(size)
        came += size


def test_time_in_which_nothing_is_waited_for_does_not_count() -> None:
    clock, call = JumpingClock(), Call()
    waiting = Waiting(call, clock, _PATIENCE_S, _PER_S)
    with waiting.message(in_flight=0):
        clock.at += 5.0
    clock.at += 1000.0  # the payload is merged
    waiting.look()
    with waiting.message(in_flight=0):
        clock.at += 4.9
        waiting.look()
        assert not call.cancelled
        clock.at += 0.2
        waiting.look()
        assert call.cancelled


def test_a_message_on_its_way_has_the_time_that_the_slowest_link_needs() -> None:
    clock, call = JumpingClock(), Call()
    waiting = Waiting(call, clock, _PATIENCE_S, _PER_S)
    with waiting.message(in_flight=50_000):
        clock.at += 59.0
        waiting.look()
        assert not call.cancelled
        clock.at += 2.0
        waiting.look()
        assert call.cancelled


def test_the_thread_that_looks_cuts_and_ends_with_the_last_call() -> None:
    slow, call = SlowCalls(SystemClock(), patience_s=0.05, bytes_per_s=1e9), Call()
    with slow.watch(call) as waiting, waiting.message(in_flight=0):
        end = time.monotonic() + 60
        while not call.cancelled and time.monotonic() < end:
            pass
    assert waiting.was_cut
    thread = slow._thread
    if thread is not None:
        thread.join(10)
    assert slow._thread is None


def test_a_chunk_that_was_not_parsed_counts_as_its_data() -> None:
    assert size_of(RawChunk(0, b"x" * 100, 0)) >= 100
    assert size_of(Chunk(offset=0, data=b"x" * 100)) >= 100


def test_so_many_at_once_of_each_key_and_one_given_back_makes_room() -> None:
    running = CallsAtOnce(2)
    assert [running.take("north") for _ in range(3)] == [True, True, False]
    assert running.take("south")
    running.give_back("north")
    assert running.take("north")
