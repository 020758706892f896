"""Defaults of the coordinator's configuration."""

from __future__ import annotations

from pathlib import Path

from coordinator.config import CoordinatorConfig
from letheon.cli.remote import DEFAULT_COORDINATOR


def test_the_coordinator_listens_where_commands_look_for_it() -> None:
    config = CoordinatorConfig(data_dir=Path("data"), redis_url="redis://127.0.0.1:6379/0")
    assert config.listen == DEFAULT_COORDINATOR
