"""Every metric of the coordinator, declared once. Labels come from closed sets only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from coordinator.domain.erasure import ErasureState
from coordinator.ports import Blobs, Store
from coordinator.services.live_model import LiveModel
from coordinator.services.presence import Presence
from letheon.servicekit.clock import Clock
from letheon.servicekit.erasure_queue import ErasureQueue

STAGES = ("receive", "validate", "persist", "merge", "publish")
ERASURE_STAGES = (
    "fence",  # call received to answer sent
    "claim",  # fenced to the first claim
    "remove",  # claimed to removed
    "calibrate",  # the method at work
    "verify",  # removed to promoted
    "promote",  # proof, promotion and destruction
    "conclude",  # promoted to certified or failed
    "total",  # requested to concluded
)
OUTCOMES = ("merged", "buffered", "stored", "superseded", "rejected", "fenced", "voided")
ORPHAN_AREAS = ("payloads", "models", "checkpoints", "contributions", "uploads")
_STAGE_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
_ERASURE_BUCKETS_S = (0.003, 0.01, 0.03, 0.1, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400, 604800)
_STALENESS_BUCKETS = (0, 1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one process; a test gives its own registry."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._stages = Histogram(
            "letheon_update_stage_seconds",
            "Duration of one stage of an update.",
            ("stage",),
            registry=registry,
            buckets=_STAGE_BUCKETS_S,
        )
        self._updates = Counter(
            "letheon_updates", "Uploads by what became of them.", ("outcome",), registry=registry
        )
        self._staleness = Histogram(
            "letheon_update_staleness_versions",
            "Versions between base and head at acceptance.",
            registry=registry,
            buckets=_STALENESS_BUCKETS,
        )
        self._erasure_stages = Histogram(
            "letheon_erasure_stage_seconds",
            "Duration of one stage of an erasure.",
            ("stage",),
            registry=registry,
            buckets=_ERASURE_BUCKETS_S,
        )
        self.verification_failures = Counter(
            "letheon_ledger_verification_failures",
            "Verifications of the ledger that did not hold.",
            registry=registry,
        )
        self._orphans = Counter(
            "letheon_orphans_removed",
            "Files that no row named, by area.",
            ("area",),
            registry=registry,
        )
        for area in ORPHAN_AREAS:
            self._orphans.labels(area)
        for stage in STAGES:
            self._stages.labels(stage)
        for outcome in OUTCOMES:
            self._updates.labels(outcome)
        for stage in ERASURE_STAGES:
            self._erasure_stages.labels(stage)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times one stage of an update."""
        started = self._clock.monotonic()
        yield
        self._stages.labels(name).observe(self._clock.monotonic() - started)

    def update(self, outcome: str) -> None:
        """One upload ended."""
        self._updates.labels(outcome).inc()

    def staleness(self, versions: int) -> None:
        """One delta was accepted that many versions after its base."""
        self._staleness.observe(versions)

    def erasure_stage(self, stage: str, seconds: float) -> None:
        """An erasure went through a stage in that long."""
        self._erasure_stages.labels(stage).observe(seconds)

    def orphans(self, area: str, count: int) -> None:
        """So many files without a row were removed."""
        self._orphans.labels(area).inc(count)


class Gauges:
    """What is read from the store now and then rather than counted."""

    def __init__(
        self,
        registry: CollectorRegistry,
        store: Store,
        blobs: Blobs,
        live: LiveModel,
        presence: Presence,
        clock: Clock,
    ) -> None:
        self._store, self._blobs, self._presence, self._clock = store, blobs, presence, clock
        head = Gauge("letheon_head_version", "Newest model version.", registry=registry)
        head.set_function(lambda: live.position.version)
        epoch = Gauge("letheon_epoch", "Erasures that changed the weights.", registry=registry)
        epoch.set_function(lambda: live.position.epoch)
        recovery = Gauge(
            "letheon_recovery_seconds", "What recovering the head took last.", registry=registry
        )
        recovery.set_function(lambda: live.recovery.seconds)
        recovered = Gauge(
            "letheon_recovery_entries", "Rows that recovery replayed.", registry=registry
        )
        recovered.set_function(lambda: live.recovery.entries)
        self._serving = Gauge(
            "letheon_serving_version", "Served model version, -1 for none.", registry=registry
        )
        self._erasures = Gauge(
            "letheon_erasures", "Erasures by state.", ("state",), registry=registry
        )
        self._oldest = Gauge(
            "letheon_erasure_oldest_open_age_seconds",
            "Age of the oldest open erasure, 0 for none.",
            registry=registry,
        )
        self._outbox = Gauge(
            "letheon_erasure_outbox_depth",
            "Erasures that still have to reach the stream.",
            registry=registry,
        )
        self._queue_age = Gauge(
            "letheon_erasure_queue_age_seconds",
            "Age of the oldest request that no calibrator has claimed yet, 0 for none.",
            registry=registry,
        )
        self._disk = Gauge(
            "letheon_disk_bytes", "Payloads, checkpoints and model files.", registry=registry
        )
        self._agents = Gauge(
            "letheon_agent_last_seen_age_seconds",
            "Time since a site's agent was last heard of.",
            ("site",),
            registry=registry,
        )

    def refresh(self) -> None:
        """Reads the store."""
        now = self._clock.now()
        with self._store.read() as uow:
            erasures = uow.erasures.all()
            sites = uow.sites.all()
            serving = uow.federation.get().serving_version
            outbox = uow.outbox.due()
        self._serving.set(-1 if serving is None else serving)
        for state in ErasureState:
            self._erasures.labels(state.value).set(sum(e.state is state for e in erasures))
        ages = [(now - e.requested_at).total_seconds() for e in erasures if e.is_open]
        self._oldest.set(max(ages, default=0.0))
        self._outbox.set(len(outbox))
        unclaimed = [
            (now - e.fenced_at).total_seconds()
            for e in erasures
            if e.state is ErasureState.RECEIVED
        ]
        self._queue_age.set(max(unclaimed, default=0.0))
        self._disk.set(self._blobs.disk_bytes())
        for site in sites:
            age = now - self._presence.on(site).last_seen_at
            self._agents.labels(site.id).set(age.total_seconds())


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
