"""Fault points: nothing in production, fired once where a test armed them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from letheon.servicekit import faults
from letheon.servicekit.faults import ArmedFaults

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def arm(folder: Path, point: str, fault: str) -> None:
    (folder / f"coordinator.{point}").write_text(fault)


def test_in_production_a_point_is_nothing_and_the_clock_is_the_clock() -> None:
    code = (
        "from letheon.servicekit import faults; "
        "assert faults.reach is faults._nothing and faults.skewed is None"
    )
    environ = {name: value for name, value in os.environ.items() if name != "LETHEON_FAULTS"}
    assert subprocess.run([sys.executable, "-c", code], env=environ, timeout=60).returncode == 0
    faults.reach("accept.published")


def test_a_point_fires_once_for_the_process_it_was_armed_for(tmp_path: Path) -> None:
    mine, other = ArmedFaults(tmp_path, "coordinator"), ArmedFaults(tmp_path, "site-1")
    arm(tmp_path, "accept.published", "full")
    other.reach("accept.published")
    mine.reach("accept.received")
    with pytest.raises(OSError, match="No space left"):
        mine.reach("accept.published")
    mine.reach("accept.published")


def test_of_many_threads_that_reach_a_point_one_is_hurt(tmp_path: Path) -> None:
    mine, hurt = ArmedFaults(tmp_path, "coordinator"), []
    together = threading.Barrier(8)
    arm(tmp_path, "ledger.merged", "full")

    def run() -> None:
        together.wait(60)
        try:
            mine.reach("ledger.merged")
        except OSError as error:
            hurt.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(hurt) == 1


def test_a_file_that_is_being_written_arms_nothing_yet(tmp_path: Path) -> None:
    mine = ArmedFaults(tmp_path, "coordinator")
    arm(tmp_path, "fold.put", "")
    mine.reach("fold.put")
    arm(tmp_path, "fold.put", "full")
    with pytest.raises(OSError, match="No space left"):
        mine.reach("fold.put")


def test_an_unknown_fault_is_named(tmp_path: Path) -> None:
    arm(tmp_path, "fold.put", "explode")
    with pytest.raises(ValueError, match="explode"):
        ArmedFaults(tmp_path, "coordinator").reach("fold.put")


def test_the_wall_clock_is_wrong_by_what_the_file_says(tmp_path: Path) -> None:
    mine = ArmedFaults(tmp_path, "coordinator")
    assert mine.skewed(NOON) == NOON
    (tmp_path / "coordinator.clock").write_text("-3600")
    assert mine.skewed(NOON) == NOON - timedelta(hours=1)
