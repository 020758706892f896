"""Values that are allowed and rarely meant. Looks at this machine, contacts nobody."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from client_agent.config import DEFAULT_PORT, AgentConfig
from letheon.errors import BadConfig
from letheon.servicekit.route import certificates_in

_SMALL_MEMORY_BYTES = 1024**3
_SLOW_BYTES_PER_S = 16 * 1024
_SHORT_HOURS_MINUTES = 60
_SOON_DAYS = 14

Suspicion = tuple[str, str]  # key, sentence


def suspicions(config: AgentConfig) -> Iterator[Suspicion]:
    """Pairs of key and sentence."""
    yield from _of_the_connection(config)
    yield from _of_files(config)
    yield from _of_the_network(config)
    yield from _of_training(config)
    yield from _of_the_split(config)


def is_local(host: str) -> bool:
    """Whether the host is this machine."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _of_the_connection(config: AgentConfig) -> Iterator[Suspicion]:
    host, _, port = config.coordinator.rpartition(":")
    if is_local(host):
        return
    if config.tls is None:
        yield "coordinator", "the connection is not encrypted: add a [tls] table"
    if int(port) != DEFAULT_PORT:
        yield "coordinator", f"port {port}: many hospital firewalls let out only {DEFAULT_PORT}"
    if config.metrics_listen is not None and not is_local(config.metrics_listen.rpartition(":")[0]):
        yield "metrics_listen", "others can read the metrics page: 127.0.0.1 is enough for most"


def _of_files(config: AgentConfig) -> Iterator[Suspicion]:
    if not config.state_dir.is_absolute():
        yield "state_dir", "is relative: the agent's state depends on where it is started"
    elif config.state_dir.is_relative_to(tempfile.gettempdir()):
        yield "state_dir", "lies in a folder that is emptied: outbox and split would be lost"
    for name, value in config.data.arguments.items():
        if isinstance(value, str) and value.startswith("/") and not Path(value).exists():
            yield f"data.arguments.{name}", f"there is no {value} on this machine"
    tls = config.tls
    if tls is None:
        return
    if tls.key is not None and tls.key.is_file() and tls.key.stat().st_mode & stat.S_IRWXO:
        yield "tls.key", f"{tls.key} can be read by everybody: chmod 600"
    if tls.certificate is not None and tls.certificate.is_file():
        try:
            end = certificates_in(tls.certificate, "certificate")[0].not_valid_after_utc
        except BadConfig:
            return  # told as an error
        days = (end - datetime.now(UTC)).days
        if days < _SOON_DAYS:
            yield "tls.certificate", f"it ends on {end:%Y-%m-%d}: ask for a new one"


def _of_the_network(config: AgentConfig) -> Iterator[Suspicion]:
    network = config.network
    for key in ("upload_bytes_per_second", "download_bytes_per_second"):
        rate = getattr(network, key)
        if rate is not None and rate < _SLOW_BYTES_PER_S:
            yield (
                f"network.{key}",
                f"{rate} bytes a second: a model of 10 MB takes {1e7 / rate:.0f} s",
            )
    if not network.upload_hours:
        if network.time_zone is not None:
            yield "network.time_zone", "is of use only with upload_hours"
        return
    if network.hours().minutes_a_day < _SHORT_HOURS_MINUTES:
        yield "network.upload_hours", "less than an hour a day: most deltas will be stale"
    if config.outbox.max_age_hours < 24:
        yield "outbox.max_age_hours", "deltas may be dropped before the upload hours come"


def _of_training(config: AgentConfig) -> Iterator[Suspicion]:
    training, cores = config.training, os.cpu_count() or 1
    if training.threads > cores:
        yield "training.threads", f"this machine has {cores} cores"
    limit = training.memory_limit_bytes
    if limit is not None and limit < _SMALL_MEMORY_BYTES:
        yield "training.memory_limit_bytes", "below 1 GiB even torch itself may not start"
    if training.min_duration_seconds > 0:
        yield "training.min_duration_seconds", "holds every delta back: meant for experiments"
    if training.mixed_precision and training.device == "cpu":
        yield "training.mixed_precision", 'does nothing with device = "cpu"'
    if config.poll.heartbeat_seconds > 30:
        yield "poll.heartbeat_seconds", "work that an erasure ends is noticed that late"


def _of_the_split(config: AgentConfig) -> Iterator[Suspicion]:
    if config.control_share == 0:
        yield "control_share", "no control records: an erasure of this site cannot be verified"
    if config.validation_share == 0:
        yield "validation_share", "no validation records: the site cannot measure utility"
    if config.control_share + config.validation_share > 0.5:
        yield "control_share", "more than half of the patients are set aside"
