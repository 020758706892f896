"""A large file holds what was given, whatever its size and whatever the file system takes."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from coordinator.adapters import large_file
from coordinator.adapters.disk_blobs import DiskBlobs
from coordinator.adapters.large_file import LARGE_BYTES, write_and_hash
from letheon.errors import DiskFull

PIECE = large_file._PIECE_BYTES
REAL = os.pwrite


def some_bytes(size: int) -> bytes:
    return hashlib.shake_256(b"seed").digest(1 << 16) * (size // (1 << 16) + 1)


def written(path: Path, data: bytes) -> tuple[str, bytes]:
    with path.open("wb", buffering=0) as file:
        sha256 = write_and_hash(path, file.fileno(), memoryview(data))
        os.fsync(file.fileno())
    return sha256, path.read_bytes()


@pytest.mark.parametrize(
    "size",
    [0, 1, PIECE, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, LARGE_BYTES + PIECE + 4096 + 3],
)
def test_a_file_of_any_size_holds_its_bytes_and_answers_their_digest(
    tmp_path: Path, size: int
) -> None:
    data = some_bytes(size)[:size]
    assert written(tmp_path / "file", data) == (hashlib.sha256(data).hexdigest(), data)


def test_a_large_file_takes_no_memory_of_the_cache_where_the_file_system_can_do_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    direct = large_file._open_past_the_cache(_made(path))
    if direct is None:
        pytest.skip("this file system has no O_DIRECT")
    os.close(direct)
    ordinary: list[int] = []
    opened: list[int] = []
    real_open = os.open

    def opening(name: Path, flags: int, *more: int) -> int:
        opened.append(real_open(name, flags, *more))
        return opened[-1]

    def writing(descriptor: int, data: memoryview, offset: int) -> int:
        if descriptor not in opened:
            ordinary.append(len(data))
        return REAL(descriptor, data, offset)

    data = some_bytes(LARGE_BYTES + 5)[: LARGE_BYTES + 5]
    with path.open("wb", buffering=0) as file:
        monkeypatch.setattr(os, "open", opening)
        monkeypatch.setattr(os, "pwrite", writing)
        write_and_hash(path, file.fileno(), memoryview(data))
        monkeypatch.undo()
    assert ordinary == [5]  # the end, which is no multiple of a block
    assert path.read_bytes() == data


def test_pieces_that_the_file_system_refuses_or_takes_in_part_go_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def writing(descriptor: int, data: memoryview, offset: int) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            raise OSError(errno.EINVAL, "no direct writes after all")
        if len(calls) == 3:
            return REAL(descriptor, data[:4096], offset)
        return REAL(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", writing)
    data = some_bytes(LARGE_BYTES)[:LARGE_BYTES]
    assert written(tmp_path / "file", data) == (hashlib.sha256(data).hexdigest(), data)
    assert PIECE - 4096 in calls


def test_without_direct_writes_the_bytes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_file, "_O_DIRECT", 0)
    data = some_bytes(LARGE_BYTES + 7)[: LARGE_BYTES + 7]
    assert written(tmp_path / "file", data) == (hashlib.sha256(data).hexdigest(), data)


def test_a_disk_that_fills_up_in_the_middle_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def writing(descriptor: int, data: memoryview, offset: int) -> int:
        if offset >= 4 * PIECE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return REAL(descriptor, data, offset)

    blobs = DiskBlobs(tmp_path)
    monkeypatch.setattr(os, "pwrite", writing)
    with pytest.raises(DiskFull, match="No space left"):
        blobs.put(some_bytes(LARGE_BYTES)[:LARGE_BYTES])
    assert list(tmp_path.iterdir()) == []


def _made(path: Path) -> Path:
    path.touch()
    return path
