"""The agent against a scripted coordinator behind a real server on a free port."""

from __future__ import annotations

import json
import socket
import sqlite3
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from quick_trainer import RECORD_IDS, QuickTrainer
from running_agent import (
    RunningAgent,
    a_config,
    an_audit,
    an_erase,
    an_evaluation,
    uploads_in,
)
from scripted_coordinator import ScriptedCoordinator, a_plan

from client_agent.domain.tasks import TrainingProcessDied
from letheon.errors import (
    BadData,
    MalformedUpdate,
    SiteFenced,
    StaleEpoch,
    StorageUnavailable,
    TooManyTransfers,
    UnknownSite,
    UnknownTask,
    UpdateAltered,
    WrongPlan,
)
from letheon.servicekit.transfer import CHUNK_BYTES as MIB
from letheon.v1 import sites_pb2


@pytest.fixture
def coordinator() -> Iterator[ScriptedCoordinator]:
    coordinator = ScriptedCoordinator(*a_plan()).start()
    yield coordinator
    coordinator.stop()


Start = Callable[..., RunningAgent]


@pytest.fixture
def trainer(tmp_path: Path) -> QuickTrainer:
    return QuickTrainer(tmp_path)


@pytest.fixture
def start(
    tmp_path: Path, coordinator: ScriptedCoordinator, trainer: QuickTrainer
) -> Iterator[Start]:
    agents: list[RunningAgent] = []

    def start(**overrides: Any) -> RunningAgent:
        config = a_config(coordinator.address, tmp_path / "state", **overrides)
        agents.append(RunningAgent(config, trainer))
        return agents[-1]

    yield start
    for agent in agents:
        agent.stop()


def test_a_delta_is_pushed_once_and_its_receipt_kept(
    coordinator: ScriptedCoordinator, start: Start, tmp_path: Path
) -> None:
    agent = start()
    name = coordinator.ask_to_train(seed=11)
    coordinator.until(lambda: len(coordinator.receipts) == 1)
    agent.stop()
    (stored,) = coordinator.uploads.values()
    assert stored.header.delta.site == "sites/north"
    assert stored.header.delta.task == name
    assert stored.header.delta.record_count == 3
    assert [spec.name for spec in stored.header.layout] == [
        spec.name for spec in coordinator.plan.parameters.tensors
    ]
    (row,) = uploads_in(tmp_path / "state")
    assert row["state"] == "accepted"
    assert (row["base_version"], row["epoch"], row["seed"]) == (0, 0, 11)
    assert (row["version"], row["entry"], row["coefficient"]) == (1, 1, 0.5)
    assert row["ledger_hash"] == f"{1:064x}"
    assert list((tmp_path / "state" / "outbox").iterdir()) == []
    assert agent.metric("upload_bytes_total") == stored.header.size_bytes


def test_the_contribution_log_knows_which_records_were_used(
    coordinator: ScriptedCoordinator, start: Start, tmp_path: Path
) -> None:
    agent = start()
    coordinator.ask_to_train()
    coordinator.until(lambda: len(coordinator.receipts) == 1)
    agent.stop()
    database = sqlite3.connect(tmp_path / "state" / "agent.db")
    (found,) = database.execute(
        "SELECT record_ids FROM uploads JOIN record_sets ON record_set = fingerprint"
    ).fetchone()
    database.close()
    assert tuple(json.loads(found)) == RECORD_IDS


def test_a_lost_receipt_is_asked_for_again(
    coordinator: ScriptedCoordinator, start: Start, tmp_path: Path
) -> None:
    coordinator.lose_next_receipt = True
    agent = start()
    coordinator.ask_to_train()
    coordinator.until(lambda: len(coordinator.receipts) == 1 and coordinator.polls > 1)
    agent.stop()
    (stored,) = coordinator.uploads.values()
    assert stored.streams == 1
    assert [row["state"] for row in uploads_in(tmp_path / "state")] == ["accepted"]


@pytest.mark.parametrize("encoding", ["float32", "float16", "int8"])
def test_interrupted_transfers_go_on_where_they_stopped(
    tmp_path: Path, trainer: QuickTrainer, encoding: str
) -> None:
    coordinator = ScriptedCoordinator(*a_plan(width=96, encoding=encoding)).start()
    coordinator.cut_next_upload_at = MIB
    coordinator.cut_next_download_at = MIB
    agent = RunningAgent(a_config(coordinator.address, tmp_path / "state"), trainer)
    coordinator.tasks.append(an_evaluation())
    coordinator.until(lambda: len(coordinator.downloads) == 1)
    coordinator.tasks.append(an_evaluation())  # what is not answered is handed out again
    coordinator.ask_to_train(seed=5)
    coordinator.until(lambda: len(coordinator.receipts) == 1)
    agent.stop()
    coordinator.stop()
    assert coordinator.downloads[:2] == [("models/0", 0), ("models/0", MIB)]
    (stored,) = coordinator.uploads.values()
    assert stored.streams == 2
    assert len(stored.held) == stored.header.size_bytes > MIB


