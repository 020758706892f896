"""A standby takes over after kill -9 on PostgreSQL; sites go on through whichever they reach.

`make bench-failover` runs the same with more kills and a lease as in production.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from builders import a_vector
from failover import (
    SITES,
    a_pair,
    check_nothing_lost,
    kill_the_leader,
    push_until_accepted,
    summary,
    under_load,
)
from running_coordinator import Running, until
from sqlalchemy import create_engine, text

from letheon.federation.encoding import encode

KILLS = int(os.environ.get("LETHEON_FAILOVER_KILLS", "1"))
LEASE_S = float(os.environ.get("LETHEON_FAILOVER_LEASE", "1.5"))

pytestmark = [pytest.mark.system, pytest.mark.timeout(100 + KILLS * (LEASE_S + 15))]


def test_a_standby_takes_over_after_kill_9_and_nothing_is_lost(
    postgres_url: str, tmp_path: Path
) -> None:
    seconds: list[float] = []
    with a_pair(tmp_path, postgres_url, LEASE_S) as pair:
        with under_load(pair) as load:
            for number in range(KILLS):
                seconds.append(kill_the_leader(pair, load, "ab"[number % 2]))
        acknowledged = check_nothing_lost(pair, postgres_url, load)
    sys.stdout.write(
        f"\n{KILLS} kills, lease {LEASE_S:g} s, {len(SITES)} sites: next accepted update after "
        f"{summary(seconds)}; {acknowledged} updates acknowledged, none lost, none doubled\n"
    )
    # The lease, then the head is recovered; a busy machine gets some room.
    assert max(seconds) < LEASE_S + 12


def test_a_standby_is_ready_because_it_passes_connections_on(
    postgres_url: str, tmp_path: Path
) -> None:
    with a_pair(tmp_path, postgres_url, 30.0) as pair:
        standby, leader = pair.running["b"], pair.running["a"]
        assert not standby.is_well("leader")
        assert leader.is_well("leader")
        client = pair.client()
        client.close()
        # Through the standby alone.
        pair.listens = {"b": pair.listens["b"]}
        client = pair.client()
        client.register("north")
        assert client.push("north", a_vector(1)).version == 1
        # Stopped in order, the leader gives its lease up, and the standby need not wait.
        assert leader.stop() == 0
        standby.until_well("leader")
        payload = encode(a_vector(2), client.plan.encoding)
        header = client.header("north", payload, base_version=1)

        def accepted() -> bool:
            try:
                return client.send(header, payload).receipt.version == 2
            except Exception:  # noqa: BLE001 - the connection was cut; the next try is a new one
                return False

        until(accepted, standby.log)
        client.close()


def hang(running: Running, database_url: str) -> None:
    """Stops it, but not inside a write: so the lease alone decides."""
    engine = create_engine(database_url)
    with engine.connect() as connection:
        connection.execute(text("SELECT token FROM leadership FOR UPDATE"))
        running.process.send_signal(signal.SIGSTOP)
        connection.rollback()
    engine.dispose()


def test_two_that_believe_they_lead_never_both_commit(postgres_url: str, tmp_path: Path) -> None:
    with a_pair(tmp_path, postgres_url, 1.5) as pair:
        with under_load(pair) as load:
            until(lambda: len(load.times) > 3, pair.running["a"].log)
        check_nothing_lost(pair, postgres_url, load)
        hung = pair.running["a"]
        hang(hung, postgres_url)
        pair.running["b"].until_well("leader")
        with under_load(pair) as load:
            until(lambda: len(load.times) > 3, pair.running["b"].log)
            hung.process.send_signal(signal.SIGCONT)
            assert hung.process.wait(40) == 75, hung.log()
            last = max(load.times)
            until(lambda: load.first_after(last) is not None, pair.running["b"].log)
        check_nothing_lost(pair, postgres_url, load)


def test_a_leader_that_hangs_inside_a_write_gives_way_as_fast_as_a_dead_one(
    postgres_url: str, tmp_path: Path
) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    with a_pair(tmp_path, postgres_url, 1.5, faults) as pair:
        hung, standby = pair.running["a"], pair.running["b"]
        with under_load(pair) as load:
            until(lambda: len(load.times) > 3, hung.log)
            # Its row is written and not committed: it holds the lock of all writers.
            (faults / "a.accept.row_written").write_text("stop")
            until((faults / "a.accept.row_written.taken").exists, hung.log)
            stopped = time.monotonic()
            pair.listens = {"b": pair.listens["b"]}
            with closing(pair.client()) as client:
                payload = encode(a_vector(1, scale=1e-4), client.plan.encoding)
                assert push_until_accepted(client, SITES[0], payload, "after", threading.Event())
            seconds = time.monotonic() - stopped
            hung.process.send_signal(signal.SIGCONT)
            assert hung.process.wait(40) == 75, hung.log()
            last = max(load.times)
            until(lambda: load.first_after(last) is not None, standby.log)
        check_nothing_lost(pair, postgres_url, load)
    sys.stdout.write(f"\nstopped inside a write: next accepted update after {seconds:.1f} s\n")
    assert seconds < 15
