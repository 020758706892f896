"""Coordinators as processes that compete for one database."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from builders import a_federation, a_vector
from running_coordinator import Running

pytestmark = pytest.mark.system


def hang(running: Running, url: str) -> None:
    """Stops it, but not inside a write: SQLite's one lock would then be nobody's to take."""
    sqlite = url.removeprefix("sqlite:///")
    if sqlite == url:
        running.process.send_signal(signal.SIGSTOP)
        return
    with closing(sqlite3.connect(sqlite, timeout=20, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        running.process.send_signal(signal.SIGSTOP)
        database.execute("ROLLBACK")


@pytest.fixture
def url(database_url: str, tmp_path: Path) -> str:
    a_federation(tmp_path / "a" / "federation")
    return database_url


def test_after_kill_9_the_same_holder_takes_over_at_once(url: str, tmp_path: Path) -> None:
    first = Running(tmp_path / "a", url, "a", lease_s=600)
    second = None
    try:
        client = first.client()
        client.register("north")
        client.push("north", a_vector(1))
        client.close()
        refused = Running(tmp_path / "a", url, "b", lease_s=600)
        assert refused.process.wait(40) == 78
        assert f"used by another coordinator, pid {first.process.pid}" in refused.log()
        first.process.kill()
        first.process.wait(60)
        second = Running(tmp_path / "a", url, "a", lease_s=600)
        client = second.client()
        assert client.push("north", a_vector(2), base_version=1).version == 2
        client.close()
    finally:
        first.end()
        if second is not None:
            second.end()


def test_a_leader_that_hangs_is_replaced_and_ends_when_it_wakes(url: str, tmp_path: Path) -> None:
    first = Running(tmp_path / "a", url, "a", lease_s=1.5)
    second = None
    try:
        client = first.client()
        client.register("north")
        client.push("north", a_vector(1))
        client.close()
        hang(first, url)
        for folder in ("data", "federation"):
            shutil.copytree(tmp_path / "a" / folder, tmp_path / "b" / folder)
        second = Running(tmp_path / "b", url, "b", lease_s=1.5)
        client = second.client()
        assert client.push("north", a_vector(2), base_version=1).version == 2
        first.process.send_signal(signal.SIGCONT)
        assert first.process.wait(40) == 75
        assert "another coordinator writes to this database now" in first.log()
        assert client.push("north", a_vector(3), base_version=2).version == 3
        client.close()
    finally:
        first.end()
        if second is not None:
            second.end()


def test_sigterm_ends_the_wait_for_the_lease(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'test.sqlite'}"
    a_federation(tmp_path / "a" / "federation")
    first = Running(tmp_path / "a", url, "a", lease_s=600)
    second = None
    try:
        first.client().close()
        second = Running(tmp_path / "b", url, "b", lease_s=600)
        second.until("waiting_for_lease")
        second.process.terminate()
        assert second.process.wait(60) == 0
        first.process.terminate()
        assert first.process.wait(60) == 0
    finally:
        first.end()
        if second is not None:
            second.end()
