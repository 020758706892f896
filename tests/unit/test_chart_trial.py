"""The Helm chart as the guides use it: a trial of its own parts, the values of the install page."""

from __future__ import annotations

import importlib.util
import os
import re
import tomllib

import pytest
import yaml
from chart.rendering import (
    CHART,
    RELEASE,
    Document,
    chosen,
    lint,
    matrix,
    one,
    overlaid,
    pods,
    render,
    toml_of,
)

MATRIX = matrix()


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Document]]:
    if importlib.util.find_spec("helm_python") is None:
        if os.environ.get("CI"):
            pytest.fail("helm_python is not installed (make setup)")
        pytest.skip("helm_python is not installed (make setup)")
    return {name: render(MATRIX[name]) for name in ("demo", "postgresql")}


def test_the_store_of_a_trial_is_reached_by_the_coordinator_alone(
    rendered: dict[str, list[Document]],
) -> None:
    documents = rendered["demo"]
    told = tomllib.loads(toml_of(documents, "coordinator"))["storage"]
    service = one(documents, "Service", "demo-storage")
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    assert told["options"] == {
        "endpoint_url": f"http://{host}:{service['spec']['ports'][0]['port']}"
    }
    secret = one(documents, "Secret", "demo")["stringData"]
    env = one(documents, "Deployment", "coordinator")["spec"]["template"]["spec"]["containers"][0]
    keys = {
        each["name"]: secret[each["valueFrom"]["secretKeyRef"]["key"]]
        for each in env["env"]
        if each["name"].startswith("LETHEON_STORAGE")
    }
    pod = one(documents, "Deployment", "demo-storage")["spec"]["template"]
    store, bucket = pod["spec"]["containers"]
    given = {each["name"]: each["valueFrom"]["secretKeyRef"]["key"] for each in store["env"]}
    assert list(keys.values()) == [
        secret[given["MINIO_ROOT_USER"]],
        secret[given["MINIO_ROOT_PASSWORD"]],
    ]
    assert f"here/{told['url'].split('/')[2]}\n" in bucket["args"][0]

    def leads_there(policy: str) -> bool:
        return any(
            chosen(pod["metadata"]["labels"], peer["podSelector"]["matchLabels"])
            for rule in one(documents, "NetworkPolicy", policy)["spec"]["egress"]
            for peer in rule.get("to", [])
        )

    assert leads_there("coordinator")
    assert not leads_there("calibrator")


def test_a_trial_runs_what_the_compose_file_runs(rendered: dict[str, list[Document]]) -> None:
    services = yaml.safe_load((CHART.parents[1] / "compose.yaml").read_text())["services"]
    wanted = {services[name]["image"] for name in ("redis", "postgresql", "storage", "bucket")}
    told = {
        container["image"]
        for pod, _, spec in pods(rendered["demo"])
        if "-demo-" in pod
        for container in spec["containers"]
    }
    assert told == wanted


@pytest.mark.usefixtures("rendered")
def test_the_values_of_the_install_guide_are_whole() -> None:
    guide = (CHART.parents[2] / "docs" / "operations" / "install.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", guide, re.S)
    values = yaml.safe_load(block)
    assert lint(values) == []
    asked = set(re.findall(r"create secret generic ([\w-]+)", guide))
    named = {
        each
        for document in render(values)
        for each in re.findall(r"'(?:secretName|name)': '([\w-]+)'", str(document.get("spec")))
        if not each.startswith(RELEASE)
    }
    assert asked <= named


def test_flows_that_are_named_go_out(rendered: dict[str, list[Document]]) -> None:
    flow = {"ports": [{"protocol": "TCP", "port": 4317}]}
    documents = render(overlaid(MATRIX["postgresql"], "networkPolicy", "egress", value=[flow]))
    for service in ("coordinator", "calibrator"):
        assert flow in one(documents, "NetworkPolicy", service)["spec"]["egress"]
        assert flow not in one(rendered["postgresql"], "NetworkPolicy", service)["spec"]["egress"]
