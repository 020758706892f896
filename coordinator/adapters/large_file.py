"""A large file, hashed and written at once, past the page cache.

A buffered write copies every byte into fresh memory of the kernel, on the processor that could
hash meanwhile, and keeps it there although a checkpoint or a contribution is seldom read again.
With O_DIRECT the disk takes a piece out of a small aligned buffer while the next piece is hashed.
Where a file system has no such thing, or will not take a piece, the bytes go through the cache
(docs/decisions/0056-large-files-past-the-page-cache.md).
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from coordinator.adapters.beside import begin_to_write

LARGE_BYTES: Final = 16 << 20  # below it a thread and its buffers cost what they save
_PIECE_BYTES: Final = 2 << 20
_CACHED_PIECE_BYTES: Final = 8 << 20
_O_DIRECT: Final[int] = getattr(os, "O_DIRECT", 0)  # systems without it have no such flag


def write_and_hash(path: Path, descriptor: int, data: memoryview) -> str:
    """Writes `data` (bytes) to the empty file of that path, open as `descriptor`.

    Answers the SHA-256, hex, of what was written. Durable once the descriptor is synced.
    Raises OSError.
    """
    direct = _open_past_the_cache(path) if len(data) >= LARGE_BYTES else None
    if direct is None:
        return _through_the_cache(descriptor, data)
    try:
        return _past_the_cache(direct, descriptor, data)
    finally:
        os.close(direct)


def _open_past_the_cache(path: Path) -> int | None:
    if not _O_DIRECT:
        return None
    try:
        return os.open(path, os.O_WRONLY | _O_DIRECT)
    except OSError:  # such as EINVAL of a file system without it
        return None


def _past_the_cache(direct: int, descriptor: int, data: memoryview) -> str:
    hasher = hashlib.sha256()
    # Two buffers, aligned as pages are: one is written while the next is filled and hashed.
    buffers = [memoryview(mmap.mmap(-1, _PIECE_BYTES)) for _ in range(2)]
    under_way: list[Future[None] | None] = [None, None]
    with ThreadPoolExecutor(1, thread_name_prefix="past-the-cache") as pool:
        for number, start in enumerate(range(0, len(data), _PIECE_BYTES)):
            free = under_way[number % 2]
            if free is not None:
                free.result()
            source = data[start : start + _PIECE_BYTES]
            piece = buffers[number % 2][: len(source)]
            piece[:] = source
            under_way[number % 2] = pool.submit(_write, direct, descriptor, piece, start)
            hasher.update(piece)
        for last in under_way:
            if last is not None:
                last.result()
    return hasher.hexdigest()


def _write(direct: int, descriptor: int, piece: memoryview, offset: int) -> None:
    try:
        written = os.pwrite(direct, piece, offset)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        written = 0  # as for the end of a file, which is no multiple of a block
    while written < len(piece):
        written += os.pwrite(descriptor, piece[written:], offset + written)


def _through_the_cache(descriptor: int, data: memoryview) -> str:
    """Piece by piece, so that the disk writes one while the next is hashed."""
    hasher = hashlib.sha256()
    for start in range(0, len(data), _CACHED_PIECE_BYTES):
        piece = data[start : start + _CACHED_PIECE_BYTES]
        hasher.update(piece)
        written = 0
        while written < len(piece):
            written += os.pwrite(descriptor, piece[written:], start + written)
        begin_to_write(descriptor, start, len(piece))
    return hasher.hexdigest()
