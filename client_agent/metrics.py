"""Every metric of the agent, declared once."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_TRAIN_BUCKETS_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)


_TRANSFER_BUCKETS_S = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600)


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
        self.download_seconds = Histogram(
            "letheon_agent_download_seconds",
            "Fetching the model that a task trains from.",
            registry=registry,
            buckets=_TRANSFER_BUCKETS_S,
        )
        self.upload_seconds = Histogram(
            "letheon_agent_upload_seconds",
            "Sending one payload until its receipt came; tries that were cut are not counted.",
            registry=registry,
            buckets=_TRANSFER_BUCKETS_S,
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
        self.uploads_held = Gauge(
            "letheon_agent_uploads_held",
            "Deltas that wait for the hours in which the site may upload.",
            registry=registry,
        )
        self.last_contact = Gauge(
            "letheon_agent_last_contact_timestamp_seconds",
            "When the coordinator last answered, seconds since 1970.",
            registry=registry,
        )
        self.connection_failures = Counter(
            "letheon_agent_connection_failures_total",
            "Turns that ended because the coordinator was not reached, by cause.",
            ("cause",),
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
        self.skipped = Gauge(
            "letheon_agent_records_skipped",
            "Records or files that the data source left out, by reason.",
            ("reason",),
            registry=registry,
        )
        self.storage_failures = Counter(
            "letheon_agent_storage_failures_total",
            "Turns that ended because the disk did not take what was to be kept.",
            registry=registry,
        )
        self.gpu_out_of_memory = Counter(
            "letheon_agent_gpu_out_of_memory_total",
            "Tasks that failed because the GPU had no memory left.",
            registry=registry,
        )
        self.not_trusted = Counter(
            "letheon_agent_coordinator_refused_total",
            "What the coordinator sent and the agent did not believe, by kind.",
            ("kind",),
            registry=registry,
        )
        self.log_refused = Gauge(
            "letheon_agent_log_refused",
            "1 while the coordinator's transparency log contradicts the pinned checkpoint.",
            registry=registry,
        )
        self.log_size = Gauge(
            "letheon_agent_log_pinned_entries",
            "Entries of the transparency log at the pinned checkpoint.",
            registry=registry,
        )
        # With a label, so that a site that does not train privately shows none of the three.
        self.privacy_epsilon = Gauge(
            "letheon_agent_privacy_epsilon",
            "Epsilon that the site's updates have spent, by what is protected.",
            ("unit",),
            registry=registry,
        )
        self.privacy_budget = Gauge(
            "letheon_agent_privacy_epsilon_budget",
            "Epsilon that the site's updates may spend.",
            ("unit",),
            registry=registry,
        )
        self.privacy_spent = Gauge(
            "letheon_agent_privacy_budget_spent",
            "1 once one more update would pass the budget: the site trains no more.",
            ("unit",),
            registry=registry,
        )
        self.certificate_end = Gauge(
            "letheon_agent_certificate_not_after_timestamp_seconds",
            "When the site's own certificate ends, seconds since 1970.",
            registry=registry,
        )
