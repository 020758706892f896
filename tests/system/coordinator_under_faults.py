"""A real coordinator process that dies where a test wants it to, and everybody who calls it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from builders import Client, a_federation, a_vector
from erasure_builders import PASS

from letheon.cli.local.running import free_ports
from letheon.cli.local.toml_text import toml_text
from letheon.errors import Unavailable
from letheon.federation.plan import Plan
from letheon.servicekit.faults import DIRECTORY_VARIABLE, PROCESS_VARIABLE
from letheon.servicekit.processes import Child
from letheon.v1 import (
    erasures_pb2,
    erasures_pb2_grpc,
    federation_pb2,
    ledger_pb2,
    training_pb2,
)

_T = TypeVar("_T")
_LOOK_AGAIN_S = 0.01
_PATIENCE_S = 30.0


@dataclass
class FragileCoordinator:
    """Started, killed and started again on one folder and one port."""

    root: Path
    redis_url: str = "redis://127.0.0.1:1/0"
    settings: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=lambda: free_ports(1)[0])

    def __post_init__(self) -> None:
        self.faults = self.root / "faults"
        self.faults.mkdir()
        self.plan: Plan = a_federation(self.root / "federation")
        self.data = self.root / "data"
        config = self.root / "coordinator.toml"
        config.write_text(
            toml_text(
                {
                    "listen": f"127.0.0.1:{self.port}",
                    "data_dir": self.data,
                    "federation_dir": self.root / "federation",
                    "redis_url": self.redis_url,
                    "address_file": self.root / "address",
                    "upkeep": {"every_seconds": 0.05},
                    "tombstones": {"path": self.root / "tombstones.log"},
                    **self.settings,
                }
            )
        )
        self.child = Child(
            [sys.executable, "-m", "coordinator", "--config", config],
            name="coordinator",
            log_path=self.root / "coordinator.log",
            env=_environment(self.faults),
        )
        self.client = Client(f"127.0.0.1:{self.port}", self.plan)
        self.erasures = erasures_pb2_grpc.ErasuresStub(self.client.channel)
        self.jobs = erasures_pb2_grpc.ErasureJobsStub(self.client.channel)

    def start(self) -> None:
        """Returns once it serves."""
        (self.root / "address").unlink(missing_ok=True)
        self.child.start()
        self.until(lambda: (self.root / "address").exists() or self.child.poll() is not None)
        assert self.child.poll() is None, self.child.log_tail()

    def close(self) -> None:
        self.client.close()
        self.child.stop()

    def arm(self, point: str, fault: str = "kill") -> None:
        (self.faults / f"coordinator.{point}").write_text(fault)

    def has_fired(self, point: str) -> bool:
        return (self.faults / f"coordinator.{point}.taken").exists()

    def died(self) -> None:
        """Waits for the kill that was armed."""
        assert self.child.wait(_PATIENCE_S) == -signal.SIGKILL, self.child.log_tail()

    def until(self, what: Callable[[], bool]) -> None:
        """Waits until it is so."""
        pause = threading.Event()
        for _ in range(round(_PATIENCE_S / _LOOK_AGAIN_S)):
            if what():
                return
            pause.wait(_LOOK_AGAIN_S)
        raise AssertionError(f"not so in time; {self.child.log_tail()}")

    def despite(self, point: str, call: Callable[[], _T], when_dead: Callable[[], None]) -> _T:
        """The answer of a call; if the armed kill cuts it, that of the call repeated."""
        try:
            return call()
        except Unavailable:
            assert self.has_fired(point)
            self.died()
            when_dead()
            self.start()
            return call()

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.data / "coordinator.sqlite")) as database:
            return database.execute(query, values).fetchall()

    def files(self, area: str) -> set[str]:
        return {path.name for path in (self.data / area).iterdir()}

    def version(self) -> int:
        return self.status().head_version

    def status(self) -> federation_pb2.FederationStatus:
        return self.client.federation.GetFederation(federation_pb2.GetFederationRequest())

    def train(self, *sites: str, seed: int = 0) -> None:
        for number, site in enumerate(sites, start=1):
            now = self.status()
            self.client.push(
                site, a_vector(seed + 7 * number), base_version=now.head_version, epoch=now.epoch
            )

    def verdict(self) -> ledger_pb2.LedgerVerdict:
        *_, last = self.client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest())
        return last.verdict

    def erasure(self, name: str) -> erasures_pb2.Erasure:
        return self.erasures.GetErasure(erasures_pb2.GetErasureRequest(name=name))

    def request(self, site: str) -> erasures_pb2.Erasure:
        return self.erasures.RequestErasure(
            erasures_pb2.RequestErasureRequest(
                request_id=f"withdrawal of {site}",
                site=f"sites/{site}",
                legal_basis="GDPR-17-1-b",
            )
        )

    def claim(self, name: str) -> int:
        request = erasures_pb2.ClaimErasureRequest(name=name, holder="calibrator-1")
        return int(self.jobs.ClaimErasure(request).fencing_token)

    def remove(self, name: str, token: int) -> erasures_pb2.Removal:
        return self.jobs.RemoveContribution(
            erasures_pb2.RemoveContributionRequest(name=name, fencing_token=token)
        )

    def ask_evaluate(self, name: str, token: int, version: int) -> None:
        self.jobs.AskSites(
            erasures_pb2.AskSitesRequest(
                name=name,
                fencing_token=token,
                request_id=f"{name}-{version}",
                evaluate=training_pb2.EvaluateTask(versions=[version]),
            )
        )

    def answer(self, site: str, version: int) -> None:
        """Answers the one evaluate task that waits; none waits any more if it is known."""
        ask = training_pb2.NextTaskRequest(site=f"sites/{site}")
        task = self.client.training.NextTask(ask).evaluate.name
        if task:
            utility = training_pb2.Utility(version=version, records=9, accuracy=0.5)
            self.client.training.SubmitAnswer(
                training_pb2.SubmitAnswerRequest(
                    site=f"sites/{site}",
                    task=task,
                    evaluate=training_pb2.EvaluateAnswer(utilities=[utility]),
                )
            )

    def passes(self, name: str, token: int, version: int) -> dict[str, Any]:
        test = erasures_pb2.Attempt.Test(name="utility", verdict=PASS, numbers_json="{}")
        recorded = self.jobs.RecordAttempt(
            erasures_pb2.RecordAttemptRequest(
                name=name,
                fencing_token=token,
                attempt=erasures_pb2.Attempt(version=version, verdict=PASS, tests=[test]),
            )
        )
        return json.loads(recorded.evidence_json)

    def conclude(self, name: str, token: int, certificate: bytes) -> erasures_pb2.Erasure:
        return self.jobs.ConcludeErasure(
            erasures_pb2.ConcludeErasureRequest(
                name=name, fencing_token=token, certificate=certificate
            )
        )


@contextmanager
def a_fragile_coordinator(root: Path, **more: Any) -> Iterator[FragileCoordinator]:
    """One that serves."""
    made = FragileCoordinator(root, **more)
    try:
        made.start()
        yield made
    finally:
        made.close()


def _environment(faults: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LETHEON_")}
    return {
        **kept,
        "OMP_NUM_THREADS": "1",
        DIRECTORY_VARIABLE: str(faults),
        PROCESS_VARIABLE: "coordinator",
    }
