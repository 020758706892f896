"""Copies give way: to newer ones, to the reserve of the disk, to uploads."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from coordinator.adapters.blob_cache import BlobCache
from coordinator.adapters.disk_blobs import DiskBlobs
from coordinator.adapters.disk_staging import DiskStagingArea
from letheon.errors import DiskFull

DISK_BYTES = 1000
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that reports the room of a disk of 1000 bytes."""

    def usage(_path: object) -> Usage:
        used = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
        return Usage(DISK_BYTES, used, DISK_BYTES - used)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return tmp_path


def keep(cache: BlobCache, key: str, size_bytes: int) -> None:
    with cache.incoming(key, size_bytes) as local:
        local.write_bytes(bytes(size_bytes))
        cache.keep(key, local).close()


def kept(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*/*")}


def a_cache(directory: Path, *, limit_bytes: int, reserve_bytes: int = 0) -> BlobCache:
    return BlobCache(
        directory / "cache", ("a",), limit_bytes=limit_bytes, reserve_bytes=reserve_bytes
    )


def test_the_least_recently_read_goes_first_also_after_a_restart(tmp_path: Path) -> None:
    cache = a_cache(tmp_path, limit_bytes=30)
    for second, key in enumerate(("a/1", "a/2", "a/3")):
        keep(cache, key, 10)
        os.utime(tmp_path / "cache" / key, (second, second))
    opened = cache.open("a/1")
    assert opened is not None
    opened.close()
    keep(a_cache(tmp_path, limit_bytes=30), "a/4", 10)
    assert kept(tmp_path / "cache") == {"1", "3", "4"}


def test_what_was_half_written_is_gone_after_a_restart(tmp_path: Path) -> None:
    keep(a_cache(tmp_path, limit_bytes=30), "a/1", 10)
    (tmp_path / "cache" / "a" / "2.new-7").write_bytes(bytes(10))
    assert a_cache(tmp_path, limit_bytes=30).size_bytes == 10
    assert kept(tmp_path / "cache") == {"1"}


def test_a_file_that_is_not_kept_leaves_nothing(tmp_path: Path) -> None:
    cache = a_cache(tmp_path, limit_bytes=30)
    with cache.incoming("a/1", 10) as local:
        local.write_bytes(bytes(5))
    assert kept(tmp_path / "cache") == set()
    keep(cache, "a/1", 30)
    assert cache.size_bytes == 30


def test_copies_give_way_to_the_reserve_of_the_disk(small_disk: Path) -> None:
    cache = a_cache(small_disk, limit_bytes=10 * DISK_BYTES, reserve_bytes=200)
    for number in range(4):
        keep(cache, f"a/{number}", 200)
    keep(cache, "a/4", 300)
    assert kept(small_disk / "cache") == {"2", "3", "4"}
    with pytest.raises(DiskFull), cache.incoming("a/5", 900):
        pass


def test_copies_give_way_to_an_upload(small_disk: Path) -> None:
    cache = a_cache(small_disk, limit_bytes=10 * DISK_BYTES, reserve_bytes=200)
    for number in range(4):
        keep(cache, f"a/{number}", 200)
    staging = DiskStagingArea(
        small_disk / "uploads",
        DiskBlobs(small_disk / "payloads"),
        reserve_bytes=200,
        free_up=cache.free_up,
    )
    with staging.open("u1", 300) as upload:
        upload.append(bytes(300))
    assert kept(small_disk / "cache") == {"2", "3"}
    with pytest.raises(DiskFull), staging.open("u2", 900):
        pass
