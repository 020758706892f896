"""The files below a folder or inside a .zip, read in place. Nothing is ever unpacked to disk."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

from letheon.errors import BadData

MOST_BYTES = 4 * 1024**3  # of one file
_FREE_BYTES = 64 * 1024**2  # below it, any compression ratio is taken
_MOST_RATIO = 250  # deflate reaches 1000 on zeros; scans stay below 100
_MOST_FILES = 2_000_000


class TooLarge(BadData):
    """A file with more bytes than are read."""


class Tree(Protocol):
    """Names of files, sorted, with `/` between folders, and their bytes."""

    path: Path

    @property
    def names(self) -> tuple[str, ...]:
        """Every file, hidden ones left out."""
        ...

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders at the top, sorted, empty ones too."""
        ...

    def read(self, name: str) -> bytes:
        """All bytes. Raises OSError or TooLarge; KeyError for a name that is not there."""
        ...


class FolderTree:
    """A folder. Links to files are followed, links to folders are not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def names(self) -> tuple[str, ...]:
        """See Tree."""
        found: list[str] = []
        for folder, folders, files in os.walk(self.path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            below = Path(folder).relative_to(self.path)
            found.extend((below / name).as_posix() for name in files if not name.startswith("."))
        return tuple(sorted(found))

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """See Tree."""
        return tuple(
            sorted(
                entry.name
                for entry in self.path.iterdir()
                if entry.is_dir() and not entry.name.startswith(".")
            )
        )

    def read(self, name: str) -> bytes:
        """See Tree."""
        if name not in self._known:
            raise KeyError(name)
        file = self.path / name
        if file.stat().st_size > MOST_BYTES:
            raise TooLarge("the file is larger than 4 GiB")
        return file.read_bytes()

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.names)


class ZipTree:
    """A .zip. The directory is read once; a file is unpacked in memory when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries = self._directory()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """See Tree."""
        return tuple(sorted(self._entries))

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """See Tree."""
        return tuple(sorted({name.partition("/")[0] for name in self._entries if "/" in name}))

    def read(self, name: str) -> bytes:
        """See Tree."""
        entry = self._entries[name]
        packed = max(1, entry.compress_size)
        if entry.file_size > MOST_BYTES or (
            entry.file_size > _FREE_BYTES and entry.file_size / packed > _MOST_RATIO
        ):
            raise TooLarge("unpacked it is larger than a scan can be")
        try:
            return self._archive.read(entry)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as e:
            raise OSError(
                f"damaged, encrypted or packed in an unknown way ({type(e).__name__})"
            ) from None

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path)

    def _directory(self) -> dict[str, zipfile.ZipInfo]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                entries = archive.infolist()
        except (
            zipfile.BadZipFile,
            OSError,
            ValueError,
            NotImplementedError,
            struct.error,
        ) as error:
            raise BadData(
                f"{self.path} cannot be read as a .zip: {error}; copy it again", path=self.path
            ) from None
        if len(entries) > _MOST_FILES:
            raise BadData(f"{self.path} holds more than {_MOST_FILES} files", path=self.path)
        found: dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            parts = PurePosixPath(entry.filename).parts
            if "\\" in entry.filename or ".." in parts or entry.filename.startswith("/"):
                raise BadData(
                    f"{self.path} holds a file whose name leads out of it; pack it again with"
                    " names below its root",
                    path=self.path,
                )
            if entry.is_dir() or any(part.startswith((".", "__MACOSX")) for part in parts):
                continue
            found["/".join(parts)] = entry
        return found


class _FileTree(FolderTree):
    """A single file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.parent)
        self.names = (path.name,)
        self.folders = ()


def open_tree(path: str | Path) -> Tree:
    """The files of a folder or .zip, or the one file. Raises BadData if there is nothing."""
    place = Path(path).expanduser()
    if place.is_dir():
        return FolderTree(place)
    if place.is_file() and zipfile.is_zipfile(place):
        return ZipTree(place)
    if place.suffix.lower() == ".zip" and place.is_file():
        raise BadData(f"{place} cannot be read as a .zip: copy it again", path=place)
    if place.is_file():
        return _FileTree(place)
    raise BadData(f"there is no folder or .zip {place}: correct the path", path=place)
