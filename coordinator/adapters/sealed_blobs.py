"""Blobs that are sealed at rest: the digests stay those of the plaintext.

The store below holds sealed files under names that say nothing. Which file is which blob, and how
it opens, is known to the key ring alone: without its record a sealed file is noise. So a record is
removed before its file, and written before its file has its name.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import secrets
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final

from coordinator.adapters import sealing
from coordinator.adapters.recent_puts import RecentPuts
from coordinator.ports import UPLOADS, BlobStore, Bytes
from coordinator.services.key_ring import DataKey, KeyRing
from letheon.errors import DiskFull, KeyGone, PayloadCorrupt
from letheon.servicekit.clock import Clock

_log = logging.getLogger(__name__)
_LOCKS: Final = 64
_READ_BYTES: Final = 4 << 20


class SealedBlobs:
    """One area: sealed files in the store below, their keys in the ring."""

    def __init__(
        self,
        below: BlobStore,
        ring: KeyRing,
        area: str,
        work: Path,
        clock: Clock,
        *,
        hashed: bool,
    ) -> None:
        """`work` is a folder for unfinished files; `hashed`: the store below checks its digests."""
        self._below, self._ring, self._area, self._work = below, ring, area, work
        self._hashed = hashed
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))
        self._noting = threading.Lock()
        self._recent = RecentPuts(clock)

    def put(self, data: Bytes) -> str:
        """Seals and stores bytes, answers their digest."""
        sha256 = hashlib.sha256(data).hexdigest()
        with self._lock(sha256):
            if self._has(sha256):
                self._note(sha256)
                return sha256
            key = self._ring.fresh()
            with self._unfinished() as path:
                _seal(path, data, key)
                self._take(path, sha256, key, len(data))
        return sha256

    def adopt(self, durable: Path, sha256: str) -> None:
        """Seals a whole plaintext file of this machine; the file is gone afterwards."""
        with durable.open("rb") as file, self._lock(sha256):
            if self._has(sha256):
                self._note(sha256)
                durable.unlink()
                return
            size_bytes = os.fstat(file.fileno()).st_size
            key = self._ring.fresh()
            with self._unfinished() as path:
                if size_bytes:
                    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                        _seal(path, data, key)
                else:
                    _seal(path, b"", key)
                self._take(path, sha256, key, size_bytes)
        durable.unlink()

    def adopt_sealed(self, durable: Path, sha256: str, update_id: str) -> None:
        """Takes the file of an upload, whole, sealed and durable, with the upload's key."""
        with self._lock(sha256):
            found = self._ring.find(UPLOADS, update_id)
            if found is None:
                raise KeyGone(f"upload {update_id} has no data key", update_id=update_id)
            if self._has(sha256):  # its key is the one of the record: it must not be replaced
                self._note(sha256)
                durable.unlink()
            else:
                size_bytes = sealing.plain_size(durable.stat().st_size)
                self._take(durable, sha256, found.key, size_bytes)
            self._ring.forget(UPLOADS, update_id)

    def share(self, sha256: str, source: BlobStore) -> None:
        """Seals the blob of another area anew: each area has its own keys."""
        self.put(source.get(sha256))

    def get(self, sha256: str) -> mmap.mmap:
        """All bytes, read-only, in memory. What the tags bind was hashed when it was stored."""
        key, file = self._sealed(sha256)
        with file:
            try:
                return sealing.opened(file, sealing.Cipher(key.key), key.size_bytes)
            except PayloadCorrupt as error:
                raise PayloadCorrupt(f"blob {sha256}: {error.message}", sha256=sha256) from error

    def open(self, sha256: str) -> BinaryIO:
        """The plaintext as a file to read; a damaged segment raises when it is reached."""
        key, file = self._sealed(sha256)
        raw = sealing.SealedFile(file, sealing.Cipher(key.key), key.size_bytes)
        return BufferedReader(raw, sealing.SEGMENT_BYTES)

    def destroy(self, sha256: str) -> None:
        """Forgets the key, then removes the file, both durably."""
        with self._lock(sha256):
            self._destroy(sha256)

    def destroy_orphan(self, sha256: str) -> bool:
        """As `destroy`, unless it was stored of late."""
        with self._lock(sha256):
            with self._noting:
                if sha256 in self._recent:
                    return False
            self._destroy(sha256)
        return True

    def sizes(self) -> dict[str, int]:
        """Bytes of the plaintext of every blob that has a key and a file."""
        there = self._below.sizes()  # first: a blob stored meanwhile has its record by then
        return {
            sha256: sealing.plain_size(there[record.blob])
            for sha256, record in self._ring.all(self._area).items()
            if record.blob in there
        }

    def all(self) -> list[str]:
        """Digests of all blobs."""
        return sorted(self.sizes())

    def disk_bytes(self) -> int:
        """Bytes of the sealed files."""
        return self._below.disk_bytes()

    def tidy(self, *, alone: bool) -> None:
        """At the start: files without a key, which nobody can read, and keys without a file.

        `alone`: no other process may be storing, so that a key without a file is a leftover.
        """
        there, records = set(self._below.all()), self._ring.all(self._area)
        unkeyed = there - {record.blob for record in records.values()}
        for blob in unkeyed:
            self._below.destroy(blob)
        lost = [name for name, record in records.items() if alone and record.blob not in there]
        if lost:
            self._ring.forget(self._area, *lost)
        if unkeyed or lost:
            told = {"area": self._area, "files": len(unkeyed), "keys": len(lost)}
            _log.warning("unkeyed_removed", extra=told)

    def _sealed(self, sha256: str) -> tuple[DataKey, BinaryIO]:
        key = self._ring.find(self._area, sha256)
        if key is None:
            raise KeyGone(
                f"blob {sha256} has no data key: it was destroyed, or another key store is in use",
                sha256=sha256,
            )
        return key, self._below.open(key.blob)

    def _has(self, sha256: str) -> bool:
        try:
            self._sealed(sha256)[1].close()
        except PayloadCorrupt:
            return False
        return True

    def _destroy(self, sha256: str) -> None:
        record = self._ring.record(self._area, sha256)
        if record is None:
            return
        # The key first: from here on the file is noise, whatever becomes of it. `tidy` removes it
        # if this process dies between the two.
        self._ring.forget(self._area, sha256)
        self._below.destroy(record.blob)

    def _take(self, path: Path, sha256: str, key: bytes, size_bytes: int) -> None:
        blob = _digest(path) if self._hashed else secrets.token_hex(32)
        self._ring.keep(self._area, sha256, key, blob=blob, size_bytes=size_bytes)
        self._below.adopt(path, blob)
        self._note(sha256)

    @contextmanager
    def _unfinished(self) -> Iterator[Path]:
        path = self._work / uuid.uuid4().hex
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _lock(self, sha256: str) -> threading.Lock:
        return self._locks[int(sha256[:8], 16) % _LOCKS]

    def _note(self, sha256: str) -> None:
        with self._noting:
            self._recent.note(sha256)


def _seal(path: Path, data: Bytes, key: bytes) -> None:
    try:
        with path.open("wb") as file:
            sealing.seal_into(file, data, sealing.Cipher(key))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DiskFull(f"a blob cannot be written: {error.strerror}") from error


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            found.update(block)
    return found.hexdigest()
