"""Every metric of the calibrator, declared once, on an injected registry."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

STAGES = ("remove", "method", "gate", "record")
OUTCOMES = ("acknowledged", "filed", "buried", "held", "lost", "checkpointed", "crashed")
VERDICTS = ("pass", "fail", "inconclusive")
_STAGE_BUCKETS_S = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


class CalibratorMetrics:
    """Values a test may read through the registry it passed in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        counter = partial(Counter, registry=registry)
        prefix = "letheon_calibrator"
        self.stage_seconds = Histogram(
            f"{prefix}_stage_seconds",
            "Time an erasure spent in a stage of the calibrator.",
            ("stage",),
            buckets=_STAGE_BUCKETS_S,
            registry=registry,
        )
        self.oldest_job_age_seconds = gauge(
            f"{prefix}_oldest_job_age_seconds", "Age of the oldest request in hand."
        )
        self.jobs = gauge(f"{prefix}_jobs", "Erasures in hand.")
        self.entries = counter(
            f"{prefix}_entries",
            "Entries taken, by what became of them.",
            ("outcome",),
        )
        self.claims_lost = counter(
            f"{prefix}_claims_lost", "Jobs dropped because another calibrator holds the claim."
        )
        self.gate_verdicts = counter(
            f"{prefix}_gate_verdicts", "Runs of the gate, by verdict.", ("verdict",)
        )
        self.restarts = counter(
            f"{prefix}_restarts", "Methods started over because a later removal voided their work."
        )
        self.certificate_expiry = gauge(
            "letheon_certificate_expiry_timestamp_seconds",
            "When this process's own certificate ends, seconds since 1970.",
        )
        self.retries = counter(
            f"{prefix}_retries", "Steps repeated because coordinator or queue did not answer."
        )
        for stage in STAGES:
            self.stage_seconds.labels(stage)
        for outcome in OUTCOMES:
            self.entries.labels(outcome)
        for verdict in VERDICTS:
            self.gate_verdicts.labels(verdict)
