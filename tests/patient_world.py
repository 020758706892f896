"""Real agents whose training is arithmetic on records that have patients, and a calibrator."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from erasure_builders import Federation
from private_trainer import PrivateTrainer
from prometheus_client import CollectorRegistry
from records_trainer import CONFIG, RecordsTrainer

from calibrator.adapters.coordinator_client import CoordinatorClient as CalibratorClient
from calibrator.domain.progress import Progress
from calibrator.drive import Drive, Signals
from calibrator.metrics import CalibratorMetrics
from calibrator.ports import Certified, Failed
from calibrator.services.job import Job, Workshop
from client_agent import bootstrap
from client_agent.adapters.local_tables import LocalTables
from client_agent.adapters.record_index import RecordIndex
from client_agent.adapters.sqlite_subjects import SqliteSubjects
from client_agent.config import AgentConfig
from client_agent.ports import Trainer
from letheon import registry
from letheon.servicekit.backoff import Backoff
from letheon.servicekit.clock import SystemClock
from letheon.servicekit.config import load
from letheon.servicekit.signing import SigningKey

GATE = {"every": 3, "answer_timeout_seconds": 60.0, "straggler_grace_seconds": 0.0, "bootstrap": 20}
DEADLINE_S = 60.0


def until(condition: Callable[[], Any], what: str) -> None:
    """Looks again and again until it holds."""
    end, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not so within {DEADLINE_S:.0f} s: {what}")
        pause.wait(0.02)


class SiteAgent:
    """One real agent in a thread, with its state directory and its configuration file."""

    def __init__(
        self,
        folder: Path,
        site: str,
        address: str,
        patients: Mapping[str, int],
        interval_s: float = 0.05,
        privacy: str = "",
    ) -> None:
        """`privacy` is the table of that name, TOML."""
        folder.mkdir(parents=True, exist_ok=True)
        self.state, self.site = folder / "state", site
        self.config_file = folder / "agent.toml"
        self.config_file.write_text(
            CONFIG.format(address=address, site=site, state=self.state, interval=interval_s)
            + privacy
        )
        self.trainer = RecordsTrainer(self.state, patients)
        worker = PrivateTrainer(self.trainer, self.state) if privacy else self.trainer
        self._running = bootstrap.build(self.config, trainer=cast(Trainer, worker))
        self.registry = self._running.registry
        self._thread = threading.Thread(target=self._running.agent.run)

    @property
    def config(self) -> AgentConfig:
        return load(self.config_file, AgentConfig)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._running.stop()
        if self._thread.ident is not None:
            self._thread.join(DEADLINE_S)
        self._running.close()

    def subjects(self) -> SqliteSubjects:
        """A connection of the caller's own."""
        tables = LocalTables(self.state / "agent.db")
        return SqliteSubjects(tables, RecordIndex(tables), SystemClock())


def carried_out(federation: Federation, name: str, directory: Path) -> Certified | Failed | None:
    """A calibrator's drive against the real coordinator, from the claim to the end."""
    client, clock = CalibratorClient(federation.client.channel, reader="c1"), SystemClock()
    workshop = Workshop(
        coordinator=client,
        plan=federation.client.plan,
        method=lambda method: registry.build(registry.UNLEARNING, method, {}),
        laboratory=lambda: None,  # type: ignore[arg-type, return-value]
        has_images=False,
        clock=clock,
        directory=directory,
        key=SigningKey.load_or_create(directory / "key.pem"),
    )
    drive = Drive(
        workshop,
        CalibratorMetrics(CollectorRegistry()),
        lambda: Backoff(0.01, 0.1, random.Random(0)),
        poll_s=0.02,
    )
    claim = client.claim(name, "c1")
    progress = Progress(stage_since=clock.now(), salt="00ff")
    signals = Signals(threading.Event(), threading.Event())
    return drive.run(Job(claim.ticket, claim.erasure, progress), signals)
