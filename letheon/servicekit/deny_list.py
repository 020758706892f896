"""Certificates that are valid no more, by serial number: a text file that is read anew on change.

A line is a serial number in hexadecimal digits, then anything; `#` begins a comment.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from pathlib import Path

from letheon.errors import BadConfig

_SERIAL = re.compile(r"[0-9a-f]{1,40}")
_log = logging.getLogger(__name__)


class DenyList:
    """The serial numbers in the file, or nobody's without a file. Safe to share by threads.

    Raises BadConfig at first if the file cannot be read. Later on, what was read last stays.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._serials: frozenset[str] = frozenset()
        if path is not None:
            self._seen, self._serials = _stamp(path), read_serials(path)

    def __contains__(self, serial: str) -> bool:
        if self._path is None:
            return False
        with self._lock:
            self._look()
            return serial in self._serials

    def _look(self) -> None:
        if self._path is None:
            return
        try:
            stamp = _stamp(self._path)
            if stamp == self._seen:
                return
            self._serials = read_serials(self._path)
            self._seen = stamp
        except BadConfig as error:
            if self._seen is not None:  # said once, not at every call
                _log.error("deny_list_unreadable", extra={"why": error.message})
            self._seen = None
        else:
            _log.info("deny_list_read", extra={"serials": len(self._serials)})


def read_serials(path: Path) -> frozenset[str]:
    """The serial numbers of a file. Raises BadConfig naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"tls.deny_list {path} cannot be read: {error}", key="tls.deny_list") from (
            error
        )
    found = set()
    for number, line in enumerate(lines, start=1):
        word = line.partition("#")[0].split(maxsplit=1)
        if not word:
            continue
        serial = word[0].lower().replace(":", "").lstrip("0")
        if not _SERIAL.fullmatch(serial):
            raise BadConfig(
                f"tls.deny_list {path}, line {number}: {word[0]!r} is no serial number, which is "
                "hexadecimal digits",
                key="tls.deny_list",
            )
        found.add(serial)
    return frozenset(found)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        stat = os.stat(path)  # noqa: PTH116 - at every call; pathlib takes twice as long
    except OSError as error:
        raise BadConfig(
            f"tls.deny_list {path} cannot be read: {error.strerror}", key="tls.deny_list"
        ) from error
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
