"""The training process: records left out, deltas made again bit for bit, and a subject's audit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_plan
from workbench_arguments import SECRET, adoption, opening, training

from client_agent.domain.subjects import SiteKey
from client_agent.training_child.workbench import Workbench
from letheon.errors import BadData, Refused
from letheon.federation.parameters import Layout, TensorSpec, flatten
from letheon.imaging.models.model import ImageSpec
from letheon.imaging.models.weights import initialise, read_weights

KEY = SiteKey(SECRET)
SIDE, CLASSES = 12, 2
IMAGES = {"records": 160, "classes": CLASSES, "channels": 1, "height": SIDE, "width": SIDE}
NETWORK = {"width": 4}


class Bench:
    """A workbench with a plan, on made-up scans of 40 patients with four records each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workbench = folder, Workbench()
        spec = ImageSpec(channels=1, height=SIDE, width=SIDE)
        module = initialise("small_cnn", NETWORK, spec, CLASSES, seed=0)
        weights = read_weights(module)
        self.layout = Layout(tuple(TensorSpec(name, tuple(v.shape)) for name, v in weights.items()))
        self.plan = a_plan(
            self.layout,
            model={"plugin": "small_cnn", "arguments": NETWORK},
            image={"channels": 1, "height": SIDE, "width": SIDE},
            classes=CLASSES,
            training={"local_steps": 6, "batch_size": 16},
            gate={"bootstrap": 20},
        )
        self.base = folder / "base.f32"
        flatten(weights, self.layout).tofile(self.base)
        self.held = self.open([])

    def open(self, excluded: list[str]) -> dict[str, Any]:
        shares = {"control_share": 0.2, "validation_share": 0.1}
        told = opening(self.folder, "synthetic", IMAGES, excluded=excluded, **shares)
        held = self.workbench.open(told)
        self.workbench.adopt(adoption(self.plan))
        return held

    def train(self, name: str = "delta", **more: Any) -> bytes:
        target = self.folder / name
        self.workbench.train(training(self.base, target, **more), lambda: False)
        return target.read_bytes()

    def record_ids(self) -> list[str]:
        return list(json.loads((self.folder / "records.json").read_text()))

    def index(self) -> dict[str, str]:
        return dict(json.loads((self.folder / "record_index.json").read_text()))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("site"))


@pytest.fixture
def bench(shared: Bench) -> Iterator[Bench]:
    yield shared
    shared.workbench.exclude({"excluded": []})


def a_patient(bench: Bench) -> str:
    """The pseudonym of a patient with training records."""
    return bench.index()[bench.record_ids()[0]]


def test_the_same_base_seed_and_records_give_the_same_bits(bench: Bench) -> None:
    first = bench.train()
    assert bench.train() == first
    ids = bench.folder / "ids.json"
    ids.write_text(json.dumps(bench.record_ids()))
    assert bench.train(record_ids=str(ids)) == first  # as a recomputation that leaves nothing out
    assert bench.train(seed=8) != first


def test_a_new_process_gives_the_same_bits(bench: Bench, tmp_path: Path) -> None:
    first = bench.train()
    again = Bench(tmp_path)
    again.base = bench.base
    assert again.train() == first


def test_a_recomputation_keeps_the_batches_of_everybody_else(bench: Bench) -> None:
    patient, everything = a_patient(bench), bench.record_ids()
    full = np.frombuffer(bench.train(), "<f4")
    left = [None if bench.index()[one] == patient else one for one in everything]
    ids = bench.folder / "ids.json"

    def moved(record_ids: list[str | None]) -> float:
        ids.write_text(json.dumps(record_ids))
        made_again = np.frombuffer(bench.train(record_ids=str(ids)), "<f4")
        return float(np.linalg.norm(made_again - full) / np.linalg.norm(full))

    # Drawn anew, two trainings on nearly the same records have little in common.
    assert 0 < moved(left) < 0.5 * moved([one for one in left if one is not None])


def test_a_recomputation_without_a_patient_is_the_training_without_him(bench: Bench) -> None:
    patient, everything = a_patient(bench), bench.record_ids()
    full = bench.train()
    left = [one for one in everything if bench.index()[one] != patient]
    ids = bench.folder / "ids.json"
    ids.write_text(json.dumps(left))
    made_again = bench.train(record_ids=str(ids))
    bench.workbench.exclude({"excluded": [patient]})
    assert bench.record_ids() == left
    assert bench.train() == made_again
    assert made_again != full


def test_counts_that_leave_the_site_do_not_tell_an_exclusion(bench: Bench) -> None:
    held = bench.workbench.exclude({"excluded": [a_patient(bench)]})
    for name in ("train_records", "control_records", "validation_records", "class_counts"):
        assert held[name] == bench.held[name]
    assert held["record_set"] != bench.held["record_set"]


def test_an_excluded_patient_leaves_every_part_also_after_a_restart(bench: Bench) -> None:
    parts = bench.workbench._records().everything
    tokens = [KEY.of_patient(part.patients[0]) for part in (parts.control, parts.validation)]
    bench.workbench.exclude({"excluded": tokens})
    used = bench.workbench._records().parts
    assert len(used.control) < len(parts.control)
    assert len(used.validation) < len(parts.validation)
    bench.open(tokens)
    assert bench.workbench._records().parts.control.record_ids == used.control.record_ids


def test_control_validation_and_training_share_no_patient(bench: Bench) -> None:
    parts = bench.workbench._records().everything
    groups = [set(p.groups()) for p in (parts.train, parts.control, parts.validation)]
    assert all(not a & b for i, a in enumerate(groups) for b in groups[i + 1 :])


def test_without_a_record_left_the_site_says_so(bench: Bench) -> None:
    everybody = sorted(set(bench.index().values()))
    with pytest.raises(BadData, match="excluded by an erasure"):
        bench.workbench.exclude({"excluded": everybody})


def test_a_record_that_is_gone_from_the_source_is_not_named(bench: Bench) -> None:
    ids = bench.folder / "ids.json"
    ids.write_text(json.dumps(["synthetic-0:99999"]))
    with pytest.raises(BadData, match="not in the data source any more") as refused:
        bench.train(record_ids=str(ids))
    assert "99999" not in refused.value.message


def test_a_subject_is_audited_when_it_is_excluded_already_and_told_coarsely(bench: Bench) -> None:
    patients = sorted({bench.index()[one] for one in bench.record_ids()})[:3]
    bench.workbench.exclude({"excluded": patients})
    told = bench.workbench.audit({"model": str(bench.base), "seed": 1, "subject": patients})
    assert told["erased_records"] == 8  # of twelve: a power of two
    assert told["accuracy_erased"] == round(told["accuracy_erased"], 2)
    assert 0.0 <= told["auc_low"] <= told["auc"] <= told["auc_high"] <= 1.0


def test_of_too_few_records_nothing_leaves_the_site(bench: Bench) -> None:
    with pytest.raises(Refused, match="no statistic of so few"):
        bench.workbench.audit({"model": str(bench.base), "seed": 1, "subject": [a_patient(bench)]})


def test_another_number_of_threads_changes_a_delta_by_rounding_only(bench: Bench) -> None:
    first = np.frombuffer(bench.train(), "<f4")
    bench.workbench.adopt(adoption(bench.plan, threads=2))
    other = np.frombuffer(bench.train(), "<f4")
    bench.workbench.adopt(adoption(bench.plan))
    assert np.linalg.norm(other - first) <= 1e-4 * np.linalg.norm(first)
