"""Gives up payloads that an anchor stands in for, once it is old enough.

A row of the ledger keeps its digest for ever; its bytes go. What decides is one number in the
database, the anchor's row: which files go follows from it and from the other rows, so that a
crash at any point is finished by doing the same again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

from coordinator.domain.model import Checkpoint, Compaction
from coordinator.domain.serving import ServingPolicy
from coordinator.ports import Blobs, Store, UnitOfWork
from coordinator.services.live_model import LiveModel
from coordinator.services.replay_start import BEFORE_FIRST, entries_after
from coordinator.services.replayable import compacted_through
from coordinator.services.verify_ledger import VerifyLedger
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach

_log = logging.getLogger(__name__)
_AT_ONCE = 8  # files deleted while other writers wait


@dataclass(frozen=True)
class CompactPayloads:
    """A chore; one thread at a time calls it."""

    store: Store
    blobs: Blobs
    live: LiveModel
    verify_ledger: VerifyLedger
    policy: ServingPolicy
    clock: Clock
    keep_entries: int  # rows whose payloads stay at least

    def __call__(self) -> Compaction | None:
        """What was given up, if anything; finishes what a crash left undone."""
        with self.store.read() as uow:
            done = uow.compactions.all()
            anchor = self._anchor(uow)
        if anchor is None and all(compaction.finished for compaction in done):
            return None
        # Who verifies or rebuilds reads payloads: one of them at a time.
        with self.verify_ledger.held_off():
            compaction = done[0] if anchor is None else self._decide(anchor)
            return compaction and self._carry_out(compaction)

    def _anchor(self, uow: UnitOfWork) -> Checkpoint | None:
        """The newest anchor that is old enough and does more than the last one."""
        if any(e.removal is not None and e.promoted_at is None for e in uow.erasures.open()):
            return None  # its proof replays without the subject, from as early as it can
        if any(not e.names_site and e.removal is None for e in uow.erasures.open()):
            return None  # its site may have to be given every version that it trained from
        through = self.live.position.entry - self.keep_entries
        floor = compacted_through(uow)
        anchors = [c for c in uow.checkpoints.all() if c.is_anchor and floor < c.entry <= through]
        return anchors[0] if anchors else None

    def _decide(self, anchor: Checkpoint) -> Compaction | None:
        going = _to_give_up(self.store, self.blobs, anchor.entry)
        sizes = self.blobs.payloads.sizes()
        with self.store.write() as uow:
            if self._anchor(uow) != anchor:
                return None  # an erasure began to need it, or destroyed it
            compaction = Compaction(
                through_entry=anchor.entry,
                payloads=len(going),
                freed_bytes=sum(sizes.get(sha256, 0) for sha256 in going),
                at=self.clock.now(),
                finished=False,
            )
            uow.compactions.save(compaction)
            uow.commit()
        reach("compaction.decided")
        return compaction

    def _carry_out(self, compaction: Compaction) -> Compaction:
        through = compaction.through_entry
        going = sorted(_to_give_up(self.store, self.blobs, through))
        for first in range(0, len(going), _AT_ONCE):
            self._destroy(going[first : first + _AT_ONCE], through)
        reach("compaction.files_gone")
        self._drop_checkpoints(through)
        finished = replace(compaction, finished=True)
        with self.store.write() as uow:
            for earlier in uow.compactions.all():
                uow.compactions.save(replace(earlier, finished=True))
            uow.commit()
        _log.info(
            "payloads_compacted",
            extra={
                "through": through,
                "payloads": compaction.payloads,
                "freed_bytes": compaction.freed_bytes,
            },
        )
        return finished

    def _destroy(self, part: Iterable[str], through: int) -> None:
        """Inside a transaction: nobody can accept the same bytes anew meanwhile."""
        with self.store.write() as uow:
            coming = {upload.sha256 for upload in uow.uploads.all()}
            for sha256 in part:
                if sha256 in coming or uow.receipts.stores(sha256):
                    continue
                if uow.entries.names_payload(sha256, after=through):
                    continue
                self.blobs.payloads.destroy(sha256)

    def _drop_checkpoints(self, through: int) -> None:
        """Those from before the anchor give no replay any more; some can still be served."""
        with self.store.write() as uow:
            known = uow.checkpoints.all()
            useful = self._still_useful(uow, known)
            dropped = [c for c in known if c.entry < through and c.entry not in useful]
            left = [c for c in known if c not in dropped]
            sums = {s for c in dropped for s in _kept_by(uow, c)}
            sums -= {s for c in left for s in _kept_by(uow, c)}
            sums -= {c.sha256 for c in uow.contributions.all() if c.sha256 is not None}
            for checkpoint in dropped:
                uow.checkpoints.remove(checkpoint.entry)
            uow.commit()
        # A crash here leaves files that no row names: the sweep at the start takes them.
        for sha256 in {c.sha256 for c in dropped} - {c.sha256 for c in left}:
            self.blobs.checkpoints.destroy(sha256)
        for sha256 in sums:
            self.blobs.contributions.destroy(sha256)

    def _still_useful(self, uow: UnitOfWork, known: list[Checkpoint]) -> set[int]:
        """Rows of anchors that are pinned, or that a site's erasure would fall back to."""
        pinned = uow.models.pins()
        anchors = [c for c in known if c.is_anchor]
        found = {c.entry for c in anchors if c.version in pinned}
        if self.policy is ServingPolicy.SERVE_FALLBACK:
            firsts = [s.first_version for s in uow.sites.all() if s.first_version is not None]
            for first in firsts:
                found |= {c.entry for c in [c for c in anchors if c.version < first][:1]}
        return found


def _to_give_up(store: Store, blobs: Blobs, through: int) -> set[str]:
    """Payloads on disk that nothing but rows up to the anchor's row `through` names."""
    with store.read() as uow:
        named = set(uow.entries.payloads(through=through))
        # What waited after the anchor's row is merged by a later one.
        needed: set[str | None] = {d.payload_sha256 for d in uow.buffered.waiting(through)}
        needed |= uow.receipts.stored_digests()
        for site in uow.sites.all():
            row = uow.contributions.find(site.id)
            after = BEFORE_FIRST if row is None else row.folded_through
            needed |= {term.payload_sha256 for term in uow.entries.terms(site.id, after=after)}
    needed |= {row.payload_sha256 for row in entries_after(store, through)}
    return (named & set(blobs.payloads.all())) - needed


def _kept_by(uow: UnitOfWork, checkpoint: Checkpoint) -> set[str]:
    if not checkpoint.is_anchor:
        return set()
    return set(uow.entries.get(checkpoint.entry).details.get("contributions", {}).values())
