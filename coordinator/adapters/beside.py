"""What an upload's bytes need beside being received: their hash, and a head start to the disk.

One thread for each stream that is long enough, so that the next chunk is received while the last
one is hashed (docs/decisions/0040-hash-and-disk-beside-receiving.md).
"""

from __future__ import annotations

import ctypes
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hashlib import _Hash

_WAITING: Final = 4  # chunks; then the stream waits for the hash
_WRITE_BACK_BYTES: Final = 8 << 20
_SYNC_FILE_RANGE_WRITE: Final = 2  # begin to write, wait for nothing


class Beside:
    """Hashes what is added, in order, on a thread of its own once there is a second chunk."""

    def __init__(self, hasher: _Hash, descriptor: int, written: int) -> None:
        """`written`: bytes of the file behind `descriptor` before anything is added."""
        self._hasher, self._descriptor = hasher, descriptor
        self._begun = written  # bytes of the file on their way to the disk
        self._queue: queue.Queue[tuple[bytes, int] | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._is_first = True

    def add(self, data: bytes, written: int) -> None:
        """These bytes follow; the file has `written` bytes by now, whatever stands in it."""
        if self._is_first:
            self._is_first = False
            self._take(
                data, written
            )  # most deltas of small models are one chunk: no thread for them
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="hash", daemon=True)
            self._thread.start()
        self._queue.put((data, written))

    def finished(self) -> _Hash:
        """The hash of everything added; no thread is left."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()
        return self._hasher

    def _work(self) -> None:
        while (added := self._queue.get()) is not None:
            self._take(*added)

    def _take(self, data: bytes, written: int) -> None:
        self._hasher.update(data)
        if written - self._begun >= _WRITE_BACK_BYTES:
            begin_to_write(self._descriptor, self._begun, written - self._begun)
            self._begun = written


def _find_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    try:
        found = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    found.restype = ctypes.c_int
    function: Callable[[int, int, int, int], int] = found
    return function


_sync_file_range = _find_sync_file_range()


def begin_to_write(descriptor: int, offset: int, size: int) -> None:
    """Lets the kernel write these bytes of a file now. Makes nothing durable, waits for nothing.

    A kernel or file system without it writes them when the file is synced, as it always did.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, offset, size, _SYNC_FILE_RANGE_WRITE)
