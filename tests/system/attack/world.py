"""The federation under attack: what `letheon up --secure` sets up, with agents without torch."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from client_agent.config import AgentConfig
from client_agent.first_certificate import fetch_certificate
from letheon.cli.local import configs
from letheon.cli.local.folder import FederationFolder
from letheon.cli.local.running import why_ended
from letheon.cli.local.secure import FEDERATION, Secure, prepare_secure
from letheon.cli.local.toml_text import toml_text
from letheon.cli.remote import Endpoint, connect
from letheon.federation.parameters import Layout, TensorSpec, Vector, write_safetensors
from letheon.federation.plan import Plan, PlanDraft, Plugin
from letheon.names import site_name
from letheon.servicekit import config as configuration
from letheon.servicekit.authority import FileAuthority
from letheon.servicekit.caller import Role
from letheon.servicekit.channel import open_channel
from letheon.servicekit.embedded_redis import EmbeddedRedis
from letheon.servicekit.identity import Identity
from letheon.servicekit.identity_folder import files_in, write_identity
from letheon.servicekit.processes import Child
from letheon.servicekit.route import Route, TlsFiles
from letheon.v1 import enrolment_pb2, federation_pb2, ledger_pb2

from ..chaos.processes import until
from ..chaos.world import _free_port
from .insider import Insider

SITES = ("north", "south", "east", "west", "tiny", "gone")
_ROUNDS = 4  # deltas of each site before the attacks: screening knows them then
_VALUES = 3_000
_LIFE = timedelta(days=1)
_READY_S, _STOP_S = 40.0, 15.0
LAYOUT = Layout((TensorSpec("weight", (_VALUES - 10,)), TensorSpec("bias", (10,))))
# Shorter than in a hospital, so that what is to be seen can be seen in a minute.
_COORDINATOR: dict[str, Any] = {
    "polling": {"retry_after_seconds": 0.2},
    "upkeep": {"every_seconds": 0.3, "checkpoint_entries": 5},
    "audit": {"head_hours": 1.0 / 3600},
    "limits": {"silence_seconds": 2.0, "slowest_bytes_per_second": 1 << 20},
    "stop_seconds": 1.0,
}


class NotStarted(Exception):
    """The coordinator ended at its start."""


class World:
    """Is up while the context lasts; `agents` says whether agents and a calibrator run as well."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = FederationFolder(root / "federation")
        self.port, self.enrolment = _free_port(), f"{configs.HOST}:{_free_port()}"
        self.redis = EmbeddedRedis(self.folder.redis)
        self._children: dict[str, Child] = {}
        self._closing = ExitStack()

    def __enter__(self) -> World:
        try:
            self.plan = self._write_plan()
            self.redis.start()
            self.secure: Secure = prepare_secure(self.folder, self.enrolment)
            self._write_coordinator()
            self.start_coordinator()
            self.insiders = {site: self._enrol(site, n) for n, site in enumerate(SITES, start=1)}
            for number in range(_ROUNDS):
                for insider in self.insiders.values():
                    insider.push(insider.honest(number))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for insider in getattr(self, "insiders", {}).values():
            insider.close()
        self._closing.close()
        for name in reversed(list(self._children)):
            self._children.pop(name).stop(_STOP_S)
        self.redis.stop()

    @property
    def address(self) -> str:
        """The coordinator's main port."""
        return f"{configs.HOST}:{self.port}"

    @property
    def data(self) -> Path:
        """The coordinator's files."""
        return self.folder.coordinator

    @property
    def database(self) -> Path:
        """Its database."""
        return self.data / "coordinator.sqlite"

    @property
    def origin(self) -> str:
        """host:port with the operator's identity, as the commands take it."""
        return Endpoint(self.address, self.secure.identity())

    @cached_property
    def authority(self) -> FileAuthority:
        """The federation's own: attackers do not have it, the tests' set-up does."""
        return FileAuthority(self.secure.authority)

    def command(self, *words: str | Path, who: str = "operator") -> list[str | Path]:
        """A command line of `letheon` as a person."""
        identity = ["--identity", self.secure.identity(who), "--coordinator", self.address]
        return [*identity, *words]

    def identity(self, role: Role, name: str, **more: Any) -> Path:
        """A folder with a certificate of the federation's authority, made for an attack."""
        at = more.get("now") or datetime.now(UTC)
        place = self.root / "made" / f"{role}-{name}-{len(list(self.root.glob('made/*')))}"
        who = Identity(more.get("federation", FEDERATION), role, name)
        life = more.get("life", _LIFE)
        write_identity(place, self.authority, lambda key: self.authority.issue(who, key, at, life))
        return place

    def channel(self, folder: Path, address: str = "") -> grpc.Channel:
        """With the identity in a folder."""
        return self.channel_with(files_in(folder), address)

    def channel_with(self, tls: TlsFiles | None, address: str = "") -> grpc.Channel:
        """With these files; None: a plain connection."""
        route = None if tls is None else Route(tls=tls)
        channel = open_channel(address or self.address, route=route, deadline_s=10.0)
        self._closing.callback(channel.close)
        return channel

    def operator(self, name: str = "operator") -> grpc.Channel:
        """One of the two operators of the set-up."""
        return self.channel(self.secure.identity(name))

    def status(self) -> federation_pb2.FederationStatus:
        """Where the federation stands."""
        with connect(self.origin) as remote:
            return remote.federation.GetFederation(federation_pb2.GetFederationRequest())

    def ledger(self) -> ledger_pb2.LedgerVerdict:
        """What a verification of the ledger says."""
        with connect(self.origin) as remote:
            *_, last = remote.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest())
        return last.verdict

    def start_coordinator(self) -> None:
        """Starts it and waits until it serves. Raises NotStarted with what it ended with."""
        child = self.launch("coordinator", "coordinator", self.folder.config_of("coordinator"))

        def serves() -> bool:
            return child.poll() is not None or bool(self.status().plan_digest)

        if not until(serves, _READY_S) or child.poll() is not None:
            raise NotStarted(why_ended(child))

    def stop(self, *names: str) -> None:
        """Stops processes; the last one named first."""
        for name in reversed(names):
            self._children.pop(name).stop(_STOP_S)

    def stop_if_running(self, name: str) -> None:
        """One that may have ended by itself."""
        if name in self._children:
            self.stop(name)

    def launch(self, name: str, module: str, config: Path) -> Child:
        """Starts a process of the federation."""
        self._children[name] = Child(
            [sys.executable, "-m", module, "--config", config],
            name=name,
            log_path=self.folder.logs / f"{name}.log",
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ).start()
        return self._children[name]

    def exit_of(self, name: str) -> int | None:
        """The status of a process that ended by itself."""
        return self._children[name].poll() if name in self._children else None

    def child(self, name: str) -> Child:
        """A running process."""
        return self._children[name]

    def start_agents(self) -> None:
        """The agent of each site, and the calibrator."""
        (self.folder.calibrator / "settings.json").write_text("{}")
        self._launch_calibrator()
        for site in SITES:
            module = "tests.system.chaos.toy_agent"
            self.launch(site, module, self.folder.site(site) / "agent.toml")

    def _launch_calibrator(self) -> None:
        path = configs.write_calibrator(
            self.folder,
            coordinator=self.address,
            redis_url=self.redis.url,
            metrics=f"{configs.HOST}:{_free_port()}",
            secure=self.secure,
        )
        self.launch("calibrator", "calibrator", path)

    def _write_plan(self) -> Plan:
        plan = PlanDraft(
            name="attacked",
            model=Plugin(plugin="toy"),
            image={"channels": 1, "height": 1, "width": 1},
            classes=2,
            also_accepts=("float32+zstd",),
            strategy=Plugin(plugin="fedasync", arguments={"server_learning_rate": 0.3}),
            screening={"mode": "quarantine"},
            serving={"policy": "serve-none", "advance_every": 10, "utility_margin": 1.0},
            gate={"every": 4, "max_attempts": 60, "answer_timeout_seconds": 8.0,
                  "straggler_grace_seconds": 0.5},
        ).with_layout(LAYOUT)  # fmt: skip
        self.folder.federation.mkdir(parents=True)
        self.folder.calibrator.mkdir()
        self.folder.plan.write_bytes(plan.canonical_json())
        write_safetensors(self.folder.weights, _noise(0), LAYOUT)
        return plan

    def _write_coordinator(self) -> None:
        path = configs.write_coordinator(
            self.folder,
            port=self.port,
            redis_url=self.redis.url,
            metrics=f"{configs.HOST}:{_free_port()}",
            secure=self.secure,
        )
        path.write_text(toml_text({**tomllib.loads(path.read_text()), **_COORDINATOR}))

    def _enrol(self, site: str, number: int) -> Insider:
        """As an agent enrols: a token, a key of its own, a certificate, a key for updates."""
        home = self.folder.site(site)
        home.mkdir(parents=True)
        toy = {"plugin": "toy", "arguments": {"seed": number, "seconds": 0.08}}
        (home / "settings.json").write_text(f'{{"data": {json.dumps(toy)}}}')
        path = configs.write_agent(
            self.folder,
            site,
            coordinator=self.address,
            settings={"min_interval_seconds": 0.3},
            metrics=f"{configs.HOST}:{_free_port()}",
            secure=self.secure,
        )
        with connect(self.origin) as remote:
            invite = enrolment_pb2.InviteSiteRequest(site=site_name(site))
            token = remote.enrolment.InviteSite(invite).token
        config = configuration.load(path, AgentConfig)
        fetch_certificate(config, self.enrolment, token)
        insider = Insider(
            site, config, self.plan, self.address, weight=0.02 if site == "tiny" else 1.0
        )
        insider.token = token
        insider.register()
        return insider


def _noise(seed: int) -> Vector:
    return np.random.default_rng(seed).normal(size=LAYOUT.size).astype(np.float32)
