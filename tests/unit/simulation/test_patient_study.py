"""Subjects of a site that stays: how they are chosen and compared, and a whole unit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_study import a_study, in_this_process, write_images

from letheon.errors import BadConfig, BadData
from letheon.imaging.records import Records
from letheon.simulation.folder import claim_folder
from letheon.simulation.report.patients import (
    Pooled,
    accuracy_kept,
    forgotten,
    read_patients,
    section,
)
from letheon.simulation.report.unit_file import read_units
from letheon.simulation.subjects import choose, matched, planted
from letheon.simulation.task import Failed

PATIENTS = {"count": 2, "window": 4, "recompute_speed": 4.0}


def some_records(count: int, patients: tuple[str, ...] | None) -> Records:
    labels = np.arange(count) % 3
    images = np.zeros((count, 1, 4, 4), np.float32)
    ids = tuple(f"r{n}" for n in range(count))
    return Records(
        images=images,
        labels=labels,
        class_names=("a", "b", "c"),
        record_ids=ids,
        patients=patients,
    )


@given(count=st.integers(60, 200), subjects=st.integers(1, 2), seed=st.integers(0, 99))
def test_subjects_are_disjoint_and_whole_patients_where_they_are_known(count, subjects, seed):
    known = some_records(count, tuple(f"p{n // 3}" for n in range(count)))
    for records in (known, some_records(count, None)):
        chosen = choose(records, subjects, 0.5, seed)
        rows = np.concatenate(chosen)
        assert len(chosen) == subjects
        assert len(np.unique(rows)) == len(rows)
    groups = np.array(known.groups())
    for rows in choose(known, subjects, 0.5, seed):
        assert np.array_equal(rows, np.flatnonzero(groups == groups[rows[0]]))


def test_subjects_hold_at_most_their_share_of_the_records():
    assert len(choose(some_records(100, None), 5, 0.3, 0)) == 2
    with pytest.raises(BadData, match=r"more than the share 0\.1"):
        choose(some_records(100, None), 5, 0.1, 0)


@given(seed=st.integers(0, 99))
def test_every_label_of_a_canary_subject_is_wrong_and_no_other(seed):
    records = some_records(90, None)
    chosen = choose(records, 3, 0.5, seed)
    wrong = np.flatnonzero(planted(records, chosen, seed).labels != records.labels)
    assert np.array_equal(wrong, np.sort(np.concatenate(chosen)))


def test_controls_are_of_the_true_class_under_the_label_that_is_trained():
    records, control = some_records(60, None), some_records(30, None)
    (rows,) = choose(records, 1, 0.5, 0)
    train = planted(records, [rows], 0)
    for row, beside in zip(rows, matched(records, train, control, rows, 0), strict=True):
        places = [int(name[1:]) for name in beside.record_ids]
        assert set(control.labels[places]) == {records.labels[row]}
        assert set(beside.labels) == {train.labels[row]}


def a_pool(mean: float, accuracy: float = 90.0, spread: float = 0.1) -> Pooled:
    return Pooled(mean + spread * np.linspace(-1, 1, 40), accuracy)


def test_forgetting_needs_a_control_that_fired_and_closeness_to_retraining():
    assert forgotten(a_pool(0.51), a_pool(0.5), a_pool(0.9)) == "met"
    assert forgotten(a_pool(0.7), a_pool(0.5), a_pool(0.9)) == "missed"
    # Within 0.05, and outside the interval of retraining.
    assert forgotten(a_pool(0.54), a_pool(0.5, spread=0.01), a_pool(0.9)) == "missed"
    assert forgotten(a_pool(0.5), a_pool(0.5), a_pool(0.5)) == "inconclusive (within)"


def test_accuracy_may_be_one_point_below_retraining_where_retrainings_agree():
    assert accuracy_kept(a_pool(0.5, 89.1), a_pool(0.5, 90.0), 0.3) == "met"
    assert accuracy_kept(a_pool(0.5, 88.9), a_pool(0.5, 90.0), 0.3) == "missed"
    assert accuracy_kept(a_pool(0.5, 88.9), a_pool(0.5, 90.0), 1.1) == "inconclusive (outside)"
    assert accuracy_kept(a_pool(0.5, 89.1), a_pool(0.5, 90.0), 1.1) == "inconclusive (within)"


@pytest.mark.parametrize(
    "changes",
    [
        {"kinds": ["canary"]},
        {"kinds": ["backdoored"], "patients": {}, "methods": []},
        {"kinds": ["honest"], "patients": {}},
    ],
)
def test_a_study_that_mixes_patients_and_sites_is_refused(changes):
    with pytest.raises(BadConfig, match=r"\[patients\]"):
        a_study(**changes)


def test_a_unit_erases_each_subject_by_each_method_and_is_taken_up_again(tmp_path: Path):
    data = write_images(tmp_path / "bars.npz").parent
    study = a_study(
        kinds=["canary"], seeds=[0], methods=[], patients=PATIENTS, before=40, snapshots=[2]
    )
    out = tmp_path / "out"
    assert [e for e in in_this_process(study, out, data) if isinstance(e, Failed)] == []
    (path,) = out.glob("*.json")
    told = json.loads(path.read_text())
    assert set(told["runs"]) == {
        "retrain", "retrain_again", "retrain_one", "do_nothing", "stop_using", "patient_swap",
        "readmission", "exchange_else_readmission",
    }  # fmt: skip
    swap, served = told["runs"]["patient_swap"], told["runs"]["exchange_else_readmission"]
    # So small a network may lose too much accuracy: the swap is then refused whole.
    assert [landed is None for landed in swap["landed"]] == [bool(why) for why in swap["failed"]]
    # As the services go on then: the site is readmitted; an exchange that is not refused is one.
    assert served["readmitted"] == swap["failed"]
    assert served["failed"] == ["", ""]
    assert all(landed > 0 for landed in served["landed"])
    for key in ("statistics", "accuracy", "landed"):
        pairs = zip(swap[key], served[key], swap["failed"], strict=True)
        assert all(alone == after for alone, after, refused in pairs if not refused)
    assert len(told["runs"]["retrain_one"]["statistics"]) == 1
    assert all(lost >= 1 for lost in told["runs"]["stop_using"]["lost"])
    assert read_units(out) == []
    text = section("tiny", read_patients(out))
    assert "### bars, canary subjects: 2 of 12 to 12 records (seeds 0)" in text
    # Taken up again: one method is missing, and comes out the same, also where it is all there is.
    alone = a_study(
        kinds=["canary"],
        seeds=[0],
        methods=[],
        patients={**PATIENTS, "methods": ["patient_swap"]},
        before=40,
        snapshots=[2],
    )
    for again, others in ((study, told["runs"]), (alone, {})):
        claim_folder(again, out)
        told["runs"] = {label: run for label, run in others.items() if label != "patient_swap"}
        path.write_text(json.dumps(told))
        in_this_process(again, out, data)
        assert json.loads(path.read_text())["runs"]["patient_swap"] == swap
