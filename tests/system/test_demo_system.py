"""The demo's story with real processes, the coordinator killed in the middle of training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_a_site_is_forgotten_although_the_coordinator_is_killed(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    words = ["--short", "--dataset", "synthetic", "--kill-coordinator", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "letheon.cli.demo", *words],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    told = json.loads((out / "summary.json").read_text())
    assert told["erasure"]["state"] == "CERTIFIED"
    assert told["updates"]["lost"] == 0
    assert told["updates"]["receipts"] > 60
    assert told["ledger"]["holds"]
    assert all(promise["kept"] for promise in told["promises"])
    assert (out / "demo.png").stat().st_size > 10_000
    verify = [sys.executable, "-m", "letheon.cli", "certificate", "verify"]
    assert subprocess.run([*verify, str(out / "certificate.json")]).returncode == 0
    left = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(str(out) in word for word in process.info["cmdline"] or [])
    ]
    assert left == []
