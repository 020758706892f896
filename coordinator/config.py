"""The configuration of the coordinator: TOML, environment overrides `LETHEON_...`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, model_validator

from letheon.servicekit.config import Section
from letheon.servicekit.server_tls import is_loopback
from letheon.servicekit.tracing import TracingConfig


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


class Encryption(Section):
    """Encryption at rest of payloads, checkpoints, contributions, model files and uploads."""

    key_dir: Path | None = Field(
        default=None,
        description="the key store, outside of data_dir and of every backup; none: no encryption",
    )


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


class Signing(Section):
    """The coordinator's own signature, and what it asks of sites."""

    key: Path | None = Field(
        default=None,
        description="Ed25519 PEM that signs models and the log; none: coordinator_key.pem in "
        "data_dir",
    )
    require_updates: bool = Field(
        default=False, description="refuse updates of sites that registered no key"
    )


class Audit(Section):
    """The audit log."""

    head_hours: float = Field(
        default=24.0, gt=0, description="its newest row goes into the transparency log at least"
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
    silence_seconds: float = Field(
        default=30.0, gt=0, description="a call that sends or takes nothing for longer is ended"
    )
    slowest_bytes_per_second: float = Field(
        default=8192.0, gt=0, description="of a link that is served: silence is counted beyond it"
    )


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


class Standby(Section):
    """What a coordinator does while another one leads."""

    relay: bool = Field(
        default=False, description="pass connections on to the leader; instance is its host:port"
    )


class Tls(Section):
    """Certificates, PEM files that may be replaced while the coordinator serves."""

    certificate: Path = Field(description="of the coordinator, with its chain")
    key: Path
    client_ca: Path = Field(description="authority that signed the certificates of callers")
    federation: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="in the identities of callers; none: that of enrolment.ca, else any",
    )
    deny_list: Path | None = Field(default=None, description="serial numbers, one a line")


class Enrolment(Section):
    """How sites get their certificates from the coordinator."""

    ca: Path | None = Field(default=None, description="folder of `letheon ca`; none: it signs none")
    listen: str | None = Field(
        default=None, description="host:port without client certificates, for Enrol alone"
    )
    address: str = Field(default="", description="what sites are told to connect to instead")
    certificate_days: float = Field(default=30.0, gt=0, le=825, description="life of a certificate")
    invitation_hours: float = Field(default=72.0, gt=0, le=720, description="of a token")


class ApprovalsConfig(Section):
    """When the request of somebody other than the site needs a second operator."""

    share: float = Field(default=0.3, ge=0, le=1, description="of the merged weight, above which")
    window_hours: float = Field(default=24.0, ge=0, description="requests that count together")


class RateLimits(Section):
    """How often one identity may call; local callers are not limited."""

    calls_per_second: float = Field(default=100.0, gt=0, description="twice as many at once")
    calls_at_once: int = Field(default=8, ge=1, description="of one identity, under way")
    erasures_per_hour: float = Field(default=60.0, gt=0, description="requests of one identity")
    registrations_per_hour: float = Field(default=120.0, gt=0)
    enrolments_per_hour: float = Field(default=60.0, gt=0, description="without one: of an address")


class CoordinatorConfig(Section):
    """Everything the coordinator can be told."""

    listen: str = "127.0.0.1:7300"
    metrics_listen: str | None = Field(default=None, description="host:port; none: no endpoint")
    health_listen: str | None = Field(
        default=None, description="host:port asked for health; none: no such port"
    )
    data_dir: Path
    federation_dir: Path | None = Field(
        default=None, description="plan.json and initial.safetensors; read on the first start"
    )
    redis_url: SecretStr | None = Field(default=None, description="required; carries wake-ups")
    address_file: Path | None = Field(default=None, description="written once ready: host:port")
    log_level: str = "INFO"
    stop_seconds: float = Field(default=10.0, ge=0, description="grace for running calls")
    redis_wait_seconds: float = Field(
        default=60.0, ge=0, description="from the start; then ready without Redis"
    )
    database: Database = Database()
    standby: Standby = Standby()
    storage: Storage = Storage()
    limits: Limits = Limits()
    upkeep: Upkeep = Upkeep()
    encryption: Encryption = Encryption()
    retention: Retention = Retention()
    tombstones: Tombstones = Tombstones()
    signing: Signing = Signing()
    audit: Audit = Audit()
    polling: Polling = Polling()
    rounds: Rounds = Rounds()
    claims: Claims = Claims()
    tls: Tls | None = None
    enrolment: Enrolment = Enrolment()
    approvals: ApprovalsConfig = ApprovalsConfig()
    rate_limits: RateLimits = RateLimits()
    tracing: TracingConfig = TracingConfig()

    @model_validator(mode="after")
    def _require_tls_beyond_this_machine(self) -> CoordinatorConfig:
        if self.tls is None and not is_loopback(self.listen):
            raise ValueError(
                f"listen is {self.listen}, which other machines reach, and there is no [tls]: "
                "give it certificate, key and client_ca (`letheon ca` makes them), or listen on "
                "127.0.0.1"
            )
        if self.tls is None and self.enrolment != Enrolment():
            raise ValueError("enrolment is of use with a [tls] table only")
        return self

    @model_validator(mode="after")
    def _require_redis(self) -> CoordinatorConfig:
        if self.redis_url is None:
            raise ValueError(
                "redis_url is not set: erasures reach the calibrators through Redis; name one, "
                "such as redis://127.0.0.1:6379/0 (`letheon up` starts its own)"
            )
        return self

    @model_validator(mode="after")
    def _keep_keys_apart(self) -> CoordinatorConfig:
        keys = self.encryption.key_dir
        if keys is None:
            return self
        places = [self.data_dir]
        if self.storage.url is not None and self.storage.url.startswith("file://"):
            places.append(Path(self.storage.url.removeprefix("file://")))
        for place in places:
            if keys.absolute().is_relative_to(place.absolute()):
                raise ValueError(
                    f"encryption.key_dir {keys} is inside {place}: a backup of the files would "
                    "hold their keys too; name a folder that no backup of the files contains"
                )
        return self

    @model_validator(mode="after")
    def _require_an_address_to_relay_to(self) -> CoordinatorConfig:
        host, _, port = (self.database.instance or "").rpartition(":")
        if self.standby.relay and not (host and port.isdecimal()):
            raise ValueError(
                "standby.relay is set, and database.instance is not host:port: the others pass "
                "connections on to the holder of the lease under that name"
            )
        return self

    @property
    def signing_key(self) -> Path:
        """Where the coordinator's private key is."""
        return self.signing.key or self.data_dir / "coordinator_key.pem"

    @property
    def database_url(self) -> str:
        """The URL of the database in use."""
        if self.database.url is not None:
            return self.database.url.get_secret_value()
        return f"sqlite:///{self.data_dir.absolute() / 'coordinator.sqlite'}"

    @property
    def is_on_sqlite(self) -> bool:
        """Whether the database is a file; a server otherwise."""
        return self.database_url.startswith("sqlite")
