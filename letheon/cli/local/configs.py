"""The configuration file of each service of a local federation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from letheon.cli.local.folder import FederationFolder
from letheon.cli.local.preparation import AUDIT_FILE, CALIBRATION_FILE, RECORDS_FILE
from letheon.cli.local.toml_text import TomlTable, toml_text

HOST = "127.0.0.1"


def write_coordinator(folder: FederationFolder, *, port: int, redis_url: str, metrics: str) -> Path:
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
        },
    )


def write_calibrator(
    folder: FederationFolder, *, coordinator: str, redis_url: str, metrics: str
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
            "calibration": _npz(folder.calibrator / CALIBRATION_FILE),
            "audit": _npz(folder.calibrator / AUDIT_FILE),
        },
    )


def write_agent(
    folder: FederationFolder,
    site: str,
    *,
    coordinator: str,
    settings: Mapping[str, float],
    metrics: str,
) -> Path:
    """agent.toml of one site; `settings` are keys of its training table."""
    home = folder.site(site)
    return _write(
        home / "agent.toml",
        {
            "coordinator": coordinator,
            "site": site,
            "display_name": site,
            "metrics_listen": metrics,
            "state_dir": (home / "state").absolute(),
            "data": _npz(home / RECORDS_FILE),
            "training": dict(settings),
            "poll": {"maximum_seconds": 2.0, "backoff_cap_seconds": 2.0},
        },
    )


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


def _npz(path: Path) -> TomlTable:
    return {"plugin": "npz", "arguments": {"path": path.absolute(), "split": "all"}}


def _write(path: Path, table: TomlTable) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(toml_text(table), encoding="utf-8")
    return path
