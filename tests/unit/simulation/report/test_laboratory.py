import json

import pytest

from letheon.errors import BadData
from letheon.simulation.report.laboratory import (
    LIRA_FILE,
    STATISTICS_FILE,
    laboratory_not_run,
    laboratory_sections,
)
from letheon.simulation.report.page import render_page

LIRA = {
    "format": "letheon-study-lira/1",
    "study": "core",
    "images": "blood",
    "moment": 60,
    "shadows": 64,
    "steps": 400,
    "units": [
        {
            "seed": seed,
            "members": 100,
            "others": 100,
            "models": {"before": {"auc": [0.6, 0.55, 0.65], "tpr_at_1pct": [0.05, 0.02, 0.1]}},
        }
        for seed in (0, 1)
    ],
}
MEASURED = {"accuracy": 0.9, "disclosed": 0.5, "undisclosed": None, "membership_auc": 0.52}
STATISTICS = {
    "format": "letheon-study-statistics/1",
    "images": "pneumonia",
    "units": [
        {"kind": "backdoored", "seed": 0, "heads": {"removal+60": {"re_estimated": MEASURED}}}
    ],
}


def test_the_results_of_both_experiments_are_sections_of_the_page(tmp_path):
    (tmp_path / LIRA_FILE).write_text(json.dumps(LIRA))
    (tmp_path / STATISTICS_FILE).write_text(json.dumps(STATISTICS))
    page = render_page({}, tmp_path, laboratory=tmp_path)
    assert "## LiRA on heads of the core study" in page
    assert "| before | 2 | 0.600 ± 0.000 | 0: 0.60 [0.55, 0.65]; 1: 0.60 [0.55, 0.65] |" in page
    assert "| removal+60 | re_estimated | 1 | 90.0 | 50.0 | - | 0.520 |" in page
    assert laboratory_not_run(tmp_path) == []


def test_an_experiment_without_a_result_is_listed_as_not_run(tmp_path):
    (tmp_path / "stages.toml").write_text("")
    assert laboratory_sections(tmp_path) == []
    assert [sentence.split()[0] for sentence in laboratory_not_run(tmp_path)] == [
        "**lira**",
        "**statistics-leak**",
    ]


def test_a_file_that_is_no_result_is_named(tmp_path):
    (tmp_path / LIRA_FILE).write_text("{}")
    with pytest.raises(BadData, match=r"lira\.json: format"):
        laboratory_sections(tmp_path)
