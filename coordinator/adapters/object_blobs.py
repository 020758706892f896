"""Immutable objects named by their sha256 in a remote store, read through local copies.

An object store makes an object visible whole or not at all, so that a name means whole bytes. Bytes
are checked against their digest whenever they are read, from the store and from the copy alike.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import threading
from pathlib import Path
from typing import BinaryIO, Final

from coordinator.adapters.blob_cache import BlobCache
from coordinator.adapters.disk_blobs import is_digest
from coordinator.adapters.recent_puts import RecentPuts
from coordinator.adapters.remote_folder import RemoteFolder
from coordinator.ports import BlobStore, Bytes
from letheon.errors import DiskFull, PayloadCorrupt, StorageUnavailable
from letheon.servicekit.clock import Clock

_log = logging.getLogger(__name__)

# Storing, fetching and destroying one digest exclude each other, so that no fetch brings a copy
# back that a destruction has just removed. Digests that share a lock only wait for each other.
_LOCKS: Final = 64


class ObjectBlobs:
    """One area of the store: a folder of objects."""

    def __init__(self, remote: RemoteFolder, area: str, cache: BlobCache, clock: Clock) -> None:
        self._remote, self._area, self._cache = remote, area, cache
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))
        self._counting = threading.Lock()
        self._sizes = self.sizes()  # what this process knows to be there, by digest
        self._recent = RecentPuts(clock)

    def put(self, data: Bytes) -> str:
        """Stores bytes, answers their digest."""
        sha256, size_bytes = hashlib.sha256(data).hexdigest(), len(data)
        with self._lock(sha256):
            if self._remote.size(self._key(sha256)) == size_bytes:
                self._note(sha256, size_bytes)
                return sha256
            with self._cache.incoming(self._key(sha256), size_bytes) as local:
                _write(local, data)
                self._store(local, sha256)
        return sha256

    def adopt(self, durable: Path, sha256: str) -> None:
        """Stores a whole file of this machine; it becomes the local copy."""
        with self._lock(sha256):
            self._store(durable, sha256)

    def share(self, sha256: str, source: BlobStore) -> None:
        """Stores the blob of another area once more, under this one."""
        self.put(source.get(sha256))

    def get(self, sha256: str) -> mmap.mmap:
        """All bytes, read-only and checked. Raises PayloadCorrupt."""
        with self.open(sha256) as file:
            try:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:  # an empty file
                raise PayloadCorrupt(f"blob {sha256} cannot be read", sha256=sha256) from error

    def open(self, sha256: str) -> BinaryIO:
        """The bytes as a file to read, checked. Raises PayloadCorrupt."""
        copy = self._copy(sha256)
        if copy is not None:
            return copy
        with self._lock(sha256):
            # Another thread may have fetched it meanwhile.
            return self._copy(sha256) or self._fetch(sha256)

    def destroy(self, sha256: str) -> None:
        """Removes the object and its copy."""
        with self._lock(sha256):
            self._destroy(sha256)

    def destroy_orphan(self, sha256: str) -> bool:
        """As `destroy`, unless it was stored of late."""
        with self._lock(sha256):
            with self._counting:
                if sha256 in self._recent:
                    return False
            self._destroy(sha256)
        return True

    def sizes(self) -> dict[str, int]:
        """Bytes of every object, by digest, as the store lists them now."""
        found = self._remote.sizes(self._area)
        return {name: size for name, size in found.items() if is_digest(name)}

    def all(self) -> list[str]:
        """Digests of all objects."""
        return sorted(self.sizes())

    def disk_bytes(self) -> int:
        """Bytes of all objects, without asking the store."""
        with self._counting:
            return sum(self._sizes.values())

    def _key(self, sha256: str) -> str:
        return f"{self._area}/{sha256}"

    def _lock(self, sha256: str) -> threading.Lock:
        return self._locks[int(sha256[:8], 16) % _LOCKS]

    def _note(self, sha256: str, size_bytes: int) -> None:
        with self._counting:
            self._sizes[sha256] = size_bytes
            self._recent.note(sha256)

    def _store(self, local: Path, sha256: str) -> None:
        key, size_bytes = self._key(sha256), local.stat().st_size
        self._remote.upload(local, key)
        stored = self._remote.size(key)
        if stored != size_bytes:
            raise StorageUnavailable(
                f"the object store kept {stored} of {size_bytes} bytes of blob {sha256}",
                sha256=sha256,
            )
        self._note(sha256, size_bytes)
        try:
            self._cache.keep(key, local).close()
        except OSError as error:
            # Such as a cache on another disk than the uploads: the object is what counts.
            _log.warning("copy_not_kept", extra={"area": self._area, "error": error.strerror})
            local.unlink()

    def _destroy(self, sha256: str) -> None:
        # The copy first: if the store does not answer, the caller repeats, and no copy is left
        # even if it never does.
        self._cache.drop(self._key(sha256))
        self._remote.remove(self._key(sha256))
        with self._counting:
            self._sizes.pop(sha256, None)

    def _copy(self, sha256: str) -> BinaryIO | None:
        """The local copy, at its first byte; a damaged one is dropped."""
        copy = self._cache.open(self._key(sha256))
        if copy is None:
            return None
        if _digest(copy) == sha256:
            return copy
        copy.close()
        _log.warning("cached_copy_damaged", extra={"area": self._area, "sha256": sha256})
        self._cache.drop(self._key(sha256))
        return None

    def _fetch(self, sha256: str) -> BinaryIO:
        key = self._key(sha256)
        size_bytes = self._remote.size(key)
        if size_bytes is None:
            raise PayloadCorrupt(f"blob {sha256} is not in the store", sha256=sha256)
        with self._cache.incoming(key, size_bytes) as local:
            try:
                self._remote.download(key, local)
            except FileNotFoundError as error:
                raise PayloadCorrupt(f"blob {sha256} is not in the store", sha256=sha256) from error
            with local.open("rb") as fetched:
                found = _digest(fetched)
            if found != sha256:
                raise PayloadCorrupt(
                    f"blob {sha256} no longer matches its digest in the store", sha256=sha256
                )
            return self._cache.keep(key, local)


def _write(local: Path, data: Bytes) -> None:
    try:
        local.write_bytes(data)
    except OSError as error:
        raise DiskFull(f"a blob cannot be written: {error.strerror}") from error


def _digest(file: BinaryIO) -> str:
    """Of the whole file, which is at its first byte afterwards."""
    # typeshed asks for a wider protocol than a BinaryIO promises.
    found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return found
