"""Keeps the newest checkpoint of the transparency log, and refuses one that rewrites the past.

A refused checkpoint is kept as a file beside the pinned one: two notes, both signed by the
coordinator, that cannot both be true, are the proof that history was changed. Training goes on:
whom to believe, people decide (docs/decisions/0031).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from client_agent.ports import LogReader
from client_agent.services.coordinator_trust import CoordinatorTrust
from letheon.errors import BadSignature, LetheonError, ProofInvalid
from letheon.proof.key_list import KeyList
from letheon.proof.merkle import verify_consistency
from letheon.proof.note import (
    Checkpoint,
    SignatureLine,
    key_hash,
    read_note,
    verify_checkpoint,
)
from letheon.servicekit.clock import Clock
from letheon.servicekit.signing import PublicKey

log = logging.getLogger(__name__)
PINNED = "checkpoint.txt"
REFUSED = "refused-checkpoint.txt"


class Suspicion(StrEnum):
    """Why a checkpoint was refused; the closed label set of the counter."""

    FORKED = "forked"
    SHRUNK = "shrunk"
    SIGNATURE = "signature"
    ORIGIN = "origin"


class LogRefused(ProofInvalid):
    """A checkpoint that cannot be true beside the pinned one; facts: suspicion."""

    def __init__(self, message: str, suspicion: Suspicion) -> None:
        super().__init__(message, suspicion=suspicion.value)
        self.suspicion = suspicion


@dataclass(frozen=True)
class LogFiles:
    """Where the notes are kept."""

    folder: Path

    @property
    def pinned(self) -> Path:
        """The newest checkpoint that was believed."""
        return self.folder / PINNED

    @property
    def refused(self) -> Path:
        """The newest one that was not."""
        return self.folder / REFUSED

    def pin(self, note: str) -> None:
        """Whole or not at all."""
        draft = self.folder / f".{PINNED}.new"
        with draft.open("w", encoding="utf-8") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.pinned)


def compare(
    note: str, files: LogFiles, reader: LogReader, trust: CoordinatorTrust
) -> tuple[Checkpoint, Checkpoint | None]:
    """The coordinator's checkpoint and the pinned one, once they are seen to be consistent.

    Raises LogRefused.
    """
    present = _checked(note, trust)
    if not files.pinned.exists():
        return present, None
    pinned = _checked(files.pinned.read_text(encoding="utf-8"), trust)
    if present.origin != pinned.origin:
        raise LogRefused(
            f"the log is now that of {present.origin}, the pinned checkpoint is of {pinned.origin}",
            Suspicion.ORIGIN,
        )
    if present.size < pinned.size:
        raise LogRefused(
            f"the log had {pinned.size} entries and now has {present.size}: entries were taken "
            "away, or an older backup was put back",
            Suspicion.SHRUNK,
        )
    proof: tuple[bytes, ...] = ()
    if 0 < pinned.size < present.size:
        proof = reader.consistency(pinned.size, present.size)
    try:
        verify_consistency(pinned.size, present.size, pinned.root, present.root, proof)
    except ProofInvalid as error:
        raise LogRefused(
            f"the log of {present.size} entries does not continue the pinned one of {pinned.size}: "
            f"{error.message}",
            Suspicion.FORKED,
        ) from error
    return present, pinned


def _checked(note: str, trust: CoordinatorTrust) -> Checkpoint:
    """Raises LogRefused for a note that no key of the coordinator signed."""
    try:
        public = _signer(note, trust)
        checkpoint = verify_checkpoint(note, public)
        trust.check_origin(checkpoint.origin)
    except BadSignature as error:
        raise LogRefused(error.message, Suspicion.ORIGIN) from error
    except ProofInvalid as error:
        raise LogRefused(error.message, Suspicion.SIGNATURE) from error
    return checkpoint


def _signer(note: str, trust: CoordinatorTrust) -> PublicKey:
    """The coordinator's key that a line of the note names."""
    lines = read_note(note).lines
    found = _named(lines, [trust.pinned, *_keys(trust.newest_keys())])
    found = found or _named(lines, _keys(trust.fetch()))
    if found is not None:
        return found
    raise ProofInvalid("no key of the coordinator signed the checkpoint", rule="signature")


def _named(lines: Iterable[SignatureLine], keys: Iterable[PublicKey]) -> PublicKey | None:
    marks = {(line.name, line.key_hash) for line in lines}
    for public in keys:
        if any(key_hash(name, public) == mark for name, mark in marks):
            return public
    return None


def _keys(listed: KeyList | None) -> list[PublicKey]:
    return [] if listed is None else [one.public for one in listed.keys]


class WatchLog:
    """The use case; call it at every turn, it looks when it is due."""

    def __init__(
        self,
        files: LogFiles,
        reader: LogReader,
        trust: CoordinatorTrust,
        clock: Clock,
        every_s: float,
        report: Callable[[Suspicion | None, int], None],
    ) -> None:
        """`report` is told what was refused, or None, and the size of the pinned checkpoint."""
        self._files, self._reader, self._trust = files, reader, trust
        self._clock, self._every_s, self._report = clock, every_s, report
        self._due_at = 0.0

    def __call__(self) -> None:
        """Never raises for what the coordinator says; a network that is down is tried again."""
        if self._clock.monotonic() < self._due_at:
            return
        try:
            note = self._reader.checkpoint()
            self._look(note)
        except LetheonError as trouble:
            log.debug("log_not_read", extra={"reason": trouble.reason})
            return
        self._due_at = self._clock.monotonic() + self._every_s

    def _look(self, note: str) -> None:
        try:
            present, pinned = compare(note, self._files, self._reader, self._trust)
        except LogRefused as error:
            self._refuse(note, error)
            return
        if pinned is None or present.size > pinned.size:
            self._files.pin(note)
            log.info("log_pinned", extra={"origin": present.origin, "size": present.size})
        self._report(None, present.size)

    def _refuse(self, note: str, error: LogRefused) -> None:
        self._files.refused.write_text(note, encoding="utf-8")
        fields = {"suspicion": error.suspicion.value, "why": error.message}
        log.error("log_refused", extra={**fields, "kept": str(self._files.refused)})
        self._report(error.suspicion, 0)
