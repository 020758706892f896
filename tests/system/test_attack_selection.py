"""The quick selection of `make attack`: a federation with everything switched on, attacked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from letheon.errors import BadConfig
from letheon.servicekit.embedded_redis import find_server

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]


def test_every_attack_of_the_selection_is_stopped_or_detected(tmp_path: Path) -> None:
    try:
        find_server()
    except BadConfig as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.message)
    command = [sys.executable, "-m", "tests.system.attack", "--quick", "--out", tmp_path]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "attacks.json").exists()