def test_a_restarted_agent_sends_what_it_had_not_sent(
    coordinator: ScriptedCoordinator, start: Start, tmp_path: Path
) -> None:
    coordinator.push_errors.extend(StorageUnavailable("down") for _ in range(1000))
    agent = start()
    coordinator.ask_to_train()
    coordinator.until(lambda: len(coordinator.push_errors) < 1000)
    agent.stop()
    (waiting,) = uploads_in(tmp_path / "state")
    assert waiting["state"] == "ready"
    coordinator.push_errors.clear()
    start()
    coordinator.until(lambda: len(coordinator.receipts) == 1)
    assert coordinator.receipts[0].update_id == waiting["update_id"]


@pytest.mark.parametrize(
    "error",
    [
        StaleEpoch("old", epoch=1),
        MalformedUpdate("bad", rule="finite", tensor="head.bias"),
        UpdateAltered("other bytes"),
        SiteFenced("fenced", erasure="erasures/x"),
    ],
)
def test_a_delta_that_is_refused_for_good_is_dropped_and_the_agent_goes_on(
    coordinator: ScriptedCoordinator, start: Start, tmp_path: Path, error: Exception
) -> None:
    coordinator.push_errors.append(error)
    agent = start()
    coordinator.ask_to_train()
    coordinator.until(lambda: not coordinator.push_errors)
    coordinator.tasks.append(an_audit())
    coordinator.until(lambda: len(coordinator.answers) == 1)
    agent.stop()
    (row,) = uploads_in(tmp_path / "state")
    assert (row["state"], row["drop_reason"]) == ("dropped", error.reason)
    assert coordinator.uploads == {}
    assert list((tmp_path / "state" / "outbox").iterdir()) == []


def test_a_busy_coordinator_is_waited_for_while_other_tasks_are_answered(
    coordinator: ScriptedCoordinator, start: Start
) -> None:
    coordinator.push_errors.append(TooManyTransfers("full", retry_after_s=3600))
    start()
    coordinator.ask_to_train()
    coordinator.until(lambda: not coordinator.push_errors)
    coordinator.tasks.append(an_audit())
    coordinator.until(lambda: len(coordinator.answers) == 1)
    assert coordinator.receipts == []


def test_a_full_outbox_stops_training(
    coordinator: ScriptedCoordinator, start: Start, trainer: QuickTrainer
) -> None:
    coordinator.push_errors.append(TooManyTransfers("full", retry_after_s=3600))
    coordinator.train_forever = True
    start(outbox={"max_deltas": 1})
    coordinator.until(lambda: len(coordinator.handed_out) >= 2)
    assert len(trainer.trained) == 1


def test_a_task_whose_epoch_ended_is_abandoned_and_reported(
    coordinator: ScriptedCoordinator, start: Start, trainer: QuickTrainer
) -> None:
    trainer.before_training.append(trainer.until_abandoned)
    agent = start()
    name = coordinator.ask_to_train()
    coordinator.until(lambda: name in coordinator.heartbeats)
    coordinator.of_no_use.add(name)
    coordinator.until(lambda: coordinator.abandoned == [name])
    assert coordinator.uploads == {}
    coordinator.ask_to_train()
    coordinator.until(lambda: len(coordinator.receipts) == 1)
    assert agent.metric("tasks_total", kind="train", outcome="superseded") == 1


def test_a_head_of_another_epoch_than_the_task_is_not_trained_from(
    coordinator: ScriptedCoordinator, start: Start, trainer: QuickTrainer
) -> None:
    start()
    name = coordinator.ask_to_train(epoch=5)
    coordinator.until(lambda: coordinator.abandoned == [name])
    assert trainer.trained == []


def test_a_new_epoch_empties_the_model_cache(
    coordinator: ScriptedCoordinator, start: Start, tmp_path: Path
) -> None:
    agent = start()
    coordinator.ask_to_train()
    coordinator.until(lambda: len(coordinator.receipts) == 1)
    assert [path.name for path in (tmp_path / "state" / "models").iterdir()] == ["v0-e0.f32"]
    coordinator.epoch = 1
    seen = coordinator.polls
    coordinator.until(lambda: coordinator.polls > seen + 1)
    assert list((tmp_path / "state" / "models").iterdir()) == []
    assert agent.metric("epoch") == 1


