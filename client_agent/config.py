"""What an agent is told in its TOML file: one model, nested per concern.

coordinator = "coordinator.example.org"
site = "north"
state_dir = "/var/lib/letheon-agent"

[data]
plugin = "npz"
arguments = { path = "/srv/images/chest.npz" }
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from client_agent.network_config import NetworkConfig, TlsConfig
from client_agent.privacy_config import PrivacyConfig
from letheon.errors import MalformedName
from letheon.names import site_name
from letheon.servicekit.tracing import TracingConfig

DEFAULT_PORT = 443
_HOST_PORT = re.compile(r"(?P<host>[^\s:/]+|\[[0-9a-fA-F:.]+\])(:(?P<port>\d{1,5}))?")

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Seconds = Annotated[float, Field(gt=0.0)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Table):
    """Where the records of the site come from: a plug-in of group `letheon.sources`."""

    plugin: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class TrainingConfig(_Table):
    """How much of the machine local training may take."""

    threads: Annotated[int, Field(ge=1)] = 1
    """Threads of the training process for one operation."""
    min_interval_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """From the start of one local training to the start of the next, at least.

    Between them the site is idle: its deltas are as fresh as its machine makes them, only fewer.
    """
    min_duration_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """What one local training takes, at least.

    The delta is held back until then, as on a machine that is that slow: it arrives stale. Signs of
    life go on meanwhile, and a new epoch ends the wait at once.
    """
    memory_limit_bytes: Annotated[int, Field(gt=0)] | None = None
    """Private memory of the training process; beyond it the process ends and starts anew."""
    code: str | None = None
    """The site's own training code instead of the plan's SGD: `/srv/train.py` (a script),
    `/srv/train.py:train`, or an entry point of group `letheon.trainers`. docs/training-code.md."""
    code_arguments: dict[str, Any] = Field(default_factory=dict)
    """What the code finds as `config.arguments`."""
    max_attempts: Annotated[int, Field(ge=1)] = 3
    """How often a task is begun again after the training process died of it."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """auto: the first GPU if there is one, else the processor."""
    mixed_precision: bool = False
    """On a GPU: matrix products in half precision; faster, and deltas differ in the last digits."""


class PollConfig(_Table):
    """How the agent waits. The coordinator proposes; these are the bounds."""

    minimum_seconds: Annotated[float, Field(ge=0.0)] = 0.05
    maximum_seconds: Seconds = 60.0
    heartbeat_seconds: Seconds = 1.0
    backoff_cap_seconds: Seconds = 60.0
    """Longest wait between two tries while the coordinator cannot be reached."""

    @model_validator(mode="after")
    def _bounds_in_order(self) -> PollConfig:
        if self.minimum_seconds > self.maximum_seconds:
            raise ValueError("minimum_seconds is larger than maximum_seconds")
        return self


class OutboxConfig(_Table):
    """What may wait on disk. Answers to erasures are never counted and never dropped."""

    max_deltas: Annotated[int, Field(ge=1)] = 2
    max_bytes: Annotated[int, Field(gt=0)] = 4 * 1024**3
    max_age_hours: Annotated[float, Field(gt=0.0)] = 168.0
    """A delta that the coordinator did not accept for longer is dropped."""


class ErasureConfig(_Table):
    """What the hospital asks to erase."""

    batch_window_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """Requests within this time are erased together: one recomputation, one certificate.

    Their records are out of use at once. A day (86400) costs the site one recomputation a day.
    """


class AgentConfig(_Table):
    """Everything one agent needs to know."""

    coordinator: str
    """host:port of the coordinator (443 without a port); nothing else is ever connected to."""
    site: str
    """The identifier of the site: lower-case letters, digits and dashes."""
    state_dir: Path
    """Private to one agent: outbox, contribution log, model cache, the fixed split."""
    display_name: str = ""
    data: DataConfig
    control_share: Share = 0.1
    """Share of the patients that is never trained on: the control of forgetting tests."""
    validation_share: Share = 0.1
    """Share of the patients on which utility is measured."""
    split_seed: int = 0
    training: TrainingConfig = TrainingConfig()
    privacy: PrivacyConfig | None = None
    """Differential privacy; without it updates tell of records without a bound."""
    encoding: str | None = None
    """How deltas travel: one of those that the plan accepts; without it the plan's own."""
    poll: PollConfig = PollConfig()
    outbox: OutboxConfig = OutboxConfig()
    erasure: ErasureConfig = ErasureConfig()
    tls: TlsConfig | None = None
    network: NetworkConfig = NetworkConfig()
    coordinator_key: Path | None = None
    """Public key of the coordinator, PEM, or its list of keys, got by another way than the network.

    With it a model that the coordinator did not sign is refused, and the transparency log is
    watched.
    """
    log_check_seconds: Seconds = 600.0
    """Between two looks at the coordinator's transparency log."""
    metrics_listen: str | None = None
    """host:port of the metrics page; none when absent."""
    stop_grace_seconds: Seconds = 10.0
    """From SIGTERM to the end of the process, at most."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    tracing: TracingConfig = TracingConfig()

    @field_validator("log_level", mode="before")
    @classmethod
    def _level_in_capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("coordinator")
    @classmethod
    def _coordinator_is_an_address(cls, value: str) -> str:
        match = _HOST_PORT.fullmatch(value)
        if match is None or int(match["port"] or DEFAULT_PORT) not in range(1, 65536):
            raise ValueError(f"{value!r} is no host:port, such as coordinator.example.org:443")
        return value if match["port"] else f"{value}:{DEFAULT_PORT}"

    @field_validator("privacy")
    @classmethod
    def _nothing_else_trains(
        cls, value: PrivacyConfig | None, info: ValidationInfo
    ) -> PrivacyConfig | None:
        training = info.data.get("training", TrainingConfig())
        if value is None:
            return None
        if training.code is not None:
            raise ValueError(
                "training.code is the site's own: that it clips and adds noise cannot be"
                " guaranteed. Leave out one of the two"
            )
        if training.mixed_precision:
            raise ValueError("private training has no mixed precision: leave out one of the two")
        return value

    @field_validator("site")
    @classmethod
    def _site_is_a_name(cls, value: str) -> str:
        try:
            site_name(value)
        except MalformedName as error:
            raise ValueError(error.message) from error
        return value

    @model_validator(mode="after")
    def _shares_leave_records_to_train_on(self) -> AgentConfig:
        if self.control_share + self.validation_share >= 1.0:
            raise ValueError("control_share and validation_share leave nothing to train on")
        return self
