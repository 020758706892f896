"""The growing files of uploads: what a cut stream left survives a restart."""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from coordinator.adapters.beside import Beside
from letheon.errors import DiskFull, UploadBusy

if TYPE_CHECKING:
    from hashlib import _Hash

    from coordinator.ports import BlobStore

_READ_BYTES = 4 << 20
_REMEMBERED_HASHES = 256  # uploads whose hash goes on without reading the prefix again


class DiskStaging:
    """One growing file, unbuffered; made by `DiskStagingArea.open`."""

    def __init__(self, file: BinaryIO, path: Path, hasher: _Hash, payloads: BlobStore) -> None:
        self._file = file
        self._path = path
        self._payloads = payloads
        self._size = file.seek(0, os.SEEK_END)
        self._beside = Beside(hasher, file.fileno(), self._size)
        self.is_done = False
        self._is_durable = True  # nothing was appended since the last sync

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
        self._is_durable = False
        self._size += len(data)
        self._beside.add(data, self._size)

    def sync(self) -> None:
        """Makes everything appended durable. Costs nothing if it is."""
        if self._is_durable:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DiskFull(f"the upload cannot be made durable: {error.strerror}") from error
        self._is_durable = True

    def digest(self) -> str:
        """sha256, hex, of all bytes so far."""
        return self._beside.finished().hexdigest()

    def finished(self) -> _Hash:
        """The hash of all bytes so far; no thread is left."""
        return self._beside.finished()

    def view(self) -> mmap.mmap:
        """All bytes, read-only."""
        return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)

    def publish(self) -> None:
        """Makes it a payload."""
        self.sync()
        self._payloads.adopt(self._path, self.digest())
        self.is_done = True

    def discard(self) -> None:
        """Removes the file."""
        self._path.unlink(missing_ok=True)
        self.is_done = True


class DiskStagingArea:
    """The folder of uploads under way; best on the file system of local payloads."""

    def __init__(
        self,
        directory: Path,
        payloads: BlobStore,
        *,
        reserve_bytes: int,
        free_up: Callable[[int], None] | None = None,
    ) -> None:
        """`free_up` is asked for so many bytes before an upload is told that the disk is full."""
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._payloads = payloads
        self._reserve_bytes, self._free_up = reserve_bytes, free_up
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
                    hasher = staging.finished()
                    if not staging.is_done:
                        staging.sync()
                        self._remember(update_id, staging.size_bytes, hasher)
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

    def discard_idle(self, update_id: str) -> bool:
        """Removes an upload's file unless a stream holds it."""
        with self._lock:
            if update_id in self._open:
                return False
            self._path(update_id).unlink(missing_ok=True)
        return True

    def all(self) -> list[str]:
        """Update ids."""
        return sorted(file.stem for file in self._directory.glob("*.part"))

    def _path(self, update_id: str) -> Path:
        return self._directory / f"{update_id}.part"

    def _reserve(self, update_id: str, missing_bytes: int) -> None:
        with self._lock:
            if update_id in self._open:
                raise UploadBusy(f"another stream writes {update_id}", update_id=update_id)
            shortage = self._shortage_bytes(missing_bytes)
            if shortage > 0 and self._free_up is not None:
                self._free_up(shortage)
                shortage = self._shortage_bytes(missing_bytes)
            if shortage > 0:
                raise DiskFull("there is no room for the payload", retry_after_s=60.0)
            self._open[update_id] = max(0, missing_bytes)

    def _shortage_bytes(self, missing_bytes: int) -> int:
        free = shutil.disk_usage(self._directory).free
        return self._reserve_bytes + sum(self._open.values()) + missing_bytes - free

    def _hasher(self, update_id: str, path: Path) -> _Hash:
        """The hash of what is there; read again only if this process did not write it."""
        size = path.stat().st_size
        with self._lock:
            remembered = self._hashers.pop(update_id, None)
        if remembered is not None and remembered[0] == size:
            return remembered[1]
        hasher = hashlib.sha256()
        if size == 0:  # nearly always; the buffer to read into is larger than many a model
            return hasher
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                hasher.update(block)
        return hasher

    def _remember(self, update_id: str, size_bytes: int, hasher: _Hash) -> None:
        with self._lock:
            self._hashers[update_id] = (size_bytes, hasher)
            while len(self._hashers) > _REMEMBERED_HASHES:
                self._hashers.popitem(last=False)