def test_a_coordinator_restored_from_an_older_backup_empties_the_model_cache(
    coordinator: ScriptedCoordinator, start: Start, tmp_path: Path
) -> None:
    coordinator.epoch = 2
    start()
    coordinator.ask_to_train(epoch=0)  # its head is of epoch 0
    coordinator.until(lambda: len(coordinator.downloads) == 1)
    coordinator.epoch = 0
    seen = coordinator.polls
    coordinator.until(lambda: coordinator.polls > seen + 1)
    assert list((tmp_path / "state" / "models").iterdir()) == []


def test_a_model_from_before_an_erasure_is_not_kept_beyond_its_audit(
    coordinator: ScriptedCoordinator, start: Start, tmp_path: Path
) -> None:
    coordinator.epoch = 1
    start()
    coordinator.tasks.append(an_audit(epoch=1))
    coordinator.until(lambda: len(coordinator.answers) == 1)
    seen = coordinator.polls
    coordinator.until(lambda: coordinator.polls > seen)
    assert list((tmp_path / "state" / "models").iterdir()) == []


def test_evaluate_and_audit_tasks_are_answered_with_numbers(
    coordinator: ScriptedCoordinator, start: Start
) -> None:
    start()
    coordinator.tasks.extend([an_evaluation(), an_audit()])
    coordinator.until(lambda: len(coordinator.answers) == 2)
    evaluated, audited = coordinator.answers
    assert evaluated.evaluate.utilities[0].accuracy == 0.5
    assert not evaluated.evaluate.utilities[0].HasField("macro_auc")
    assert audited.audit.statistics[0].erased_records == 3


def test_an_erase_answer_arrives_as_payload_and_then_numbers(
    coordinator: ScriptedCoordinator, start: Start, tmp_path: Path
) -> None:
    start()
    coordinator.tasks.append(an_erase())
    coordinator.until(lambda: len(coordinator.answers) == 1)
    (stored,) = coordinator.uploads.values()
    assert stored.header.answer.task == "tasks/x1"
    assert coordinator.answers[0].erase.update_id == stored.header.update_id
    assert coordinator.answers[0].erase.loss_after == 0.9


def test_an_erase_answer_survives_a_restart_between_payload_and_numbers(
    coordinator: ScriptedCoordinator, start: Start, trainer: QuickTrainer, tmp_path: Path
) -> None:
    coordinator.answer_errors.extend(StorageUnavailable("down") for _ in range(1000))
    agent = start()
    coordinator.tasks.append(an_erase())
    coordinator.until(lambda: len(coordinator.answer_errors) < 1000)
    agent.stop()
    assert [row["state"] for row in uploads_in(tmp_path / "state")] == ["stored"]
    coordinator.answer_errors.clear()
    start()
    coordinator.until(lambda: len(coordinator.answers) == 1)
    assert (trainer.erased, len(coordinator.uploads)) == (1, 1)


def test_a_refused_erase_payload_is_answered_as_a_failure(
    coordinator: ScriptedCoordinator, start: Start
) -> None:
    coordinator.push_errors.append(MalformedUpdate("bad", rule="norm", tensor="*"))
    start()
    coordinator.tasks.append(an_erase())
    coordinator.until(lambda: len(coordinator.answers) == 1)
    assert "MALFORMED_UPDATE" in coordinator.answers[0].failure.reason


def test_a_withdrawn_task_is_dropped(coordinator: ScriptedCoordinator, start: Start) -> None:
    coordinator.answer_errors.append(UnknownTask("withdrawn"))
    agent = start()
    coordinator.tasks.extend([an_audit("tasks/a1"), an_audit("tasks/a2")])
    coordinator.until(lambda: len(coordinator.answers) == 1)
    assert coordinator.answers[0].task == "tasks/a2"
    assert agent.metric("tasks_total", kind="audit", outcome="withdrawn") == 1


def test_an_audit_of_a_version_that_is_gone_is_answered_as_a_failure(
    coordinator: ScriptedCoordinator, start: Start
) -> None:
    start()
    task = an_audit()
    task.audit.versions[:] = [99]
    coordinator.tasks.append(task)
    coordinator.until(lambda: len(coordinator.answers) == 1)
    assert "UNKNOWN_MODEL_VERSION" in coordinator.answers[0].failure.reason


def test_a_failure_that_leaves_the_site_names_no_file_and_no_record(
    coordinator: ScriptedCoordinator, start: Start, trainer: QuickTrainer
) -> None:
    def refuse() -> None:
        raise BadData("/scans/jane-doe.npz is missing")

    trainer.before_answering.append(refuse)
    start()
    coordinator.tasks.append(an_audit())
    coordinator.until(lambda: len(coordinator.answers) == 1)
    assert coordinator.answers[0].failure.reason.startswith("BAD_DATA")
    assert "jane-doe" not in coordinator.answers[0].failure.reason


