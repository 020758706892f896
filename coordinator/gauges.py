"""What the coordinator reads from its stores now and then rather than counts, declared once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from prometheus_client import CollectorRegistry, Gauge

from coordinator.domain.erasure import Erasure, ErasureState
from coordinator.domain.site import Site, SiteState
from coordinator.ports import Blobs, Store
from coordinator.services.keep_derived import KeepDerived
from coordinator.services.live_model import LiveModel
from coordinator.services.presence import Presence
from coordinator.services.transfer_slots import TransferSlots
from letheon.servicekit.clock import Clock
from letheon.servicekit.erasure_queue import ErasureQueue


class Gauges:
    """The store, the files and the head of this moment."""

    def __init__(
        self,
        registry: CollectorRegistry,
        store: Store,
        blobs: Blobs,
        live: LiveModel,
        derived: KeepDerived,
        presence: Presence,
        clock: Clock,
        known: Callable[[str], None] = lambda _site: None,
    ) -> None:
        """`known` is told of every site there is."""
        self._known = known
        self._store, self._blobs, self._presence, self._clock = store, blobs, presence, clock
        self._derived = derived
        self._quarantined = Gauge(
            "letheon_quarantined_updates",
            "Updates that screening set aside and nobody has decided on.",
            registry=registry,
        )
        gauge = partial(Gauge, registry=registry)
        gauge("letheon_head_version", "Newest model version.").set_function(
            lambda: live.position.version
        )
        gauge("letheon_epoch", "Erasures that changed the weights.").set_function(
            lambda: live.position.epoch
        )
        gauge("letheon_recovery_seconds", "What recovering the head took last.").set_function(
            lambda: live.recovery.seconds
        )
        gauge("letheon_recovery_entries", "Rows that recovery replayed.").set_function(
            lambda: live.recovery.entries
        )
        self._serving = gauge("letheon_serving_version", "Served model version, -1 for none.")
        self._disk = gauge(
            "letheon_disk_bytes", "Payloads, checkpoints, contributions and model files.", ("area",)
        )
        self._fold_lag = gauge(
            "letheon_fold_lag_entries",
            "Deltas not yet folded into the contribution of the site that has most of them.",
        )
        self._checkpoint_lag = gauge(
            "letheon_checkpoint_lag_entries", "Ledger rows after the newest checkpoint."
        )
        self._agents = gauge(
            "letheon_agent_last_seen_age_seconds",
            "Time since a site's agent was last heard of.",
            ("site",),
        )
        self._active = gauge(
            "letheon_site_active",
            "1 while a site takes part, 0 once an erasure names it.",
            ("site",),
        )
        self._erasures = ErasureGauges(registry)

    def refresh(self) -> None:
        """Reads the store."""
        now = self._clock.now()
        with self._store.read() as uow:
            erasures = uow.erasures.all()
            sites = uow.sites.all()
            serving = uow.federation.get().serving_version
            outbox = uow.outbox.due()
            quarantined = uow.quarantined.all(waiting=True)
        self._serving.set(-1 if serving is None else serving)
        self._erasures.set(erasures, len(outbox), now)
        self._quarantined.set(len(quarantined))
        for area, blobs in self._blobs.areas().items():
            self._disk.labels(area).set(blobs.disk_bytes())
        lag = self._derived.lag()
        self._fold_lag.set(lag.unfolded)
        self._checkpoint_lag.set(lag.since_checkpoint)
        for site in sites:
            self._set_site(site, now)

    def _set_site(self, site: Site, now: datetime) -> None:
        self._known(site.id)
        age = now - self._presence.on(site).last_seen_at
        self._agents.labels(site.id).set(age.total_seconds())
        self._active.labels(site.id).set(site.state is SiteState.ACTIVE)


class ErasureGauges:
    """Erasures by state, their ages and their deadlines."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self._states = gauge("letheon_erasures", "Erasures by state.", ("state",))
        self._oldest = gauge(
            "letheon_erasure_oldest_open_age_seconds",
            "Age of the oldest open erasure, 0 for none.",
        )
        self._outbox = gauge(
            "letheon_erasure_outbox_depth", "Erasures that still have to reach the stream."
        )
        self._queue_age = gauge(
            "letheon_erasure_queue_age_seconds",
            "Age of the oldest request that no calibrator has claimed yet, 0 for none.",
        )
        self._left = gauge(
            "letheon_erasure_deadline_left_seconds",
            "Until the nearest deadline of an open erasure, negative beyond it, +Inf for none.",
        )
        self._late = gauge(
            "letheon_erasures_late",
            "Erasures that are open beyond their deadline, or were certified after it.",
            ("end",),
        )

    def set(self, erasures: Sequence[Erasure], outbox: int, now: datetime) -> None:
        """Takes the erasures of this moment."""
        state_of = ErasureState
        for state in ErasureState:
            self._states.labels(state.value).set(sum(e.state is state for e in erasures))
        still_open = [e for e in erasures if e.is_open]
        ages = [(now - e.requested_at).total_seconds() for e in still_open]
        self._oldest.set(max(ages, default=0.0))
        self._outbox.set(outbox)
        waiting = [e for e in erasures if e.state is state_of.RECEIVED]
        self._queue_age.set(max(((now - e.fenced_at).total_seconds() for e in waiting), default=0))
        left = [(e.deadline - now).total_seconds() for e in still_open]
        self._left.set(min(left, default=math.inf))
        self._late.labels("open").set(sum(seconds < 0 for seconds in left))
        self._late.labels("certified").set(
            sum(
                e.state is state_of.CERTIFIED and (e.concluded_at or now) > e.deadline
                for e in erasures
            )
        )


class QueueGauges:
    """What is read from the stream; apart, because the stream may be down."""

    def __init__(self, registry: CollectorRegistry, queue: ErasureQueue) -> None:
        self._queue = queue
        self._depth = Gauge(
            "letheon_erasure_queue_depth",
            "Entries of the stream waiting or in hand.",
            registry=registry,
        )
        self._dead = Gauge(
            "letheon_erasure_dead_letters", "Entries nobody can act on.", registry=registry
        )

    def refresh(self) -> None:
        """Reads the stream. Raises StorageUnavailable."""
        self._depth.set(self._queue.depth())
        self._dead.set(len(self._queue.dead_letters()))


def observe_slots(registry: CollectorRegistry, slots: TransferSlots) -> None:
    """Registers how many transfers there are and may be."""
    taken = Gauge("letheon_transfers", "Payloads travelling now.", registry=registry)
    taken.set_function(lambda: slots.taken)
    most = Gauge("letheon_transfer_slots", "Payloads that may travel at once.", registry=registry)
    most.set(slots.most)
