"""The model cache and the heartbeat, without a network."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from client_agent.domain.tasks import ModelFile, Pulse
from client_agent.services.model_cache import ModelCache
from client_agent.services.pulse import Heartbeat
from letheon.errors import CoordinatorUnreachable, LetheonError
from letheon.servicekit.clock import SystemClock
from letheon.servicekit.part_file import PartFile
from letheon.v1.models_pb2 import Model


class Shelf:
    """Versions to download; the newest is the head. Epoch = version // 10."""

    def __init__(self, newest: int) -> None:
        self.newest = newest
        self.downloaded: list[int] = []

    def download(self, version: int | None, path: Path) -> ModelFile:
        chosen = self.newest if version is None else version
        self.downloaded.append(chosen)
        path.write_bytes(b"model")
        return ModelFile(chosen, chosen // 10, path)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(newest=12)


@pytest.fixture
def cache(shelf: Shelf, tmp_path: Path) -> ModelCache:
    return ModelCache(tmp_path, shelf, max_models=2)  # type: ignore[arg-type]


def test_a_held_version_is_not_downloaded_again(shelf: Shelf, cache: ModelCache) -> None:
    assert cache.version(3) == cache.version(3)
    assert shelf.downloaded == [3]


def test_the_head_is_always_asked_for(shelf: Shelf, cache: ModelCache) -> None:
    cache.head()
    shelf.newest = 13
    assert cache.head().version == 13


def test_the_cache_holds_a_bounded_number_of_models(cache: ModelCache, tmp_path: Path) -> None:
    for version in range(6):
        assert cache.version(version).path.exists()
    assert len(list(tmp_path.iterdir())) == 2


def test_models_and_parts_of_earlier_epochs_are_forgotten(
    cache: ModelCache, tmp_path: Path
) -> None:
    cache.version(5)
    kept = cache.version(12)
    for version in (6, 11):
        part = PartFile(tmp_path / f"incoming-{version}")
        epoch = version // 10
        part.remember(Model(version=version, epoch=epoch, size_bytes=5, sha256="ab" * 32))
        (tmp_path / f"incoming-{version}.part").write_bytes(b"mo")
    cache.forget_before(1)
    left = {path.name for path in tmp_path.iterdir()}
    assert kept.path.name in left
    assert "incoming-11.part" in left
    assert not any("5" in name or "6" in name for name in left)


def test_a_head_below_what_is_held_means_that_nothing_held_can_be_trusted(
    shelf: Shelf, cache: ModelCache, tmp_path: Path
) -> None:
    cache.version(11)
    cache.head()
    part = PartFile(tmp_path / "incoming-13")
    part.remember(Model(version=13, epoch=1, size_bytes=5, sha256="ab" * 32))
    (tmp_path / "incoming-13.part").write_bytes(b"mo")
    shelf.newest = 10  # restored from a backup: 11 and 12 come back with other weights
    head = cache.head()
    assert list(tmp_path.iterdir()) == [head.path]
    cache.version(11)
    assert shelf.downloaded == [11, 12, 10, 11]


def test_an_epoch_below_what_is_held_means_that_nothing_held_can_be_trusted(
    cache: ModelCache, tmp_path: Path
) -> None:
    cache.version(5)
    cache.version(12)
    cache.forget_before(0)
    assert list(tmp_path.iterdir()) == []


class Beats:
    """Answers heartbeats from a list, then says that all is well."""

    def __init__(self, *answers: Pulse | LetheonError) -> None:
        self._answers = list(answers)
        self.done = threading.Event()

    def heartbeat(self, task: str) -> Pulse:
        if not self._answers:
            self.done.set()
            return Pulse(0, abandon=False)
        answer = self._answers.pop(0)
        if isinstance(answer, LetheonError):
            raise answer
        return answer


def beat(beats: Beats) -> tuple[bool, int]:
    calls: list[None] = []
    with Heartbeat(
        beats,  # type: ignore[arg-type]
        "tasks/t",
        clock=SystemClock(),
        interval_s=0.001,
        on_abandon=lambda: calls.append(None),
    ) as heartbeat:
        assert beats.done.wait(60)
        return heartbeat.is_abandoned, len(calls)


def test_a_heartbeat_that_finds_no_coordinator_lets_the_task_run() -> None:
    assert beat(Beats(CoordinatorUnreachable("gone"), Pulse(0, abandon=False))) == (False, 0)


def test_every_beat_that_says_so_abandons_the_task() -> None:
    assert beat(Beats(Pulse(1, abandon=True), Pulse(1, abandon=True))) == (True, 2)
