"""A site leaves a federation of masks, of several labels, of tables: judged by its task's score."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from erasure_builders import Federation, a_running_federation
from patient_world import GATE, carried_out, until
from task_builders import some_records
from torch import nn
from workbench_agent import WorkbenchAgent

from calibrator.ports import Certified
from letheon.federation.parameters import unflatten
from letheon.federation.plan import Plan, PlanDraft
from letheon.imaging.models.model import spec_of
from letheon.imaging.models.weights import initialise, write_weights
from letheon.imaging.records import Records
from letheon.imaging.scores import outputs
from letheon.imaging.sources.npz import write_npz
from letheon.imaging.tasks.task import build_task
from letheon.proof import certificate
from letheon.simulation.sites import layout_of

RETAINED = ("north", "west")
IMAGE = {"channels": 1, "height": 16, "width": 16}
FEDERATIONS: dict[str, dict[str, Any]] = {
    "segmentation": {
        "model": {"plugin": "monai_unet", "arguments": {"channels": [4, 8]}},
        "image": IMAGE,
    },
    "multi_label": {
        "model": {"plugin": "small_cnn", "arguments": {"width": 4}},
        "image": IMAGE,
    },
    "tabular": {"model": {"plugin": "mlp", "arguments": {}}, "image": {"features": 5}},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def a_plan(task: str) -> Plan:
    draft = PlanDraft.model_validate(
        {
            "name": "tasks",
            "task": task,
            "classes": 2,
            "class_names": ["no", "yes"],
            "training": {"local_steps": 4, "batch_size": 8, "learning_rate": 0.1},
            "strategy": {"plugin": "fedasync", "arguments": {"server_learning_rate": 0.5}},
            # Both retained sites are heard, however busy the machine is.
            "gate": {**GATE, "max_attempts": 60, "straggler_grace_seconds": 60.0},
            **FEDERATIONS[task],
        }
    )
    return draft.with_layout(layout_of(network(draft)))


def network(plan: PlanDraft) -> nn.Module:
    spec = spec_of(plan.image.shape)
    return initialise(plan.model.plugin, plan.model.arguments, spec, plan.classes, seed=1)


@contextmanager
def a_world(folder: Path, task: str) -> Iterator[tuple[Federation, dict[str, WorkbenchAgent]]]:
    with a_running_federation(folder / "centre", sites=(), plan=a_plan(task)) as federation:
        agents = {}
        for number, site in enumerate(("north", "south", "west")):
            shard = folder / f"{site}.npz"
            write_npz(shard, some_records(task, 48, seed=number))
            address = federation.coordinator.address
            agents[site] = WorkbenchAgent(folder / site, site, address, shard)
        try:
            for agent in agents.values():
                agent.start()
            until(lambda: federation.version >= 18, "the sites have trained")
            yield federation, agents
        finally:
            for agent in agents.values():
                agent.stop()


@pytest.mark.parametrize("task", sorted(FEDERATIONS))
def test_a_site_leaves_and_the_gate_compares_the_score_of_the_task(
    tmp_path: Path, task: str
) -> None:
    with a_world(tmp_path, task) as (federation, agents):
        filed = federation.request("south")
        ended = carried_out(federation, filed.name, tmp_path)
        assert isinstance(ended, Certified), ended
        told = dict(certificate.verify(ended.certificate, None).statement)
        _, judged = federation.download(f"models/{told['model']['version_promoted']}")
        assert federation.verify_ledger().holds
    (utility,) = [test for test in told["gate"]["tests"] if test["name"] == "utility"]
    plan, scored = federation.client.plan, build_task(task, {})
    module = network(plan)
    write_weights(module, unflatten(judged, plan.parameters))
    parts = [validation(agents[site]) for site in RETAINED]
    scores = [scored.utility(module, part) for part in parts]
    numbers = utility["numbers"]
    assert (utility["verdict"], numbers["records"]) == ("pass", sum(s.records for s in scores))
    weighed = np.average([s.accuracy for s in scores], weights=[s.records for s in scores])
    assert numbers["mean_candidate"] == pytest.approx(weighed, abs=1e-6)
    # Masks are mostly background: of all pixels far more are right than of what is looked for.
    if task == "segmentation":
        assert abs(float(np.mean([pixels_right(module, part) for part in parts])) - weighed) > 0.005


def validation(agent: WorkbenchAgent) -> Records:
    held = agent.workbench._held
    assert held is not None
    return held.parts.validation


def pixels_right(module: nn.Module, records: Records) -> float:
    told = np.concatenate([logits.argmax(axis=1) for logits in outputs(module, records.images)])
    return float((told == records.labels).mean())
