"""Deltas that wait for the head at once: one commit, a receipt for each, and nobody spoils another.

A test holds the head until all of them wait, so that no count depends on the machine or its load.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_core, a_plan, a_vector, enrol, take_delta
from sqlalchemy import event

from coordinator.adapters import disk_blobs
from coordinator.adapters.sql_engines import HASTY, WRITES
from coordinator.core import Core
from coordinator.domain.site import fence
from coordinator.domain.upload import Outcome, Receipt
from coordinator.services.accept_delta import AcceptDelta
from coordinator.training_wiring import accept_delta, receive_upload
from letheon.errors import SiteFenced, StorageUnavailable

AGENTS = 16
SITES = [f"site-{number:02d}" for number in range(AGENTS)]
LOOK_AGAIN_S = 0.002
FEDBUFF = {"plugin": "fedbuff", "arguments": {"buffer_size": 3}}


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    made = a_core(tmp_path)
    enrol(made, *SITES)
    take_delta(made, SITES[0], a_vector(100))
    yield made
    made.store.close()  # type: ignore[attr-defined]


def until(is_so: Callable[[], bool]) -> None:
    """A test that hangs here is ended by its limit."""
    pause = threading.Event()
    while not is_so():
        pause.wait(LOOK_AGAIN_S)


def together(
    core: Core, deltas: AcceptDelta, meanwhile: Callable[[], object] = lambda: None
) -> list[Future[Receipt]]:
    """A delta of each site; the first comes alone, the others while it waits for the head."""
    uploads = receive_upload(core, deltas)

    def send(site: str) -> Receipt:
        delta, update = a_vector(SITES.index(site)), f"update-{site}"
        return take_delta(core, site, delta, base_version=1, update_id=update, through=uploads)

    waiting = deltas._together
    with ThreadPoolExecutor(AGENTS) as pool:
        with core.live.exclusive():
            futures = [pool.submit(send, SITES[0])]
            until(lambda: waiting.is_busy)
            futures += [pool.submit(send, site) for site in SITES[1:]]
            until(lambda: waiting.waiting == AGENTS - 1)
            meanwhile()
        return futures


@contextmanager
def durable_commits(core: Core) -> Iterator[list[str]]:
    """One for each commit that waits for the disk."""
    found: list[str] = []

    def note(connection: Any) -> None:
        options = connection.get_execution_options()
        if options.get(WRITES) and not options.get(HASTY):
            found.append("commit")

    engine = core.store._engine  # type: ignore[attr-defined]
    event.listen(engine, "commit", note)
    try:
        yield found
    finally:
        event.remove(engine, "commit", note)


def test_sixteen_deltas_that_wait_at_once_cost_two_commits(core: Core) -> None:
    with durable_commits(core) as commits:
        receipts = [future.result() for future in together(core, accept_delta(core))]
    assert len(commits) == 2
    assert sorted(receipt.version for receipt in receipts) == list(range(2, AGENTS + 2))
    assert [r.staleness for r in sorted(receipts, key=lambda r: r.version)] == list(range(AGENTS))
    *_, verdict = core.verify_ledger()
    assert verdict.holds  # type: ignore[union-attr]


def test_names_that_appear_while_a_folder_is_synced_share_the_next_sync(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, synced = threading.Event(), threading.Event(), list[str]()
    real = disk_blobs.sync_directory

    def slow(directory: Path) -> None:
        synced.append(directory.name)
        begun.set()
        go_on.wait()
        real(directory)

    monkeypatch.setattr(disk_blobs, "sync_directory", slow)
    names = core.blobs.payloads._names_durable  # type: ignore[attr-defined]
    with ThreadPoolExecutor(AGENTS) as pool:
        first = pool.submit(core.blobs.payloads.put, b"first")
        begun.wait()
        others = [pool.submit(core.blobs.payloads.put, bytes([n])) for n in range(AGENTS - 1)]
        until(lambda: names.waiting == AGENTS - 1)
        go_on.set()
        assert len({first.result(), *(other.result() for other in others)}) == AGENTS
    assert synced == ["payloads", "payloads"]


def test_one_that_is_refused_does_not_keep_the_others(core: Core) -> None:
    def fence_one() -> None:
        with core.store.write() as uow:
            uow.sites.save(fence(uow.sites.get(SITES[5]), "e1"))
            uow.commit()

    futures = together(core, accept_delta(core), fence_one)
    assert isinstance(futures[5].exception(), SiteFenced)
    others = [future.result() for future in futures if future is not futures[5]]
    assert sorted(receipt.version for receipt in others) == list(range(2, AGENTS + 1))
    *_, verdict = core.verify_ledger()
    assert verdict.holds  # type: ignore[union-attr]


def test_one_that_breaks_the_transaction_is_taken_apart_from_the_others(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    deltas = accept_delta(core)
    real = type(deltas.signatures).keep

    def breaking(self: object, uow: Any, entry: Any, header: Any) -> None:
        if entry.site == SITES[5]:
            raise ValueError("this one breaks")
        real(self, uow, entry, header)  # type: ignore[arg-type]

    monkeypatch.setattr(type(deltas.signatures), "keep", breaking)
    futures = together(core, deltas)
    assert isinstance(futures[5].exception(), ValueError)
    others = [future.result() for future in futures if future is not futures[5]]
    assert sorted(receipt.version for receipt in others) == list(range(2, AGENTS + 1))
    *_, verdict = core.verify_ledger()
    assert verdict.holds  # type: ignore[union-attr]


def test_none_has_a_receipt_if_the_commit_fails_and_each_is_merged_once_when_sent_again(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    deltas = accept_delta(core)
    real = type(deltas)._commit

    def failing(*_: object) -> None:
        raise StorageUnavailable("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(type(deltas), "_commit", failing)
        futures = together(core, deltas)
        assert all(isinstance(f.exception(), StorageUnavailable) for f in futures)
    assert type(deltas)._commit is real
    assert core.live.position.version == 1
    again = [future.result() for future in together(core, deltas)]
    assert sorted(receipt.version for receipt in again) == list(range(2, AGENTS + 2))


def test_a_buffer_is_flushed_in_the_middle_of_those_that_wait(tmp_path: Path) -> None:
    core = a_core(tmp_path, plan=a_plan(strategy=FEDBUFF))
    enrol(core, *SITES)
    for site in SITES[:3]:
        take_delta(core, site, a_vector(100))
    receipts = [future.result() for future in together(core, accept_delta(core))]
    assert {receipt.outcome for receipt in receipts} == {Outcome.BUFFERED}
    assert core.live.position.version == 1 + AGENTS // 3
    *_, verdict = core.verify_ledger()
    assert verdict.holds  # type: ignore[union-attr]
    head = core.live.snapshot()[1]
    core.store.close()  # type: ignore[attr-defined]
    again = a_core(tmp_path)
    assert np.array_equal(again.live.snapshot()[1], head)
    again.store.close()  # type: ignore[attr-defined]
