"""Debian's promtool, and where what it reads is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
RULES = ROOT / "deploy" / "prometheus"
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
METRIC = re.compile(r"\b(?:letheon_\w+|letheon:\w+:\w+)")


def require(program: str) -> str:
    """The program. Skips the test at a desk without it; fails in CI."""
    found = shutil.which(program)
    if found is not None:
        return found
    reason = f"{program} is not installed (make system-deps)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [require("promtool"), *map(str, words)], capture_output=True, text=True, timeout=100
    )


def rules(name: str) -> list[dict[str, Any]]:
    """Every rule of a file."""
    content = yaml.safe_load((RULES / name).read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


def metrics_of(expression: str) -> set[str]:
    """Names of metrics in an expression, without the suffixes of a histogram's series."""
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in METRIC.findall(expression)}
