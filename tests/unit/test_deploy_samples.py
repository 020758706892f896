"""The samples in deploy/ and the tables of docs/configuration.md say what the code reads."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from calibrator.config import CalibratorConfig
from client_agent.config import AgentConfig
from coordinator.config import CoordinatorConfig
from letheon.federation.plan import PlanDraft, load_plan
from letheon.servicekit.config import load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SERVICES: dict[str, type[BaseModel]] = {
    "coordinator": CoordinatorConfig,
    "calibrator": CalibratorConfig,
    "client_agent": AgentConfig,
}
MODELS: dict[str, type[BaseModel]] = {**SERVICES, "plan": PlanDraft}
SECTIONS = {
    "coordinator": "Coordinator",
    "calibrator": "Calibrator",
    "client_agent": "Agent",
    "plan": "Plan",
}
SECRETS = {"LETHEON_REDIS_URL": "redis://127.0.0.1:6379/0"}
# A line that is TOML once its comment sign is gone, unlike a sentence.
COMMENTED_OUT = re.compile(r"^# (\[[\w.]+\]|\w+ = .+)$", re.MULTILINE)


def table_of(annotation: object) -> type[BaseModel] | None:
    """The model of a key that is a table."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(table_of, typing.get_args(annotation))), None)


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of the model, tables and what is in them."""
    for name, field in model.model_fields.items():
        yield prefix + name, field
        inner = table_of(field.annotation)
        if inner is not None:
            yield from keys_of(inner, f"{prefix}{name}.")


def look_up(content: dict[str, Any], key: str) -> Any:
    value: Any = content
    for part in key.split("."):
        value = value[part]
    return value


# Exclude keys that the sample shows.
STANDS_ALONE = {"image.features", "training.code"}


def in_full(name: str) -> str:
    """The sample with everything in force that it has commented out."""
    return COMMENTED_OUT.sub(r"\1", (DEPLOY / f"{name}.toml").read_text())


def test_every_sample_has_its_model() -> None:
    assert {path.stem for path in DEPLOY.glob("*.toml")} == set(MODELS)


@pytest.mark.parametrize("name", SERVICES)
def test_a_sample_is_accepted_as_it_is_with_the_secrets_in_the_environment(name: str) -> None:
    load(DEPLOY / f"{name}.toml", SERVICES[name], SECRETS)


@pytest.mark.parametrize("name", SERVICES)
def test_a_sample_is_accepted_with_every_key_in_force(name: str, tmp_path: Path) -> None:
    path = tmp_path / "full.toml"
    path.write_text(in_full(name))
    load(path, SERVICES[name], {})


def test_the_plan_is_accepted_as_it_is_and_in_full(tmp_path: Path) -> None:
    load_plan(DEPLOY / "plan.toml")
    path = tmp_path / "full.toml"
    path.write_text(in_full("plan"))
    load_plan(path)


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_has_every_key_and_shows_its_default(name: str) -> None:
    content = tomllib.loads(in_full(name))
    for key, field in keys_of(MODELS[name]):
        if key in STANDS_ALONE:
            assert key in in_full(name)  # in a comment
            continue
        try:
            shown = look_up(content, key)
        except KeyError:
            pytest.fail(f"deploy/{name}.toml lacks {key}")
        default = field.default
        if isinstance(default, bool | int | float) or (isinstance(default, str) and default):
            assert shown == default, key


@pytest.mark.parametrize("name", SERVICES)
def test_no_sample_holds_a_secret(name: str) -> None:
    content = tomllib.loads((DEPLOY / f"{name}.toml").read_text())
    for key, field in keys_of(SERVICES[name]):
        if field.annotation in (SecretStr, SecretStr | None):
            with pytest.raises(KeyError):
                look_up(content, key)


@pytest.mark.parametrize("name", MODELS)
def test_the_document_has_a_row_with_the_default_of_every_key(name: str) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    section = text.split(f"\n## {SECTIONS[name]}\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|", section, re.MULTILINE))
    for key, field in keys_of(MODELS[name]):
        assert key in rows, f"docs/configuration.md lacks {key} of {SECTIONS[name]}"
        default = field.default
        if field.is_required():
            assert rows[key] == "required", key
        elif default is None:
            assert rows[key] == "none", key
        elif isinstance(default, bool | int | float) or (isinstance(default, str) and default):
            assert rows[key] == f"`{json.dumps(default)}`", key
    assert set(rows) == {key for key, _ in keys_of(MODELS[name])}


def test_prometheus_scrapes_the_address_of_each_sample() -> None:
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    targets = set(re.findall(r'targets: \["(.+?)"\]', text))
    samples = (tomllib.loads((DEPLOY / f"{name}.toml").read_text()) for name in SERVICES)
    assert targets == {sample["metrics_listen"] for sample in samples}
