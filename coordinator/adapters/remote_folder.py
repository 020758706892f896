"""A folder of an fsspec file system, with our errors instead of those of its library."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fsspec import AbstractFileSystem

from letheon.errors import BadConfig, DiskFull, StorageUnavailable

_log = logging.getLogger(__name__)

# A file is sent in parts of this size, four at once: so much of it is in memory, not more.
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4


class RemoteFolder:
    """Objects below a root; names are relative to it. Any thread may call.

    Every method raises StorageUnavailable if the store does not answer or refuses.
    """

    def __init__(
        self,
        files: AbstractFileSystem,
        root: str,
        *,
        place: str,
        failures: tuple[type[Exception], ...] = (OSError,),
        denials: tuple[type[Exception], ...] = (PermissionError,),
        erase: Callable[[str], None] | None = None,
    ) -> None:
        """`failures` are errors of the store's library; `denials` those that waiting cannot mend.

        `erase` removes the object of a full path with everything the store keeps of it.
        """
        self.place = place
        self._files = files
        self._root = root.rstrip("/")
        self._failures, self._denials = failures, denials
        self._erase: Callable[[str], None] = erase or files.rm_file

    def upload(self, local: Path, name: str) -> None:
        """The object appears whole, under its name, and is acknowledged when this returns."""
        with self.reported("write"):
            self._files.put_file(
                str(local),
                self._path(name),
                chunksize=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def download(self, name: str, local: Path) -> None:
        """Raises FileNotFoundError, or DiskFull if this machine has no room."""
        with self.reported("read"):
            self._files.get_file(
                self._path(name),
                str(local),
                chunksize=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def size(self, name: str) -> int | None:
        """Bytes of an object; None if there is none."""
        with self.reported("look"):
            try:
                return int(self._files.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of each object directly in a folder, by its name there."""
        with self.reported("list"):
            try:
                found = self._files.ls(self._path(folder), detail=True)
            except FileNotFoundError:
                return {}
        files = (one for one in found if one["type"] == "file")
        return {str(one["name"]).rpartition("/")[2]: int(one["size"]) for one in files}

    def remove(self, name: str) -> None:
        """Removes an object; one that is not there is no error."""
        with self.reported("delete"):
            try:
                self._erase(self._path(name))
            except FileNotFoundError:
                return

    def read(self, name: str) -> bytes | None:
        """All bytes of a small object; None if there is none."""
        with self.reported("read"):
            try:
                return bytes(self._files.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Stores a small object whole."""
        with self.reported("write"):
            self._files.pipe_file(self._path(name), data)

    def probe(self, name: str) -> None:
        """Writes, reads, lists and deletes a small object. Raises BadConfig if that fails."""
        with self.starting():
            self.write(name, b"letheon")
            if self.read(name) != b"letheon" or name not in self.sizes(""):
                raise BadConfig(
                    f"storage.url {self.place} does not give back what was written to it",
                    key="storage.url",
                )
            self.remove(name)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Names the place in every error; what waiting cannot mend becomes BadConfig."""
        try:
            yield
        except FileNotFoundError as error:
            raise BadConfig(
                f"storage.url {self.place} does not exist: make the bucket first",
                key="storage.url",
            ) from error
        except StorageUnavailable as error:
            said = f"{self.place}: {error.message}: {error.__cause__}"
            if not isinstance(error.__cause__, self._denials):
                raise StorageUnavailable(said) from error
            raise BadConfig(
                f"{said}: check storage.url and storage.options; reading, writing, listing and "
                "deleting, with versions and unfinished uploads, must be allowed",
                key="storage.options",
            ) from error

    @contextmanager
    def reported(self, action: str) -> Iterator[None]:
        """Turns errors of the library into ours; FileNotFoundError passes."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (*self._failures, *self._denials) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull("there is no room for a remote file", retry_after_s=60.0) from error
            # The caller may be a hospital's agent: where the store is stays in the log.
            _log.warning(
                "object_store_failed",
                extra={"place": self.place, "action": action, "error": f"{error}"},
            )
            raise StorageUnavailable(
                f"the object store did not {action}: {type(error).__name__}"
            ) from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")