def test_an_erase_task_with_malformed_parameters_is_answered_as_a_failure(
    coordinator: ScriptedCoordinator, start: Start
) -> None:
    start()
    task = an_erase()
    task.erase.parameters_json = "{"
    coordinator.tasks.append(task)
    coordinator.until(lambda: len(coordinator.answers) == 1)
    assert "not JSON" in coordinator.answers[0].failure.reason


def test_metrics_are_served_while_the_agent_runs(
    coordinator: ScriptedCoordinator, start: Start
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    start(metrics_listen=address)
    coordinator.ask_to_train()
    coordinator.until(lambda: len(coordinator.receipts) == 1)
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as page:
        text = page.read().decode()
    assert "letheon_agent_last_contact_timestamp_seconds" in text
    assert "letheon_agent_train_seconds_count 1.0" in text


def test_an_audit_that_always_kills_the_training_process_ends_as_a_failure(
    coordinator: ScriptedCoordinator, start: Start, trainer: QuickTrainer
) -> None:
    def die() -> None:
        raise TrainingProcessDied("the training process ended with code -9")

    trainer.before_answering.extend([die] * 10)
    start(training={"max_attempts": 2})
    coordinator.tasks.extend(an_audit() for _ in range(3))
    coordinator.until(lambda: len(coordinator.answers) == 1)
    assert "every attempt" in coordinator.answers[0].failure.reason
    assert len(trainer.before_answering) == 8


def test_a_training_task_is_retried_after_the_training_process_died(
    coordinator: ScriptedCoordinator, start: Start, trainer: QuickTrainer
) -> None:
    def die() -> None:
        raise TrainingProcessDied("the training process ended with code -9")

    trainer.before_training.append(die)
    agent = start()
    coordinator.ask_to_train()
    coordinator.until(lambda: len(coordinator.receipts) == 1)
    assert agent.metric("tasks_total", kind="train", outcome="crashed") == 1


def test_an_unknown_site_registers_again(coordinator: ScriptedCoordinator, start: Start) -> None:
    start()
    coordinator.tasks.append(UnknownSite("who"))
    coordinator.until(lambda: len(coordinator.registrations) == 2)
    first = coordinator.registrations[0]
    assert (first.record_count, first.plan_digest) == (3, coordinator.plan.digest)


def test_a_site_tells_how_many_control_records_and_of_which_classes_it_has(
    coordinator: ScriptedCoordinator, start: Start, trainer: QuickTrainer
) -> None:
    start()
    coordinator.until(lambda: len(coordinator.registrations) == 1)
    told, holdings = coordinator.registrations[0], trainer.open()
    assert told.control_records == holdings.control_records
    assert dict(told.class_counts) == holdings.class_counts


def test_a_fenced_site_still_answers_its_audit(
    coordinator: ScriptedCoordinator, start: Start
) -> None:
    coordinator.site_state = sites_pb2.Site.FENCED
    start()
    coordinator.tasks.append(an_audit())
    coordinator.until(lambda: len(coordinator.answers) == 1)


def test_the_agent_waits_for_ever_for_its_coordinator(
    coordinator: ScriptedCoordinator, start: Start
) -> None:
    address = coordinator.address
    coordinator.stop()
    agent = start()
    coordinator.start(address)
    coordinator.until(lambda: len(coordinator.registrations) == 1)
    coordinator.stop()
    coordinator.start(address)
    coordinator.ask_to_train()
    coordinator.until(lambda: len(coordinator.receipts) == 1)
    assert agent.error is None


def test_a_changed_plan_is_fetched_and_told(
    coordinator: ScriptedCoordinator, start: Start, trainer: QuickTrainer
) -> None:
    start()
    coordinator.until(lambda: len(coordinator.registrations) == 1)
    coordinator.plan, _ = a_plan(name="second")
    coordinator.canonical = coordinator.plan.canonical_json()
    coordinator.train_forever = True
    coordinator.until(lambda: len(coordinator.receipts) >= 1)
    assert coordinator.registrations[1].plan_digest == coordinator.plan.digest


def test_a_wrong_plan_is_for_a_human(coordinator: ScriptedCoordinator, start: Start) -> None:
    coordinator.tasks.append(WrongPlan("built for another plan"))
    agent = start()
    agent.join()
    assert isinstance(agent.error, WrongPlan)


def test_stopping_abandons_a_training_and_keeps_the_state_usable(
    coordinator: ScriptedCoordinator, start: Start, trainer: QuickTrainer
) -> None:
    trainer.before_training.append(trainer.until_abandoned)
    agent = start()
    name = coordinator.ask_to_train()
    coordinator.until(lambda: name in coordinator.heartbeats)
    agent.stop()
    start()
    coordinator.ask_to_train()
    coordinator.until(lambda: len(coordinator.receipts) == 1)
