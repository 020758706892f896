"""The tombstone log as a file of signed lines, durable line by line.

A line is JSON: {"signature": base64, "tombstone": {...}}; the signature (Ed25519) is over the
canonical JSON of the inner object, which names the hash of the line before it. A power cut may
leave half of the last line: nobody was answered on the strength of it, so it is cut off.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import json
import logging
import os
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from coordinator.domain.erasure import Erasure, ErasureState, Level
from coordinator.domain.tombstones import Tombstone, TombstoneEvent
from letheon.errors import BadConfig, BadSignature, StorageUnavailable, TombstonesBroken
from letheon.servicekit.signing import SigningKey, canonical_json, verify

_log = logging.getLogger(__name__)
_GENESIS = "0" * 64
_TEXTS = ("request_id", "site", "legal_basis", "method", "requester")
# Left out where there is nothing to say, as in lines of older releases.
_LATER_TEXTS = ("records", "requested_by", "approved_by")


class TombstoneFile:
    """Append-only; safe to share between threads and processes of one host."""

    def __init__(self, path: Path, key: SigningKey) -> None:
        if not path.parent.is_dir():
            raise BadConfig(
                f"tombstones.path {path}: there is no folder {path.parent}; mount or make it first",
                key="tombstones.path",
            )
        self._path, self._key = path, key
        self._lock = threading.Lock()
        try:
            path.touch(mode=0o600)
        except OSError as error:
            raise BadConfig(
                f"tombstones.path {path} cannot be written: {error.strerror}", key="tombstones.path"
            ) from error

    def all(self) -> list[Tombstone]:
        """Every line, oldest first. Raises TombstonesBroken naming the first bad one."""
        with self._lock:
            return [line for line, _ in self._read(self._bytes())]

    def append(self, event: TombstoneEvent, erasure: Erasure, at: datetime) -> Tombstone:
        """Adds a line, durable when this returns. Raises StorageUnavailable, TombstonesBroken."""
        with self._lock:
            try:
                with self._path.open("r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    content = file.read()
                    lines = self._read(content)
                    made = Tombstone(len(lines), event, erasure, at)
                    file.seek(content.rfind(b"\n") + 1)
                    file.truncate()
                    file.write(self._line(made, lines[-1][1] if lines else _GENESIS))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise StorageUnavailable(
                    f"the tombstone log {self._path} cannot be written: {error.strerror}"
                ) from error
            return made

    def _bytes(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError as error:
            raise StorageUnavailable(
                f"the tombstone log {self._path} cannot be read: {error.strerror}"
            ) from error

    def _line(self, tombstone: Tombstone, previous_hash: str) -> bytes:
        body = canonical_json(_document(tombstone, previous_hash))
        signature = base64.b64encode(self._key.sign(body)).decode()
        return canonical_json({"signature": signature, "tombstone": json.loads(body)}) + b"\n"

    def _read(self, content: bytes) -> list[tuple[Tombstone, str]]:
        """Lines with their hashes."""
        *whole, half = content.split(b"\n")
        if half:
            _log.warning("half_a_tombstone_ignored", extra={"bytes": len(half)})
        found: list[tuple[Tombstone, str]] = []
        previous = _GENESIS
        for number, line in enumerate(whole):
            tombstone = self._parse(line, number, previous)
            previous = hashlib.sha256(line).hexdigest()
            found.append((tombstone, previous))
        return found

    def _parse(self, line: bytes, number: int, previous_hash: str) -> Tombstone:
        try:
            document = json.loads(line)
            body = document["tombstone"]
            verify(
                self._key.public_pem,
                canonical_json(body),
                base64.b64decode(document["signature"], validate=True),
            )
            if (body["number"], body["previous_hash"]) != (number, previous_hash):
                raise self._broken(number, "does not continue the line before it")
            return _tombstone(body)
        except BadSignature as error:
            raise self._broken(
                number, "was altered, or is signed with another key than tombstones.key"
            ) from error
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise self._broken(number, "cannot be read") from error

    def _broken(self, number: int, what: str) -> TombstonesBroken:
        return TombstonesBroken(
            f"line {number + 1} of the tombstone log {self._path} {what}: put the log and its key "
            "back as they were",
            line=number + 1,
        )


def _document(tombstone: Tombstone, previous_hash: str) -> dict[str, Any]:
    erasure = tombstone.erasure
    return {
        "number": tombstone.number,
        "event": tombstone.event.value,
        "at": tombstone.at.isoformat(),
        "previous_hash": previous_hash,
        "erasure": erasure.id,
        **{name: getattr(erasure, name) for name in _TEXTS},
        "level": erasure.level.value,
        "calibrate": erasure.calibrate,
        **{name: getattr(erasure, name) for name in _LATER_TEXTS if getattr(erasure, name)},
        **({"share": erasure.share} if erasure.share else {}),
        "requested_at": erasure.requested_at.isoformat(),
        "deadline": erasure.deadline.isoformat(),
    }


def _tombstone(body: Mapping[str, Any]) -> Tombstone:
    requested_at = datetime.fromisoformat(body["requested_at"])
    erasure = Erasure(
        id=body["erasure"],
        **{name: body[name] for name in _TEXTS},
        level=Level(body["level"]),
        calibrate=bool(body["calibrate"]),
        state=ErasureState.RECEIVED,
        requested_at=requested_at,
        fenced_at=requested_at,
        deadline=datetime.fromisoformat(body["deadline"]),
        state_since=requested_at,
        records=str(body.get("records", "")),
        requested_by=str(body.get("requested_by", "")),
        approved_by=str(body.get("approved_by", "")),
        share=float(body.get("share", 0.0)),
    )
    return Tombstone(
        body["number"],
        TombstoneEvent(body["event"]),
        erasure,
        datetime.fromisoformat(body["at"]),
    )
