"""Telling the C library's allocator to keep the buffers that a transfer needs again and again.

By default glibc gives memory back to the kernel whenever the top of its heap is freed, and takes
it again for the next chunk: every page is then cleared and faulted in anew. A transfer of 1 MiB
chunks spends more time on that than on its bytes (docs/decisions/0039-a-chunk-is-copied-once.md).
"""

from __future__ import annotations

import ctypes
from typing import Final

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEPT_BYTES: Final = 16 << 20  # a free heap top up to this stays
_MOST_BYTES: Final = 32 << 20  # the largest that glibc serves from a heap by itself


def keep_transfer_buffers(
    *, whole_from_bytes: int = _MOST_BYTES, arenas: int | None = None
) -> bool:
    """Call it once, before threads are started; False where the C library has no such setting.

    Buffers of `whole_from_bytes` and more are given back to the kernel as soon as they are freed,
    as vectors should be. At most 16 MiB stay for each of the `arenas` (None: as many as glibc
    likes).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    wanted = {_TRIM_THRESHOLD: _KEPT_BYTES, _MMAP_THRESHOLD: whole_from_bytes}
    if arenas is not None:
        wanted[_ARENA_MAX] = arenas
    return all(mallopt(name, value) == 1 for name, value in wanted.items())
