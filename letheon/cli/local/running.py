"""Starting, watching and stopping the processes of a federation on one machine."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from letheon.cli.local import configs
from letheon.cli.local.folder import FederationFolder
from letheon.cli.local.secure import Secure, prepare_secure
from letheon.cli.remote import Endpoint, Remote, connect
from letheon.errors import BadConfig, Unavailable
from letheon.servicekit.backoff import Backoff
from letheon.servicekit.embedded_redis import EmbeddedRedis
from letheon.servicekit.processes import Child
from letheon.v1 import federation_pb2

START_SECONDS = 30.0
STOP_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 0.1
_LISTENING_PORTS = range(20_000, 32_000)
# A service that ran this long was healthy: its next restart waits as briefly as its first.
_HEALTHY_SECONDS = 30.0


@dataclass(frozen=True)
class Pace:
    """How fast the sites train: seconds from the start of one local training to the next.

    A straggler is slow in another way: each of its trainings takes so many seconds, and its
    deltas arrive stale.
    """

    seconds: float = 0.0
    by_site: Mapping[str, float] = field(default_factory=dict)
    stragglers: Mapping[str, float] = field(default_factory=dict)  # seconds a training

    def of(self, site: str) -> float:
        """Seconds of one site, from start to start."""
        return self.stragglers.get(site, self.by_site.get(site, self.seconds))

    def settings(self, site: str) -> dict[str, float]:
        """The keys of the training table of one site's agent."""
        if site in self.stragglers:
            return {"min_duration_seconds": self.stragglers[site]}
        return {"min_interval_seconds": self.of(site)}


@dataclass
class _Kept:
    """A child with what its restarts need."""

    child: Child
    backoff: Backoff
    started: float
    again_at: float | None = None


class LocalFederation:
    """Redis, coordinator, calibrator and one agent a site, as real processes.

    Used as a context manager: entering starts all of it and returns once the coordinator
    serves; leaving stops all of it, the last one started first. `tend` restarts what died.
    """

    def __init__(
        self,
        folder: FederationFolder,
        sites: Sequence[str],
        *,
        port: int = 0,
        pace: Pace | None = None,
        agent_start_s: float = 0.0,
        secure: bool = False,
        say: Callable[[str], None] = lambda _line: None,
        tracing: str | None = None,
    ) -> None:
        """`tracing` is the OTLP receiver that every process sends its traces to."""
        self.folder = folder
        self.sites = tuple(sites)
        names = ("coordinator", "calibrator", *self.sites)
        own, enrolment, *ports = free_ports(2 + len(names), but=port)
        self._enrolment = f"{configs.HOST}:{enrolment}"
        self._wants_secure = secure
        self.secure: Secure | None = None  # made at the start
        self.port = port or own
        self._asked_for_port = bool(port)
        self._pace = pace or Pace()
        self._agent_start_s = agent_start_s
        self._tracing = tracing
        self._say = say
        self._redis = EmbeddedRedis(folder.redis)
        self._kept: dict[str, _Kept] = {}
        self._metrics = {
            name: f"{configs.HOST}:{each}" for name, each in zip(names, ports, strict=True)
        }

    @property
    def metrics(self) -> Mapping[str, str]:
        """host:port of the metrics page of each process, by its name."""
        return self._metrics

    @property
    def address(self) -> Endpoint:
        """host:port of the coordinator, with the operator's identity if it is secure."""
        identity = None if self.secure is None else self.secure.identity()
        return Endpoint(f"{configs.HOST}:{self.port}", identity)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        if self._asked_for_port:
            check_port(self.port)
        if self._wants_secure:
            self.secure = prepare_secure(self.folder, self._enrolment)
        self._redis.start()
        url = self._redis.url
        path = configs.write_coordinator(
            self.folder,
            port=self.port,
            redis_url=url,
            metrics=self._metrics["coordinator"],
            secure=self.secure,
        )
        self._trace(path)
        self._launch("coordinator", "coordinator", path)
        self._await_coordinator()
        path = configs.write_calibrator(
            self.folder,
            coordinator=self.address,
            redis_url=url,
            metrics=self._metrics["calibrator"],
            secure=self.secure,
        )
        self._trace(path)
        self._launch("calibrator", "calibrator", path)
        for number, site in enumerate(self.sites):
            if number and self._agent_start_s:
                time.sleep(self._agent_start_s)
            path = configs.write_agent(
                self.folder,
                site,
                coordinator=self.address,
                settings=self._pace.settings(site),
                metrics=self._metrics[site],
                secure=self.secure,
            )
            self._trace(path)
            if self.secure is not None:
                self.secure.enrol(site, path, self.address, _environment())
            self._launch(site, "client_agent", path)
        configs.write_prometheus(self.folder, self._metrics)

    def _trace(self, config: Path) -> None:
        if self._tracing is not None:
            configs.add_tracing(config, self._tracing)

    def _launch(self, name: str, module: str, config: Path) -> None:
        child = Child(
            [sys.executable, "-m", module, "--config", config],
            name=name,
            log_path=self.folder.logs / f"{name}.log",
            env=_environment(),
        )
        self._kept[name] = _Kept(child.start(), Backoff(base_s=0.5, cap_s=30.0), time.monotonic())

    def _await_coordinator(self) -> None:
        end = time.monotonic() + START_SECONDS
        child = self._kept["coordinator"].child
        with connect(self.address) as remote:
            while not is_up(remote):
                if child.poll() is not None:
                    raise BadConfig(f"the coordinator ended at its start: {why_ended(child)}")
                if time.monotonic() > end:
                    raise Unavailable(
                        f"the coordinator did not answer within {START_SECONDS:.0f} s; "
                        f"its log is {child.log_path}"
                    )
                time.sleep(_LOOK_AGAIN_SECONDS)

    def tend(self) -> None:
        """Restarts every process that died, each with back-off, and says so."""
        self._tend_redis()
        now = time.monotonic()
        for name, kept in self._kept.items():
            status = kept.child.poll()
            if status is None:
                continue
            if kept.again_at is None:
                if now - kept.started > _HEALTHY_SECONDS:
                    kept.backoff.reset()
                delay = kept.backoff.next_s()
                kept.again_at = now + delay
                self._say(
                    f"{name} ended ({_status_text(status)}): {why_ended(kept.child)}; "
                    f"restart in {delay:.1f} s"
                )
            elif now >= kept.again_at:
                kept.child.start()
                kept.started, kept.again_at = now, None
                self._say(f"{name} restarted")

    def _tend_redis(self) -> None:
        if self._redis.child.poll() is not None:
            port = int(self._redis.url.rpartition(":")[2].partition("/")[0])
            self._say("redis ended; restarting it on the same port")
            self._redis = EmbeddedRedis(self.folder.redis, port=port).start()

    def child(self, name: str) -> Child:
        """A running process, by name: coordinator, calibrator, or a site."""
        return self._kept[name].child

    def stop(self) -> None:
        """Stops everything in reverse order: agents first, Redis last. Repeating it is harmless."""
        self.stop_agents()
        for name in ("calibrator", "coordinator"):
            if name in self._kept:
                _stop(self._kept.pop(name).child)
        self._redis.stop()

    def stop_agents(self) -> None:
        """Stops the agents, told together: each may take some seconds to end its task."""
        agents = [self._kept.pop(name) for name in self.sites if name in self._kept]
        stoppers = [threading.Thread(target=_stop, args=(kept.child,)) for kept in reversed(agents)]
        for thread in stoppers:
            thread.start()
        for thread in stoppers:
            thread.join()


