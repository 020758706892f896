import pytest
from study_builders import level, method, parsed, unit, write_units

from letheon.simulation.report.choice import choice_section, chosen, settings_of
from letheon.simulation.report.rendering import render


def _units(**runs):
    return parsed(*(unit(seed, runs=runs) for seed in (100, 101)))


def _setting(accuracy, disclosed):
    return method(accuracy=level(accuracy), disclosed=level(disclosed))


def test_of_the_settings_that_forget_the_most_accurate_is_chosen():
    units = _units(
        pga_001_24=_setting(0.95, 0.30),
        pga_003_24=_setting(0.88, 0.02),
        pga_01_48=_setting(0.89, 0.03),
    )
    assert chosen(settings_of(units))["pga"].label == "pga_01_48"


def test_where_no_setting_forgets_the_one_that_leaves_the_least_is_chosen():
    units = _units(pga_001_24=_setting(0.95, 0.30), pga_003_24=_setting(0.88, 0.20))
    assert chosen(settings_of(units))["pga"].label == "pga_003_24"


def test_a_label_without_numbers_is_a_method_of_one_setting():
    (found,) = settings_of(_units(removal=_setting(0.9, 0.02)))
    assert (found.method, found.label) == ("removal", "removal")
    assert found.accuracy == pytest.approx(0.0)


def test_a_setting_that_some_units_lack_is_left_out():
    units = parsed(unit(100, runs={"pga_001_24": method()}), unit(101, runs={}))
    assert settings_of(units) == []


def test_the_chosen_setting_is_bold_and_the_study_has_no_pictures(tmp_path):
    runs = {"pga_001_24": method(), "pga_003_24": _setting(0.5, 0.02)}
    units = [{**unit(seed, runs=runs), "study": "tuning"} for seed in (100, 101)]
    write_units(tmp_path / "results" / "tuning", units)
    (tmp_path / "studies").mkdir()
    files = render(tmp_path / "results", tmp_path / "studies")
    assert b"**pga_001_24**" in files["results.md"]
    assert list(files) == ["results.md"]
    assert "pga_003_24" in choice_section(parsed(*units))
