"""Two requests at once, and a request during a partition, as units of a study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_study import a_study, in_this_process, tasks_of, write_images

from letheon.errors import BadConfig
from letheon.simulation.report.unit_file import read_units
from letheon.simulation.task import Failed
from letheon.simulation.unit import UnitRun

METHODS = [
    {"label": "removal", "method": "removal"},
    {
        "label": "removal_recombined",
        "method": "removal_recombined",
        "arguments": {"steps": 40, "segments": 1},
    },
]


def a_larger(**more):
    return a_study(sites=4, seeds=[0], before=8, methods=METHODS, **more)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "bars.npz", 1700).parent


def carried_out(study, out, data):
    events = in_this_process(study, out, data)
    assert [each for each in events if isinstance(each, Failed)] == []
    (unit,) = read_units(out)  # the report takes it
    assert set(unit.runs) == {"retrain", "retrain_again", "removal", "removal_recombined"}
    return json.loads(next(out.glob("*.json")).read_text())


def test_two_requests_are_compared_with_a_retraining_without_both_sites(data, tmp_path):
    study = a_larger(second_request_after=0.2)
    told = carried_out(study, tmp_path, data)
    assert told["second"] not in (None, told["target"])
    for label in ("removal", "removal_recombined"):
        assert told["runs"][label]["failed"] == ""
        assert told["runs"][label]["moments"]["removed"] >= 0.25
        assert len(told["runs"][label]["looks"]["site_accuracy"][0]) == 2
    run = UnitRun(study, tasks_of(study, tmp_path, data)[0].unit, tmp_path, data)
    assert run.setting(without_target=True).sites == run.hospitals.retained()
    assert run.hospitals.erased == {told["target"], told["second"]}


def test_a_request_during_a_partition_is_carried_out_before_its_end(data, tmp_path):
    study = a_larger(partition={"start": -3.0, "end": 6.0, "sites": 2})
    told = carried_out(study, tmp_path, data)
    for label in ("removal", "removal_recombined"):
        assert told["runs"][label]["moments"]["finished"] < 6.0


def test_a_unit_taken_up_again_goes_on_with_the_same_partition(data, tmp_path):
    study = a_larger(partition={"start": -3.0, "end": 6.0, "sites": 2})
    first = study.model_copy(update={"methods": study.methods[:1]})
    in_this_process(first, tmp_path / "twice", data)
    twice = carried_out(study, tmp_path / "twice", data)
    assert twice == carried_out(study, tmp_path / "once", data)


def test_a_study_that_uses_no_later_key_keeps_its_digest() -> None:
    study = a_study()
    digest = study.digest(study.images[0])
    assert digest == "ae3b356d6dc23e9eb60ae71ea6153d9037591376b540df7d1f1cbe8df9c54063"
    changed = a_study(second_request_after=1.0)
    assert changed.digest(changed.images[0]) != digest


@pytest.mark.parametrize(
    "more",
    [
        {"sites": 2, "second_request_after": 1.0},
        {"sites": 3, "partition": {"sites": 2}},
        {"partition": {"start": 5.0, "end": 1.0}},
    ],
)
def test_a_study_that_leaves_no_site_is_refused(more) -> None:
    with pytest.raises(BadConfig, match=r"federation to erase|leaves at least|ends after"):
        a_study(**more)
