"""A site's own code in the real training process, and a daemon that outlives what it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from quick_trainer import QuickTrainer
from running_agent import RunningAgent, a_config
from scripted_coordinator import ScriptedCoordinator, a_plan

from client_agent.adapters import child_link
from client_agent.adapters.site_key import load_site_key
from client_agent.adapters.trainer_process import TrainerProcess
from client_agent.domain.tasks import ModelFile, TaskAbandoned, TrainTask
from letheon.errors import TrainingCodeFailed

CODE = """
import pathlib
from letheon import site

here = pathlib.Path(__file__).parent
given = site.receive()
if not (here / "patient").exists():
    (here / "patient").touch()
    print("printed where replies are written")
    raise ValueError("scan of Jane Doe")
if not (here / "stuck").exists():
    (here / "stuck").touch()
    while True:
        pass
site.send({name: each + 1 for name, each in given.state_dict.items()}, metrics={"loss": 0.5})
"""


@pytest.fixture
def coordinator() -> Iterator[ScriptedCoordinator]:
    plan, weights = a_plan()
    with_plan = ScriptedCoordinator(plan, weights).start()
    yield with_plan
    with_plan.stop()


def test_code_that_fails_is_counted_and_the_daemon_goes_on(
    tmp_path: Path, coordinator: ScriptedCoordinator
) -> None:
    def fail() -> None:
        raise TrainingCodeFailed("the site's training code raised KeyError at train.py:5 in fit")

    trainer = QuickTrainer(tmp_path)
    trainer.before_training.append(fail)
    agent = RunningAgent(a_config(coordinator.address, tmp_path / "state"), trainer)
    coordinator.ask_to_train()
    coordinator.ask_to_train()
    coordinator.until(lambda: len(coordinator.receipts) == 1)
    agent.stop()
    assert agent.error is None
    assert agent.metric("tasks_total", kind="train", outcome="failed") == 1
    assert agent.metric("tasks_total", kind="train", outcome="done") == 1


def test_code_may_fail_or_hang_and_the_next_task_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_link, "_ABANDON_GRACE_S", 0.3)
    (tmp_path / "train.py").write_text(CODE)
    config = a_config(
        "127.0.0.1:1", tmp_path / "state", training={"code": str(tmp_path / "train.py")}
    )
    config.state_dir.mkdir()
    plan, weights = a_plan()
    weights.tofile(tmp_path / "base")
    base = ModelFile(version=0, epoch=0, path=tmp_path / "base")
    task = TrainTask("tasks/1", 0, plan.digest, 1, 0, 0.05)
    trainer = TrainerProcess(config, config.state_dir, on_death=lambda: None, excluded=frozenset)
    load_site_key(config.state_dir, may_make=True)
    try:
        trainer.adopt(plan)
        with pytest.raises(TrainingCodeFailed, match=r"ValueError at train.py:10 in <module>"):
            trainer.train(base, task, tmp_path / "delta")
        threading.Thread(target=_give_up_once_stuck, args=(trainer, tmp_path)).start()
        with pytest.raises(TaskAbandoned):
            trainer.train(base, task, tmp_path / "delta")
        trained = trainer.train(base, task, tmp_path / "delta")
        assert trained.mean_loss == 0.5
        assert trained.num_examples is None  # all of its records, as told at enrolment
    finally:
        trainer.stop(2.0)


def _give_up_once_stuck(trainer: TrainerProcess, folder: Path) -> None:
    while not (folder / "stuck").exists():
        time.sleep(0.01)
    trainer.abandon()
