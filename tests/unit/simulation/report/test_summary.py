import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_builders import falling, level, method, parsed, small_study, unit, write_units

from letheon.errors import BadData
from letheon.simulation import units
from letheon.simulation.report import unit_file
from letheon.simulation.report.summary import summarise, summarise_units

STUDY = parsed(*small_study())
WHOLE = json.dumps(summarise_units(STUDY).to_json())


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(len(STUDY))))
def test_the_order_of_the_files_changes_nothing(order):
    units = [STUDY[place] for place in order]
    assert json.dumps(summarise_units(units).to_json()) == WHOLE


def test_a_summary_is_json_without_numbers_that_are_not_finite(tmp_path):
    told = summarise(write_units(tmp_path, small_study())).to_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == json.loads(WHOLE)
    assert told["study"] == "core"


def test_an_empty_folder_is_a_note_and_no_crash(tmp_path):
    summary = summarise(tmp_path)
    assert summary.groups == ()
    assert summary.notes == ("no unit file was found",)


def test_what_is_incomplete_is_noted():
    whole = unit(0, runs={"removal": method(), "leave": method()})
    lacking = unit(1, runs={"removal": method()})
    begun = {**unit(2), "runs": {}}
    notes = "\n".join(summarise_units(parsed(whole, lacking, begun)).notes)
    assert "leave is missing for seed 1" in notes
    assert "pneumonia-backdoored-2: left out" in notes
    assert "pneumonia: no honest units" in notes


def test_failures_are_listed_by_seed():
    good, bad = method(), method(accuracy=falling(0.5, 0.8, at=100), disclosed=level(0.4))
    (group,) = summarise_units(
        parsed(unit(0, runs={"removal": good}), unit(1, runs={"removal": bad}))
    ).groups
    (failure,) = group.failures
    assert (failure.label, failure.seed) == ("removal", 1)
    assert failure.gaps["accuracy_150"] == pytest.approx(-10.0)
    assert failure.gaps["disclosed_max"] == pytest.approx(38.0)


def test_units_of_different_settings_are_refused():
    with pytest.raises(BadData, match="different studies or settings"):
        summarise_units(parsed(unit(0), unit(1, settings="bb" * 32)))


def test_a_file_that_is_no_unit_is_named(tmp_path):
    (tmp_path / "x.json").write_text('{"format": "something/1"}')
    with pytest.raises(BadData, match=r"x\.json: format"):
        summarise(tmp_path)


def test_the_format_is_the_one_studies_write():
    assert unit_file.FORMAT == units.FORMAT
