"""The growing files of uploads, sealed from their first byte on."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from coordinator.adapters import sealing
from coordinator.adapters.beside import Beside
from coordinator.adapters.disk_staging import DiskStagingArea
from coordinator.adapters.sealed_blobs import SealedBlobs
from coordinator.ports import UPLOADS
from coordinator.services.key_ring import KeyRing
from letheon.errors import DiskFull, KeyGone, PayloadCorrupt

if TYPE_CHECKING:
    from hashlib import _Hash


class SealedStaging:
    """One growing sealed file. Less than a segment waits in memory until the next `sync`."""

    def __init__(
        self,
        file: BinaryIO,
        path: Path,
        cipher: sealing.Cipher,
        hasher: _Hash,
        publish: Callable[[str], None],
    ) -> None:
        self._file, self._path, self._cipher = file, path, cipher
        self._publish = publish
        stored = file.seek(0, os.SEEK_END)
        self._beside = Beside(hasher, file.fileno(), stored)
        self._size = sealing.plain_size(stored)
        self._index, rest = divmod(self._size, sealing.SEGMENT_BYTES)
        self._tail = bytearray(self._read_tail() if rest else b"")
        self._is_durable = True  # nothing was appended since the last sync
        self.is_done = False

    @property
    def size_bytes(self) -> int:
        """Bytes of plaintext so far."""
        return self._size

    def append(self, data: bytes) -> None:
        """Adds bytes at the end. Raises DiskFull."""
        self._size += len(data)
        self._is_durable = False
        with memoryview(data) as view:
            at = 0
            while len(self._tail) + len(view) - at >= sealing.SEGMENT_BYTES:
                end = at + sealing.SEGMENT_BYTES - len(self._tail)
                if self._tail:
                    self._write(self._tail + view[at:end])
                    self._tail.clear()
                else:
                    self._write(view[at:end])
                self._index += 1
                at = end
            self._tail += view[at:]
        self._beside.add(data, self._index * sealing.STORED_BYTES)

    def sync(self) -> None:
        """Makes everything appended durable; costs nothing if it is. Raises DiskFull."""
        if self._is_durable:
            return
        if self._tail:
            self._write(self._tail)
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DiskFull(f"the upload cannot be made durable: {error.strerror}") from error
        self._is_durable = True

    def digest(self) -> str:
        """sha256, hex, of the plaintext so far."""
        return self._beside.finished().hexdigest()

    def finished(self) -> _Hash:
        """The hash of the plaintext so far; no thread is left."""
        return self._beside.finished()

    def view(self) -> mmap.mmap:
        """All the plaintext, read-only, in memory."""
        self.sync()
        with self._path.open("rb") as file:
            return sealing.opened(file, self._cipher, self._size)

    def publish(self) -> None:
        """Makes it a payload."""
        self.sync()
        self._publish(self.digest())
        self.is_done = True

    def discard(self) -> None:
        """Removes the file; its key goes with the next sweep, and is of no use before."""
        self._path.unlink(missing_ok=True)
        self.is_done = True

    def _write(self, segment: bytearray | memoryview) -> None:
        stored = self._cipher.seal(segment, self._index)
        try:
            self._file.seek(self._index * sealing.STORED_BYTES)
            written = self._file.write(stored)
        except OSError as error:
            raise DiskFull(f"the upload cannot be written: {error.strerror}") from error
        if written != len(stored):
            raise DiskFull("the upload cannot be written: the disk took a part of it only")

    def _read_tail(self) -> bytes:
        self._file.seek(self._index * sealing.STORED_BYTES)
        return self._cipher.open(self._file.read(sealing.STORED_BYTES), self._index)


class SealedStagingArea(DiskStagingArea):
    """Uploads under way, each with a data key of its own."""

    def __init__(
        self,
        directory: Path,
        payloads: SealedBlobs,
        ring: KeyRing,
        *,
        reserve_bytes: int,
        free_up: Callable[[int], None] | None = None,
    ) -> None:
        """Drops the keys of uploads whose file is gone."""
        super().__init__(directory, payloads, reserve_bytes=reserve_bytes, free_up=free_up)
        self._ring, self._sealed_payloads = ring, payloads
        ring.forget(UPLOADS, *(set(ring.all(UPLOADS)) - set(self.all())))

    @contextmanager
    def open(self, update_id: str, size_bytes: int) -> Iterator[SealedStaging]:  # type: ignore[override]
        """The file of an upload, for one stream. What it wrote is durable when it leaves."""
        self._reserve(update_id, size_bytes - self.committed_bytes(update_id))
        path = self._path(update_id)
        try:
            key = self._key(update_id, path)
            path.touch()
            with path.open("r+b", buffering=0) as file:
                cipher = sealing.Cipher(key)
                hasher = self._resumed(update_id, file, cipher)
                staging = SealedStaging(
                    file,
                    path,
                    cipher,
                    hasher,
                    lambda sha256: self._sealed_payloads.adopt_sealed(path, sha256, update_id),
                )
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
        """Durable plaintext of an upload."""
        return sealing.plain_size(super().committed_bytes(update_id))

    def discard(self, update_id: str) -> None:
        """Forgets an upload's key, and removes its file."""
        self._ring.forget(UPLOADS, update_id)
        super().discard(update_id)

    def discard_idle(self, update_id: str) -> bool:
        """Removes an upload's file and key unless a stream holds it."""
        if not super().discard_idle(update_id):
            return False
        self._ring.forget(UPLOADS, update_id)
        return True

    def _key(self, update_id: str, path: Path) -> bytes:
        """Of the upload; without one that opens, what is there is noise, and it begins anew."""
        try:
            found = self._ring.find(UPLOADS, update_id)
        except KeyGone:
            found = None
        if found is not None:
            return found.key
        path.unlink(missing_ok=True)
        key = self._ring.fresh()
        self._ring.keep(UPLOADS, update_id, key)
        return key

    def _resumed(self, update_id: str, file: BinaryIO, cipher: sealing.Cipher) -> _Hash:
        """The hash of what is there; a segment that a power cut tore is cut off."""
        size = sealing.plain_size(file.seek(0, os.SEEK_END))
        with self._lock:
            remembered = self._hashers.pop(update_id, None)
        if remembered is not None and remembered[0] == size:
            return remembered[1]
        hasher, whole = hashlib.sha256(), 0
        try:
            for segment in sealing.segments(file, cipher):
                hasher.update(segment)
                whole += len(segment)
        except PayloadCorrupt:
            file.truncate(sealing.sealed_size(whole))
        return hasher
