"""BatchNorm in the laboratory: statistics beside the weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_study import a_study, write_images
from torch.nn import BatchNorm2d

from letheon.simulation import statistics_leak
from letheon.simulation.batch_norm import (
    BatchNormNetwork,
    estimate_statistics,
    read_statistics,
    write_statistics,
)
from letheon.simulation.laboratory import Experiment
from letheon.simulation.statistics_leak import Bench, run_leak


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("statistics")
    write_images(folder / "bars.npz")
    study = a_study(images=[{"name": "pneumonia", "file": "bars.npz"}])
    return Experiment(study, folder / "out", folder, (0,), folder / "leak.json")


def test_an_estimate_forgets_what_was_there_and_leaves_the_weights(
    experiment: Experiment,
) -> None:
    bench = Bench(experiment, "backdoored", 0)
    weights = bench.network.initial(3)
    first = estimate_statistics(bench.network.load(weights), bench.retained)
    write_statistics(bench.network.module, np.full_like(first, 9.0))
    assert np.array_equal(estimate_statistics(bench.network.module, bench.retained), first)
    assert np.array_equal(bench.network.weights(), weights)
    assert [layer.momentum for layer in _norms(bench)] == [0.1, 0.1]


def _norms(bench: Bench) -> list[BatchNorm2d]:
    return [layer for layer in bench.network.module.modules() if isinstance(layer, BatchNorm2d)]


def test_statistics_that_are_written_are_read_back_and_others_refused(
    experiment: Experiment,
) -> None:
    plan = Bench(experiment, "backdoored", 0).run.plan
    module = BatchNormNetwork.with_width(plan, 4).module
    told = np.arange(24, dtype=np.float32)  # of 4 and 8 channels: means and variances
    write_statistics(module, told)
    assert np.array_equal(read_statistics(module), told)
    with pytest.raises(ValueError, match="other statistics"):
        write_statistics(module, told[1:])


def test_the_weights_are_the_same_bits_whatever_statistics_are_carried(
    experiment: Experiment,
) -> None:
    bench = Bench(experiment, "backdoored", 0)
    federation, trainer = bench.federation(without_target=False)
    site, head = bench.hospitals.target, np.array(federation.central.head)
    first = trainer.delta(site, head, learning_rate=0.05, seed=1)
    uploaded = trainer.subject
    trainer.averaged = trainer.averaged + np.float32(5.0)
    assert np.array_equal(trainer.delta(site, head, learning_rate=0.05, seed=1), first)
    assert not np.array_equal(trainer.subject, uploaded)
    other = bench.hospitals.retained()[0]
    kept = trainer.subject
    trainer.delta(other, head, learning_rate=0.05, seed=1)
    assert np.array_equal(trainer.subject, kept)


def test_every_head_is_measured_with_each_of_the_statistics(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics_leak, "AFTER", 3)
    run_leak(experiment)
    told = json.loads(Path(experiment.result).read_text())
    assert [(unit["kind"], unit["seed"]) for unit in told["units"]] == [
        ("backdoored", 0),
        ("honest", 0),
    ]
    heads = told["units"][0]["heads"]
    assert set(heads) == {"before", "removal", "removal+3", "retrain+3"}
    assert set(heads["removal"]) == {"subject", "averaged", "re_estimated"}
    assert told["units"][1]["heads"]["before"]["subject"]["disclosed"] is None
