"""What the removal of a contribution costs, counted and not timed: the guard against regressions.

Counted over the use case behind RemoveContribution on SQLite; no count depends on the machine.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import LAYOUT, a_vector
from erasure_bench import Bench, a_bench

from coordinator.services import remove_contribution as removing
from coordinator.services.claim_erasure import claim_erasure
from coordinator.services.draft_removal import Draft, draft_ahead, fold_whole
from coordinator.services.remove_contribution import remove_contribution
from letheon.errors import DiskFull
from letheon.federation.parameters import digest

MODEL_BYTES = 4 * LAYOUT.size
DELTAS = 3


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = a_bench(tmp_path)
    made.train("south", "north", "south", "south")
    yield made
    made.close()


class CountedHash:
    """SHA-256 that counts how many whole vectors it was given."""

    vectors = 0

    def __init__(self, data: bytes = b"") -> None:
        self._hash = REAL()
        self.update(data)

    def update(self, data: bytes) -> None:
        CountedHash.vectors += memoryview(data).nbytes == MODEL_BYTES
        self._hash.update(data)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def digest(self) -> bytes:
        return self._hash.digest()


REAL = hashlib.sha256


def claimed(bench: Bench) -> tuple[str, int]:
    erasure = bench.request("south")
    return erasure.id, claim_erasure(erasure.id, "c1", bench.context)[1].token


def test_a_removal_hashes_each_payload_the_contribution_and_both_versions_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    erasure, token = claimed(bench)
    CountedHash.vectors = 0
    monkeypatch.setattr(hashlib, "sha256", CountedHash)
    remove_contribution(erasure, token, bench.context)
    monkeypatch.undo()
    assert CountedHash.vectors == DELTAS + 3


def test_a_removal_writes_two_versions_and_names_one_of_them_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    erasure, token = claimed(bench)
    synced: list[str] = []
    real = os.fsync

    def counting(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name.split("-")[0])
        real(descriptor)

    monkeypatch.setattr(os, "fsync", counting)
    removal = remove_contribution(erasure, token, bench.context)
    monkeypatch.undo()
    files = [name for name in synced if name != "tombstones.jsonl"]
    assert sorted(files) == ["checkpoints", "models", "models", "put.new", "put.new"]
    blobs = bench.context.blobs
    model, checkpoint = (
        area.path(removal.sha256_after)  # type: ignore[attr-defined]
        for area in (blobs.models, blobs.checkpoints)
    )
    assert model.stat().st_ino == checkpoint.stat().st_ino


def test_nobody_waits_for_a_hash_of_the_removal(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    erasure, token = claimed(bench)
    held: list[int] = []
    real = removing._remove_held

    def counting(*arguments: object, **more: object) -> object:
        CountedHash.vectors = 0
        found = real(*arguments, **more)  # type: ignore[arg-type]
        held.append(CountedHash.vectors)
        return found

    monkeypatch.setattr(removing, "_remove_held", counting)
    monkeypatch.setattr(hashlib, "sha256", CountedHash)
    remove_contribution(erasure, token, bench.context)
    monkeypatch.undo()
    assert held == [0]


def test_a_delta_that_comes_between_is_in_the_head_that_is_subtracted_from(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    erasure, token = claimed(bench)
    drafted: list[Draft] = []

    def overtaken(*arguments: object, **more: object) -> Draft | None:
        draft = draft_ahead(*arguments, **more)  # type: ignore[arg-type]
        assert draft is not None
        drafted.append(draft)
        bench.push("north", a_vector(77))
        return draft

    monkeypatch.setattr(removing, "draft_ahead", overtaken)
    removal = remove_contribution(erasure, token, bench.context)
    assert (removal.version_before, removal.version_after) == (5, 6)
    assert removal.sha256_after == digest(bench.head)
    assert bench.ledger_holds()
    stored = bench.context.blobs.models.all()
    assert {removal.sha256_before, removal.sha256_after} <= set(stored)
    assert drafted[0].sha256_after not in stored


def test_a_version_before_that_is_a_file_already_is_not_kept_in_memory_beside_the_next(
    bench: Bench,
) -> None:
    claimed(bench)
    folded = fold_whole("south", bench.context)
    first, second = (draft_ahead("south", folded, bench.context, subtracts=True) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.before is not None
    assert digest(first.before) == first.sha256_before
    assert second.before is None
    assert second.after.tobytes() == first.after.tobytes()
    assert (second.norm_before, second.sha256_before) == (first.norm_before, first.sha256_before)


def test_a_version_before_that_was_dropped_meanwhile_is_written_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    erasure, token = claimed(bench)

    def dropped(*arguments: object, **more: object) -> Draft | None:
        draft = draft_ahead(*arguments, **more)  # type: ignore[arg-type]
        assert draft is not None
        with bench.context.store.write() as uow:
            uow.models.remove(draft.position.version)
            uow.commit()
        bench.context.blobs.models.destroy(draft.sha256_before)
        return draft

    monkeypatch.setattr(removing, "draft_ahead", dropped)
    removal = remove_contribution(erasure, token, bench.context)
    assert digest(np.frombuffer(bench.context.blobs.models.get(removal.sha256_before), "<f4")) == (
        removal.sha256_before
    )


def test_a_draft_of_a_removal_that_is_refused_leaves_no_file(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    erasure, token = claimed(bench)
    drafted: list[Draft] = []

    def claimed_by_another(*arguments: object, **more: object) -> Draft | None:
        draft = draft_ahead(*arguments, **more)  # type: ignore[arg-type]
        assert draft is not None
        drafted.append(draft)
        claim_erasure(erasure, "c1", bench.context)
        return draft

    monkeypatch.setattr(removing, "draft_ahead", claimed_by_another)
    with pytest.raises(Exception, match="claim"):
        remove_contribution(erasure, token, bench.context)
    assert drafted[0].sha256_after not in bench.context.blobs.models.all()


def test_a_removal_is_done_without_room_for_its_files(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    erasure, token = claimed(bench)

    def full(_: object) -> str:
        raise DiskFull("a blob cannot be written")

    with monkeypatch.context() as patched:
        patched.setattr(bench.context.blobs.models, "put", full)
        with pytest.raises(DiskFull):
            remove_contribution(erasure, token, bench.context)
    done = bench.erasure(erasure).removal
    assert done is not None
    assert done.sha256_after == digest(bench.head)
    assert remove_contribution(erasure, token, bench.context) == done
    assert {done.sha256_before, done.sha256_after} <= set(bench.context.blobs.models.all())
    assert bench.ledger_holds()
