"""Checks the chain from the first row and replays from the newest anchor; training goes on.

Files of earlier rows that are still kept are read too: what is rebuilt later needs them whole.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from coordinator.domain.model import Checkpoint
from coordinator.ports import Blobs, Store
from coordinator.services.kept_files import KeptFiles
from coordinator.services.live_model import LiveModel, Position
from coordinator.services.replay_ahead import replay_ahead
from coordinator.services.replay_start import (
    BEFORE_FIRST,
    add_contributions,
    entries_after,
    payload_reader,
    state_at,
)
from coordinator.services.signed_rows import SignedRows
from letheon.errors import LedgerBroken, PayloadCorrupt, VerificationRunning
from letheon.federation.ledger import Entry, verify_chain
from letheon.federation.parameters import digest
from letheon.federation.replay import ReplayState, removed_sites

_PATIENCE_S = 1.0  # whoever destroys payloads is mostly done within it


@dataclass(frozen=True)
class Progress:
    """Rows checked or replayed so far, of how many."""

    done: int
    total: int


@dataclass(frozen=True)
class Verdict:
    """What a verification found."""

    holds: bool
    entries: int
    replayed_from: int
    version: int
    sha256_replayed: str
    sha256_head: str
    first_bad_entry: int | None
    reason: str
    signed: int = 0  # deltas whose site's signature was checked
    unsigned: int = 0  # deltas of sites that had no key then


class VerifyLedger:
    """The use case of VerifyLedger. One verification at a time."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        live: LiveModel,
        *,
        size: int,
        report_every: int = 200,
        ended: Callable[[Verdict, float], None] = lambda _verdict, _seconds: None,
    ) -> None:
        """`ended` is told each verdict and the seconds it took."""
        self._store, self._blobs, self._live = store, blobs, live
        self._ended = ended
        self._size = size
        self._report_every = report_every
        self._running = threading.Lock()

    @contextmanager
    def held_off(self) -> Iterator[None]:
        """No verification runs inside: whoever destroys payloads waits for one that does."""
        with self._running:
            yield

    def __call__(self) -> Iterator[Progress | Verdict]:
        """Progress, then one verdict. Raises VerificationRunning."""
        if not self._running.acquire(timeout=_PATIENCE_S):
            raise VerificationRunning(
                "a verification of the ledger runs already, or payloads are being destroyed",
                retry_after_s=5.0,
            )
        started = time.monotonic()
        try:
            for part in self._verify():
                if isinstance(part, Verdict):
                    self._ended(part, time.monotonic() - started)
                yield part
        finally:
            self._running.release()

    def _verify(self) -> Iterator[Progress | Verdict]:
        position, weights = self._live.snapshot()
        expected = digest(weights)
        del weights
        anchor = self._newest_anchor(position)
        start = BEFORE_FIRST if anchor is None else anchor.entry
        rows = position.entry + 1
        total = rows + position.entry - start
        replayed = ""
        try:
            kept = KeptFiles(self._store, self._blobs, start)
            signatures = SignedRows(self._store)
            yield from self._chain(position, total, kept, signatures)
            state = self._named_start(anchor)
            for done, _ in enumerate(self._replay(state, position), start=rows + 1):
                if done % self._report_every == 0:
                    yield Progress(done, total)
            replayed = digest(state.head)
            _compare((replayed, state.version), (expected, position.version), position)
        except (LedgerBroken, PayloadCorrupt) as error:
            bad = error.facts.get("entry", "")
            yield Verdict(
                holds=False,
                entries=rows,
                replayed_from=max(0, start),
                version=position.version,
                sha256_replayed=replayed,
                sha256_head=expected,
                first_bad_entry=int(bad) if bad.isdecimal() else None,
                reason=error.message,
            )
            return
        yield Progress(total, total)
        yield Verdict(
            True,
            rows,
            max(0, start),
            position.version,
            replayed,
            expected,
            None,
            "",
            signatures.signed,
            signatures.unsigned,
        )

    def _newest_anchor(self, position: Position) -> Checkpoint | None:
        with self._store.read() as uow:
            anchors = [
                c for c in uow.checkpoints.all() if c.is_anchor and c.entry <= position.entry
            ]
        return anchors[0] if anchors else None

    def _chain(
        self, position: Position, total: int, kept: KeptFiles, signatures: SignedRows
    ) -> Iterator[Progress]:
        last: Entry | None = None
        for row in entries_after(self._store, BEFORE_FIRST, through=position.entry):
            last = verify_chain([row], after=last)
            kept.check(row)
            signatures.check(row)
            if row.entry % self._report_every == 0:
                yield Progress(row.entry + 1, total)
        if last is not None and last.entry == position.entry and last.hash != position.ledger_hash:
            raise LedgerBroken(
                f"row {last.entry} is not the one this process wrote or began with: the chain was "
                "written anew",
                entry=last.entry,
            )
        verify_chain([], after=last, tip=position.ledger_hash)

    def _named_start(self, anchor: Checkpoint | None) -> ReplayState:
        """The start; what is wrong with its files is the anchor's fault."""
        try:
            return self._start(anchor)
        except PayloadCorrupt as error:
            entry = max(0, BEFORE_FIRST if anchor is None else anchor.entry)
            raise LedgerBroken(f"row {entry}: {error.message}", entry=entry) from error

    def _start(self, anchor: Checkpoint | None) -> ReplayState:
        if anchor is None:
            state = ReplayState.before_first(self._size)
        else:
            with self._store.read() as uow:
                row = uow.entries.get(anchor.entry)
            if row.details.get("checkpoint_sha256") != anchor.sha256:
                raise LedgerBroken("the anchor names another checkpoint", entry=anchor.entry)
            state = state_at(self._store, self._blobs, anchor)
        state.tracked = removed_sites(entries_after(self._store, state.entry))
        add_contributions(self._store, self._blobs, state)
        return state

    def _replay(self, state: ReplayState, position: Position) -> Iterator[None]:
        rows = entries_after(self._store, state.entry, through=position.entry)
        try:
            for _ in replay_ahead(state, rows, payload_reader(self._blobs)):
                yield
        except PayloadCorrupt as error:
            bad = state.entry + 1
            raise LedgerBroken(f"row {bad}: {error.message}", entry=bad) from error


def _compare(replayed: tuple[str, int], head: tuple[str, int], position: Position) -> None:
    if replayed != head:
        raise LedgerBroken("the replay differs from the head", entry=position.entry)
