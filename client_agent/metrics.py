"""Every metric of the agent, declared once."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_TRAIN_BUCKETS_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)


class AgentMetrics:
    """Values live in the registry that is passed in, so that tests read them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.tasks = Counter(
            "letheon_agent_tasks_total",
            "Tasks by kind and how they ended.",
            ("kind", "outcome"),
            registry=registry,
        )
        self.train_seconds = Histogram(
            "letheon_agent_train_seconds",
            "Local training of one task, download not counted.",
            registry=registry,
            buckets=_TRAIN_BUCKETS_S,
        )
        self.uploads = Counter(
            "letheon_agent_uploads_total",
            "Uploads that ended, by what became of them.",
            ("outcome",),
            registry=registry,
        )
        self.upload_bytes = Counter(
            "letheon_agent_upload_bytes_total",
            "Payload bytes the coordinator acknowledged.",
            registry=registry,
        )
        self.outbox_depth = Gauge(
            "letheon_agent_outbox_depth", "Uploads that have not arrived yet.", registry=registry
        )
        self.last_contact = Gauge(
            "letheon_agent_last_contact_timestamp_seconds",
            "When the coordinator last answered, seconds since 1970.",
            registry=registry,
        )
        self.child_restarts = Counter(
            "letheon_agent_child_restarts_total",
            "Deaths of the training process in the middle of a command.",
            registry=registry,
        )
        self.epoch = Gauge(
            "letheon_agent_epoch", "Newest epoch the agent has heard of.", registry=registry
        )
        self.records = Gauge(
            "letheon_agent_records",
            "Records by use.",
            ("part",),
            registry=registry,
        )
