"""Every metric of the calibrator, declared once, on an injected registry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_STAGE_BUCKETS_S = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


class CalibratorMetrics:
    """Values a test may read through the registry it passed in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.stage_seconds = Histogram(
            "letheon_erasure_stage_seconds",
            "Time an erasure spent in a stage of the calibrator.",
            ("stage",),  # remove, method, gate, record
            buckets=_STAGE_BUCKETS_S,
            registry=registry,
        )
        self.queue_depth = Gauge(
            "letheon_calibrator_queue_depth",
            "Entries waiting or in hand.",
            registry=registry,
        )
        self.dead_letters = Gauge(
            "letheon_calibrator_dead_letters",
            "Entries nobody could act on.",
            registry=registry,
        )
        self.oldest_entry_age_seconds = Gauge(
            "letheon_calibrator_oldest_entry_age_seconds",
            "Age of the oldest request in hand, since it was filed.",
            registry=registry,
        )
        self.jobs = Gauge(
            "letheon_calibrator_jobs",
            "Erasures in hand.",
            registry=registry,
        )
        self.entries = Counter(
            "letheon_calibrator_entries",
            "Entries taken, by what became of them.",
            # acknowledged, filed, buried, held, lost, checkpointed, crashed
            ("outcome",),
            registry=registry,
        )
        self.claims_lost = Counter(
            "letheon_calibrator_claims_lost",
            "Jobs dropped because another calibrator holds the claim.",
            registry=registry,
        )
        self.gate_verdicts = Counter(
            "letheon_calibrator_gate_verdicts",
            "Runs of the gate, by verdict.",
            ("verdict",),  # pass, fail, inconclusive
            registry=registry,
        )
        self.restarts = Counter(
            "letheon_calibrator_restarts",
            "Methods started over because a later removal voided their work.",
            registry=registry,
        )
        self.retries = Counter(
            "letheon_calibrator_retries",
            "Steps repeated because coordinator or queue did not answer.",
            registry=registry,
        )
