"""The training process's own work, in this process: tasks of every kind, and a site's own code."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_builders import some_records
from workbench_arguments import adoption, opening, training

from client_agent.domain.tasks import TaskAbandoned
from client_agent.training_child.workbench import Workbench
from letheon import registry
from letheon.errors import BadData, MalformedUpdate, MethodRefused, TrainingCodeFailed
from letheon.federation.encoding import decode
from letheon.federation.parameters import Layout, TensorSpec, Vector, flatten
from letheon.federation.plan import Plan, PlanDraft
from letheon.imaging.local_training import LocalTraining, train_locally
from letheon.imaging.models.model import spec_of
from letheon.imaging.models.weights import initialise, read_weights
from letheon.imaging.records import Records

SMALL = {"local_steps": 3, "batch_size": 4}
KINDS: dict[str, dict[str, Any]] = {
    "classification": {
        "model": {"plugin": "small_cnn", "arguments": {"width": 4}},
        "image": {"channels": 1, "height": 16, "width": 16},
    },
    "multi_label": {
        "model": {"plugin": "small_cnn", "arguments": {"width": 4}},
        "image": {"channels": 1, "height": 16, "width": 16},
    },
    "tabular": {
        "model": {"plugin": "mlp", "arguments": {"hidden": []}},
        "image": {"features": 5},
    },
    "segmentation": {
        "model": {"plugin": "pixelwise", "arguments": {}},
        "image": {"channels": 1, "height": 16, "width": 16},
    },
}


class Given:
    """A source plug-in that gives what a test made."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def load(self) -> Records:
        return self._records


def pixelwise(spec: Any, classes: int) -> torch.nn.Module:
    return torch.nn.Conv2d(spec.channels, classes, 3, padding=1)


