"""The configuration file of each service of a local federation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from letheon.cli.local.folder import FederationFolder
from letheon.cli.local.preparation import AUDIT_FILE, CALIBRATION_FILE, RECORDS_FILE
from letheon.cli.local.secure import Secure
from letheon.cli.local.toml_text import TomlTable, toml_text

HOST = "127.0.0.1"


def write_coordinator(
    folder: FederationFolder,
    *,
    port: int,
    redis_url: str,
    metrics: str,
    secure: Secure | None = None,
) -> Path:
    """coordinator.toml"""
    return _write(
        folder.config_of("coordinator"),
        {
            "listen": f"{HOST}:{port}",
            "metrics_listen": metrics,
            "data_dir": folder.coordinator.absolute(),
            "federation_dir": folder.federation.absolute(),
            "redis_url": redis_url,
            # On one machine a question is free: sites hear of an audit within half a second.
            "polling": {"retry_after_seconds": 0.5},
            **({} if secure is None else secure.of_coordinator()),
        },
    )


def write_calibrator(
    folder: FederationFolder,
    *,
    coordinator: str,
    redis_url: str,
    metrics: str,
    secure: Secure | None = None,
) -> Path:
    """calibrator.toml; calibration and audit images are disjoint halves."""
    return _write(
        folder.config_of("calibrator"),
        {
            "coordinator": coordinator,
            "redis_url": redis_url,
            "metrics_listen": metrics,
            "name": "calibrator-1",
            "state_dir": (folder.calibrator / "state").absolute(),
            "signing_key": folder.signing_key.absolute(),
            "poll_seconds": 0.25,
            # A killed calibrator is started again at once; its erasure should not wait a minute.
            "renew_seconds": 1.0,
            "reclaim_seconds": 4.0,
            **({} if secure is None else secure.of_calibrator()),
            **_own(
                folder,
                folder.calibrator,
                {
                    "calibration": _npz(folder.calibrator / CALIBRATION_FILE),
                    "audit": _npz(folder.calibrator / AUDIT_FILE),
                },
            ),
        },
    )


def write_agent(
    folder: FederationFolder,
    site: str,
    *,
    coordinator: str,
    settings: Mapping[str, float],
    metrics: str,
    secure: Secure | None = None,
) -> Path:
    """agent.toml of one site; `settings` are keys of its training table."""
    home = folder.site(site)
    own = _own(folder, home, {"data": _npz(home / RECORDS_FILE)})
    training = {**dict(settings), **own.pop("training", {})}
    return _write(
        home / "agent.toml",
        {
            "coordinator": coordinator,
            "coordinator_key": folder.coordinator_public_key.absolute(),
            "log_check_seconds": 10.0,
            "site": site,
            "display_name": site,
            "metrics_listen": metrics,
            "state_dir": (home / "state").absolute(),
            "poll": {"maximum_seconds": 2.0, "backoff_cap_seconds": 2.0},
            **({} if secure is None else secure.of_agent(home)),
            **own,
            "training": training,
        },
    )


def add_tracing(config: Path, endpoint: str) -> None:
    """Has the service of a configuration that was just written send its traces there."""
    with config.open("a", encoding="utf-8") as file:
        file.write("\n" + toml_text({"tracing": {"endpoint": endpoint}}))


def write_prometheus(folder: FederationFolder, targets: Mapping[str, str]) -> Path:
    """prometheus.yml: one job a process, scraped often because a local federation is short."""
    jobs = "".join(
        f"  - job_name: {name}\n    static_configs:\n      - targets: ['{target}']\n"
        for name, target in targets.items()
    )
    folder.prometheus.write_text(
        f"global:\n  scrape_interval: 2s\nscrape_configs:\n{jobs}", encoding="utf-8"
    )
    return folder.prometheus


def _own(folder: FederationFolder, home: Path, dealt: Mapping[str, TomlTable]) -> dict[str, Any]:
    """What the sites file said of a configuration, or where what was dealt out lies."""
    path = folder.own_settings(home)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else dict(dealt)


def _npz(path: Path) -> TomlTable:
    return {"plugin": "npz", "arguments": {"path": path.absolute(), "split": "all"}}


def _write(path: Path, table: TomlTable) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(toml_text(table), encoding="utf-8")
    return path
