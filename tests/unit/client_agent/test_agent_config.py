"""Configuration of the agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from client_agent.config import AgentConfig
from letheon.errors import BadConfig
from letheon.servicekit.config import load

MINIMAL = """
coordinator = "coordinator.example.org:7443"
site = "north"
state_dir = "/var/lib/letheon-agent"
[data]
plugin = "npz"
arguments = { path = "/srv/chest.npz" }
"""


def a_file(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def test_a_minimal_file_gives_an_agent_with_usable_defaults(tmp_path: Path) -> None:
    config = load(a_file(tmp_path, MINIMAL), AgentConfig, {})
    assert (config.control_share, config.validation_share) == (0.1, 0.1)
    assert config.training.threads == 1
    assert config.metrics_listen is None


def test_an_unknown_key_is_refused_with_its_name(tmp_path: Path) -> None:
    file = a_file(tmp_path, MINIMAL + "\n[training]\nthread = 2\n")
    with pytest.raises(BadConfig, match="thread"):
        load(file, AgentConfig, {})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"north"', '"North Wing"'),
        ("[data]", "control_share = 0.6\nvalidation_share = 0.4\n[data]"),
        ("[data]", "[poll]\nminimum_seconds = 9\nmaximum_seconds = 1\n[data]"),
        ("[data]", "[training]\nthreads = 0\n[data]"),
        ('plugin = "npz"', ""),
    ],
)
def test_a_value_out_of_range_is_refused(tmp_path: Path, before: str, after: str) -> None:
    with pytest.raises(BadConfig):
        load(a_file(tmp_path, MINIMAL.replace(before, after)), AgentConfig, {})


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    file = a_file(tmp_path, MINIMAL)
    config = load(file, AgentConfig, {"LETHEON_TRAINING__THREADS": "4"})
    assert config.training.threads == 4
