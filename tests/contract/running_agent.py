"""An agent in a thread of the test, and the tasks it is given."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

from quick_trainer import QuickTrainer
from scripted_coordinator import SIDE

from client_agent import bootstrap
from client_agent.config import AgentConfig
from letheon.errors import LetheonError
from letheon.v1 import training_pb2


def a_config(address: str, state_dir: Path, **overrides: Any) -> AgentConfig:
    images = {"records": 80, "classes": 2, "channels": 1, "height": SIDE, "width": SIDE}
    fields = {
        "coordinator": address,
        "site": "north",
        "state_dir": state_dir,
        "data": {"plugin": "synthetic", "arguments": images},
        "poll": {"minimum_seconds": 0.01, "heartbeat_seconds": 0.05, "backoff_cap_seconds": 0.6},
        **overrides,
    }
    return AgentConfig.model_validate(fields)


class RunningAgent:
    """An agent in a thread; `stop` is what SIGTERM does."""

    def __init__(self, config: AgentConfig, trainer: QuickTrainer | None = None) -> None:
        self.error: Exception | None = None
        self._running = bootstrap.build(config, trainer=trainer)
        self.registry = self._running.registry
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._running.agent.run()
        except LetheonError as error:
            self.error = error

    def stop(self) -> None:
        self._running.stop()
        self.join()
        self._running.close()

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"letheon_agent_{name}", labels) or 0.0


def uploads_in(state_dir: Path) -> list[sqlite3.Row]:
    database = sqlite3.connect(state_dir / "agent.db")
    database.row_factory = sqlite3.Row
    rows = database.execute("SELECT * FROM uploads ORDER BY number").fetchall()
    database.close()
    return rows


def an_evaluation(name: str = "tasks/e1") -> training_pb2.NextTaskResponse:
    return training_pb2.NextTaskResponse(
        evaluate=training_pb2.EvaluateTask(name=name, versions=[0]), epoch=0
    )


def an_audit(name: str = "tasks/a1", epoch: int = 0) -> training_pb2.NextTaskResponse:
    audit = training_pb2.AuditTask(name=name, erasure="erasures/x", versions=[0], seed=1)
    return training_pb2.NextTaskResponse(audit=audit, epoch=epoch)


def an_erase(name: str = "tasks/x1") -> training_pb2.NextTaskResponse:
    erase = training_pb2.EraseTask(
        name=name, erasure="erasures/x", method="afu_ic_rebased", parameters_json="{}", version=0
    )
    return training_pb2.NextTaskResponse(erase=erase, epoch=0)
