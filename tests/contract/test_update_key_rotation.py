"""A site changes the key it signs with: the present one hands over to the next."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from builders import Client, a_coordinator
from typer.testing import CliRunner

from client_agent.adapters.coordinator_client import CoordinatorClient
from client_agent.adapters.update_keys import UpdateKeys
from client_agent.cli.main import app
from client_agent.ports import Holdings
from letheon.errors import AlreadyExists, SiteKeyChanged
from letheon.v1 import sites_pb2


def register(client: Client, address: str, path: Path) -> str:
    """As an agent does at its start; the id of the key the coordinator knows then."""
    agent = CoordinatorClient(address, "north", on_contact=lambda: None)
    try:
        agent.sign_with(UpdateKeys(path))
        holdings = Holdings(10, 4, 4, {"sick": 10}, "set", path.parent / "ids")
        agent.register(display_name="north", holdings=holdings, plan_digest=client.plan.digest)
    finally:
        agent.close()
    return client.sites.GetSite(sites_pb2.GetSiteRequest(name="sites/north")).update_key


def test_the_next_start_hands_over_and_keeps_what_the_site_said_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "update_key.pem"
    with a_coordinator(tmp_path) as (coordinator, client):
        first = register(client, coordinator.address, path)
        made = UpdateKeys(path).prepare()
        assert UpdateKeys(path).present.key_id == first, "nothing has changed before the start"
        assert register(client, coordinator.address, path) == made.key_id
        assert UpdateKeys(path).present.key_id == made.key_id
        assert UpdateKeys(path).next is None
        assert register(client, coordinator.address, path) == made.key_id


def test_a_start_that_was_cut_after_the_registration_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "update_key.pem"
    with a_coordinator(tmp_path) as (coordinator, client):
        register(client, coordinator.address, path)
        made = UpdateKeys(path).prepare()
        for name in ("update_key.pem", "update_key.next.pem"):
            shutil.copy2(tmp_path / name, tmp_path / f"{name}.kept")
        register(client, coordinator.address, path)
        for name in ("update_key.pem", "update_key.next.pem"):
            shutil.copy2(tmp_path / f"{name}.kept", tmp_path / name)
        assert register(client, coordinator.address, path) == made.key_id
        assert UpdateKeys(path).present.key_id == made.key_id


def test_a_key_that_the_present_one_did_not_sign_is_refused(tmp_path: Path) -> None:
    with a_coordinator(tmp_path) as (coordinator, client):
        register(client, coordinator.address, tmp_path / "update_key.pem")
        with pytest.raises(SiteKeyChanged):
            register(client, coordinator.address, tmp_path / "another.pem")


def test_a_second_rotation_waits_for_the_first(tmp_path: Path) -> None:
    UpdateKeys(tmp_path / "update_key.pem").prepare()
    with pytest.raises(AlreadyExists, match="start the agent"):
        UpdateKeys(tmp_path / "update_key.pem").prepare()


def test_the_command_makes_the_next_key_and_says_what_to_do(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        f'coordinator = "127.0.0.1:7300"\nsite = "north"\nstate_dir = "{tmp_path / "state"}"\n'
        '[data]\nplugin = "npz"\n'
    )
    done = CliRunner().invoke(app, ["rotate-key", "--config", str(config)])
    assert done.exit_code == 0, done.output
    keys = UpdateKeys(tmp_path / "state" / "update_key.pem")
    assert keys.next is not None
    assert keys.next.key_id in done.output
    assert "start it now" in done.output
    assert (tmp_path / "state" / "update_key.next.pem").stat().st_mode & 0o777 == 0o600
