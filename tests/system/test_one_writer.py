"""Coordinators as processes that compete for one database."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import Client, a_federation, a_vector

from letheon.federation.plan import Plan

pytestmark = pytest.mark.system


class Running:
    """A coordinator's process with a folder and a holder's name of its own."""

    def __init__(self, directory: Path, database_url: str, instance: str, lease_s: float) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.address = directory / "address"
        self.address.unlink(missing_ok=True)
        config = directory / "coordinator.toml"
        config.write_text(
            f'data_dir = "{directory / "data"}"\n'
            f'federation_dir = "{directory / "federation"}"\n'
            f'address_file = "{self.address}"\n'
            'listen = "127.0.0.1:0"\nredis_url = "redis://127.0.0.1:1/0"\nstop_seconds = 0.2\n'
            f'[database]\nurl = "{database_url}"\ninstance = "{instance}"\n'
            f"lease_seconds = {lease_s}\n[limits]\nreserve_bytes = 0\n"
        )
        self._log = (directory / "log").open("a+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "coordinator", "--config", str(config)], stderr=self._log
        )

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def until(self, word: str) -> None:
        self._poll(lambda: word in self.log(), f"no {word!r}")

    def client(self) -> Client:
        self._poll(self.address.exists, "it does not get ready")
        plan = Plan.from_canonical((self.directory / "federation" / "plan.json").read_bytes())
        return Client(self.address.read_text(), plan)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(10)
        self._log.close()

    def _poll(self, holds: Callable[[], bool], complaint: str) -> None:
        pause, end = threading.Event(), time.monotonic() + 40
        while not holds():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end, f"{complaint}: {self.log()}"
            pause.wait(0.02)


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
        first.process.wait(10)
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
        first.process.send_signal(signal.SIGSTOP)
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
        assert second.process.wait(20) == 0
        first.process.terminate()
        assert first.process.wait(20) == 0
    finally:
        first.end()
        if second is not None:
            second.end()
