"""The [tls] and [network] tables, and what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from client_agent.config import AgentConfig
from client_agent.network_config import NetworkConfig, TlsConfig, credential_path, route_to
from letheon.errors import BadConfig


def a_config(**more: Any) -> AgentConfig:
    required = {"coordinator": "c.example.org", "site": "north", "state_dir": "/s"}
    return AgentConfig.model_validate({**required, "data": {"plugin": "npz"}, **more})


@pytest.mark.parametrize(
    ("given", "used"),
    [("c.example.org", "c.example.org:443"), ("c:7300", "c:7300"), ("[::1]", "[::1]:443")],
)
def test_the_port_is_443_unless_another_is_named(given: str, used: str) -> None:
    assert a_config(coordinator=given).coordinator == used


@pytest.mark.parametrize("given", ["https://c.example.org", "c:0", "c:70000", "", "a b"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match="no host:port"):
        a_config(coordinator=given)


def test_a_certificate_goes_with_its_key() -> None:
    with pytest.raises(ValidationError, match="go together"):
        TlsConfig(certificate=Path("c.pem"))


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="no time zone 'Mars/Olympus'"):
        NetworkConfig(time_zone="Mars/Olympus")


def test_a_password_file_without_a_user_is_refused() -> None:
    with pytest.raises(ValidationError, match="only with a user"):
        NetworkConfig(proxy="http://p:1", proxy_password_file=Path("x"))


def test_the_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("geheim\nsecond line\n")
    network = NetworkConfig(proxy="http://max@p", proxy_password_file=tmp_path / "password")
    proxy = route_to("c:443", None, network).proxy
    assert proxy is not None
    assert (proxy.port, proxy.user, proxy.password) == (3128, "max", "geheim")


def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    network = NetworkConfig(proxy="http://max@p", proxy_password_file=tmp_path / "absent")
    with pytest.raises(BadConfig, match=r"proxy_password_file .*absent cannot be read"):
        route_to("c:443", None, network)


def test_a_coordinator_may_be_reached_without_the_proxy() -> None:
    network = NetworkConfig(proxy="http://p", no_proxy=(".example.org",))
    assert route_to("c.example.org:443", None, network).proxy is None
    assert route_to("c.other.org:443", None, network).proxy is not None


def test_a_credential_of_systemd_is_found_in_its_folder() -> None:
    told = Path("$CREDENTIALS_DIRECTORY/agent.key")
    assert credential_path(told, {"CREDENTIALS_DIRECTORY": "/run/c"}) == Path("/run/c/agent.key")
    assert credential_path(Path("/etc/k"), {}) == Path("/etc/k")
    with pytest.raises(BadConfig, match="start the agent by its unit"):
        credential_path(told, {})
