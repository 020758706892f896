"""The folder of one coordinator: who uses it, and of which federation its files are."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coordinator.adapters.store_marker import DiskMarker
from letheon.errors import BadConfig

_LOCK = "lock"
_KEY = "data_dir"


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Makes the folder and keeps other coordinators out; the kernel unlocks when a process dies.

    Raises BadConfig if it cannot be made, or if another process uses it.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BadConfig(
            f"data_dir {data_dir} cannot be made or written: {error.strerror}", key=_KEY
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            raise BadConfig(
                f"data_dir {data_dir} is used by another coordinator, pid {holder or 'unknown'}: "
                "stop it, or name another folder",
                key=_KEY,
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def check_federation(data_dir: Path, federation: str | None) -> None:
    """The folder's files are of this federation (an id; None: the database holds none yet).

    A folder without a marker takes the federation's; nothing is marked before there is one.
    Raises BadConfig if the marker names another, or cannot be read.
    """
    marker = DiskMarker(data_dir)
    marked = _read(marker)
    if marked is None:
        if federation is not None:
            marker.write(json.dumps({"id": federation}).encode() + b"\n")
        return
    if federation is None:
        raise BadConfig(
            f"data_dir {data_dir} holds files of federation {marked}, but the database is empty: "
            "restore the database from its newest backup and run `letheon restore`, or name an "
            "empty data_dir",
            key=_KEY,
        )
    if marked != federation:
        raise BadConfig(
            f"data_dir {data_dir} holds files of federation {marked}, the database is of "
            f"federation {federation}: name the two that belong together",
            key=_KEY,
        )


def _read(marker: DiskMarker) -> str | None:
    try:
        content = marker.read()
        return None if content is None else str(json.loads(content)["id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadConfig(
            f"{marker.place}/{marker.name} cannot be read ({error}): it says which federation the "
            "files are of; restore it from a backup, or remove it if you know",
            key=_KEY,
        ) from error
