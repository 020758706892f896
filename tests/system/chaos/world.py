"""One federation: its folder, its settings, its processes and the network between them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from letheon.cli.local.toml_text import toml_text
from letheon.federation.parameters import Layout, TensorSpec, write_safetensors
from letheon.federation.plan import Plan, PlanDraft, Plugin
from letheon.servicekit.channel import open_channel
from letheon.servicekit.embedded_redis import EmbeddedRedis
from letheon.servicekit.faults import DIRECTORY_VARIABLE, PROCESS_VARIABLE
from letheon.v1 import federation_pb2
from letheon.v1.erasures_pb2_grpc import ErasuresStub
from letheon.v1.federation_pb2_grpc import FederationStub
from letheon.v1.ledger_pb2_grpc import LedgerStub

from .processes import Fleet, until
from .proxy import Proxies

CALIBRATORS = ("calibrator-1", "calibrator-2")
CLAIM_LEASE_S = 4.0
_READY_S = 30.0
_SERVER_PORTS = (15_000, 32_000)
_SMALL, _LARGE = 3_000, 400_000  # values of a model; the larger one takes two chunks


class Database(Protocol):
    """Where the coordinator of one federation keeps its rows."""

    url: str

    def kill(self) -> None:
        """kill -9 of the whole server; harmless for one without processes."""

    def start(self) -> None:
        """Starts it again."""


@dataclass(frozen=True)
class Settings:
    """What differs from one federation to the next."""

    sites: tuple[str, ...]
    strategy: Plugin
    policy: str
    values: int
    interval_s: float

    @classmethod
    def drawn(cls, rng: random.Random) -> Settings:
        """Settings from a seeded source."""
        large = rng.random() < 0.25
        strategy = rng.choice(
            (
                Plugin(plugin="fedasync", arguments={"server_learning_rate": 0.5}),
                Plugin(plugin="fedbuff", arguments={"buffer_size": 3}),
            )
        )
        return cls(
            sites=tuple(f"site-{n}" for n in range(1, rng.randint(4, 6) + 1)),
            strategy=strategy,
            policy=rng.choice(("serve-old", "serve-none", "serve-fallback")),
            values=_LARGE if large else _SMALL,
            interval_s=0.8 if large else 0.3,
        )

    @property
    def layout(self) -> Layout:
        """Two tensors of the drawn size."""
        return Layout((TensorSpec("weight", (self.values - 10,)), TensorSpec("bias", (10,))))

    def __str__(self) -> str:
        return (
            f"{len(self.sites)} sites, {self.strategy.plugin}, {self.policy}, {self.values} values"
        )


class World:
    """A federation that is up. Close it, whatever happens."""

    def __init__(self, root: Path, settings: Settings, database: Database) -> None:
        self.root, self.settings, self.database = root, settings, database
        self.faults, self.logs = root / "faults", root / "logs"
        self.faults.mkdir(parents=True)
        self.data = root / "coordinator"
        self.tombstones = root / "tombstones.log"
        self.fleet = Fleet()
        self.proxies = Proxies()
        self.address = f"127.0.0.1:{_free_port()}"
        self.redis = EmbeddedRedis(root / "redis", _free_port())
        self.redis.start()
        port = int(self.address.rpartition(":")[2])
        redis_port = int(self.redis.url.rpartition(":")[2].partition("/")[0])
        self.network = {
            name: self.proxies.open(_free_port(), target)
            for name, target in (
                *((client, port) for client in (*settings.sites, *CALIBRATORS)),
                ("coordinator-redis", redis_port),
                *((f"{name}-redis", redis_port) for name in CALIBRATORS),
            )
        }
        channel = open_channel(self.address, deadline_s=10.0)
        self._channel = channel
        self.erasures, self.ledger = ErasuresStub(channel), LedgerStub(channel)
        self.federation = FederationStub(channel)

    @property
    def public_key(self) -> Path:
        """What verifies the calibrators' certificates."""
        return self.root / "signing_key.pub.pem"

    @property
    def payloads(self) -> Path:
        """The payload files of the coordinator."""
        return self.data / "payloads"

    @property
    def agents_and_calibrators(self) -> tuple[str, ...]:
        """Every process but the coordinator and the stores."""
        return (*self.settings.sites, *CALIBRATORS)

    def agent_database(self, site: str) -> Path:
        """The outbox of a site."""
        return self.root / "sites" / site / "agent.db"

    def start(self) -> None:
        """Writes the federation and starts everything; returns when the coordinator serves."""
        plan = self._write_federation()
        self._start("coordinator", "coordinator", self._coordinator())
        for name in CALIBRATORS:
            self._start(name, "calibrator", self._calibrator(name))
        for number, site in enumerate(self.settings.sites, start=1):
            self._start(site, "tests.system.chaos.toy_agent", self._agent(site, number))
        if not until(lambda: self.status().plan_digest == plan.digest, _READY_S):
            raise TimeoutError(f"the coordinator did not start; see {self.logs}")

    def status(self) -> federation_pb2.FederationStatus:
        """Where the federation stands. Raises LetheonError."""
        return self.federation.GetFederation(
            federation_pb2.GetFederationRequest(), timeout=5.0, wait_for_ready=True
        )

    def close(self) -> None:
        """Stops everything."""
        for name in self.fleet.names:
            self.fleet.signal(name, signal.SIGCONT)
        self.fleet.close()
        self._channel.close()
        self.redis.stop()
        self.proxies.close()

    def _write_federation(self) -> Plan:
        layout = self.settings.layout
        plan = PlanDraft(
            name="chaos",
            model=Plugin(plugin="toy"),
            image={"channels": 1, "height": 1, "width": 1},
            classes=2,
            strategy=self.settings.strategy,
            serving={"policy": self.settings.policy, "advance_every": 10, "utility_margin": 1.0},
            gate={
                "every": 4,
                "max_attempts": 60,
                "answer_timeout_seconds": 8.0,
                "straggler_grace_seconds": 0.5,
            },
        ).with_layout(layout)
        folder = self.root / "federation"
        folder.mkdir()
        (folder / "plan.json").write_bytes(plan.canonical_json())
        weights = np.random.default_rng(0).normal(size=layout.size).astype(np.float32)
        write_safetensors(folder / "initial.safetensors", weights, layout)
        return plan

    def _start(self, name: str, module: str, config: dict[str, Any]) -> None:
        path = self.root / f"{name}.toml"
        path.write_text(toml_text(config), encoding="utf-8")
        env = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            DIRECTORY_VARIABLE: str(self.faults),
            PROCESS_VARIABLE: name,
        }
        command = [sys.executable, "-m", module, "--config", path]
        self.fleet.add(name, command, self.logs / f"{name}.log", env)

    def _through(self, proxy: str) -> str:
        return f"127.0.0.1:{self.network[proxy].port}"

    def _redis_through(self, proxy: str) -> str:
        return f"redis://{self._through(proxy)}/0"

    def _coordinator(self) -> dict[str, Any]:
        database: dict[str, Any] = {"instance": "chaos", "lease_seconds": 3.0}
        if self.database.url:
            database["url"] = self.database.url
        return {
            "listen": self.address,
            "data_dir": self.data,
            "federation_dir": self.root / "federation",
            "redis_url": self._redis_through("coordinator-redis"),
            "polling": {"retry_after_seconds": 0.2},
            "upkeep": {
                "every_seconds": 0.3,
                "checkpoint_entries": 20,
                "fold_entries": 8,
            },
            "retention": {"keep_entries": 40},
            "tombstones": {"path": self.tombstones, "key": self.root / "tombstones.pem"},
            "claims": {"lease_seconds": CLAIM_LEASE_S, "reannounce_seconds": 3.0},
            "database": database,
        }

    def _calibrator(self, name: str) -> dict[str, Any]:
        return {
            "coordinator": self._through(name),
            "redis_url": self._redis_through(f"{name}-redis"),
            "name": name,
            "state_dir": self.root / name,
            "signing_key": self.root / "signing_key.pem",
            "poll_seconds": 0.2,
            "block_seconds": 0.3,
            "renew_seconds": 0.5,
            "reclaim_seconds": 2.0,
            "backoff_cap_seconds": 1.0,
        }

    def _agent(self, site: str, number: int) -> dict[str, Any]:
        return {
            "coordinator": self._through(site),
            "site": site,
            "state_dir": self.root / "sites" / site,
            "data": {"plugin": "toy", "arguments": {"seed": number, "seconds": 0.08}},
            "training": {"min_interval_seconds": self.settings.interval_s},
            "poll": {"maximum_seconds": 0.5, "backoff_cap_seconds": 0.5},
        }


def _free_port() -> int:
    """A port below those that the kernel gives to clients.

    A server that is down for a moment would find one of theirs taken: by any client, even by one
    that tries to reach the server itself.
    """
    while True:
        port = random.SystemRandom().randrange(*_SERVER_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
