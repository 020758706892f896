"""What a calibrator is told in its TOML file.

coordinator = "coordinator.example.org:7443"
redis_url = "redis://127.0.0.1:6379/0"
name = "calibrator-1"
state_dir = "/var/lib/letheon-calibrator"

[audit]
plugin = "npz"
arguments = { path = "/srv/images/audit.npz" }
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr

from letheon.servicekit.config import Section
from letheon.servicekit.route import TlsFiles
from letheon.servicekit.tracing import TracingConfig

Seconds = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


class SourceConfig(Section):
    """Images of the calibrator: a plug-in of group `letheon.sources`."""

    plugin: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class TlsConfig(Section):
    """PEM files. Without this table the connection is not encrypted."""

    ca: Path
    """Authority that signed the coordinator's certificate."""
    certificate: Path
    """Of this calibrator: its identity is letheon://FEDERATION/role/calibrator/NAME."""
    key: Path
    server_name: str | None = None
    """In the coordinator's certificate, if it is not the host's name."""
    renew: bool = False
    """Have the coordinator sign the next certificate at two thirds of the life of this one."""

    @property
    def files(self) -> TlsFiles:
        """As a channel takes them."""
        return TlsFiles(self.ca, self.certificate, self.key, self.server_name)


class CalibratorConfig(Section):
    """Everything one calibrator needs to know."""

    coordinator: str
    """host:port of the coordinator."""
    redis_url: SecretStr
    """Where the erasure queue is, credentials included; never logged."""
    name: Annotated[str, Field(min_length=1, max_length=100)]
    """Instance name: the holder of claims. Two calibrators never share one."""
    state_dir: Path
    """For payloads on their way; nothing in it is needed after a loss."""
    signing_key: Path | None = None
    """Ed25519 key in PEM, made if it is missing; default: signing_key.pem in state_dir."""
    tls: TlsConfig | None = None
    calibration: SourceConfig | None = None
    """Images that calibration rounds train on."""
    audit: SourceConfig | None = None
    """Images that patches are checked with; never those of `calibration`."""
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Arguments of unlearning methods, by name, where the defaults do not fit."""
    poll_seconds: Seconds = 1.0
    """Between two looks at what others must do first."""
    block_seconds: Annotated[float, Field(gt=0.0, le=20.0)] = 2.0
    """How long one read of the queue waits for an entry."""
    renew_seconds: Annotated[float, Field(gt=0.0, le=20.0)] = 5.0
    """Between two signs of life; never more than a third of the lease."""
    reclaim_seconds: Seconds = 60.0
    """Silence after which the queue hands an entry to another calibrator."""
    max_jobs: Count = 64
    """Erasures in hand at once. With more of them open none may pass: a version is promoted only
    when every removal that is due has happened, and one that nobody holds never does."""
    backoff_cap_seconds: Seconds = 30.0
    """Longest wait between two tries while the coordinator or the queue is away."""
    stop_grace_seconds: Seconds = 20.0
    """From SIGTERM to the end of the process, at most."""
    threads: Count = 1
    """Threads of torch."""
    metrics_listen: str | None = None
    """host:port of the metrics page; none when absent."""
    health_listen: str | None = None
    """host:port that a supervisor asks for health; none when absent."""
    log_level: str = "INFO"
    tracing: TracingConfig = TracingConfig()

    @property
    def key_path(self) -> Path:
        """Where the signing key is."""
        return self.signing_key or self.state_dir / "signing_key.pem"

    @property
    def public_key_path(self) -> Path:
        """Where the public key is put, for those who check certificates."""
        return self.key_path.with_suffix(".pub.pem")
