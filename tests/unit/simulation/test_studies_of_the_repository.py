"""The studies of the evidence: each can be run as it stands, each of its methods to the end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tiny_study import a_study, in_this_process, write_images
from typer.testing import CliRunner

from letheon.cli.main import app
from letheon.simulation.config import MethodConfig, StudyConfig, load_study
from letheon.simulation.report.stages import load_stages
from letheon.simulation.task import Failed

ROOT = Path(__file__).parents[3]
STUDIES = ROOT / "benchmarks" / "studies"
DATA = Path(os.environ.get("LETHEON_DATA", ROOT.parent / "shared" / "data"))
LISTED = [
    stage.study
    for stage in load_stages(STUDIES / "stages.toml")
    if (STUDIES / f"{stage.study}.toml").is_file()
]
METHODS = load_study(STUDIES / "methods.toml").methods


@pytest.mark.parametrize("name", LISTED)
def test_a_study_of_the_evidence_passes_the_check_before_its_first_hour(
    name: str, tmp_path: Path
) -> None:
    path = STUDIES / f"{name}.toml"
    if missing := [i.file for i in load_study(path).images if not (DATA / i.file).is_file()]:
        pytest.skip(f"no {missing[0]} under {DATA} (set LETHEON_DATA)")
    words = ["simulate", "--config", str(path), "--data", str(DATA), "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, [*words, "--dry-run", "--format", "json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["units"]


def test_what_differs_from_the_core_study_is_what_a_file_is_about() -> None:
    core = load_study(STUDIES / "core.toml")
    about = {
        "methods": set(),
        "share-5": {"target_share"},
        "share-40": {"target_share"},
        "sites-10": {"sites", "target_share", "before"},
        "sites-20": {"sites", "target_share", "before"},
        "pareto": {"times"},
        "straggler": {"times"},
        "drop-outs": {"times"},
        "natural": set(),
        "random-split": set(),
        "densenet": {"plan"},
        "concurrent": {"second_request_after"},
        "partition": {"partition"},
    }
    assert set(about) == {name for name in LISTED if name not in ("core", "patients", "persons")}
    for name, keys in about.items():
        study = load_study(STUDIES / f"{name}.toml")
        assert _differing(study, core) == keys, name
        assert set(study.seeds) <= set(core.seeds)


def _differing(study: StudyConfig, core: StudyConfig) -> set[str]:
    lists = {"name", "seeds", "kinds", "images", "methods", "after_honest"}
    own, other = study.model_dump(exclude=lists), core.model_dump(exclude=lists)
    return {key for key in own if own[key] != other[key]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny study's images and references."""
    folder = tmp_path_factory.mktemp("tiny")
    write_images(folder / "bars.npz")
    return folder


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
def test_every_method_of_the_study_of_methods_runs_to_the_end(
    method: MethodConfig, trained: Path
) -> None:
    told = {**method.model_dump(), "variant_of": None}
    # Long enough for a method that prepares its patch before the removal.
    study = a_study(seeds=[0], methods=[told], after=12, snapshots=[2, 12])
    events = in_this_process(study, trained / "out", trained)
    assert [each for each in events if isinstance(each, Failed)] == []
    unit = json.loads((trained / "out" / "bars-backdoored-0.json").read_text())
    run = unit["runs"][told["label"]]
    assert run["failed"] == ""
    assert run["moments"]["removed"] is not None
    assert set(run["evidence"]) == {"2", "12"}


def test_half_a_subtraction_is_the_whole_one_with_half_of_it_added_back(
    trained: Path,
) -> None:
    methods = [
        {"label": "whole", "method": "removal"},
        {"label": "half", "method": "removal", "subtracted_share": 0.5},
        {"label": "none", "method": "leave"},
    ]
    study = a_study(seeds=[0], methods=methods, snapshots=[2], look_every=1)
    in_this_process(study, trained / "shares", trained)
    unit = json.loads((trained / "shares" / "bars-backdoored-0.json").read_text())
    first = {label: unit["runs"][label]["looks"]["loss"][0] for label in ("whole", "half", "none")}
    assert len(set(first.values())) == 3
