"""A real coordinator, a real Redis, sites that work, and calibrators as processes to be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from builders import Client, a_vector
from erasure_world import a_statistic

from letheon.errors import LetheonError
from letheon.servicekit import faults
from letheon.v1 import erasures_pb2, erasures_pb2_grpc, ledger_pb2, models_pb2, training_pb2

DEADLINE_S = 60.0


def until(condition: Callable[[], Any], what: str) -> None:
    """Looks again and again until it holds."""
    end, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not so within {DEADLINE_S:.0f} s: {what}")
        pause.wait(0.02)


class Sites:
    """Three sites in a thread: two push deltas, all answer what an erasure asks."""

    def __init__(self, client: Client, subject: str = "south") -> None:
        self._client, self._subject = client, subject
        self._names = ("north", subject, "west")
        client.register(*self._names)
        for number, name in enumerate(self._names):
            client.push(name, a_vector(number), base_version=number)
        self._draws = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(DEADLINE_S)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            for name in self._names:
                request = training_pb2.NextTaskRequest(site=f"sites/{name}")
                try:
                    self._do(name, self._client.training.NextTask(request))
                except LetheonError:
                    continue  # a new epoch began: the next task is of it

    def _do(self, name: str, task: training_pb2.NextTaskResponse) -> None:
        match task.WhichOneof("outcome"):
            case "train" if name != self._subject:
                request = models_pb2.DownloadModelRequest(name="models/head")
                header = next(iter(self._client.models.DownloadModel(request))).header
                self._draws += 1
                self._client.push(
                    name,
                    a_vector(100 + self._draws, scale=1e-3),
                    base_version=header.version,
                    epoch=task.epoch,
                )
            case "evaluate":
                utilities = [
                    training_pb2.Utility(
                        version=v, records=100, accuracy=0.9, balanced_accuracy=0.9
                    )
                    for v in task.evaluate.versions
                ]
                answer = training_pb2.EvaluateAnswer(utilities=utilities)
                self._answer(name, task.evaluate.name, evaluate=answer)
            case "audit":
                asked = erasures_pb2.GetErasureRequest(name=task.audit.erasure)
                stub = erasures_pb2_grpc.ErasuresStub(self._client.channel)
                # Deltas of the retained sites may arrive between the request and the removal.
                before = stub.GetErasure(asked).removal.version_before
                statistics = [
                    a_statistic(v, 0.7 if v <= before else 0.5) for v in task.audit.versions
                ]
                answer = training_pb2.AuditAnswer(statistics=statistics)
                self._answer(name, task.audit.name, audit=answer)

    def _answer(self, site: str, task: str, **answer: Any) -> None:
        request = training_pb2.SubmitAnswerRequest(site=f"sites/{site}", task=task, **answer)
        self._client.training.SubmitAnswer(request)


class Erasing:
    """The erasure of `south` as everybody else sees it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._erasures = erasures_pb2_grpc.ErasuresStub(client.channel)
        self.name = ""

    def request(self) -> None:
        filed = self._erasures.RequestErasure(
            erasures_pb2.RequestErasureRequest(
                request_id="r1", site="sites/south", legal_basis="GDPR-17-1-b"
            )
        )
        self.name = filed.name

    @property
    def now(self) -> erasures_pb2.Erasure:
        return self._erasures.GetErasure(erasures_pb2.GetErasureRequest(name=self.name))

    def await_certified(self) -> None:
        until(lambda: self.now.state == erasures_pb2.Erasure.CERTIFIED, "certified")

    def check_done_once(self) -> None:
        """One removal, one attempt, and a ledger that holds."""
        assert [one.number for one in self.now.attempts] == [1]
        request = ledger_pb2.ListEntriesRequest(page_size=1000)
        entries = self._client.ledger.ListEntries(request).entries
        assert sum(entry.kind == "removal" for entry in entries) == 1
        *_, last = self._client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest())
        assert last.verdict.holds, last.verdict.reason


class Calibrator:
    """One calibrator process; its faults are armed before it starts."""

    def __init__(self, folder: Path, name: str, address: str, redis_url: str) -> None:
        self.folder = folder / name
        (self.folder / "faults").mkdir(parents=True)
        self._config = self.folder / "calibrator.toml"
        self._config.write_text(
            f'coordinator = "{address}"\nredis_url = "{redis_url}"\nname = "{name}"\n'
            f'state_dir = "{self.folder}/state"\npoll_seconds = 0.05\nblock_seconds = 0.2\n'
            "reclaim_seconds = 1.0\nrenew_seconds = 0.2\nbackoff_cap_seconds = 0.5\n"
            "stop_grace_seconds = 10.0\n"
        )
        self._log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def arm(self, point: str, fault: str) -> None:
        (self.folder / "faults" / f"calibrator.{point}").write_text(fault)

    def is_frozen(self) -> bool:
        assert self.process is not None
        return psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED

    def start(self) -> None:
        environment = {
            **os.environ,
            faults.DIRECTORY_VARIABLE: str(self.folder / "faults"),
            faults.PROCESS_VARIABLE: "calibrator",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "calibrator", "--config", str(self._config)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, env=environment)

    def killed(self) -> bool:
        assert self.process is not None
        return self.process.wait(DEADLINE_S) == -signal.SIGKILL

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def ends_with(self) -> int:
        assert self.process is not None
        return self.process.wait(DEADLINE_S)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)
