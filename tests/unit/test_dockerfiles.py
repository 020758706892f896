"""The images: who runs in them, and that nothing gets into them but by its hash."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
FILES = {path.stem: path.read_text() for path in sorted(DOCKER.glob("*.Dockerfile"))}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("name", FILES)
def test_an_image_runs_as_nobody_in_particular(name: str) -> None:
    users = re.findall(r"^USER (.+)$", FILES[name], re.MULTILINE)
    assert users == ["10001:10001"]
    last_stage = FILES[name].rsplit("\nFROM ", 1)[1]
    assert "USER 10001:10001" in last_stage
    assert "HEALTHCHECK" in last_stage


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_installed_without_its_hash(name: str) -> None:
    joined = FILES[name].replace("\\\n", " ")
    installs = re.findall(r"pip install (.+)$", joined, re.MULTILINE)
    assert len(installs) == 2
    packages, ours = installs
    assert "--require-hashes" in packages
    assert "--no-deps" in packages
    assert "--no-deps --no-build-isolation /src" in ours
    assert "curl" not in joined
    assert "ADD " not in joined


@pytest.mark.parametrize("name", FILES)
def test_an_image_starts_a_command_that_is_installed(name: str) -> None:
    (command,) = re.findall(r'^ENTRYPOINT \["([\w-]+)"\]$', FILES[name], re.MULTILINE)
    assert command in PROJECT["scripts"]
