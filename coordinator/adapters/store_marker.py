"""The file at the root of a store of blobs that says whose it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from coordinator.adapters.disk_blobs import sync_directory
from coordinator.adapters.remote_folder import RemoteFolder

MARKER_FILE: Final = "federation.json"


class DiskMarker:
    """In a folder."""

    def __init__(self, root: Path) -> None:
        self._path = root / MARKER_FILE

    @property
    def place(self) -> str:
        """The folder."""
        return str(self._path.parent)

    def read(self) -> bytes | None:
        """What it says; None if there is none."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, data: bytes) -> None:
        """Whole and durable."""
        unfinished = self._path.with_name(f"{MARKER_FILE}.new")
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path)
        sync_directory(self._path.parent)


class ObjectMarker:
    """In an object store."""

    def __init__(self, remote: RemoteFolder) -> None:
        self._remote = remote

    @property
    def place(self) -> str:
        """The URL."""
        return self._remote.place

    def read(self) -> bytes | None:
        """What it says; None if there is none."""
        return self._remote.read(MARKER_FILE)

    def write(self, data: bytes) -> None:
        """Whole and durable."""
        self._remote.write(MARKER_FILE, data)
