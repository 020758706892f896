"""A short, fixed selection of `make chaos`: the same faults at every run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from letheon.errors import BadConfig
from letheon.servicekit.embedded_redis import find_server

pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]

ROOT = Path(__file__).parents[2]
FAULTS, SEED = 9, 21
LIMIT_S = 180.0  # it takes well under a minute on two idle cores


def test_a_federation_that_is_hurt_loses_nothing() -> None:
    try:
        find_server()
    except BadConfig as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.message)
    command = [sys.executable, "-m", "tests.system.chaos"]
    done = subprocess.run(
        [*command, "--only", str(FAULTS), "--seed", str(SEED)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
