"""A coordinator's process with a folder and a holder's name of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
from builders import Client
from grpc_health.v1 import health_pb2, health_pb2_grpc

from letheon.federation.plan import Plan

PATIENCE_S = 40.0


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(holds: Callable[[], bool], complaint: Callable[[], str]) -> None:
    """Looks until it holds. Raises AssertionError after PATIENCE_S."""
    pause, end = threading.Event(), time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, complaint()
        pause.wait(0.02)


class Running:
    """Starts at once; `more` are further lines of TOML, tables last."""

    def __init__(
        self,
        directory: Path,
        database_url: str,
        instance: str,
        lease_s: float,
        *,
        listen: str = "127.0.0.1:0",
        top: Mapping[str, str | float] | None = None,
        tables: str = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        knows_probes: bool = True,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.instance = directory, instance
        self.address = directory / "address"
        self.address.unlink(missing_ok=True)
        self.health = f"127.0.0.1:{free_port()}"
        keys: dict[str, str | float] = {
            "data_dir": str(directory / "data"),
            "federation_dir": str(directory / "federation"),
            "address_file": str(self.address),
            "listen": listen,
            "redis_url": "redis://127.0.0.1:1/0",
            "stop_seconds": 0.2,
            **({"health_listen": self.health, "redis_wait_seconds": 0} if knows_probes else {}),
            **(top or {}),
        }
        lines = [
            f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}"
            for key, value in keys.items()
        ]
        config = directory / "coordinator.toml"
        config.write_text(
            "\n".join(lines) + f'\n[database]\nurl = "{database_url}"\ninstance = "{instance}"\n'
            f"lease_seconds = {lease_s}\n[limits]\nreserve_bytes = 0\n{tables}"
        )
        self._log = (directory / "log").open("a+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "coordinator", "--config", str(config)],
            stderr=self._log,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
            cwd=cwd,
        )

    def log(self) -> str:
        """What all processes of this folder have logged."""
        return (self.directory / "log").read_text()

    def until(self, word: str) -> None:
        """Waits for a word in the log."""
        self._poll(lambda: word in self.log(), f"no {word!r}")

    def until_serving(self) -> None:
        """Waits until it leads and serves."""
        self._poll(self.address.exists, "it does not get ready")

    def client(self) -> Client:
        """A client of the one that leads, once it does."""
        self.until_serving()
        plan = Plan.from_canonical((self.directory / "federation" / "plan.json").read_bytes())
        return Client(self.address.read_text(), plan)

    def is_well(self, name: str) -> bool:
        """What the health port says of a name; False if it does not answer."""
        with grpc.insecure_channel(self.health) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(service=name), timeout=5, wait_for_ready=True
                )
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def until_well(self, name: str, *, well: bool = True) -> None:
        """Waits until the health port says so."""
        self._poll(lambda: self.is_well(name) is well, f"{name} does not become {well}")

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(60)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def end(self) -> None:
        """Whatever it does, it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(60)
        self._log.close()

    def _poll(self, holds: Callable[[], bool], complaint: str) -> None:
        def look() -> bool:
            assert self.process.poll() is None, self.log()
            return holds()

        until(look, lambda: f"{complaint}: {self.log()}")
