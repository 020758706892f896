"""The configuration of the coordinator: TOML, environment overrides `LETHEON_...`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, model_validator

from letheon.servicekit.config import Section


class Database(Section):
    """Where the truth is kept."""

    # Without one, SQLite in data_dir. Secret, because it may hold a password.
    url: SecretStr | None = None
    pool_size: int = Field(default=8, ge=2, description="connections kept (PostgreSQL)")
    pool_timeout_seconds: float = Field(default=10.0, gt=0, description="wait for a free one")
    instance: str | None = Field(
        default=None, max_length=200, description="holder of the lease; none: the host's name"
    )
    lease_seconds: float = Field(default=15.0, gt=0, description="of the one that may write")


class Storage(Section):
    """Where payloads, checkpoints, contributions and model files are kept."""

    # An fsspec URL such as s3://bucket/prefix; without one, folders in data_dir.
    url: str | None = None
    # Arguments of the fsspec file system; secret, because they may hold a key.
    options: dict[str, SecretStr] = Field(default_factory=dict)
    cache_bytes: int = Field(default=8 << 30, ge=0, description="local copies of remote files")


class Retention(Section):
    """How long payloads are kept once nothing needs them any more."""

    keep_entries: int = Field(
        default=2000, ge=1, description="rows whose payloads are kept at least"
    )


class Tombstones(Section):
    """The signed log of erasures at a second place, outside of every backup."""

    path: Path | None = Field(default=None, description="the log; none: a restore is not noticed")
    key: Path | None = Field(
        default=None, description="Ed25519 PEM; none: tombstones.pem in data_dir"
    )


class Limits(Section):
    """Sizes and counts that bound memory, disk and workers."""

    workers: int = Field(default=32, ge=4, description="calls served at once")
    transfers: int = Field(default=16, ge=1, description="payloads travelling at once")
    transfer_retry_seconds: float = Field(default=2.0, gt=0)
    transfers_per_site: int = Field(default=2, ge=1, description="of one site at once")
    memory_bytes: int | None = Field(
        default=None, gt=0, description="of the process, above which uploads wait; none: no limit"
    )
    reserve_bytes: int = Field(default=256 << 20, ge=0, description="disk space left free")
    resume_within_seconds: float = Field(default=600.0, ge=0, description="after a cut download")


class Upkeep(Section):
    """The background work."""

    every_seconds: float = Field(default=1.0, gt=0)
    checkpoint_entries: int = Field(default=50, ge=1, description="ledger rows between two")
    recovery_entries: int = Field(
        default=1000, ge=1, description="rows a restart replays at most; deltas wait beyond it"
    )
    keep_checkpoints: int = Field(default=2, ge=1, description="the newest so many")
    fold_entries: int = Field(default=32, ge=1, description="unfolded deltas of one site")
    keep_upload_days: float = Field(default=7.0, gt=0, description="unfinished ones")
    keep_models: int = Field(default=4, ge=1, description="unpinned model files")


class Polling(Section):
    """How long agents wait when there is nothing to do."""

    retry_after_seconds: float = Field(default=2.0, gt=0)
    jitter: float = Field(default=0.25, ge=0, lt=1, description="share of the delay, either way")


class Rounds(Section):
    """Whom a synchronous strategy (`fedavg`) waits for."""

    patience_seconds: float = Field(
        default=60.0, gt=0, description="a site silent for longer is left out of the round"
    )


class Claims(Section):
    """Leases of calibrators."""

    lease_seconds: float = Field(default=30.0, gt=0)
    reannounce_seconds: float = Field(default=120.0, gt=0, description="of one nobody claims")
    subject_seen_seconds: float = Field(
        default=300.0, gt=0, description="a subject unseen for longer is not asked"
    )


class CoordinatorConfig(Section):
    """Everything the coordinator can be told."""

    listen: str = "127.0.0.1:7300"
    metrics_listen: str | None = Field(default=None, description="host:port; none: no endpoint")
    data_dir: Path
    federation_dir: Path | None = Field(
        default=None, description="plan.json and initial.safetensors; read on the first start"
    )
    redis_url: SecretStr | None = Field(default=None, description="required; carries wake-ups")
    address_file: Path | None = Field(default=None, description="written once ready: host:port")
    log_level: str = "INFO"
    stop_seconds: float = Field(default=10.0, ge=0, description="grace for running calls")
    database: Database = Database()
    storage: Storage = Storage()
    limits: Limits = Limits()
    upkeep: Upkeep = Upkeep()
    retention: Retention = Retention()
    tombstones: Tombstones = Tombstones()
    polling: Polling = Polling()
    rounds: Rounds = Rounds()
    claims: Claims = Claims()

    @model_validator(mode="after")
    def _require_redis(self) -> CoordinatorConfig:
        if self.redis_url is None:
            raise ValueError(
                "redis_url is not set: erasures reach the calibrators through Redis; name one, "
                "such as redis://127.0.0.1:6379/0 (`letheon up` starts its own)"
            )
        return self

    @property
    def database_url(self) -> str:
        """The URL of the database in use."""
        if self.database.url is not None:
            return self.database.url.get_secret_value()
        return f"sqlite:///{self.data_dir.absolute() / 'coordinator.sqlite'}"
