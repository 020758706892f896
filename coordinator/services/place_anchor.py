"""Places an anchor every so many rows: the proven state that may stand in for payloads.

Nothing is dropped on the strength of a checkpoint alone. The chain is checked from the first row
and replayed from the newest anchor while training goes on; only when the replay gives the head
bit for bit is its checkpoint recorded as an anchor, with the contributions of that moment.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from threading import Event

from coordinator.domain.ledger_rows import follow
from coordinator.domain.model import Checkpoint
from coordinator.services.keep_derived import KeepDerived, vector_bytes
from coordinator.services.live_model import Position
from coordinator.services.prove_ledger import (
    Proof,
    Surroundings,
    check_same_bits,
    follow_head,
    prove_ledger,
)
from coordinator.services.replay_start import BEFORE_FIRST
from letheon.federation.ledger import Entry, EntryKind
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach

_log = logging.getLogger(__name__)
_TRIES = 5  # while deltas come in; then training waits for one


class _BrokenOff(Exception):
    """The process stops."""


@dataclass(frozen=True)
class PlaceAnchor:
    """A chore; one thread at a time calls it."""

    context: Surroundings
    keep: KeepDerived
    clock: Clock
    keep_entries: int  # rows between two anchors at least
    _stopping: Event = field(default_factory=Event, repr=False)
    _leftovers: list[str] = field(default_factory=list, repr=False)

    def stop(self) -> None:
        """Breaks a proof off that runs, and begins none any more."""
        self._stopping.set()

    def __call__(self) -> Entry | None:
        """The anchor's row once enough rows came after the newest anchor.

        Raises LedgerBroken or PayloadCorrupt: then there is none, and nothing will be dropped.
        """
        self._drop_leftovers()
        if not self._is_due():
            return None
        try:
            return self._place()
        except _BrokenOff:
            return None

    def _is_due(self) -> bool:
        with self.context.store.read() as uow:
            anchors = [c.entry for c in uow.checkpoints.all() if c.is_anchor]
        ahead = self.context.live.position.entry - max(anchors, default=BEFORE_FIRST)
        return ahead >= self.keep_entries

    def _place(self) -> Entry | None:
        started = self.clock.monotonic()
        epoch = self.context.live.position.epoch
        proof = prove_ledger(None, self.context, pause=self._check_stopping)
        placed = None
        for _ in range(_TRIES):
            placed = placed or self._try(proof, epoch)
        if placed is None:
            with self.context.live.exclusive():
                placed = self._try(proof, epoch)
        if placed is None:
            return None
        _log.info(
            "anchor_placed",
            extra={
                "entry": placed.entry,
                "replayed_from": proof.replayed_from,
                "seconds": self.clock.monotonic() - started,
            },
        )
        return placed

    def _check_stopping(self) -> None:
        if self._stopping.is_set():
            raise _BrokenOff

    def _try(self, proof: Proof, epoch: int) -> Entry | None:
        """None if the head moved meanwhile: the next try has little left to replay."""
        self._check_stopping()
        live, blobs = self.context.live, self.context.blobs
        position, weights = live.snapshot()
        if position.epoch != epoch:
            # A removal needs contributions this replay did not keep; the next run has them.
            raise _BrokenOff
        follow_head(proof, self.context, through=position.entry)
        check_same_bits(proof, weights)
        with self.context.store.read() as uow:
            sites = [site.id for site in uow.sites.all()]
        for site in sites:
            self.keep.fold(site)
        if live.position != position:
            return None
        sha256 = blobs.checkpoints.put(vector_bytes(weights))
        reach("anchor.put")
        return self._record(position, sha256)

    def _record(self, position: Position, sha256: str) -> Entry | None:
        with self.context.live.exclusive() as head:
            if head.position != position:
                self._leftovers.append(sha256)
                return None
            now = self.clock.now()
            with self.context.store.write() as uow:
                sums = {c.site: c.sha256 for c in uow.contributions.all() if c.sha256 is not None}
                row = follow(
                    head.newest,
                    EntryKind.ANCHOR,
                    at=now,
                    details={
                        "checkpoint_sha256": sha256,
                        "contributions": sums,
                        "reason": "retention",
                    },
                )
                uow.entries.add(row)
                uow.checkpoints.add(
                    Checkpoint(row.entry, row.version, row.epoch, sha256, now, is_anchor=True)
                )
                head.commit(uow, [row])
        reach("anchor.recorded")
        return row

    def _drop_leftovers(self) -> None:
        """Not at once: somebody may have been about to name the same bytes."""
        with self.context.store.read() as uow:
            named = {c.sha256 for c in uow.checkpoints.all()}
        while self._leftovers:
            sha256 = self._leftovers.pop()
            if sha256 not in named:
                self.context.blobs.checkpoints.destroy(sha256)
