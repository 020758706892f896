"""Files: immutable blobs, and the growing files of uploads."""

# ruff: noqa: D102 (a method says by its name and types what it does)
from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import BinaryIO, Protocol

Bytes = bytes | bytearray | memoryview | mmap


class Staging(Protocol):
    """The growing file of one upload, held by one stream at a time."""

    @property
    def size_bytes(self) -> int:
        """Bytes so far, those of earlier streams included."""
        ...

    def append(self, data: bytes) -> None: ...
    def sync(self) -> None:
        """Makes everything appended durable."""
        ...

    def digest(self) -> str:
        """sha256, hex, of all bytes so far."""
        ...

    def view(self) -> mmap:
        """All bytes, read-only."""
        ...

    def publish(self) -> None:
        """Makes it an immutable payload named by its digest, durable when this returns.

        A row is still to name it: `PayloadsInFlight` keeps it until then.
        """
        ...

    def discard(self) -> None: ...


class StagingArea(Protocol):
    """Uploads under way, as growing files that survive a restart."""

    def open(self, update_id: str, size_bytes: int) -> AbstractContextManager[Staging]:
        """Raises UploadBusy while another stream holds it, DiskFull without room for the rest."""
        ...

    def committed_bytes(self, update_id: str) -> int: ...
    def is_open(self, update_id: str) -> bool: ...
    def discard(self, update_id: str) -> None: ...
    def all(self) -> list[str]: ...


class BlobStore(Protocol):
    """Immutable files named by their sha256, durable once `put` returns."""

    def put(self, data: Bytes) -> str:
        """Stores bytes, answers their digest."""
        ...

    def get(self, sha256: str) -> mmap:
        """All bytes, read-only and checked. Raises PayloadCorrupt if missing or altered."""
        ...

    def adopt(self, durable: Path, sha256: str) -> None:
        """Takes a whole, durable file of this machine in; the file is gone afterwards."""
        ...

    def open(self, sha256: str) -> BinaryIO:
        """The bytes as a file to read, not checked. Raises PayloadCorrupt if it is missing."""
        ...

    def destroy(self, sha256: str) -> None:
        """Removes a blob, durably; removing it twice is harmless."""
        ...

    def sizes(self) -> dict[str, int]:
        """Bytes of every blob, by digest."""
        ...

    def all(self) -> list[str]: ...
    def disk_bytes(self) -> int: ...


@dataclass(frozen=True)
class Blobs:
    """What the coordinator keeps as files. Each area has its own references, so its own folder."""

    payloads: BlobStore
    models: BlobStore
    checkpoints: BlobStore
    contributions: BlobStore

    def disk_bytes(self) -> int:
        """Bytes held by all areas."""
        areas = (self.payloads, self.models, self.checkpoints, self.contributions)
        return sum(area.disk_bytes() for area in areas)