class Site:
    """A workbench that has opened its records and adopted a plan, and the files it works with."""

    def __init__(self, folder: Path, kind: str, code: str | None = None) -> None:
        self.folder = folder
        self.records = some_records(kind, 40)
        draft = PlanDraft.model_validate(
            {"name": "test", "classes": 2, "task": kind, "training": SMALL, **KINDS[kind]}
        )
        model = draft.model
        module = initialise(model.plugin, model.arguments, spec_of(draft.image.shape), 2, seed=1)
        tensors = read_weights(module)
        layout = Layout(tuple(TensorSpec(n, tuple(a.shape)) for n, a in tensors.items()))
        self.plan: Plan = draft.with_layout(layout)
        self.base: Vector = flatten(tensors, layout)
        self.base.tofile(folder / "base")
        self.bench = Workbench()
        own = {"code": code, "code_arguments": {"rate": 0.01}}
        self.holdings = self.bench.open(opening(folder, "given", {"records": self.records}, **own))
        self.bench.adopt(adoption(self.plan))

    def train(self, should_abandon: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        told = training(self.folder / "base", self.folder / "delta", seed=-7)
        return self.bench.train(told, should_abandon)

    def delta(self) -> Vector:
        return decode((self.folder / "delta").read_bytes(), "float32")

    def trained_on(self) -> Records:
        kept = json.loads((self.folder / "records.json").read_text())
        return self.records.select([self.records.record_ids.index(each) for each in kept])


@pytest.fixture(autouse=True)
def plug_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    installed = registry.find
    ours = {"given": Given, "pixelwise": pixelwise}
    monkeypatch.setattr(
        registry, "find", lambda group, name: ours.get(name) or installed(group, name)
    )


def code(folder: Path, text: str) -> str:
    path = folder / "train.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_task_trains_evaluates_and_audits(tmp_path: Path, kind: str) -> None:
    site = Site(tmp_path, kind)
    told = site.train()
    assert np.linalg.norm(site.delta()) > 0
    assert told["num_examples"] is None  # the count of records from before any exclusion counts
    assert site.holdings["train_records"] == len(site.trained_on())
    assert np.isfinite(told["mean_loss"])
    utility = site.bench.evaluate({"model": str(tmp_path / "base")})
    assert 0 <= utility["accuracy"] <= 1
    assert utility["records"] == site.holdings["validation_records"] > 0
    statistic = site.bench.audit({"model": str(tmp_path / "base"), "seed": 1})
    assert 0 <= statistic["auc_low"] <= statistic["auc"] <= statistic["auc_high"] <= 1
    assert json.loads(json.dumps(site.holdings))["class_counts"]["yes"] > 0


def test_the_plans_training_is_what_the_simulator_does_too(tmp_path: Path) -> None:
    site = Site(tmp_path, "classification")
    site.train()
    model = site.plan.model
    spec = spec_of(site.plan.image.shape)
    module = initialise(model.plugin, model.arguments, spec, 2, seed=1)
    settings = LocalTraining(steps=3, batch_size=4, learning_rate=0.05)
    train_locally(module, site.trained_on(), settings, seed=-7 % 2**63)
    expected = flatten(read_weights(module), site.plan.parameters) - site.base
    np.testing.assert_array_equal(site.delta(), expected)


def test_records_of_another_task_than_the_plans_are_refused(tmp_path: Path) -> None:
    site = Site(tmp_path, "classification")
    told = json.loads(site.plan.canonical_json())
    told["task"] = {"plugin": "multi_label", "arguments": {}}
    with pytest.raises(BadData, match="multi-label records need labels"):
        site.bench.adopt(adoption(json.dumps(told)))


@pytest.mark.parametrize("kind", ["multi_label", "segmentation"])
def test_an_ascent_is_refused_where_records_have_no_one_class(tmp_path: Path, kind: str) -> None:
    site = Site(tmp_path, kind)
    told = {"model": str(tmp_path / "base"), "target": str(tmp_path / "patch"), "seed": 0}
    with pytest.raises(MethodRefused, match=f"the plan's task is {kind}: take the method removal"):
        site.bench.erase({**told, "parameters": {}})


OWN = """
import torch
from letheon import site

given = site.receive()
optimiser = torch.optim.AdamW(given.model.parameters(), lr=given.config.arguments["rate"])
for rows, labels in site.batches(given.records, given.config):
    optimiser.zero_grad()
    given.config.loss(given.model(rows), labels).backward()
    optimiser.step()
site.send(given.model.state_dict(), num_examples=10)
"""


def test_own_code_trains_and_letheon_takes_the_difference(tmp_path: Path) -> None:
    site = Site(tmp_path, "tabular", code(tmp_path, OWN))
    told = site.train()
    first = site.delta()
    assert told["num_examples"] == 10
    assert np.isfinite(told["mean_loss"])  # measured: the code told none
    assert 0 < np.abs(first).max() < 0.05
    site.train()
    np.testing.assert_array_equal(site.delta(), first)


def test_own_code_works_on_a_copy_of_the_network(tmp_path: Path) -> None:
    text = """
def fit(model, records, config):
    for weight in model.parameters():
        weight.requires_grad_(False)
    model.double()
"""
    site = Site(tmp_path, "tabular", code(tmp_path, text) + ":fit")
    site.train()
    np.testing.assert_array_equal(site.delta(), 0)
    site.bench._code = None
    site.train()
    assert np.linalg.norm(site.delta()) > 0


def test_own_code_cannot_change_the_records(tmp_path: Path) -> None:
    text = """
def fit(model, records, config):
    records.images[:] = 0
"""
    site = Site(tmp_path, "tabular", code(tmp_path, text) + ":fit")
    with pytest.raises(TrainingCodeFailed, match=r"ValueError at train\.py:3"):
        site.train()
    assert site.records.images.any()


def test_the_full_text_of_an_error_stays_in_a_file_of_the_site(tmp_path: Path) -> None:
    site = Site(tmp_path, "tabular", code(tmp_path, "raise KeyError('Jane Doe')\n"))
    with pytest.raises(TrainingCodeFailed) as failed:
        site.train()
    kept = tmp_path / "training_code_error.txt"
    assert str(kept) in failed.value.message
    assert "Jane Doe" not in failed.value.message
    assert "Jane Doe" in kept.read_text()
    assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600  # noqa: PTH116
    assert not (tmp_path / "delta").exists()


def test_a_delta_beyond_the_plans_norm_is_refused_here(tmp_path: Path) -> None:
    text = "def fit(model, records, config):\n    model[0].bias.data += 1e30\n"
    site = Site(tmp_path, "tabular", code(tmp_path, text) + ":fit")
    told = json.loads(site.plan.canonical_json()) | {"max_delta_norm": 5.0}
    site.bench.adopt(adoption(json.dumps(told)))
    with pytest.raises(MalformedUpdate, match="the plan allows 5"):
        site.train()


@pytest.mark.parametrize(
    "text", ["site.receive()\n", "raise RuntimeError\n", "site.send({})\n", OWN]
)
def test_a_training_given_up_is_no_failure_of_the_code(tmp_path: Path, text: str) -> None:
    site = Site(tmp_path, "tabular", code(tmp_path, "from letheon import site\n" + text))
    with pytest.raises(TaskAbandoned):
        site.train(should_abandon=lambda: True)
    assert not (tmp_path / "training_code_error.txt").exists()
