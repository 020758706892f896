"""One erasure's story with real processes, in which every service is killed with kill -9 once."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from letheon.cli.demo.ledger_reading import LedgerLog, lost_updates, read_receipts
from letheon.cli.local.dataset import make_synthetic
from letheon.cli.local.folder import FederationFolder
from letheon.cli.local.preparation import Recipe, prepare
from letheon.cli.local.running import LocalFederation, Pace
from letheon.cli.remote import Remote, connect
from letheon.errors import Unavailable
from letheon.v1 import erasures_pb2, ledger_pb2

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

WITHDRAWN, RETAINED = "site-3", "site-1"
# This story is about processes, not about how well a model forgets: small training, wide margins.
SETTINGS: dict[str, Any] = {
    "training": {"local_steps": 8, "learning_rate": 0.05},
    "gate": {
        "every": 6,
        "max_attempts": 40,
        "utility_margin": 0.3,
        "worst_site_margin": 0.5,
        "forget_margin": 0.5,
        "bootstrap": 50,
    },
}


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes that work in the folder or were given a path in it."""
    found = []
    for process in psutil.process_iter():
        try:
            # Redis replaces its command line; it works in its own folder.
            words = [*process.cmdline(), process.cwd()]
        except psutil.Error:
            continue
        if any(str(folder) in word for word in words) and process.pid != os.getpid():
            found.append(process)
    return found


class Story:
    """A federation that is up, and what a bystander sees and does."""

    def __init__(self, federation: LocalFederation, remote: Remote, told: list[str]) -> None:
        self.federation = federation
        self.told = told  # what the federation says of its processes
        self.remote = remote
        self.ledger = LedgerLog(remote)

    def until(self, what: Callable[[], Any], within_s: float = 60.0) -> Any:
        """The first true answer; whatever died meanwhile is restarted."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            self.federation.tend()
            try:
                self.ledger.refresh()
                if answer := what():
                    return answer
            except Unavailable:
                pass  # the coordinator is being restarted
            time.sleep(0.02)
        pytest.fail(f"not so within {within_s:.0f} s")

    def deltas_of(self, site: str) -> int:
        return sum(row.is_delta and row.site == f"sites/{site}" for row in self.ledger.rows)

    def is_training(self, site: str) -> bool:
        """Whether the agent's training process computes; between two tasks it sleeps."""
        try:
            family = psutil.Process(self.federation.child(site).pid).children(recursive=True)
            return any(child.status() == psutil.STATUS_RUNNING for child in family)
        except psutil.NoSuchProcess:
            return False

    def training_processes(self) -> list[psutil.Process]:
        family = psutil.Process().children(recursive=True)
        return [each for each in family if "client_agent.training_child" in each.cmdline()]

    def kill(self, name: str) -> None:
        """kill -9; its own children end with it."""
        family = psutil.Process(self.federation.child(name).pid).children(recursive=True)
        self.federation.child(name).kill()
        _, alive = psutil.wait_procs(family, timeout=60)
        assert alive == []

    def kill_redis(self) -> None:
        (server,) = processes_of(self.federation.folder.redis)
        server.kill()
        server.wait(60)

    def request(self) -> str:
        return self.remote.erasures.RequestErasure(
            erasures_pb2.RequestErasureRequest(
                request_id="withdrawal",
                site=f"sites/{WITHDRAWN}",
                legal_basis="GDPR-17-1-b",
                level=erasures_pb2.L1,
                method="removal",
                requester="test",
            )
        ).name

    def erasure(self, name: str) -> erasures_pb2.Erasure:
        return self.remote.erasures.GetErasure(erasures_pb2.GetErasureRequest(name=name))


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    folder = FederationFolder(tmp_path / "fed")
    made = prepare(folder, make_synthetic(0), Recipe(3, 1.0, 0), settings=SETTINGS)
    told: list[str] = []
    others = set(psutil.Process().children(recursive=True))  # such as a database of other tests
    with (
        LocalFederation(folder, made.sites, pace=Pace(0.3), say=told.append) as federation,
        connect(federation.address) as remote,
    ):
        yield Story(federation, remote, told)
        family = [
            process
            for process in psutil.Process().children(recursive=True)
            if others.isdisjoint([process, *process.parents()])
        ]
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    assert processes_of(folder.root) == []


def test_every_service_is_killed_once_and_the_erasure_is_certified(story: Story) -> None:
    story.until(lambda: len(story.ledger.deltas()) >= 8)
    story.until(lambda: story.is_training(RETAINED))
    story.kill(RETAINED)
    story.kill("coordinator")  # while the other sites train
    before = story.deltas_of(RETAINED)
    story.until(lambda: story.deltas_of(RETAINED) > before + 1)

    story.kill_redis()
    name = story.request()  # acknowledged: the truth is in SQL
    assert story.erasure(name).state == erasures_pb2.Erasure.RECEIVED

    story.until(lambda: story.erasure(name).HasField("removal"))
    assert not story.erasure(name).attempts  # before the gate
    story.kill("calibrator")
    story.kill("coordinator")
    story.until(lambda: story.erasure(name).state == erasures_pb2.Erasure.CERTIFIED)

    ended = Counter(line.split()[0] for line in story.told if " ended" in line)
    assert ended == {RETAINED: 1, "coordinator": 2, "redis": 1, "calibrator": 1}
    trainers = story.training_processes()
    assert len(trainers) == 3
    story.federation.stop_agents()
    assert psutil.wait_procs(trainers, timeout=60)[1] == []
    story.ledger.refresh()
    rows = story.ledger.rows
    receipts = [
        receipt
        for site in ("site-1", "site-2", "site-3")
        for receipt in read_receipts(
            story.federation.folder.site(site) / "state" / "agent.db", site
        )
    ]
    assert len(receipts) > 10
    assert lost_updates(receipts, rows) == []
    times = Counter(row.update_id for row in rows if row.update_id)
    assert {times[receipt.update_id] for receipt in receipts} == {1}
    *_, last = story.remote.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest())
    assert last.verdict.holds, last.verdict.reason