def _stop(child: Child) -> None:
    child.stop(STOP_SECONDS)


def is_up(remote: Remote) -> bool:
    """Whether the coordinator answers."""
    try:
        remote.federation.GetFederation(federation_pb2.GetFederationRequest(), timeout=2.0)
    except Unavailable:
        return False
    return True


def why_ended(child: Child) -> str:
    """The last thing an ended service said, for one line."""
    lines = [line for line in child.log_tail(20).splitlines() if line.strip()]
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            return line.strip()
        if isinstance(event, dict) and event.get("level") in ("error", "critical"):
            said = (event.get(key) for key in ("message", "why", "text", "error", "event"))
            return str(next((text for text in said if text), line))
    return f"no reason in {child.log_path}"


def _status_text(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit code {status}"


def _environment() -> dict[str, str]:
    """Our environment without LETHEON_ variables: they would override every service's file.

    LETHEON_DATA means the demo's images and LETHEON_COORDINATOR the command's coordinator; an
    agent has settings of the same names.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LETHEON_")}
    direct = f"{configs.HOST},localhost"
    return {**kept, "no_grpc_proxy": direct, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def check_port(port: int) -> None:
    """Raises BadConfig if something listens on the port already."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((configs.HOST, port))
        except OSError as error:
            raise BadConfig(
                f"port {port} cannot be used ({error.strerror}); choose another --port",
                port=port,
            ) from error


def free_ports(count: int, *, but: int = 0) -> list[int]:
    """So many different ports, none of them `but`, nobody listens on at this moment.

    None of those the system hands to outgoing connections: until the service that is to listen on
    it has started, such a connection could take it.
    """
    found: list[int] = []
    while len(found) < count:
        port = secrets.choice(_LISTENING_PORTS)
        if port in found or port == but:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((configs.HOST, port))
            except OSError:
                continue
        found.append(port)
    return found
