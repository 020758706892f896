"""Small files at the root of a store of blobs: whose it is, how far its ledger had
come, and which key store it was sealed with.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from coordinator.adapters.disk_blobs import sync_directory
from coordinator.adapters.remote_folder import RemoteFolder
from letheon.errors import DiskFull

OWNER: Final = "federation.json"
LEDGER: Final = "ledger.json"
KEYS: Final = "keys.json"


class DiskMarker:
    """In a folder."""

    def __init__(self, root: Path, name: str = OWNER) -> None:
        self._path = root / name

    @property
    def place(self) -> str:
        """The folder."""
        return str(self._path.parent)

    @property
    def name(self) -> str:
        """Of the file."""
        return self._path.name

    def read(self) -> bytes | None:
        """What it says; None if there is none."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, data: bytes) -> None:
        """Whole and durable. Raises DiskFull."""
        unfinished = self._path.with_name(f"{self._path.name}.new")
        try:
            with unfinished.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._path)
            sync_directory(self._path.parent)
        except OSError as error:
            raise DiskFull(f"{self._path} cannot be written: {error.strerror}") from error


class ObjectMarker:
    """In an object store."""

    def __init__(self, remote: RemoteFolder, name: str = OWNER) -> None:
        self._remote, self._name = remote, name

    @property
    def place(self) -> str:
        """The URL."""
        return self._remote.place

    @property
    def name(self) -> str:
        """Of the object."""
        return self._name

    def read(self) -> bytes | None:
        """What it says; None if there is none."""
        return self._remote.read(self._name)

    def write(self, data: bytes) -> None:
        """Whole and durable."""
        self._remote.write(self._name, data)
