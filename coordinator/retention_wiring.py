"""The part of the object graph that bounds the disk, in a thread of its own: a proof takes long."""

from __future__ import annotations

from coordinator.config import CoordinatorConfig
from coordinator.core import Core
from coordinator.domain.serving import ServingPolicy
from coordinator.services.compact_payloads import CompactPayloads
from coordinator.services.maintenance import Maintenance
from coordinator.services.place_anchor import PlaceAnchor


class Retention:
    """Anchors and compaction."""

    def __init__(self, core: Core, config: CoordinatorConfig) -> None:
        keep = config.retention.keep_entries
        self.place_anchor = PlaceAnchor(core, core.derived, core.clock, keep_entries=keep)
        self.compact = CompactPayloads(
            store=core.store,
            blobs=core.blobs,
            live=core.live,
            verify_ledger=core.verify_ledger,
            policy=ServingPolicy(core.plan.serving.policy),
            clock=core.clock,
            keep_entries=keep,
        )
        self._chores = Maintenance(
            {"anchor": self.place_anchor, "compaction": self.compact},
            core.clock,
            every_s=config.upkeep.every_seconds,
            failed=core.metrics.chore_failed,
        )

    def start(self) -> None:
        """Begins."""
        self._chores.start()

    def run_once(self) -> None:
        """Both, once."""
        self._chores.run_once()

    def stop(self) -> None:
        """Breaks a proof off, finishes a compaction and ends."""
        self.place_anchor.stop()
        self._chores.stop()
