"""What becomes of a payload that is old, useless, damaged or has to wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from quick_trainer import QuickTrainer
from running_agent import RunningAgent, a_config, an_erase, uploads_in
from scripted_coordinator import ScriptedCoordinator, a_plan

from client_agent.adapters.sqlite_outbox import SqliteOutbox
from client_agent.services import flush_outbox
from letheon.errors import StorageUnavailable, TooManyTransfers
from letheon.servicekit.clock import SystemClock

LONG_AGO_S = 8 * 24 * 3600.0


class Site:
    """An agent that is started and stopped, its coordinator and its folder."""

    def __init__(self, folder: Path) -> None:
        self.coordinator = ScriptedCoordinator(*a_plan()).start()
        self.trainer = QuickTrainer(folder)
        self.state = folder / "state"
        self._agents: list[RunningAgent] = []

    def start(self, **overrides: Any) -> RunningAgent:
        config = a_config(self.coordinator.address, self.state, **overrides)
        self._agents.append(RunningAgent(config, self.trainer))
        return self._agents[-1]

    @property
    def rows(self) -> list[tuple[str, str | None]]:
        return [(row["state"], row["drop_reason"]) for row in uploads_in(self.state)]

    def until_rows(self, rows: list[tuple[str, str | None]]) -> None:
        """Looked at whenever the agent polls."""
        self.coordinator.until(lambda: bool(self.rows == rows))

    def leave_waiting(self, ask: Callable[[], object]) -> None:
        """What `ask` brings about is in the outbox, and the agent is stopped."""
        coordinator = self.coordinator
        coordinator.push_errors.extend(StorageUnavailable("down") for _ in range(1000))
        agent = self.start()
        ask()
        coordinator.until(lambda: len(coordinator.push_errors) < 1000)
        agent.stop()
        coordinator.push_errors.clear()
        assert [state for state, _ in self.rows] == ["ready"]

    def leave_accepted_without_receipt(self) -> None:
        """The coordinator accepted a delta; the agent never heard of it."""
        self.leave_waiting(self.coordinator.ask_to_train)
        agent = self.start()
        self.coordinator.until(lambda: len(self.coordinator.receipts) == 1)
        agent.stop()
        self.age(0.0)

    def waiting_upload(self) -> Path:
        (row,) = uploads_in(self.state)
        return self.state / "outbox" / f"{row['update_id']}.payload"

    def age(self, seconds: float) -> None:
        """Puts the only upload back to `ready`, made so long ago."""
        made_at = (SystemClock().now() - timedelta(seconds=seconds)).isoformat()
        outbox = SqliteOutbox(self.state / "agent.db", self.state / "outbox", SystemClock())
        outbox._execute("UPDATE uploads SET made_at = ?, state = 'ready'", (made_at,))
        outbox.close_database()

    def close(self) -> None:
        for agent in self._agents:
            agent.stop()
        self.coordinator.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flush_outbox, "_SOON_S", 0.02)


def test_a_delta_the_coordinator_never_got_is_dropped_when_it_is_too_old(site: Site) -> None:
    site.leave_waiting(site.coordinator.ask_to_train)
    site.age(LONG_AGO_S)
    agent = site.start()
    site.until_rows([("dropped", "TOO_OLD")])
    assert list((site.state / "outbox").iterdir()) == []
    assert site.coordinator.uploads == {}
    assert agent.metric("uploads_total", outcome="dropped") == 1


def test_a_delta_that_is_not_too_old_yet_is_sent(site: Site) -> None:
    site.leave_waiting(site.coordinator.ask_to_train)
    site.age(LONG_AGO_S)
    site.start(outbox={"max_age_hours": 24 * 9})
    site.coordinator.until(lambda: len(site.coordinator.receipts) == 1)


def test_an_erase_answer_is_never_too_old(site: Site) -> None:
    site.leave_waiting(lambda: site.coordinator.tasks.append(an_erase()))
    site.age(LONG_AGO_S)
    site.coordinator.epoch = 3
    site.start()
    site.coordinator.until(lambda: len(site.coordinator.answers) == 1)
    assert site.coordinator.answers[0].HasField("erase")


@pytest.mark.parametrize(("age_s", "epoch"), [(LONG_AGO_S, 0), (0.0, 1)])
def test_a_delta_that_was_accepted_without_an_answer_keeps_its_receipt_however_useless_it_is(
    site: Site, age_s: float, epoch: int
) -> None:
    site.leave_accepted_without_receipt()
    site.age(age_s)
    site.coordinator.epoch = epoch
    pushed = site.coordinator.pushed_bytes
    site.start()
    site.until_rows([("accepted", None)])
    assert uploads_in(site.state)[0]["entry"] == 1
    assert site.coordinator.pushed_bytes == pushed


def test_a_delta_of_an_epoch_that_is_over_is_dropped_without_sending_a_byte(site: Site) -> None:
    site.coordinator.push_errors.append(TooManyTransfers("full", retry_after_s=0.01))
    site.trainer.before_training.append(lambda: setattr(site.coordinator, "epoch", 1))
    agent = site.start()
    site.coordinator.ask_to_train()
    site.until_rows([("dropped", "STALE_EPOCH")])
    assert site.coordinator.pushed_bytes == 0
    assert agent.metric("uploads_total", outcome="superseded") == 1


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = pytest.mark.parametrize("harm", [damage, cut_short, Path.unlink])


@DAMAGES
def test_a_delta_that_was_damaged_on_disk_is_dropped_and_training_goes_on(
    site: Site, harm: Callable[[Path], None]
) -> None:
    site.leave_waiting(site.coordinator.ask_to_train)
    harm(site.waiting_upload())
    site.start()
    site.until_rows([("dropped", "PAYLOAD_CORRUPT")])
    assert site.coordinator.pushed_bytes == 0
    site.coordinator.ask_to_train()
    site.coordinator.until(lambda: len(site.coordinator.receipts) == 1)


@DAMAGES
def test_an_erase_answer_that_was_damaged_on_disk_is_computed_again(
    site: Site, harm: Callable[[Path], None]
) -> None:
    site.leave_waiting(lambda: site.coordinator.tasks.append(an_erase()))
    harm(site.waiting_upload())
    site.start()
    site.until_rows([("dropped", "PAYLOAD_CORRUPT")])
    site.coordinator.tasks.append(an_erase())  # the open task is handed out again
    site.coordinator.until(lambda: len(site.coordinator.answers) == 1)
    assert site.coordinator.answers[0].HasField("erase")
    assert site.trainer.erased == 2


def test_the_receipt_of_a_delta_is_kept_although_its_payload_is_gone(site: Site) -> None:
    site.leave_accepted_without_receipt()
    site.start()
    site.until_rows([("accepted", None)])


def test_a_payload_that_the_coordinator_did_not_keep_is_sent_again(site: Site) -> None:
    site.coordinator.damage_next_uploads = 2
    site.start()
    site.coordinator.ask_to_train()
    site.coordinator.until(lambda: len(site.coordinator.receipts) == 1)
    (stored,) = site.coordinator.uploads.values()
    assert site.coordinator.pushed_bytes == 3 * stored.header.size_bytes


def test_a_payload_that_never_arrives_intact_is_given_up(site: Site) -> None:
    site.coordinator.damage_next_uploads = 1000
    site.start()
    site.coordinator.ask_to_train()
    site.until_rows([("dropped", "DIGEST_MISMATCH")])
    assert site.coordinator.damage_next_uploads == 1000 - 4


def test_a_busy_answer_to_a_delta_does_not_hold_up_an_erase_answer_or_another_delta(
    site: Site,
) -> None:
    coordinator = site.coordinator
    coordinator.push_errors.append(TooManyTransfers("full", retry_after_s=3600))
    site.start()
    coordinator.ask_to_train()
    coordinator.until(lambda: not coordinator.push_errors)
    coordinator.tasks.append(an_erase())
    coordinator.until(lambda: len(coordinator.answers) == 1)
    coordinator.ask_to_train()
    coordinator.until(lambda: len(coordinator.receipts) == 2)
    site.until_rows([("ready", None), ("accepted", None), ("accepted", None)])


def test_the_outbox_never_holds_more_bytes_than_it_may(site: Site) -> None:
    size = 4 * site.coordinator.plan.parameters.size
    coordinator = site.coordinator
    coordinator.push_errors.extend(TooManyTransfers("full", retry_after_s=3600) for _ in range(9))
    coordinator.train_forever = True
    site.start(outbox={"max_deltas": 9, "max_bytes": 3 * size - 1})
    coordinator.until(lambda: len(coordinator.handed_out) >= 4)
    assert len(site.trainer.trained) == 2
