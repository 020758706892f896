"""The Helm chart: every file of values renders to what Kubernetes takes and the services read."""

from __future__ import annotations

import importlib.util
import json
import os
import tomllib
from copy import deepcopy
from functools import reduce
from typing import Any

import pytest
import yaml
from chart import __main__ as chart_command
from chart import readme as readmes
from chart.rendering import (
    CHART,
    RELEASE,
    Document,
    chosen,
    lint,
    matrix,
    name_of,
    one,
    overlaid,
    pods,
    render,
    toml_of,
)
from chart.schemas import missing_tools, problems

from calibrator.config import CalibratorConfig
from coordinator.config import CoordinatorConfig
from coordinator.standby import CONDITIONS
from coordinator.start_wiring import a_health_port
from letheon.servicekit.config import examine_text
from letheon.servicekit.health_port import LIVENESS, READINESS

MATRIX = matrix()
SELECTORS: dict[str, tuple[str, ...]] = {
    "Service": ("selector",),
    "Deployment": ("selector", "matchLabels"),
    "PodDisruptionBudget": ("selector", "matchLabels"),
    "NetworkPolicy": ("podSelector", "matchLabels"),
}


def require(reason: str | None) -> None:
    if reason is not None:
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="module", autouse=True)
def _helm() -> None:
    for module in ("helm_python", "kubernetes_validate"):
        if importlib.util.find_spec(module) is None:
            require(f"{module} is not installed (make setup)")


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Document]]:
    return {name: render(values) for name, values in MATRIX.items()}


@pytest.mark.parametrize("name", MATRIX)
def test_a_file_of_values_lints_strictly(name: str) -> None:
    assert lint(MATRIX[name]) == []


@pytest.mark.parametrize("name", MATRIX)
def test_every_object_fits_its_schema(name: str, rendered: dict[str, list[Document]]) -> None:
    require(missing_tools())
    assert problems(rendered[name]) == []


def test_the_validation_finds_what_is_wrong(rendered: dict[str, list[Document]]) -> None:
    require(missing_tools())
    deployment = deepcopy(one(rendered["keda"], "Deployment", "coordinator"))
    deployment["spec"]["replicas"] = "two"
    misspelt = deepcopy(one(rendered["keda"], "Service", "coordinator"))
    misspelt["spec"]["portz"] = []
    scaled = deepcopy(one(rendered["keda"], "ScaledObject", "calibrator"))
    scaled["spec"]["minReplicaCount"] = "none"
    unknown = {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "x"}}
    found = "\n".join(problems([deployment, misspelt, scaled, unknown]))
    assert "'two' is not of type" in found
    assert "portz" in found
    assert "minReplicaCount" in found
    assert "no schema is known for example.org/v1" in found


