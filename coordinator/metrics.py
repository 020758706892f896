"""What the coordinator counts and times, declared once. Labels come from closed sets only.

What it reads from its stores now and then is in `coordinator.gauges`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from coordinator.services.verify_ledger import Verdict
from letheon.servicekit import tracing
from letheon.servicekit.clock import Clock

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
# Rules that an upload can break; `other` is for one that a later release names.
RULES = (
    "names",
    "shape",
    "dtype",
    "count",
    "encoding",
    "size",
    "chunk",
    "digest",
    "altered",
    "finite",
    "range",
    "places",
    "compression",
    "norm",
    "cap",
    "other",
)
ORPHAN_AREAS = ("payloads", "models", "checkpoints", "contributions", "uploads")
_STAGE_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
_ERASURE_BUCKETS_S = (0.003, 0.01, 0.03, 0.1, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400, 604800)
_STALENESS_BUCKETS = (0, 1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one process; a test gives its own registry."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        counter = partial(Counter, registry=registry)
        self._stages = Histogram(
            "letheon_update_stage_seconds",
            "Duration of one stage of an update.",
            ("stage",),
            registry=registry,
            buckets=_STAGE_BUCKETS_S,
        )
        self._updates = counter("letheon_updates", "Uploads by what became of them.", ("outcome",))
        self._rejections = counter(
            "letheon_update_rejections", "Uploads refused, by the rule they broke.", ("rule",)
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
        self._site_updates = counter(
            "letheon_site_updates",
            "Uploads of one site by what became of them.",
            ("site", "outcome"),
        )
        self._site_staleness = Gauge(
            "letheon_site_staleness_versions",
            "Versions between base and head of the site's newest accepted delta.",
            ("site",),
            registry=registry,
        )
        self._received = counter(
            "letheon_site_received_bytes", "Payload bytes a site has sent.", ("site",)
        )
        self._sent = counter(
            "letheon_site_sent_bytes", "Payload bytes a site has fetched.", ("site",)
        )
        self._chores = counter(
            "letheon_chore_failures", "Background work that failed, by chore.", ("chore",)
        )
        self._orphans = counter(
            "letheon_orphans_removed", "Files that no row named, by area.", ("area",)
        )
        self.leader = Gauge(
            "letheon_leader",
            "1 while this coordinator may write, 0 while it waits for its turn.",
            registry=registry,
        )
        self._verification = _Verifications(registry, clock)
        for area in ORPHAN_AREAS:
            self._orphans.labels(area)
        for stage in STAGES:
            self._stages.labels(stage)
        for outcome in OUTCOMES:
            self._updates.labels(outcome)
        for rule in RULES:
            self._rejections.labels(rule)
        for stage in ERASURE_STAGES:
            self._erasure_stages.labels(stage)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times one stage of an update."""
        started = self._clock.monotonic()
        with tracing.span(f"update.{name}"):
            yield
        seconds = self._clock.monotonic() - started
        self._stages.labels(name).observe(seconds, tracing.exemplar())

    def update(self, outcome: str, site: str | None = None) -> None:
        """One upload ended; `site` is a registered one, None if no site sent it."""
        self._updates.labels(outcome).inc()
        if site is not None:
            self._site_updates.labels(site, outcome).inc()

    def known(self, site: str) -> None:
        """A site is there: its counters begin at zero, so that the first of each is seen."""
        for outcome in OUTCOMES:
            self._site_updates.labels(site, outcome)
        self._received.labels(site)
        self._sent.labels(site)

    def rejected(self, rule: str) -> None:
        """One upload broke a rule."""
        self._rejections.labels(rule if rule in RULES else "other").inc()

    def staleness(self, versions: int, site: str) -> None:
        """One delta was accepted that many versions after its base."""
        self._staleness.observe(versions)
        self._site_staleness.labels(site).set(versions)

    def received(self, size_bytes: int, site: str) -> None:
        """So many bytes came from a registered site."""
        self._received.labels(site).inc(size_bytes)

    def sent(self, size_bytes: int, site: str) -> None:
        """So many bytes went to a registered site."""
        self._sent.labels(site).inc(size_bytes)

    def erasure_stage(self, stage: str, seconds: float) -> None:
        """An erasure went through a stage in that long."""
        tracing.record(f"erasure.{stage}", seconds)
        self._erasure_stages.labels(stage).observe(seconds, tracing.exemplar())

    def orphans(self, area: str, count: int) -> None:
        """So many files without a row were removed."""
        self._orphans.labels(area).inc(count)

    def chore_failed(self, chore: str) -> None:
        """Background work failed; it is tried again."""
        self._chores.labels(chore).inc()

    def verified(self, verdict: Verdict, seconds: float) -> None:
        """A verification of the ledger came to its end."""
        self._verification.note(verdict, seconds)


class _Verifications:
    """How the verifications of the ledger ended."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        gauge = partial(Gauge, registry=registry)
        self._failures = Counter(
            "letheon_ledger_verification_failures",
            "Verifications of the ledger that did not hold.",
            registry=registry,
        )
        self._holds = gauge(
            "letheon_ledger_verification_holds",
            "1 if the newest verification of the ledger held, 0 if not, NaN before the first.",
        )
        self._at = gauge(
            "letheon_ledger_verification_timestamp_seconds",
            "When the newest verification of the ledger ended, seconds since 1970, 0 for never.",
        )
        self._seconds = gauge(
            "letheon_ledger_verification_seconds",
            "What the newest verification of the ledger took.",
        )
        self._holds.set(math.nan)

    def note(self, verdict: Verdict, seconds: float) -> None:
        self._holds.set(1 if verdict.holds else 0)
        self._at.set(self._clock.now().timestamp())
        self._seconds.set(seconds)
        if not verdict.holds:
            self._failures.inc()
