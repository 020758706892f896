"""`letheon simulate`: what it refuses before any work, what it says, and what it counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_study import TOML, a_study, in_this_process, write_images
from typer.testing import CliRunner, Result

from letheon.cli.main import app
from letheon.cli.simulate import narrowed
from letheon.cli.study_progress import StudyProgress
from letheon.errors import BadConfig
from letheon.simulation.folder import claim_folder, keep_finished
from letheon.simulation.task import Begun, Failed, Finished
from letheon.simulation.units import units_of

REMOVAL = 'label = "removal"\nmethod = "removal"'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "study.toml").write_text(TOML)
    write_images(tmp_path / "bars.npz")
    return tmp_path


def simulate(folder: Path, *words: str) -> Result:
    given = ["--config", str(folder / "study.toml"), "--out", str(folder / "out")]
    if "--data" not in words:
        given += ["--data", str(folder)]
    return CliRunner().invoke(app, ["simulate", *given, *words])


def test_a_dry_run_lists_units_and_what_is_done_and_writes_nothing(folder: Path) -> None:
    shown = simulate(folder, "--dry-run", "--format", "json")
    assert shown.exit_code == 0, shown.output
    first, second = json.loads(shown.stdout)["units"]
    assert (first["unit"], second["unit"]) == ("bars-backdoored-0", "bars-backdoored-1")
    assert first["missing"] == ["training", "retrain", "retrain_again", "removal", "leave"]
    assert (first["branches"], first["done"]) == (5, 0)
    assert not (folder / "out").exists()


def test_a_dry_run_sees_what_a_stopped_run_has_done(folder: Path) -> None:
    in_this_process(a_study(seeds=[0], methods=[]), folder / "out", folder)
    shown = simulate(folder, "--dry-run")
    assert "3 of 5" in shown.stdout
    assert "0 of 5" in shown.stdout


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('method = "leave"', 'method = "forget"', ["'leave'", "'forget'", "removal"]),
        (REMOVAL, f"{REMOVAL}\narguments = {{ depth = 3 }}", ["'removal'", "depth"]),
        ('method = "leave"', 'method = "leave"\nsubtracted_share = 0.5', ["'leave'", "subtracts"]),
        ('"small_cnn"', '"huge_cnn"', ["'huge_cnn'", "small_cnn"]),
        ("width = 4", "width = 5", ["width", "multiple of 4"]),
        ('"bars.npz"', '"bones.npz"', ["'bars'", "bones.npz", "LETHEON_DATA"]),
        ("sites = 3", "hospitals = 3", ["hospitals", "unknown key"]),
        ('"leave"\nmethod', '"retrain"\nmethod', ["'retrain'", "reference"]),
        ('name = "bars"', 'name = "../bars"', ["images.0.name"]),
        ("snapshots = [2, 4]", "snapshots = []", ["snapshots"]),
        ("before = 4", "before = ", ["no TOML"]),
    ],
)
def test_a_study_that_cannot_run_is_refused_with_a_sentence(
    folder: Path, old: str, new: str, words: list[str]
) -> None:
    assert old in TOML
    (folder / "study.toml").write_text(TOML.replace(old, new))
    shown = simulate(folder)
    assert shown.exit_code == 78, shown.output
    assert [word for word in words if word not in shown.stderr] == []
    assert not (folder / "out").exists()


@pytest.mark.parametrize("records", [5, 600])
def test_too_few_records_are_refused_before_a_worker_starts(folder: Path, records: int) -> None:
    write_images(folder / "bars.npz", records=records)
    shown = simulate(folder, "--data", str(folder / "bars.npz"), "--dry-run")
    assert shown.exit_code == 78, shown.output
    assert "few" in shown.stderr


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--only", "removal,forget"], 78, "it has: removal, leave"),
        (["--seeds", "one"], 2, "--seeds takes whole numbers"),
        (["--data", "nowhere"], 78, "nowhere"),
    ],
)
def test_what_the_command_line_gets_wrong_is_named(
    folder: Path, words: list[str], code: int, told: str
) -> None:
    shown = simulate(folder, *words)
    assert shown.exit_code == code
    assert told in shown.stderr


def test_the_command_line_narrows_a_study(folder: Path) -> None:
    study = narrowed(a_study(), data=folder / "bars.npz", seeds="4,2,4", only="leave")
    assert study.seeds == (4, 2)
    assert [method.label for method in study.methods] == ["leave"]
    assert [images.file for images in study.images] == [str(folder / "bars.npz")]


def test_a_folder_never_mixes_two_settings(tmp_path: Path) -> None:
    claim_folder(a_study(), tmp_path)
    claim_folder(a_study(seeds=[7], methods=[{"label": "pga", "method": "pga"}]), tmp_path)
    with pytest.raises(BadConfig, match="alpha"):
        claim_folder(a_study(alpha=0.5), tmp_path)
    with pytest.raises(BadConfig, match="methods 'pga'"):
        claim_folder(a_study(methods=[{"label": "pga", "method": "leave"}]), tmp_path)
    with pytest.raises(BadConfig, match="images 'bars'"):
        claim_folder(a_study(images=[{"name": "bars", "file": "other.npz"}]), tmp_path)


def test_a_folder_made_before_there_was_a_key_of_a_method_is_still_the_same(tmp_path: Path) -> None:
    claim_folder(a_study(), tmp_path)
    made_with = tmp_path / "state" / "study.json"
    told = json.loads(made_with.read_text())
    every_key = {"label": "leave", "method": "leave", "arguments": {}, "kinds": None, "guard": None}
    told["methods"]["leave"] = every_key
    made_with.write_text(json.dumps(told))
    variant = {"label": "leave", "method": "leave", "variant_of": "removal"}
    claim_folder(a_study(methods=[{"label": "removal", "method": "removal"}, variant]), tmp_path)
    with pytest.raises(BadConfig, match="methods 'leave'"):
        claim_folder(a_study(methods=[{"label": "leave", "method": "leave", "guard": 1}]), tmp_path)


def test_only_results_of_finished_units_are_kept(folder: Path) -> None:
    out, kept = folder / "out", folder / "kept"
    study = a_study(methods=[])
    in_this_process(study.model_copy(update={"seeds": (0,)}), out, folder)
    (out / "bars-backdoored-1.json").write_text("{}")
    keep_finished(study, units_of(study), out, kept)
    assert [path.name for path in kept.iterdir()] == ["bars-backdoored-0.json"]


def test_progress_counts_branches_and_estimates_from_their_pace(tmp_path: Path) -> None:
    study, now = a_study(), [100.0]
    progress = StudyProgress(study, units_of(study), tmp_path, quiet=True, clock=lambda: now[0])
    first, second = (unit.name for unit in units_of(study))
    progress.heard(Begun(first, "training"))
    assert (progress.done, progress.total, progress.left_s()) == (0, 10, None)
    now[0] += 6.0
    progress.heard(Begun(first, "retrain"))
    assert (progress.done, progress.left_s()) == (1, 54.0)
    progress.heard(Finished(first))
    progress.heard(Begun(second, "training"))
    progress.heard(Failed(second, "no room"))
    assert (progress.done, progress.failed) == (5, {second: "no room"})


def test_the_other_commands_bring_no_torch() -> None:
    code = "import sys; import letheon.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_finished_study_starts_no_worker_and_ends_with_one_document(folder: Path) -> None:
    in_this_process(a_study(), folder / "out", folder)
    shown = simulate(folder, "--format", "json", "--keep", str(folder / "kept"))
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    assert [unit["missing"] for unit in told["units"]] == [[], []]
    assert [unit["failure"] for unit in told["units"]] == [None, None]
    assert len(list((folder / "kept").iterdir())) == 2
