"""Local copies of remote blobs: bounded, the least recently read go first, none is needed."""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from coordinator.adapters.disk_blobs import sync_directory
from letheon.errors import DiskFull


class BlobCache:
    """Copies by key `area/sha256`, all areas under one bound. Any thread may call."""

    def __init__(
        self, directory: Path, areas: tuple[str, ...], *, limit_bytes: int, reserve_bytes: int
    ) -> None:
        self._directory = directory
        self._limit_bytes, self._reserve_bytes = limit_bytes, reserve_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, int] = OrderedDict()  # key -> bytes, least recently read first
        self._kept_bytes = 0
        self._incoming_bytes = 0
        for area in areas:
            (directory / area).mkdir(parents=True, exist_ok=True)
        self._look_around()

    @property
    def size_bytes(self) -> int:
        """Bytes of all copies."""
        with self._lock:
            return self._kept_bytes

    def open(self, key: str) -> BinaryIO | None:
        """The copy, which counts as read now; None if there is none. It is not checked."""
        path = self._directory / key
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
        with suppress(FileNotFoundError):  # it may have had to go just now
            os.utime(path)
        return file

    @contextmanager
    def incoming(self, key: str, size_bytes: int) -> Iterator[Path]:
        """A name for a file on its way in, with room made. Raises DiskFull.

        What is there when the block ends without `keep` is removed.
        """
        with self._lock:
            self._make_room(self._incoming_bytes + size_bytes)
            self._evict(self._shortage_bytes(size_bytes))
            if self._shortage_bytes(size_bytes) > 0:
                raise DiskFull("there is no room for a copy of a remote file", retry_after_s=60.0)
            self._incoming_bytes += size_bytes
        unfinished = self._directory / f"{key}.new-{uuid.uuid4().hex}"
        try:
            yield unfinished
        finally:
            unfinished.unlink(missing_ok=True)
            with self._lock:
                self._incoming_bytes -= size_bytes

    def keep(self, key: str, file: Path) -> BinaryIO:
        """Takes a file in as the copy and opens it; one larger than the bound is not kept."""
        opened = file.open("rb")
        try:
            self._take(key, file, os.fstat(opened.fileno()).st_size)
        except OSError:
            opened.close()
            raise
        return opened

    def drop(self, key: str) -> None:
        """Removes the copy, durably."""
        path = self._directory / key
        with self._lock:
            self._kept_bytes -= self._kept.pop(key, 0)
            path.unlink(missing_ok=True)
        # Always: the copy may have been removed for room, and not durably.
        sync_directory(path.parent)

    def free_up(self, size_bytes: int) -> None:
        """Removes copies of so many bytes, for somebody who needs the room more."""
        with self._lock:
            self._evict(size_bytes)

    def _take(self, key: str, file: Path, size_bytes: int) -> None:
        with self._lock:
            if size_bytes > self._limit_bytes:
                file.unlink()
                return
            self._make_room(size_bytes)
            file.rename(self._directory / key)
            self._kept_bytes -= self._kept.pop(key, 0)
            self._count(key, size_bytes)

    def _count(self, key: str, size_bytes: int) -> None:
        self._kept[key] = size_bytes
        self._kept_bytes += size_bytes

    def _make_room(self, size_bytes: int) -> None:
        self._evict(self._kept_bytes + size_bytes - self._limit_bytes)

    def _shortage_bytes(self, size_bytes: int) -> int:
        """What the disk lacks for so much more; zero or less if it lacks nothing."""
        free = shutil.disk_usage(self._directory).free
        return self._reserve_bytes + self._incoming_bytes + size_bytes - free

    def _evict(self, size_bytes: int) -> None:
        """The least recently read go until so many bytes are free, or none is left."""
        while self._kept and size_bytes > 0:
            key, freed = self._kept.popitem(last=False)
            (self._directory / key).unlink(missing_ok=True)
            self._kept_bytes -= freed
            size_bytes -= freed

    def _look_around(self) -> None:
        """What an earlier process left: whole copies are used again."""
        found: list[tuple[float, str, int]] = []
        for path in self._directory.glob("*/*"):
            if "." in path.name:
                path.unlink()
                continue
            stat = path.stat()
            found.append((stat.st_mtime, f"{path.parent.name}/{path.name}", stat.st_size))
        for _, key, size_bytes in sorted(found):
            self._count(key, size_bytes)
        self._make_room(0)
