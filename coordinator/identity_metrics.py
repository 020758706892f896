"""Metrics of certificates and refused callers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class IdentityMetrics:
    """Of certificates and refused callers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.certificate_expiry = Gauge(
            "letheon_certificate_expiry_timestamp_seconds",
            "When this process's own certificate ends, seconds since 1970.",
            registry=registry,
        )
        self.refused = Counter(
            "letheon_refused_calls_total",
            "Calls that the guard did not let through.",
            ("role", "reason"),
            registry=registry,
        )
