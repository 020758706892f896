"""`letheon up --secure` as a person uses it: real processes, every connection mutual TLS."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from test_up_system import LETHEON, eventually, processes_of, up

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def ask(folder: Path, address: str, *words: str) -> Any:
    who = ["--identity", str(folder / "secure" / "identities" / "operator")]
    done = subprocess.run(
        [*LETHEON, *who, "--coordinator", address, *words, "--format", "json"],
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout) if done.returncode == 0 else None


def certificate_ends(metrics: str) -> float:
    """What the process says of its own certificate, seconds since 1970; 0 while it starts."""
    name = b"letheon_certificate_expiry_timestamp_seconds "
    try:
        with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=60) as page:
            lines = page.read().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith(name)), 0.0)


def test_sites_that_traded_tokens_train_and_a_stranger_sees_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "federation"
    with up(folder, "--secure", "--sites", "2") as (_, told):
        address = told["coordinator"]
        assert told["identity"] == str(folder / "secure" / "identities" / "operator")

        def accepted() -> bool:
            status = ask(folder, address, "status")
            return status is not None and status["federation"]["updates"].get("accepted", 0) >= 1

        eventually(accepted, within_s=120.0)
        for service in ("coordinator", "calibrator"):
            eventually(lambda place=told["metrics"][service]: certificate_ends(place) > time.time())
        plain = subprocess.run(
            [*LETHEON, "--coordinator", address, "status"], capture_output=True, text=True
        )
        assert plain.returncode == 5
        rows = ask(folder, address, "audit", "show")["rows"]
        enrolled = {row["object"] for row in rows if row["action"] == "site.enrolled"}
        assert enrolled == {"sites/site-1", "sites/site-2"}
    for site in ("site-1", "site-2"):
        key = folder / "sites" / site / "tls" / "key.pem"
        assert key.stat().st_mode & 0o777 == 0o600
    assert processes_of(folder) == []