REFUSED: dict[str, tuple[str, tuple[str, ...], object, str]] = {
    "two on sqlite": (
        "sqlite",
        ("coordinator", "replicas"),
        2,
        "SQLite is a file that one pod can open",
    ),
    "no redis": ("sqlite", ("redis", "existingSecret"), "", "redis.existingSecret is not set"),
    "no database": (
        "postgresql",
        ("database", "existingSecret"),
        "",
        "database.existingSecret is not set",
    ),
    "no storage": ("postgresql", ("storage", "url"), "", "a standby must find the payloads"),
    "no shared folder": ("keda", ("storage", "volume"), None, "storage.volume is not set"),
    "no plan": ("sqlite", ("federation", "volume"), None, "federation.volume is not set"),
    "no certificate": ("sqlite", ("tls", "existingSecret"), "", "tls.existingSecret is not set"),
    "no issuer": (
        "postgresql",
        ("tls", "certManager", "issuerRef"),
        None,
        "issuerRef is not set",
    ),
    "a key for each pod": (
        "postgresql",
        ("signing", "keySecret"),
        "",
        "a pod that made its own would be a stranger",
    ),
    "no name": ("sqlite", ("federation", "name"), "", "federation.name is not set"),
    "no authority": (
        "sqlite",
        ("enrolment", "caVolume"),
        None,
        "enrolment.caVolume is not set",
    ),
    "no signing key": (
        "sqlite",
        ("calibrator", "signingKeySecret"),
        "",
        "calibrator.signingKeySecret is not set",
    ),
    "no address for keda": ("keda", ("calibrator", "keda", "address"), "", "KEDA reads the stream"),
    "no gateway": ("gateway", ("gateway", "parentRefs"), [], "gateway.parentRefs"),
    "no place for keys": (
        "gateway",
        ("encryption", "volume"),
        None,
        "encryption.volume is not set",
    ),
    "two stores": ("demo", ("storage", "url"), "s3://letheon/1", "files go to one store"),
    "two of a trial": (
        "demo",
        ("coordinator", "replicas"),
        2,
        "a pod that made its own would be a stranger",
    ),
    "tombstones of several": (
        "postgresql",
        ("tombstones", "keySecret"),
        "",
        "they sign one log with one key",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_with_a_sentence(case: str) -> None:
    from helm_python import HelmError

    name, keys, value, sentence = REFUSED[case]
    with pytest.raises(HelmError) as refused:
        render(overlaid(MATRIX[name], *keys, value=value))
    assert sentence in str(refused.value)


def test_an_unknown_key_and_a_wrong_type_are_refused_by_the_schema() -> None:
    from helm_python import HelmError

    for values in (
        overlaid(MATRIX["sqlite"], "coordinator", "replica", value=2),
        overlaid(MATRIX["sqlite"], "service", "port", value="https"),
    ):
        with pytest.raises(HelmError, match=r"replica|port"):
            render(values)


def test_schema_values_and_readme_have_the_same_keys() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for key, leaf in readmes.leaves(schema["properties"]):
        if key != "global":
            readmes.default_of(values, key)
        assert leaf["description"]
    assert readmes.README.read_text() == readmes.readme(), "run: make chart"


@pytest.mark.parametrize("name", MATRIX)
def test_the_services_accept_their_rendered_configuration(
    name: str, rendered: dict[str, list[Document]]
) -> None:
    environ = {
        "LETHEON_REDIS_URL": "redis://redis:6379/0",
        "LETHEON_DATABASE__INSTANCE": "10.0.0.1:7300",
        "LETHEON_NAME": "calibrator-1",
    }
    models: dict[str, Any] = {"coordinator": CoordinatorConfig, "calibrator": CalibratorConfig}
    for service, model in models.items():
        if service == "calibrator" and name == "minimal":
            continue
        text = toml_of(rendered[name], service)
        for table in ("tls", "encryption", "enrolment"):
            if table in tomllib.loads(text) and table not in model.model_fields:
                pytest.skip(f"this release of the {service} has no table {table}")
        made, broken, _ = examine_text(text, model, environ)
        assert made is not None, broken


@pytest.mark.parametrize("name", MATRIX)
def test_every_pod_is_confined(name: str, rendered: dict[str, list[Document]]) -> None:
    for pod, _, spec in pods(rendered[name]):
        assert spec["automountServiceAccountToken"] is False, pod
        assert spec["securityContext"]["runAsNonRoot"] is True, pod
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, pod
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, pod
            assert security["allowPrivilegeEscalation"] is False, pod
            assert security["capabilities"] == {"drop": ["ALL"]}, pod
            assert container["resources"]["requests"], pod
            assert container["resources"]["limits"]["memory"], pod


@pytest.mark.parametrize("name", MATRIX)
def test_what_is_mounted_is_a_volume_and_what_is_a_volume_is_mounted(
    name: str, rendered: dict[str, list[Document]]
) -> None:
    for pod, _, spec in pods(rendered[name]):
        volumes = {each["name"] for each in spec.get("volumes", [])}
        containers = [*spec["containers"], *spec.get("initContainers", [])]
        mounts = {m["name"] for c in containers for m in c.get("volumeMounts", [])}
        assert volumes == mounts, pod


@pytest.mark.parametrize("name", MATRIX)
def test_every_selector_selects(name: str, rendered: dict[str, list[Document]]) -> None:
    labels = [labels for _, labels, _ in pods(rendered[name])]
    for document in rendered[name]:
        spec = document.get("spec", {})
        place = SELECTORS.get(document["kind"])
        if place is not None:
            selector = reduce(dict.__getitem__, place, spec)
            assert any(chosen(each, selector) for each in labels), name_of(document)
        if document["kind"] == "ServiceMonitor":
            services = [
                each["metadata"]["labels"]
                for each in rendered[name]
                if each["kind"] == "Service"
                and any(port["name"] == "metrics" for port in each["spec"]["ports"])
            ]
            wanted = spec["selector"]["matchLabels"]
            assert sum(chosen(each, wanted) for each in services) == 1, name_of(document)


def test_a_pod_that_no_policy_names_may_only_look_up_names(
    rendered: dict[str, list[Document]],
) -> None:
    deny = one(rendered["postgresql"], "NetworkPolicy", "default-deny")["spec"]
    for pod, labels, _ in pods(rendered["postgresql"]):
        assert chosen(labels, deny["podSelector"]["matchLabels"]), pod
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny
    assert [port["port"] for rule in deny["egress"] for port in rule["ports"]] == [53, 53]


def test_probes_ask_for_names_that_the_services_know(rendered: dict[str, list[Document]]) -> None:
    spec = one(rendered["postgresql"], "Deployment", "coordinator")["spec"]["template"]["spec"]
    container = spec["containers"][0]
    asked = {
        kind: container[f"{kind}Probe"]["grpc"]["service"]
        for kind in ("startup", "liveness", "readiness")
    }
    assert asked == {"startup": LIVENESS, "liveness": LIVENESS, "readiness": READINESS}
    health = a_health_port(None)
    for condition in CONDITIONS:
        health.note(condition, holds=True)
    assert health.is_ready


def test_a_standby_relays_to_the_address_under_which_the_leader_holds_the_lease(
    rendered: dict[str, list[Document]],
) -> None:
    config = tomllib.loads(toml_of(rendered["postgresql"], "coordinator"))
    assert config["standby"] == {"relay": True}
    deployment = one(rendered["postgresql"], "Deployment", "coordinator")["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    env = {e["name"]: e for e in deployment["template"]["spec"]["containers"][0]["env"]}
    assert env["LETHEON_DATABASE__INSTANCE"]["value"] == "$(POD_IP):7300"
    single = one(rendered["sqlite"], "Deployment", "coordinator")["spec"]
    assert single["strategy"] == {"type": "Recreate"}
    assert tomllib.loads(toml_of(rendered["sqlite"], "coordinator"))["standby"]["relay"] is False


def test_services_are_scraped_under_the_names_that_prometheus_knows_them_by(
    rendered: dict[str, list[Document]],
) -> None:
    config = yaml.safe_load((CHART.parents[1] / "prometheus" / "prometheus.yml").read_text())
    known = {each["job_name"] for each in config["scrape_configs"]}
    for service in ("coordinator", "calibrator"):
        (endpoint,) = one(rendered["postgresql"], "ServiceMonitor", service)["spec"]["endpoints"]
        (relabelling,) = endpoint["relabelings"]
        assert relabelling["targetLabel"] == "job"
        assert relabelling["replacement"] in known


def by_name(group: Document) -> str:
    return str(group["name"])


def test_a_changed_configuration_starts_new_pods() -> None:
    def checksum(values: Document) -> str:
        deployment = one(render(values), "Deployment", "coordinator")
        return str(deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    changed = overlaid(MATRIX["sqlite"], "coordinator", "config", value={"log_level": "DEBUG"})
    assert checksum(MATRIX["sqlite"]) != checksum(changed)


def test_rules_and_dashboards_are_the_files_of_deploy(rendered: dict[str, list[Document]]) -> None:
    deploy = CHART.parents[1]
    rules = [
        group
        for path in sorted((deploy / "prometheus").glob("*.yml"))
        for group in yaml.safe_load(path.read_text()).get("groups", [])
    ]
    told = [
        group
        for each in rendered["postgresql"]
        if each["kind"] == "PrometheusRule"
        for group in each["spec"]["groups"]
    ]
    assert sorted(told, key=by_name) == sorted(rules, key=by_name)
    boards = {
        path.name: path.read_text() for path in (deploy / "grafana" / "dashboards").glob("*.json")
    }
    maps = [
        each
        for each in rendered["postgresql"]
        if each["kind"] == "ConfigMap" and "grafana_dashboard" in each["metadata"]["labels"]
    ]
    assert {key: text for each in maps for key, text in each["data"].items()} == boards


def test_every_object_is_named_after_the_release(rendered: dict[str, list[Document]]) -> None:
    for documents in rendered.values():
        names = [name_of(each) for each in documents]
        assert len(names) == len(set(names))
        assert all(f" {RELEASE}-letheon-" in name for name in names)


def test_make_chart_fails_and_names_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rendered: dict[str, list[Document]],
) -> None:
    require(missing_tools())
    wrong = deepcopy(rendered["minimal"])
    one(wrong, "Deployment", "coordinator")["spec"]["replicas"] = "two"
    monkeypatch.setattr(chart_command, "matrix", lambda: {"minimal": MATRIX["minimal"]})
    monkeypatch.setattr(chart_command, "render", lambda _values: wrong)
    assert chart_command.main() == 1
    said = capsys.readouterr().out
    assert "minimal: 6 objects" in said
    assert "Deployment trial-letheon-coordinator (Kubernetes 1.30): spec.replicas" in said
