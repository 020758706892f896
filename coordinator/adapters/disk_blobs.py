"""Immutable files named by their sha256, and the growing files of uploads.

A file appears under its name only when it is whole and durable: written elsewhere, fsync, rename,
fsync of the folder. A crash leaves a file of the right name or none.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from letheon.errors import DiskFull, PayloadCorrupt, UploadBusy
from letheon.servicekit.faults import reach

if TYPE_CHECKING:
    from hashlib import _Hash

    from coordinator.ports import Bytes

_READ_BYTES = 4 << 20
_REMEMBERED_HASHES = 256  # uploads whose hash goes on without reading the prefix again


def sync_directory(directory: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DiskBlobs:
    """One folder of blobs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        for unfinished in directory.glob("*.new-*"):
            unfinished.unlink()
        self._lock = threading.Lock()
        self._bytes = sum(file.stat().st_size for file in directory.iterdir())

    def path(self, sha256: str) -> Path:
        """Where a blob is or would be."""
        return self._directory / sha256

    def put(self, data: Bytes) -> str:
        """Stores bytes durably, answers their digest."""
        sha256 = hashlib.sha256(data).hexdigest()
        if self.path(sha256).exists():
            return sha256
        unfinished = self._directory / f"{sha256}.new-{threading.get_ident()}"
        try:
            with unfinished.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise DiskFull(f"a blob cannot be written: {error.strerror}") from error
        self.adopt(unfinished, sha256)
        return sha256

    def adopt(self, durable: Path, sha256: str) -> None:
        """Gives a whole, durable file of the same file system its name."""
        size = durable.stat().st_size
        with self._lock:
            known = self.path(sha256).exists()
            durable.rename(self.path(sha256))
            self._bytes += 0 if known else size
        sync_directory(self._directory)

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
            try:
                size = self.path(sha256).stat().st_size
                self.path(sha256).unlink()
            except FileNotFoundError:
                return
            self._bytes -= size
        sync_directory(self._directory)

    def all(self) -> list[str]:
        """Digests of all blobs."""
        return sorted(file.name for file in self._directory.iterdir() if "." not in file.name)

    def sizes(self) -> dict[str, int]:
        """Bytes of every blob, by digest."""
        files = (file for file in self._directory.iterdir() if "." not in file.name)
        return {file.name: file.stat().st_size for file in files}

    def disk_bytes(self) -> int:
        """Bytes of all blobs."""
        return self._bytes


class DiskStaging:
    """One growing file, unbuffered; made by `DiskStagingArea.open`."""

    def __init__(self, file: BinaryIO, path: Path, hasher: _Hash, payloads: DiskBlobs) -> None:
        self._file = file
        self._path = path
        self._payloads = payloads
        self.hasher = hasher
        self._size = file.seek(0, os.SEEK_END)
        self.is_done = False

    @property
    def size_bytes(self) -> int:
        """Bytes so far."""
        return self._size

    def append(self, data: bytes) -> None:
        """Adds bytes at the end. Raises DiskFull."""
        try:
            written = self._file.write(data)
        except OSError as error:
            raise DiskFull(f"the upload cannot be written: {error.strerror}") from error
        if written != len(data):
            raise DiskFull("the upload cannot be written: the disk took a part of it only")
        self.hasher.update(data)
        self._size += len(data)

    def sync(self) -> None:
        """Makes everything appended durable."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DiskFull(f"the upload cannot be made durable: {error.strerror}") from error

    def digest(self) -> str:
        """sha256, hex, of all bytes so far."""
        return self.hasher.hexdigest()

    def view(self) -> mmap.mmap:
        """All bytes, read-only."""
        return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)

    def publish(self) -> None:
        """Makes it a payload."""
        self.sync()
        self._payloads.adopt(self._path, self.digest())
        reach("payload.published")
        self.is_done = True

    def discard(self) -> None:
        """Removes the file."""
        self._path.unlink(missing_ok=True)
        self.is_done = True


class DiskStagingArea:
    """The folder of uploads under way, on the file system of the payloads."""

    def __init__(self, directory: Path, payloads: DiskBlobs, *, reserve_bytes: int) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._payloads = payloads
        self._reserve_bytes = reserve_bytes
        self._lock = threading.Lock()
        self._open: dict[str, int] = {}  # update id -> bytes still to come
        self._hashers: OrderedDict[str, tuple[int, _Hash]] = OrderedDict()

    @contextmanager
    def open(self, update_id: str, size_bytes: int) -> Iterator[DiskStaging]:
        """The file of an upload, for one stream. What it wrote is durable when it leaves."""
        self._reserve(update_id, size_bytes - self.committed_bytes(update_id))
        path = self._path(update_id)
        try:
            with path.open("a+b", buffering=0) as file:
                staging = DiskStaging(file, path, self._hasher(update_id, path), self._payloads)
                try:
                    yield staging
                finally:
                    if not staging.is_done:
                        staging.sync()
                        self._remember(update_id, staging)
        finally:
            with self._lock:
                del self._open[update_id]

    def committed_bytes(self, update_id: str) -> int:
        """Durable size of an upload; of one being written, what is there now."""
        try:
            return self._path(update_id).stat().st_size
        except FileNotFoundError:
            return 0

    def is_open(self, update_id: str) -> bool:
        """Whether a stream writes it."""
        with self._lock:
            return update_id in self._open

    def discard(self, update_id: str) -> None:
        """Removes an upload's file."""
        self._path(update_id).unlink(missing_ok=True)

    def all(self) -> list[str]:
        """Update ids."""
        return sorted(file.stem for file in self._directory.glob("*.part"))

    def _path(self, update_id: str) -> Path:
        return self._directory / f"{update_id}.part"

    def _reserve(self, update_id: str, missing_bytes: int) -> None:
        with self._lock:
            if update_id in self._open:
                raise UploadBusy(f"another stream writes {update_id}", update_id=update_id)
            free = shutil.disk_usage(self._directory).free
            if free - sum(self._open.values()) - missing_bytes < self._reserve_bytes:
                raise DiskFull("there is no room for the payload", retry_after_s=60.0)
            self._open[update_id] = max(0, missing_bytes)

    def _hasher(self, update_id: str, path: Path) -> _Hash:
        """The hash of what is there; read again only if this process did not write it."""
        size = path.stat().st_size
        with self._lock:
            remembered = self._hashers.pop(update_id, None)
        if remembered is not None and remembered[0] == size:
            return remembered[1]
        hasher = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                hasher.update(block)
        return hasher

    def _remember(self, update_id: str, staging: DiskStaging) -> None:
        with self._lock:
            self._hashers[update_id] = (staging.size_bytes, staging.hasher)
            while len(self._hashers) > _REMEMBERED_HASHES:
                self._hashers.popitem(last=False)
