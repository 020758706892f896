"""The daemon as a process of its own, its training process with it, against a real server."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from scripted_coordinator import SIDE, ScriptedCoordinator, a_plan

from letheon.federation.encoding import decode
from letheon.v1 import training_pb2

CONFIG = """
log_level = "DEBUG"
coordinator = "{address}"
site = "north"
state_dir = "{state}"
[data]
plugin = "{plugin}"
arguments = {arguments}
[poll]
minimum_seconds = 0.01
heartbeat_seconds = 0.05
backoff_cap_seconds = 0.6
"""
IMAGES = f"{{ records = 80, classes = 2, channels = 1, height = {SIDE}, width = {SIDE} }}"
FOREVER = {"local_steps": 10_000_000, "batch_size": 8}


class Daemon:
    def __init__(self, folder: Path, address: str, plugin: str, arguments: str) -> None:
        self.state = folder / "state"
        self._config = folder / "agent.toml"
        self._log = folder / "stderr.log"
        self._config.write_text(
            CONFIG.format(address=address, state=self.state, plugin=plugin, arguments=arguments)
        )
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "client_agent", "--config", str(self._config)], stderr=log
            )

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()


Start = Callable[..., Daemon]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    daemons: list[Daemon] = []

    def start(address: str, plugin: str = "synthetic", arguments: str = IMAGES) -> Daemon:
        daemons.append(Daemon(tmp_path, address, plugin, arguments))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.process.kill()
        daemon.process.wait(60)
    if daemons:
        sys.stdout.write(daemons[0].stderr)  # shown when the test fails


@pytest.fixture
def serve() -> Iterator[Callable[..., ScriptedCoordinator]]:
    started: list[ScriptedCoordinator] = []

    def serve(**plan: object) -> ScriptedCoordinator:
        started.append(ScriptedCoordinator(*a_plan(**plan)).start())
        return started[-1]

    yield serve
    for coordinator in started:
        coordinator.stop()


Serve = Callable[..., ScriptedCoordinator]


def until_gone(process: psutil.Process) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        gone, _ = psutil.wait_procs([process], timeout=0.1)
        # Without an init process to collect it, an orphan stays as a zombie; it runs no more.
        if gone or process.status() == psutil.STATUS_ZOMBIE:
            return
    pytest.fail("the training process outlived its daemon")


def test_a_site_trains_evaluates_audits_and_erases(start: Start, serve: Serve) -> None:
    coordinator = serve()
    daemon = start(coordinator.address)
    coordinator.ask_to_train(seed=-3)
    coordinator.ask_to_train(seed=-3)
    coordinator.until(lambda: len(coordinator.receipts) == 2)
    tasks = [
        {"evaluate": training_pb2.EvaluateTask(name="tasks/e", versions=[0])},
        {"audit": training_pb2.AuditTask(name="tasks/a", versions=[0, 0], seed=1)},
        {
            "erase": training_pb2.EraseTask(
                name="tasks/x",
                method="afu_ic_rebased",
                parameters_json='{"steps": 4, "random_networks": 2, "learning_rate": 0.05}',
                version=0,
            )
        },
    ]
    coordinator.tasks.extend(training_pb2.NextTaskResponse(**one, epoch=0) for one in tasks)
    coordinator.until(lambda: len(coordinator.answers) == 3)
    evaluated, audited, erased = coordinator.answers
    assert evaluated.evaluate.utilities[0].records > 0
    assert [one.version for one in audited.audit.statistics] == [0, 0]
    assert audited.audit.statistics[0].auc_low <= audited.audit.statistics[0].auc_high
    assert erased.erase.loss_after > erased.erase.loss_before
    first, second, patch = (bytes(one.held) for one in coordinator.uploads.values())
    assert first == second, "same base, seed and records: same delta"
    length = np.linalg.norm(decode(patch, "float32").astype(np.float64))
    assert erased.erase.norm == pytest.approx(length)
    split = json.loads((daemon.state / "split.json").read_text())
    held_out = {*split["control"], *split["validation"]}
    assert held_out.isdisjoint(records_used(daemon.state))
    assert not any(record in daemon.stderr for record in held_out)


def records_used(state: Path) -> set[str]:
    database = sqlite3.connect(state / "agent.db")
    (found,) = database.execute("SELECT record_ids FROM record_sets").fetchone()
    database.close()
    return set(json.loads(found))


def test_the_training_process_is_replaced_after_it_was_killed(start: Start, serve: Serve) -> None:
    coordinator = serve(training=FOREVER)
    daemon = start(coordinator.address)
    name = coordinator.ask_to_train()
    coordinator.until(lambda: name in coordinator.heartbeats)
    (child,) = daemon.children()
    child.kill()
    # A large process takes its time to be gone, and the task must outlive that.
    coordinator.until(lambda: [one.pid for one in daemon.children()] not in ([child.pid], []))
    coordinator.of_no_use.add(name)
    coordinator.until(lambda: coordinator.abandoned == [name])
    (replacement,) = daemon.children()
    assert replacement.pid != child.pid


def test_an_abandoned_training_leaves_the_training_process_alive(
    start: Start, serve: Serve
) -> None:
    coordinator = serve(training=FOREVER)
    daemon = start(coordinator.address)
    name = coordinator.ask_to_train()
    coordinator.until(lambda: name in coordinator.heartbeats)
    (child,) = daemon.children()
    coordinator.of_no_use.add(name)
    coordinator.until(lambda: coordinator.abandoned == [name])
    assert daemon.children() == [child]


def test_sigterm_during_training_ends_both_processes_with_code_0(
    start: Start, serve: Serve
) -> None:
    coordinator = serve(training=FOREVER)
    daemon = start(coordinator.address)
    name = coordinator.ask_to_train()
    coordinator.until(lambda: name in coordinator.heartbeats)
    (child,) = daemon.children()
    began = time.monotonic()
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(60) == 0
    assert time.monotonic() - began < 10
    until_gone(child)
    assert "agent_stopped" in daemon.stderr  # not said where the grace ran out
    assert "Traceback" not in daemon.stderr


def test_kill_9_takes_the_training_process_along_and_leaves_a_usable_state(
    start: Start, serve: Serve
) -> None:
    coordinator = serve(training=FOREVER)
    daemon = start(coordinator.address)
    name = coordinator.ask_to_train()
    coordinator.until(lambda: name in coordinator.heartbeats)
    (child,) = daemon.children()
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.process.wait(60)
    until_gone(child)
    start(coordinator.address)
    coordinator.tasks.append(
        training_pb2.NextTaskResponse(
            audit=training_pb2.AuditTask(name="tasks/a", versions=[0]), epoch=0
        )
    )
    coordinator.until(lambda: len(coordinator.answers) == 1)
    assert coordinator.answers[0].audit.statistics


def test_missing_data_end_the_agent_with_a_sentence_and_code_78(start: Start) -> None:
    daemon = start("127.0.0.1:1", "npz", '{ path = "/nonexistent/images.npz" }')
    assert daemon.process.wait(60) == 78
    assert "/nonexistent/images.npz" in daemon.stderr
    assert "Traceback" not in daemon.stderr


def test_an_unknown_data_plugin_ends_the_agent_with_code_78(start: Start) -> None:
    daemon = start("127.0.0.1:1", "punch_cards", "{}")
    assert daemon.process.wait(60) == 78
    assert "no plug-in 'punch_cards'" in daemon.stderr


def test_data_of_one_class_end_the_agent_with_code_78(
    start: Start, serve: Serve, tmp_path: Path
) -> None:
    file = tmp_path / "one_class.npz"
    images = np.zeros((40, SIDE, SIDE), np.uint8)
    labels = np.zeros((40, 1), np.uint8)
    np.savez(file, train_images=images, train_labels=labels)
    daemon = start(serve().address, "npz", f'{{ path = "{file}" }}')
    assert daemon.process.wait(60) == 78
    assert "at least two classes" in daemon.stderr


def test_a_model_plugin_that_is_not_installed_ends_the_agent_with_code_78(
    start: Start, serve: Serve
) -> None:
    coordinator = serve(model={"plugin": "oracle"})
    daemon = start(coordinator.address)
    assert daemon.process.wait(60) == 78
    assert "no plug-in 'oracle'" in daemon.stderr
    assert coordinator.registrations == []


def test_a_second_agent_on_one_state_dir_is_refused(start: Start, serve: Serve) -> None:
    coordinator = serve()
    first = start(coordinator.address)
    coordinator.until(lambda: len(coordinator.registrations) == 1)
    second = start(coordinator.address)
    assert second.process.wait(30) == 78
    assert "in use by another agent" in second.stderr
    assert first.process.poll() is None


def test_the_daemon_never_imports_torch() -> None:
    code = (
        "import sys, client_agent.__main__, client_agent.bootstrap;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'opacus')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
