"""A real agent in a thread that trains, evaluates and audits in this process: no second one."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from client_agent import bootstrap
from client_agent.adapters.child_link import ChildLink
from client_agent.adapters.trainer_process import TrainerProcess, adoption, holdings, opening
from client_agent.config import AgentConfig
from client_agent.training_child.workbench import Workbench
from letheon.servicekit.config import load

CONFIG = """
coordinator = "{address}"
site = "{site}"
state_dir = "{state}"
control_share = 0.25
validation_share = 0.25
[data]
plugin = "npz"
arguments = {{ path = "{records}", split = "all" }}
[training]
min_interval_seconds = 0.05
threads = 1
[poll]
minimum_seconds = 0.01
maximum_seconds = 0.1
heartbeat_seconds = 0.05
backoff_cap_seconds = 0.5
"""


class WorkbenchLink:
    """What the pipe to the training process is to a daemon, without pipe and process."""

    pid = 0
    has_ended = False

    def __init__(self) -> None:
        self.workbench = Workbench()

    def ask(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        more = (lambda: False,) if name == "train" else ()
        told: Mapping[str, Any] = getattr(self.workbench, name)(arguments, *more)
        return told

    def abandon(self) -> None: ...

    def end(self, grace_s: float) -> None: ...


class WorkbenchTrainer(TrainerProcess):
    """The agent's own trainer, its training process exchanged for a `WorkbenchLink`."""

    def __init__(self, config: AgentConfig) -> None:
        super().__init__(config, config.state_dir, lambda: None, frozenset)

    def _ready(self, *, with_plan: bool = True) -> ChildLink:
        if self._link is None:
            self._link = cast(ChildLink, WorkbenchLink())
            opened = opening(self._config, self._state_dir, ())
            self._holdings = holdings(self._ask(self._link, "open", opened))
            if with_plan and self._plan is not None:
                self._ask(self._link, "adopt", adoption(self._config, self._plan))
        return self._link


class WorkbenchAgent:
    """One site with the records of an .npz."""

    def __init__(self, folder: Path, site: str, address: str, records: Path) -> None:
        folder.mkdir(parents=True)
        self.site = site
        file = folder / "agent.toml"
        file.write_text(
            CONFIG.format(address=address, site=site, state=folder / "state", records=records)
        )
        self.trainer = WorkbenchTrainer(load(file, AgentConfig))
        self._running = bootstrap.build(load(file, AgentConfig), trainer=self.trainer)
        self._thread = threading.Thread(target=self._running.agent.run)

    @property
    def workbench(self) -> Workbench:
        """Where it trains; to be used once the agent has stopped."""
        return cast(WorkbenchLink, self.trainer._link).workbench

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._running.stop()
        if self._thread.ident is not None:
            self._thread.join(60.0)
        self._running.close()
