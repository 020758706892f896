"""A running agent behind TLS and a proxy, at a limited rate, and outside its upload hours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from connect_proxy import ConnectProxy
from quick_trainer import QuickTrainer
from running_agent import RunningAgent, a_config, an_erase, uploads_in
from scripted_coordinator import ScriptedCoordinator, a_plan
from tls_files import Authority, server_credentials

from client_agent import bootstrap
from client_agent.domain.tasks import GpuOutOfMemory
from letheon.errors import BadConfig


@pytest.fixture
def coordinator() -> Iterator[ScriptedCoordinator]:
    made = ScriptedCoordinator(*a_plan())
    yield made
    made.stop()


def run(folder: Path, address: str, **more: Any) -> RunningAgent:
    return RunningAgent(a_config(address, folder / "state", **more), QuickTrainer(folder))


def hours_from(start_hours: int, end_hours: int) -> dict[str, Any]:
    """A range around now, so many hours from it."""
    now = datetime.now(UTC)
    begin, end = (f"{now + timedelta(hours=h):%H:%M}" for h in (start_hours, end_hours))
    return {"upload_hours": [f"{begin}-{end}"], "time_zone": "UTC"}


def test_a_delta_goes_through_tls_and_a_proxy_with_a_password(
    coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("north")
    coordinator.start(credentials=server_credentials(authority.issue("server"), authority))
    (tmp_path / "password").write_text("geheim\n")
    with ConnectProxy(login="max:geheim") as proxy:
        network = {
            "proxy": f"http://max@{proxy.address}",
            "proxy_password_file": tmp_path / "password",
        }
        tls = {"ca": authority.certificate, "certificate": own.certificate, "key": own.key}
        agent = run(tmp_path, coordinator.address, tls=tls, network=network)
        coordinator.ask_to_train()
        coordinator.until(lambda: len(coordinator.receipts) == 1)
        agent.stop()
        assert set(proxy.asked) == {coordinator.address}
    ends = agent.metric("certificate_not_after_timestamp_seconds")
    assert timedelta(days=89) < datetime.fromtimestamp(ends, UTC) - datetime.now(UTC)


def test_a_key_of_another_certificate_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = {
        "ca": authority.certificate,
        "certificate": authority.issue("one").certificate,
        "key": authority.issue("other").key,
    }
    with pytest.raises(BadConfig, match="is not the key of the certificate"):
        bootstrap.build(a_config("127.0.0.1:1", tmp_path / "state", tls=tls))
    bootstrap.build(a_config("127.0.0.1:1", tmp_path / "state")).close()  # nothing stayed locked


def test_uploads_keep_to_their_rate_and_travel_in_small_pieces(tmp_path: Path) -> None:
    coordinator = ScriptedCoordinator(*a_plan(width=48)).start()
    size = coordinator.plan.parameters.size * 4
    rate = size // 2  # two seconds, less the burst of a quarter
    try:
        agent = run(tmp_path, coordinator.address, network={"upload_bytes_per_second": rate})
        began = time.monotonic()
        coordinator.ask_to_train()
        coordinator.until(lambda: len(coordinator.receipts) == 1)
        seconds = time.monotonic() - began
        agent.stop()
    finally:
        coordinator.stop()
    assert seconds > 1.4
    assert coordinator.pushed_bytes == size


def test_a_delta_waits_for_its_hours_and_an_answer_to_an_erasure_does_not(
    coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    coordinator.start()
    agent = run(tmp_path, coordinator.address, network=hours_from(2, 4))
    coordinator.ask_to_train()
    coordinator.until(lambda: bool(uploads_in(tmp_path / "state")) or coordinator.polls > 1000)
    coordinator.tasks.append(an_erase())
    coordinator.until(lambda: len(coordinator.answers) == 1)
    polls = coordinator.polls
    coordinator.until(lambda: coordinator.polls > polls + 2)
    assert agent.metric("uploads_held") == 1.0
    agent.stop()
    assert [one.header.WhichOneof("purpose") for one in coordinator.uploads.values()] == ["answer"]
    assert [row["state"] for row in uploads_in(tmp_path / "state")] == ["ready", "accepted"]

    # Started again inside the hours, it sends what waited.
    agent = run(tmp_path, coordinator.address, network=hours_from(-1, 1))
    coordinator.until(lambda: len(coordinator.receipts) == 2)
    agent.stop()
    assert agent.metric("uploads_held") == 0.0


def test_a_delta_that_an_epoch_made_useless_does_not_wait_for_its_hours(
    coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    coordinator.start()
    agent = run(tmp_path, coordinator.address, network=hours_from(2, 4))
    coordinator.ask_to_train()
    coordinator.until(lambda: bool(uploads_in(tmp_path / "state")) or coordinator.polls > 1000)
    coordinator.change(lambda: setattr(coordinator, "epoch", 1))
    coordinator.until(lambda: agent.metric("uploads_total", outcome="superseded") == 1.0)
    agent.stop()
    assert coordinator.uploads == {}


Broken = tuple[str, dict[str, Any]]  # address, tables of the configuration


def a_coordinator(closing: ExitStack, credentials: Any = None) -> str:
    made = ScriptedCoordinator(*a_plan()).start(credentials=credentials)
    closing.callback(made.stop)
    return made.address


def refusing_proxy(folder: Path, closing: ExitStack) -> Broken:
    proxy = closing.enter_context(ConnectProxy(refuse=True))
    return a_coordinator(closing), {"network": {"proxy": f"http://{proxy.address}"}}


def expired_coordinator(folder: Path, closing: ExitStack) -> Broken:
    authority = Authority(folder)
    credentials = server_credentials(authority.issue("old", days=-1), None)
    return a_coordinator(closing, credentials), {"tls": {"ca": authority.certificate}}


def strangers_coordinator(folder: Path, closing: ExitStack) -> Broken:
    address, _ = expired_coordinator(folder, closing)
    return address, {"tls": {"ca": Authority(folder, "stranger").certificate}}


def plain_coordinator(folder: Path, closing: ExitStack) -> Broken:
    return a_coordinator(closing), {"tls": {"ca": Authority(folder).certificate}}


def nobody(folder: Path, closing: ExitStack) -> Broken:
    return "127.0.0.1:1", {}


@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        (refusing_proxy, "proxy"),
        (expired_coordinator, "certificate"),
        (strangers_coordinator, "certificate"),
        (plain_coordinator, "tls"),
        (nobody, "no_answer"),
    ],
)
def test_why_the_coordinator_is_not_reached_is_counted_and_said(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    broken: Callable[[Path, ExitStack], Broken],
    cause: str,
) -> None:
    with ExitStack() as closing, caplog.at_level("INFO"):
        address, settings = broken(tmp_path, closing)
        agent = run(tmp_path, address, **settings)
        deadline = time.monotonic() + 60
        pause = threading.Event()
        while agent.metric("connection_failures_total", cause=cause) == 0.0:
            assert time.monotonic() < deadline
            pause.wait(0.01)
        agent.stop()
    (said, *_) = [one for one in caplog.records if one.getMessage() == "coordinator_unreachable"]
    assert said.__dict__["cause"] == cause
    assert "letheon-agent doctor" in said.__dict__["why"]


def test_a_gpu_out_of_memory_costs_its_task_and_nothing_else(
    coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    coordinator.start()
    trainer = QuickTrainer(tmp_path)
    trainer.before_training.append(lambda: out_of_memory("the GPU has no memory left for train"))
    agent = RunningAgent(a_config(coordinator.address, tmp_path / "state"), trainer)
    coordinator.ask_to_train()
    coordinator.until(lambda: agent.metric("gpu_out_of_memory_total") == 1.0)
    coordinator.ask_to_train()
    coordinator.until(lambda: len(coordinator.receipts) == 1)
    agent.stop()
    assert agent.metric("tasks_total", kind="train", outcome="failed") == 1.0


def test_an_erasure_task_without_gpu_memory_is_answered_as_a_failure(
    coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    coordinator.start()
    trainer = QuickTrainer(tmp_path)
    trainer.before_answering.append(lambda: out_of_memory("the GPU has no memory left for erase"))
    agent = RunningAgent(a_config(coordinator.address, tmp_path / "state"), trainer)
    coordinator.tasks.append(an_erase())
    coordinator.until(lambda: len(coordinator.answers) == 1)
    agent.stop()
    assert "no memory left" in coordinator.answers[0].failure.reason


def test_what_the_source_left_out_is_counted_by_reason(
    coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    coordinator.start()
    trainer = QuickTrainer(tmp_path)
    trainer.skipped = {"truncated": 3, "no_label": 1}
    agent = RunningAgent(a_config(coordinator.address, tmp_path / "state"), trainer)
    coordinator.until(lambda: coordinator.polls > 0)
    agent.stop()
    assert agent.metric("records_skipped", reason="truncated") == 3.0
    assert agent.metric("records_skipped", reason="no_label") == 1.0


def test_a_disk_that_takes_nothing_is_counted_and_what_was_trained_is_kept(
    coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    coordinator.start()
    trainer = QuickTrainer(tmp_path)
    agent = RunningAgent(a_config(coordinator.address, tmp_path / "state"), trainer)
    outbox = tmp_path / "state" / "outbox"
    aside = tmp_path / "aside"
    coordinator.until(lambda: coordinator.polls > 0)
    outbox.rename(aside)  # what rename and fsync say then is what a failing disk says
    coordinator.change(lambda: setattr(coordinator, "train_forever", True))
    coordinator.until(lambda: agent.metric("storage_failures_total") >= 2.0)
    aside.rename(outbox)
    coordinator.until(lambda: len(coordinator.receipts) >= 1)
    agent.stop()
    first = coordinator.receipts[0]
    assert trainer.trained[0] == (0, 7)
    assert bytes(coordinator.uploads[first.update_id].held)
    stored = [row["state"] for row in uploads_in(tmp_path / "state")]
    assert len(trainer.trained) == len(stored)  # nothing was trained twice, nothing was lost


def out_of_memory(sentence: str) -> None:
    raise GpuOutOfMemory(sentence)
