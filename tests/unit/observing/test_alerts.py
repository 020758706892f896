"""The rules in deploy/prometheus: they hold, each alert is tried both ways and explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from prometheus_tools import ROOT, RULES, promtool, rules

from letheon.v1 import erasures_pb2, ledger_pb2, models_pb2, training_pb2

TESTS = sorted((RULES / "tests").glob("*.yml"))
ALERTS = {rule["alert"]: rule for rule in rules("alerts.yml")}
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
_SECTION = re.compile(r"^## (Letheon\w+)$", re.MULTILINE)


def test_prometheus_accepts_its_configuration_and_rules() -> None:
    done = promtool("check", "config", RULES / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_test_of_alerts_can_fail(tmp_path: Path) -> None:
    """The harness is one that notices."""
    text = (RULES / "tests" / "trust.yml").read_text().replace("../", f"{RULES}/")
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(text.replace('severity: "page"', 'severity: "ticket"'))
    assert promtool("test", "rules", wrong).returncode != 0


def test_every_alert_has_a_test_that_fires_and_one_that_does_not() -> None:
    fires, quiet = set(), set()
    for path in TESTS:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for check in case["alert_rule_test"]:
                (fires if check.get("exp_alerts") else quiet).add(check["alertname"])
    assert fires == set(ALERTS)
    assert quiet == set(ALERTS)


def test_every_alert_says_how_urgent_it_is_what_it_means_and_where_to_read_on() -> None:
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("page", "ticket"), name
        assert rule["annotations"]["summary"], name
        assert rule["annotations"]["description"], name
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_the_runbook_has_a_section_for_every_alert_and_no_other() -> None:
    assert _SECTION.findall(RUNBOOK) == list(ALERTS), "in the order of alerts.yml"


@pytest.mark.parametrize("name", ALERTS)
def test_a_section_says_what_it_means_how_to_look_and_what_to_do(name: str) -> None:
    section = RUNBOOK.split(f"## {name}\n")[1].split("\n## ")[0]
    for word in ("**Means.**", "**Look.**", "**Do.**"):
        assert word in section, word
        assert len(section.split(word)[1].split("**")[0].strip()) > 20, word


def test_calls_that_carry_payloads_are_outside_of_the_objective_of_latency() -> None:
    left_out = re.search(r'method!~"([^"]+)"', (RULES / "slo.yml").read_text())
    assert left_out is not None
    pattern = re.compile(left_out[1])
    for module in (erasures_pb2, ledger_pb2, models_pb2, training_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if method.client_streaming or method.server_streaming:
                    assert pattern.fullmatch(method.name), method.name
    for at_once in ("NextTask", "Heartbeat", "QueryUpload", "RequestErasure", "GetFederation"):
        assert not pattern.fullmatch(at_once)
