"""A file on its way: `{path}.part` with its bytes, `{path}.part-header` with whose they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Protocol

from google.protobuf.message import DecodeError

from letheon.v1.models_pb2 import Model

_READ_BYTES = 1024 * 1024


class Digest(Protocol):
    """What `hashlib` returns."""

    def update(self, data: bytes, /) -> None:
        """Takes more bytes."""
        ...


class PartFile:
    """The unfinished file of one download. One process writes it at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._header = path.with_name(path.name + ".part-header")

    def header(self) -> Model | None:
        """Whose bytes are held, or None if there are none that can be gone on with."""
        try:
            header = Model.FromString(self._header.read_bytes())
        except (FileNotFoundError, DecodeError):
            return None
        whole = header.sha256 and 0 < self.size() <= header.size_bytes
        return header if whole else None

    def size(self) -> int:
        """Bytes held."""
        try:
            return self._part.stat().st_size
        except FileNotFoundError:
            return 0

    def remember(self, header: Model) -> None:
        """Notes whose bytes follow, before the first of them is written."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._header.with_name(self._header.name + "-new")
        draft.write_bytes(header.SerializeToString())
        draft.replace(self._header)

    def open(self, digest: Digest) -> BinaryIO:
        """The file, positioned at its end; the digest has seen what is in it."""
        file = self._part.open("a+b")
        file.seek(0)
        while data := file.read(_READ_BYTES):
            digest.update(data)
        return file

    def complete(self) -> Path:
        """Makes the bytes durable and gives them their final name."""
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        self._part.replace(self._path)
        self._header.unlink(missing_ok=True)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return self._path

    def discard(self) -> None:
        """Removes what is held."""
        self._part.unlink(missing_ok=True)
        self._header.unlink(missing_ok=True)
