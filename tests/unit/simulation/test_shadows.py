"""LiRA on the heads of a study that was run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_study import a_study, in_this_process, write_images

from letheon.errors import BadConfig, BadData
from letheon.simulation import shadows
from letheon.simulation.laboratory import Experiment
from letheon.simulation.shadows import HEADS, pooled, run_lira
from letheon.simulation.unit import UnitRun

METHODS = [{"label": label, "method": label} for label in HEADS[1:4]]
SETTINGS = {
    "kinds": ["honest"],
    "images": [{"name": "blood", "file": "bars.npz"}],
    "snapshots": [60],
    "look_every": 60,
    "after": 60,
    "seeds": [0],
}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("lira")
    write_images(folder / "bars.npz")
    study = a_study(**SETTINGS, methods=METHODS)
    in_this_process(study, folder / "out", folder)
    return Experiment(study, folder / "out", folder, (0,), folder / "lira.json")


def test_every_head_is_attacked_and_the_same_run_gives_the_same_bytes(
    experiment: Experiment,
) -> None:
    run_lira(experiment, shadows=3, steps=2)
    first = experiment.result.read_bytes()
    told = json.loads(first)
    (unit,) = told["units"]
    assert (told["format"], told["shadows"]) == ("letheon-study-lira/1", 3)
    assert set(unit["models"]) == set(HEADS)
    for found in unit["models"].values():
        for value, low, high in found.values():
            assert 0 <= low <= value <= high <= 1
    run_lira(experiment, shadows=3, steps=2)
    assert experiment.result.read_bytes() == first


def test_no_shadow_sees_a_record_of_the_target(experiment: Experiment) -> None:
    unit = experiment.unit("blood", "honest", 0)
    hospitals = UnitRun(experiment.study, unit, experiment.out, experiment.data).hospitals
    pool, target = pooled(hospitals), hospitals.sites[hospitals.target]
    for records in (target.train, target.control):
        assert set(pool.groups()).isdisjoint(records.groups())
    assert len(pool) == sum(len(hospitals.sites[site].train) for site in hospitals.retained())


def test_records_whose_labels_only_the_head_knows_are_members(
    experiment: Experiment,
) -> None:
    unit = experiment.unit("blood", "honest", 0)
    run = UnitRun(experiment.study, unit, experiment.out, experiment.data)
    held = run.hospitals.sites[run.hospitals.target]
    rows = np.random.default_rng(0).permutation(len(held.train))
    members, others = (
        replace(records, labels=(records.labels + shift) % 3)  # one wrong way, and the other
        for records, shift in ((held.train.select(rows[:40]), 1), (held.train.select(rows[40:]), 2))
    )
    seen = shadows.shadow_confidences(
        run.network, pooled(run.hospitals), (members, others), count=4, steps=20, seed=1
    )
    taught = shadows._trained(run.network, members, 100, 7)
    told = [
        shadows.lira_scores(shadows.confidences(taught, records), confidences)
        for records, confidences in zip((members, others), seen, strict=True)
    ]
    assert shadows._judged(told[0], told[1], members, others, 0)["auc"][0] > 0.9


def test_a_missing_head_says_what_to_run(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"before\.npz holds no head 'head': run `letheon simulate`"):
        shadows.kept_head(tmp_path, "before")
    with pytest.raises(BadConfig, match="no images 'skin'; it has: blood"):
        experiment.unit("skin", "honest", 0)
