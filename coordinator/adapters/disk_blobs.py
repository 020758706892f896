"""Immutable files named by their sha256.

A file appears under its name only when it is whole and durable: written elsewhere, fsync, rename,
fsync of the folder. A crash leaves a file of the right name or none.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import re
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from coordinator.adapters.large_file import write_and_hash
from coordinator.adapters.recent_puts import RecentPuts
from letheon.errors import DiskFull, PayloadCorrupt
from letheon.servicekit.clock import Clock, SystemClock
from letheon.servicekit.together import Together

if TYPE_CHECKING:
    from coordinator.ports import BlobStore, Bytes

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def is_digest(name: str) -> bool:
    """Whether a file of that name is a blob: anything else in the folder is somebody else's."""
    return _DIGEST.fullmatch(name) is not None


def sync_directory(directory: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DiskBlobs:
    """One folder of blobs."""

    def __init__(self, directory: Path, clock: Clock | None = None) -> None:
        self._directory = directory
        self._recent = RecentPuts(clock or SystemClock())
        directory.mkdir(parents=True, exist_ok=True)
        for unfinished in directory.glob("*.new-*"):
            unfinished.unlink()
        self._lock = threading.Lock()
        self._names_durable = Together[None, None](self._sync_names)
        self._bytes = sum(self.sizes().values())

    def path(self, sha256: str) -> Path:
        """Where a blob is or would be."""
        return self._directory / sha256

    def put(self, data: Bytes) -> str:
        """Stores bytes durably, answers their digest. They are read once, and hashed as written."""
        unfinished = self._unfinished("put")
        try:
            with unfinished.open("wb", buffering=0) as file:
                view = memoryview(data).cast("B")
                sha256 = write_and_hash(unfinished, file.fileno(), view)
                if self._is_known(sha256):
                    unfinished.unlink()
                    return sha256
                os.fsync(file.fileno())
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise DiskFull(f"a blob cannot be written: {error.strerror}") from error
        self._name(unfinished, sha256)
        return sha256

    def share(self, sha256: str, source: BlobStore) -> None:
        """Holds the blob of another area: the same file under one more name, where that can be."""
        if isinstance(source, DiskBlobs) and self._is_linked(sha256, source):
            return
        self.put(source.get(sha256))

    def _is_linked(self, sha256: str, source: DiskBlobs) -> bool:
        if self._is_known(sha256):
            return True
        link = self._unfinished(sha256)
        try:
            link.hardlink_to(source.path(sha256))
        except OSError:  # such as two file systems, or one without such names
            return False
        self._name(link, sha256)
        return True

    def _is_known(self, sha256: str) -> bool:
        with self._lock:
            if not self.path(sha256).exists():
                return False
            self._recent.note(sha256)
            return True

    def adopt(self, durable: Path, sha256: str) -> None:
        """Gives a whole, durable file its name; one of another file system is copied first."""
        try:
            self._name(durable, sha256)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._name(self._copied(durable, sha256), sha256)
            durable.unlink()

    def _unfinished(self, name: str) -> Path:
        return self._directory / f"{name}.new-{threading.get_ident()}"

    def _name(self, durable: Path, sha256: str) -> None:
        size = durable.stat().st_size
        with self._lock:
            known = self.path(sha256).exists()
            durable.rename(self.path(sha256))
            self._bytes += 0 if known else size
            self._recent.note(sha256)
        self._names_durable(None)

    def _sync_names(self, callers: Sequence[None]) -> list[None]:
        """Once for all files that were named before this: deltas arrive together."""
        sync_directory(self._directory)
        return [None for _ in callers]

    def _copied(self, durable: Path, sha256: str) -> Path:
        copy = self._unfinished(sha256)
        try:
            shutil.copyfile(durable, copy)
            with copy.open("rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            copy.unlink(missing_ok=True)
            raise DiskFull(f"a blob cannot be written: {error.strerror}") from error
        return copy

    def get(self, sha256: str) -> mmap.mmap:
        """All bytes, read-only and checked. Raises PayloadCorrupt."""
        try:
            with self.path(sha256).open("rb") as file:
                view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise PayloadCorrupt(f"blob {sha256} cannot be read", sha256=sha256) from error
        if hashlib.sha256(view).hexdigest() != sha256:
            raise PayloadCorrupt(f"blob {sha256} no longer matches its digest", sha256=sha256)
        return view

    def open(self, sha256: str) -> BinaryIO:
        """The bytes as a file to read, not checked. Raises PayloadCorrupt if it is missing."""
        try:
            return self.path(sha256).open("rb")
        except OSError as error:
            raise PayloadCorrupt(f"blob {sha256} cannot be read", sha256=sha256) from error

    def destroy(self, sha256: str) -> None:
        """Removes a blob, durably."""
        with self._lock:
            self._unlink(sha256)
        sync_directory(self._directory)

    def destroy_orphan(self, sha256: str) -> bool:
        """Removes a blob, durably, unless it was stored of late."""
        with self._lock:
            if sha256 in self._recent:
                return False
            self._unlink(sha256)
        sync_directory(self._directory)
        return True

    def _unlink(self, sha256: str) -> None:
        try:
            size = self.path(sha256).stat().st_size
            self.path(sha256).unlink()
        except FileNotFoundError:
            return
        self._bytes -= size

    def all(self) -> list[str]:
        """Digests of all blobs."""
        return sorted(file.name for file in self._directory.iterdir() if is_digest(file.name))

    def sizes(self) -> dict[str, int]:
        """Bytes of every blob, by digest."""
        found: dict[str, int] = {}
        for sha256 in self.all():
            with suppress(FileNotFoundError):  # destroyed meanwhile
                found[sha256] = self.path(sha256).stat().st_size
        return found

    def disk_bytes(self) -> int:
        """Bytes of all blobs."""
        return self._bytes
