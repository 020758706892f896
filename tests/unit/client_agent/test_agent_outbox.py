"""Outbox and state directory: what a kill at any point leaves behind."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from client_agent.adapters.sqlite_outbox import SqliteOutbox
from client_agent.adapters.state_dir import StateDir, occupy
from client_agent.domain.answers import EraseAnswer
from client_agent.domain.upload import (
    DeltaFacts,
    Payload,
    Receipt,
    ReceiptOutcome,
    Upload,
    UploadState,
)
from letheon.errors import BadConfig, StorageUnavailable
from letheon.servicekit.clock import FakeClock


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return occupy(tmp_path / "state")


def an_outbox(state: StateDir) -> SqliteOutbox:
    outbox = SqliteOutbox(state.database, state.outbox, FakeClock())
    outbox.remember_records("f1", ["a", "b"])
    return outbox


def a_delta(state: StateDir, update_id: str = "u1", content: bytes = b"1234") -> Upload:
    path = state.work / update_id
    path.write_bytes(content)
    payload = Payload(path, len(content), hashlib.sha256(content).hexdigest(), "float32")
    return Upload(update_id, "tasks/t", payload, DeltaFacts(3, 1, -9, 0.05, 0, 2, 0.25, "f1"))


def an_answer(state: StateDir, update_id: str = "x1") -> Upload:
    delta = a_delta(state, update_id)
    return Upload(update_id, "tasks/x", delta.payload, EraseAnswer(update_id, 1.0, 24, 0.1, 0.9))


UNKNOWN_RECORDS = DeltaFacts(3, 1, -9, 0.05, 0, 2, 0.25, "never remembered")
RECEIPT = Receipt("u1", ReceiptOutcome.MERGED, 4, 0.3000000119, 1, 7, "ab" * 32, "cd" * 32)


def test_what_was_added_is_there_after_a_restart(state: StateDir) -> None:
    added = [an_outbox(state).add(a_delta(state)), an_outbox(state).add(an_answer(state))]
    assert sorted(an_outbox(state).waiting(), key=lambda one: one.update_id) == added
    assert added[0].payload.path.read_bytes() == b"1234"
    assert list(state.work.iterdir()) == []


def test_erasures_go_first(state: StateDir) -> None:
    outbox = an_outbox(state)
    outbox.add(a_delta(state))
    outbox.add(an_answer(state))
    assert [upload.update_id for upload in outbox.waiting()] == ["x1", "u1"]


def test_an_accepted_delta_no_longer_waits_and_its_payload_is_gone(state: StateDir) -> None:
    outbox = an_outbox(state)
    upload = outbox.add(a_delta(state))
    outbox.accept(upload, RECEIPT)
    assert outbox.waiting() == ()
    assert not upload.payload.path.exists()


def test_an_erase_payload_waits_as_stored_until_its_answer_arrived(state: StateDir) -> None:
    outbox = an_outbox(state)
    upload = outbox.add(an_answer(state))
    outbox.accept(upload, RECEIPT)
    (stored,) = an_outbox(state).waiting()
    assert stored.state is UploadState.STORED
    outbox.conclude(stored)
    assert an_outbox(state).waiting() == ()


def test_a_payload_whose_row_was_never_committed_is_removed_at_start(state: StateDir) -> None:
    (state.outbox / "orphan.payload").write_bytes(b"?")
    an_outbox(state)
    assert list(state.outbox.iterdir()) == []


def test_a_row_whose_payload_is_gone_waits_for_what_the_coordinator_knows_of_it(
    state: StateDir,
) -> None:
    added = an_outbox(state).add(a_delta(state))
    added.payload.path.unlink()
    assert an_outbox(state).waiting() == (added,)


def test_attempts_are_counted_across_restarts_until_the_task_ends(state: StateDir) -> None:
    assert [an_outbox(state).begin_attempt("tasks/t") for _ in range(3)] == [1, 2, 3]
    outbox = an_outbox(state)
    outbox.end_attempts("tasks/t")
    assert outbox.begin_attempt("tasks/t") == 1


def test_a_state_dir_serves_one_agent_at_a_time(state: StateDir) -> None:
    with pytest.raises(BadConfig, match="another agent"):
        occupy(state.root)
    state.release()
    occupy(state.root).release()


def test_a_state_dir_is_private_and_its_scratch_is_emptied_at_start(state: StateDir) -> None:
    (state.work / "half-written").write_bytes(b"?")
    (state.root / "split.json.tmp").write_bytes(b"?")
    (state.models / "incoming.part").write_bytes(b"resumable")
    state.release()
    again = occupy(state.root)
    assert list(again.work.iterdir()) == []
    assert not (again.root / "split.json.tmp").exists()
    assert (again.models / "incoming.part").exists()
    assert again.root.stat().st_mode & 0o077 == 0
    again.release()


def test_a_state_dir_that_cannot_be_made_is_bad_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadConfig, match="cannot be used"):
        occupy(tmp_path / "file" / "state")


def test_a_damaged_database_is_for_a_human(state: StateDir) -> None:
    state.database.write_bytes(b"this is no database, whatever it is called" * 50)
    with pytest.raises(BadConfig, match="contribution log"):
        an_outbox(state)


def test_a_delta_the_database_does_not_take_is_back_where_it_was(state: StateDir) -> None:
    outbox = an_outbox(state)
    outbox.add(a_delta(state))
    refused = a_delta(state, "u2").payload
    with pytest.raises(StorageUnavailable):
        outbox.add(Upload("u2", "tasks/t", refused, UNKNOWN_RECORDS))
    assert [path.name for path in state.outbox.iterdir()] == ["u1.payload"]
    assert refused.path.is_file()


WAL = "agent.db-wal"


def halve(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("damage", [halve, zero])
@pytest.mark.parametrize("name", [WAL, "agent.db"])
def test_after_a_power_cut_that_damaged_the_database_the_agent_starts_or_says_why_not(
    state: StateDir, name: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    outbox = an_outbox(state)
    for number in range(40):
        outbox.add(a_delta(state, f"u{number}"))
    if name != WAL:
        outbox.close_database()
    # Copied while it is open, as a power cut finds it.
    shutil.copytree(state.root, tmp_path / "after")
    damage(tmp_path / "after" / name)
    found = occupy(tmp_path / "after")
    if name != WAL:
        with pytest.raises(BadConfig, match="contribution log"):
            an_outbox(found)
        return
    again = an_outbox(found)
    held = again.waiting()
    assert all(upload.payload.path.read_bytes() == b"1234" for upload in held)
    assert len(list(found.outbox.iterdir())) == len(held)
    again.accept(again.add(a_delta(found, "new")), RECEIPT)
