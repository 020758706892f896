"""Files: immutable blobs, and the growing files of uploads."""

# ruff: noqa: D102 (a method says by its name and types what it does)
from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import BinaryIO, Final, Protocol

Bytes = bytes | bytearray | memoryview | mmap

# Longer than any transaction takes from storing a blob to committing the row that names it.
ORPHAN_GRACE_S: Final = 3600.0


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
    def discard_idle(self, update_id: str) -> bool:
        """Removes the file unless a stream holds it; answers whether it may be forgotten."""
        ...

    def all(self) -> list[str]: ...


class BlobStore(Protocol):
    """Immutable files named by their sha256, durable once `put` returns.

    Every method raises StorageUnavailable when a remote store does not answer; those that need
    room on this machine raise DiskFull.
    """

    def put(self, data: Bytes) -> str:
        """Stores bytes, answers their digest."""
        ...

    def get(self, sha256: str) -> mmap:
        """All bytes, read-only and checked. Raises PayloadCorrupt if missing or altered."""
        ...

    def adopt(self, durable: Path, sha256: str) -> None:
        """Takes a whole, durable file of this machine in; the file is gone afterwards."""
        ...

    def share(self, sha256: str, source: BlobStore) -> None:
        """Holds a blob that another area of this place holds, durable when this returns.

        One file with two names where the place has that, else a copy: either is destroyed alone.
        Raises PayloadCorrupt if the other area lacks it.
        """
        ...

    def open(self, sha256: str) -> BinaryIO:
        """The bytes as a file to read, not checked. Raises PayloadCorrupt if it is missing."""
        ...

    def destroy(self, sha256: str) -> None:
        """Removes a blob, durably; removing it twice is harmless."""
        ...

    def destroy_orphan(self, sha256: str) -> bool:
        """As `destroy`, unless this process stored it within ORPHAN_GRACE_S; says whether.

        A blob stored anew at the same moment is either seen and left, or stored after this.
        """
        ...

    def sizes(self) -> dict[str, int]:
        """Bytes of every blob, by digest."""
        ...

    def all(self) -> list[str]: ...
    def disk_bytes(self) -> int: ...


class Marker(Protocol):
    """A small file at the root of a store."""

    @property
    def place(self) -> str:
        """Where the store is, for a person."""
        ...

    @property
    def name(self) -> str:
        """Of the file."""
        ...

    def read(self) -> bytes | None:
        """What it says; None if there is none."""
        ...

    def write(self, data: bytes) -> None:
        """Whole and durable when this returns."""
        ...


@dataclass(frozen=True)
class Blobs:
    """What the coordinator keeps as files. Each area has its own references, so its own folder."""

    payloads: BlobStore
    models: BlobStore
    checkpoints: BlobStore
    contributions: BlobStore

    def areas(self) -> dict[str, BlobStore]:
        """Every area by its name."""
        return {
            "payloads": self.payloads,
            "models": self.models,
            "checkpoints": self.checkpoints,
            "contributions": self.contributions,
        }

    def disk_bytes(self) -> int:
        """Bytes held by all areas."""
        return sum(area.disk_bytes() for area in self.areas().values())
