"""letheon-agent enroll against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from scripted_coordinator import SIDE, ScriptedCoordinator, a_plan
from typer.testing import CliRunner

from client_agent.adapters.state_dir import occupy
from client_agent.cli.main import app
from client_agent.config import AgentConfig
from letheon.servicekit import config as configuration


@pytest.fixture
def coordinator() -> Iterator[ScriptedCoordinator]:
    made = ScriptedCoordinator(*a_plan()).start()
    yield made
    made.stop()


def enroll(folder: Path, address: str, *more: str, records: int = 80) -> Result:
    arguments = [f"records={records}", "classes=2", "channels=1", f"height={SIDE}", f"width={SIDE}"]
    command = [
        *("enroll", "--config", str(folder / "etc" / "agent.toml"), "--coordinator", address),
        *("--site", "north", "--state-dir", str(folder / "state"), "--source", "synthetic"),
        *(word for one in arguments for word in ("--argument", one)),
    ]
    return CliRunner().invoke(app, [*command, *more])


def test_a_site_is_enrolled_once_and_its_records_stay_set_aside(
    coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    first = enroll(tmp_path, coordinator.address, "--format", "json")
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    (registration,) = coordinator.registrations
    assert registration.record_count == told["train_records"]
    assert registration.control_records == told["control_records"] > 0
    split = (tmp_path / "state" / "split.json").read_bytes()
    # No record id is in what is printed.
    assert not any(one in first.stdout for one in json.loads(split)["control"])

    path = tmp_path / "etc" / "agent.toml"
    written = path.read_text()
    config = configuration.load(path, AgentConfig, {})
    assert (config.site, config.data.arguments["records"]) == ("north", 80)

    again = CliRunner().invoke(app, ["enroll", "--config", str(path)])
    assert again.exit_code == 0, again.output
    assert "Never leaves: images" in again.stdout
    assert len(coordinator.registrations) == 2
    assert (tmp_path / "state" / "split.json").read_bytes() == split
    assert path.read_text() == written

    other = enroll(tmp_path, coordinator.address, "--display-name", "North")
    assert other.exit_code == 4
    assert "says otherwise: display_name" in other.stderr
    assert path.read_text() == written


def test_without_a_coordinator_nothing_is_left_behind(tmp_path: Path) -> None:
    result = enroll(tmp_path, "127.0.0.1:1")
    assert result.exit_code == 5
    assert "letheon-agent doctor" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_data_that_do_not_fit_are_refused_before_the_site_is_registered(
    coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    result = enroll(tmp_path, coordinator.address, "--argument", "height=9")
    assert result.exit_code == 78
    assert "the plan wants" in result.stderr
    assert coordinator.registrations == []
    assert not (tmp_path / "etc" / "agent.toml").exists()


def test_a_state_dir_in_use_is_refused(coordinator: ScriptedCoordinator, tmp_path: Path) -> None:
    held = occupy(tmp_path / "state")
    result = enroll(tmp_path, coordinator.address)
    held.release()
    assert result.exit_code == 78
    assert "in use by another agent" in result.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--site", "North Clinic"), "site: "),
        (("--proxy", "socks5://p"), "SOCKS"),
        (("--argument", "oops"), "KEY=VALUE"),
        (("--control-share", "0.9", "--validation-share", "0.2"), "nothing to train on"),
    ],
)
def test_a_value_that_breaks_a_rule_is_refused_before_anything_is_asked(
    tmp_path: Path, more: tuple[str, ...], words: str
) -> None:
    result = enroll(tmp_path, "127.0.0.1:1", *more)
    assert result.exit_code in (2, 78)
    assert words in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_no_file_can_be_written_is_named_first(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file in place of the folder")
    result = enroll(tmp_path, "127.0.0.1:1")
    assert result.exit_code == 78
    assert "agent.toml cannot be written" in result.stderr
