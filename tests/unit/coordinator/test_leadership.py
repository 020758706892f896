"""Who may write: laws of the lease, and two stores on one database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from builders import NOON, a_site
from hypothesis import given
from hypothesis import strategies as st
from psycopg.pq import TransactionStatus
from running_coordinator import until
from sqlalchemy import text

from coordinator.adapters.sql import SqlStore
from coordinator.domain.leadership import check_token, give_up, renew, take
from coordinator.domain.model import Leadership
from coordinator.services.hold_leadership import HoldLeadership
from letheon.errors import LeadershipHeld, LeadershipLost
from letheon.servicekit.clock import FakeClock

LEASE = timedelta(seconds=15)
NOBODY = Leadership("coordinator", "", 0, NOON)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-100, 100), st.integers(0, 20))),
)
def test_whatever_the_clocks_show_at_most_the_newest_holder_may_write(
    tries: list[tuple[str, int, int]],
) -> None:
    current, tokens, waits = NOBODY, dict[str, int](), list[float]()
    for holder, clock_s, unrenewed_s in tries:
        try:
            current = take(
                current,
                holder=holder,
                now=NOON + timedelta(seconds=clock_s),
                lease=LEASE,
                unrenewed=timedelta(seconds=unrenewed_s),
            )
        except LeadershipHeld as error:
            waits.append(error.retry_after_s)
            continue
        assert current.token > max(tokens.values(), default=0)
        tokens[holder] = current.token
        for name, token in tokens.items():
            if name == holder:
                check_token(current, token)
            else:
                with pytest.raises(LeadershipLost):
                    check_token(current, token)
    assert all(wait > 0 for wait in waits)


def test_a_lease_that_is_renewed_or_given_up_keeps_its_token() -> None:
    mine = take(NOBODY, holder="a", now=NOON, lease=LEASE)
    later = NOON + timedelta(seconds=10)
    assert renew(mine, now=later, lease=LEASE) == replace(mine, lease_until=later + LEASE)
    assert take(give_up(mine, later), holder="b", now=later, lease=LEASE).token == mine.token + 1


@contextmanager
def a_holder(
    url: str, clock: FakeClock, holder: str, ending: threading.Event | None = None
) -> Iterator[tuple[SqlStore, HoldLeadership, threading.Event]]:
    store, ending = SqlStore(url), ending or threading.Event()
    leadership = HoldLeadership(store, clock, holder=holder, lease=LEASE, ending=ending)
    try:
        yield store, leadership, ending
    finally:
        store.close()


def test_the_old_leader_can_never_write_again_and_is_told_to_end(database_url: str) -> None:
    clock = FakeClock()
    with (
        a_holder(database_url, clock, "same") as (old, old_leadership, old_ends),
        a_holder(database_url, clock, "same") as (new, leadership, new_ends),
    ):
        old_leadership.start()
        with old.write() as uow:
            uow.sites.add(a_site("before"))
            uow.commit()
        leadership.start()
        with pytest.raises(LeadershipLost, match="same"), old.write():
            pass
        assert old_ends.is_set()
        with pytest.raises(LeadershipLost):
            old_leadership.check()
        old_leadership.stop()
        with new.write() as uow:
            uow.sites.add(a_site("after"))
            uow.commit()
        with old.read() as uow:
            assert {site.id for site in uow.sites.all()} == {"before", "after"}
        assert not new_ends.is_set()
        leadership.stop()


def await_renewal(store: SqlStore, clock: FakeClock) -> None:
    pause, end = threading.Event(), time.monotonic() + 60
    while time.monotonic() < end:
        with store.read() as uow:
            if uow.leadership.get().lease_until == clock.now() + LEASE:
                return
        pause.wait(0.005)
    raise AssertionError("nobody renews the lease")


def test_another_holder_waits_until_nobody_renews(database_url: str) -> None:
    clock = FakeClock()
    with (
        a_holder(database_url, clock, "first") as (store, first, first_ends),
        a_holder(database_url, clock, "second") as (_, second, _),
    ):
        first.start()
        waiting = threading.Thread(target=second.start)
        waiting.start()
        for _ in range(8):
            clock.await_waiters(2)
            clock.advance(5)
            await_renewal(store, clock)
        assert waiting.is_alive()
        first.stop()
        clock.await_waiters(1)
        clock.advance(5)
        waiting.join(10)
        assert not waiting.is_alive()
        assert not first_ends.is_set()
        second.stop()


def test_a_lease_written_by_a_clock_far_ahead_ends_when_nobody_renews_it(
    database_url: str,
) -> None:
    clock, ahead = FakeClock(), FakeClock(NOON + timedelta(days=400))
    with (
        a_holder(database_url, ahead, "ahead") as (_, first, _),
        a_holder(database_url, clock, "right") as (_, second, _),
    ):
        first.start()  # its own time stands still: it never renews
        waiting = threading.Thread(target=second.start)
        waiting.start()
        clock.await_waiters(1)
        assert waiting.is_alive()
        clock.advance(15)
        waiting.join(10)
        assert not waiting.is_alive()
        second.stop()
        ahead.advance(60)
        first.stop()


def test_who_waits_for_the_lease_can_be_told_to_end(database_url: str) -> None:
    clock = FakeClock()
    with (
        a_holder(database_url, clock, "first") as (_, first, _),
        a_holder(database_url, clock, "second") as (_, second, ending),
    ):
        first.start()
        ending.set()
        with pytest.raises(LeadershipHeld, match="first"):
            second.start()
        first.stop()


def test_a_renewal_notices_that_another_has_taken_over(database_url: str) -> None:
    clock, other = FakeClock(), FakeClock(NOON + timedelta(days=1))
    with (
        a_holder(database_url, clock, "first") as (_, first, ending),
        a_holder(database_url, other, "second") as (_, second, _),
    ):
        first.start()
        second.start()  # its clock says that the lease is over
        clock.await_waiters(1)
        clock.advance(5)
        assert ending.wait(60)
        first.stop()
        second.stop()


def test_the_server_ends_a_writer_that_gives_no_sign_of_life(postgres_url: str) -> None:
    store = SqlStore(postgres_url, silence_s=2.5)
    shown = ("idle_in_transaction_session_timeout", "tcp_user_timeout")
    try:
        with store.write() as uow:
            asked = [uow._connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in shown]
            assert asked == ["2500ms", "2500"]
            uow.commit()
        with store.read() as uow:
            asked = [uow._connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in shown]
            assert asked == ["0", "0"]
    finally:
        store.close()


def test_a_writer_that_computes_for_long_is_not_taken_for_one_that_hangs(
    postgres_url: str,
) -> None:
    store, watching = SqlStore(postgres_url, silence_s=0.3), SqlStore(postgres_url)
    age = text(
        "SELECT extract(epoch FROM max(clock_timestamp() - xact_start)) FROM pg_stat_activity "
        "WHERE state = 'idle in transaction' AND pid = :pid"
    )
    try:
        with store.write() as uow:
            uow.sites.add(a_site())
            pid = uow._connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()

            def old_enough() -> bool:
                with watching.read() as other:
                    return (other._connection.execute(age, {"pid": pid}).scalar_one() or 0) > 1.0

            until(old_enough, lambda: "the transaction was ended")
            uow.commit()
        with store.read() as uow:
            assert len(uow.sites.all()) == 1
    finally:
        store.close()
        watching.close()


def test_a_writer_that_has_committed_is_left_alone(postgres_url: str) -> None:
    store = SqlStore(postgres_url)
    try:
        with store.write() as uow:
            connection = uow._connection.connection.driver_connection
            assert connection is not None
            store._pulse.speak()
            assert connection.info.transaction_status == TransactionStatus.INTRANS
            uow.commit()
            store._pulse.speak()
            assert connection.info.transaction_status == TransactionStatus.IDLE
    finally:
        store.close()
