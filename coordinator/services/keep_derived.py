"""Keeps what is derived from the ledger close to it: checkpoints and folded contributions."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

from coordinator.domain.model import Checkpoint, Contribution
from coordinator.ports import Blobs, Store
from coordinator.services.ledger_mark import LedgerMark
from coordinator.services.live_model import LiveModel
from coordinator.services.replay_start import BEFORE_FIRST, contribution_at
from coordinator.services.unfolded_terms import UnfoldedTerms
from letheon.errors import CheckpointBehind
from letheon.federation.parameters import Vector
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach

_log = logging.getLogger(__name__)
_CHECKPOINT_RETRY_S = 5.0


def vector_bytes(vector: Vector) -> memoryview:
    """The little-endian float32 bytes of a vector [d], without a copy."""
    return vector.astype("<f4", copy=False).data.cast("B")


@dataclass(frozen=True)
class Lag:
    """How far what is derived is behind, in ledger rows."""

    unfolded: int  # of the site with most of them
    since_checkpoint: int


@dataclass
class _Newest:
    """Row of the newest durable checkpoint; None until looked up."""

    entry: int | None = None


@dataclass(frozen=True)
class KeepDerived:
    """Writes checkpoints and folds contributions. One thread at a time calls it."""

    store: Store
    blobs: Blobs
    live: LiveModel
    clock: Clock
    mark: LedgerMark
    checkpoint_every: int  # rows
    recovery_entries: int  # rows a restart replays at most
    keep_checkpoints: int  # the newest so many, beside anchors
    fold_after: int  # unfolded terms of one site
    unfolded: UnfoldedTerms
    # A promotion folds too: of two at once, one could drop the vector the other is to name.
    _folding: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _newest: _Newest = field(default_factory=_Newest, repr=False)

    def lag(self) -> Lag:
        """How far what is derived is behind the ledger."""
        behind = self.live.position.entry - self._look_up_newest()
        return Lag(unfolded=self.unfolded.largest(), since_checkpoint=max(0, behind))

    def check_recoverable(self) -> None:
        """Raises CheckpointBehind if a restart would have to replay too many rows.

        Reads memory only, so that it may be asked for every delta.
        """
        newest = self._newest.entry
        if newest is None:
            newest = self._look_up_newest()
        ahead = self.live.position.entry - newest
        if ahead >= self.recovery_entries:
            raise CheckpointBehind(
                f"the head is {ahead} rows ahead of the newest checkpoint, at most "
                f"{self.recovery_entries} are allowed: a checkpoint is being written, come back",
                retry_after_s=_CHECKPOINT_RETRY_S,
            )

    def checkpoint_if_due(self) -> Checkpoint | None:
        """A new checkpoint once enough rows came after the newest one."""
        due = min(self.checkpoint_every, self.recovery_entries)
        if self.live.position.entry - self._look_up_newest() < due:
            return None
        return self.checkpoint()

    def _look_up_newest(self) -> int:
        """Erasures and retention write checkpoints too, and destroy some."""
        with self.store.read() as uow:
            known = uow.checkpoints.all()
        newest = known[0].entry if known else BEFORE_FIRST
        self._newest.entry = newest
        return newest

    def checkpoint_if_behind(self) -> Checkpoint | None:
        """A new checkpoint unless the newest one is of the head: a restart then replays nothing."""
        with self.store.read() as uow:
            known = uow.checkpoints.all()
        if known and known[0].entry == self.live.position.entry:
            return None
        return self.checkpoint()

    def checkpoint(self) -> Checkpoint:
        """Makes the head of this moment durable and drops the oldest checkpoints."""
        position, weights = self.live.snapshot()
        sha256 = self.blobs.checkpoints.put(vector_bytes(weights))
        reach("checkpoint.put")
        made = Checkpoint(
            entry=position.entry,
            version=position.version,
            epoch=position.epoch,
            sha256=sha256,
            written_at=self.clock.now(),
        )
        with self.store.write() as uow:
            known = uow.checkpoints.all()
            if any(c.entry == made.entry for c in known):
                return made
            gone = uow.destroyed.versions()
            if any(d.first_version <= made.version <= d.last_version for d in gone):
                # An erasure destroyed the version while it was being written.
                if made.sha256 not in {c.sha256 for c in known}:
                    self.blobs.checkpoints.destroy(made.sha256)
                return made
            uow.checkpoints.add(made)
            plain = [c for c in (made, *known) if not c.is_anchor]
            dropped = plain[self.keep_checkpoints :]
            for checkpoint in dropped:
                uow.checkpoints.remove(checkpoint.entry)
            kept = {c.sha256 for c in uow.checkpoints.all()}
            uow.commit()
        reach("checkpoint.recorded")
        self._newest.entry = made.entry
        for checkpoint in dropped:
            if checkpoint.sha256 not in kept:
                self.blobs.checkpoints.destroy(checkpoint.sha256)
        self.mark.note(position)
        _log.info("checkpoint_written", extra={"entry": made.entry, "version": made.version})
        return made

    def contribution(self, site: str) -> tuple[Vector | None, int]:
        """C_site [d], writable, and the row it is of: the newest.

        Nobody folds meanwhile, so that the stored vector it begins at stays. Raises PayloadCorrupt.
        """
        with self._folding:
            with self.store.read() as uow:
                newest = uow.entries.newest()
            through = BEFORE_FIRST if newest is None else newest.entry
            return contribution_at(self.store, self.blobs, site, through=through), through

    def fold_if_due(self) -> list[str]:
        """Folds each site with more unfolded terms than allowed; answers which."""
        due = self.unfolded.sites_beyond(self.fold_after)
        for site in due:
            self.fold(site)
            self.unfolded.forget(site)
        return due

    def fold(self, site: str) -> Contribution:
        """Brings the stored contribution of a site up to the newest row."""
        with self._folding:
            return self._fold(site)

    def _fold(self, site: str) -> Contribution:
        with self.store.read() as uow:
            old = uow.contributions.find(site)
            newest = uow.entries.newest()
            through = BEFORE_FIRST if newest is None else newest.entry
            added = [t for t in uow.entries.terms(site, after=_after(old)) if t.entry <= through]
        if not added:
            return old or Contribution(site, BEFORE_FIRST, None, 0)
        total = contribution_at(self.store, self.blobs, site, through=through)
        sha256 = None if total is None else self.blobs.contributions.put(vector_bytes(total))
        reach("fold.put")
        made = Contribution(site, through, sha256, len(added) + (old.terms if old else 0))
        with self.store.write() as uow:
            if uow.contributions.find(site) != old:
                # An erasure removed or folded it meanwhile: its row is the newer truth.
                return self._superseded(sha256, site)
            uow.contributions.save(made)
            uow.commit()
        reach("fold.recorded")
        self._drop_unused(old)
        _log.info("contribution_folded", extra={"site": site, "through": through})
        return made

    def _superseded(self, sha256: str | None, site: str) -> Contribution:
        with self.store.read() as uow:
            present = uow.contributions.find(site)
        self._drop_unused(Contribution(site, BEFORE_FIRST, sha256, 0))
        return present or Contribution(site, BEFORE_FIRST, None, 0)

    def _drop_unused(self, old: Contribution | None) -> None:
        if old is None or old.sha256 is None:
            return
        with self.store.read() as uow:
            used = {c.sha256 for c in uow.contributions.all()}
            used |= {e.exchange.contribution_sha256 for e in uow.erasures.open() if e.exchange}
            for checkpoint in uow.checkpoints.all():
                if checkpoint.is_anchor:
                    anchor = uow.entries.get(checkpoint.entry)
                    used |= set(anchor.details.get("contributions", {}).values())
        if old.sha256 not in used:
            self.blobs.contributions.destroy(old.sha256)


def _after(contribution: Contribution | None) -> int:
    return BEFORE_FIRST if contribution is None else contribution.folded_through
