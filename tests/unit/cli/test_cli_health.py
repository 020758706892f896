"""`letheon health` against a real health port."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from letheon.cli.main import app
from letheon.servicekit.health_port import HealthPort


@pytest.fixture
def port() -> Iterator[HealthPort]:
    health = HealthPort("127.0.0.1:0", conditions=("database",))
    health.start()
    yield health
    health.stop()


def ask(port: HealthPort, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["health", str(port.address), *words])
    return done.exit_code, done.output


def test_it_ends_with_0_only_if_the_service_is_well(port: HealthPort) -> None:
    assert ask(port, "--service", "liveness")[0] == 0
    code, said = ask(port)
    assert code == 1
    assert "NOT_SERVING" in said
    port.note("database", holds=True)
    code, said = ask(port, "--format", "json")
    assert code == 0
    assert json.loads(said) == {
        "address": port.address,
        "service": "readiness",
        "state": "SERVING",
    }


def test_a_name_that_is_not_known_and_a_port_where_nobody_is(port: HealthPort) -> None:
    code, said = ask(port, "--service", "disk")
    assert code == 2
    assert "ask for liveness or readiness" in said
    port.stop()
    code, said = ask(port)
    assert code == 5
    assert "nobody answers" in said
