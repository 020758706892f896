import hashlib
import io
import os
import subprocess
import sys

import pytest
from rich.console import Console
from study_builders import method, parsed, small_study, unit, write_units

from letheon.errors import BadConfig
from letheon.simulation.report.__main__ import main
from letheon.simulation.report.ablations import bases_of, with_bases
from letheon.simulation.report.page import PICTURES, render_page
from letheon.simulation.report.rendering import differing, read_studies, write
from letheon.simulation.report.stages import Stage, load_stages, not_run
from letheon.simulation.report.summary import summarise_units
from letheon.simulation.report.terminal import print_summary


def _arguments(folder, *more):
    return [
        *("--results", str(folder / "results")),
        *("--studies", str(folder / "studies")),
        *("--docs", str(folder / "docs")),
        *more,
    ]


def _written(folder):
    write_units(folder / "results" / "core", small_study()[:1])
    assert main(_arguments(folder)) == 0
    return folder / "docs"


def _digests(documents):
    return {
        path.relative_to(documents).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(documents.rglob("*.*"))
    }


def test_another_process_makes_the_same_bytes_without_date_or_program(tmp_path):
    documents = _written(tmp_path)
    first = _digests(documents)
    again = [sys.executable, "-m", "letheon.simulation.report", *_arguments(tmp_path, "--check")]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    assert subprocess.run(again, env=environment).returncode == 0
    assert set(first) == {
        "results.md",
        "images/results/core-pneumonia-backdoored.png",
        "images/results/core-pneumonia-latency.png",
        "images/results/core-pneumonia-residue.png",
    }
    for picture in (documents / "images/results").iterdir():
        assert b"Software" not in picture.read_bytes()
        assert b"Creation" not in picture.read_bytes()


def test_check_tells_a_page_edited_by_hand_and_writes_nothing(tmp_path, capsys):
    assert main(_arguments(tmp_path)) == 0
    assert main(_arguments(tmp_path, "--check")) == 0
    page = tmp_path / "docs" / "results.md"
    page.write_text(page.read_text().replace("met", "met with honours"))
    edited = _digests(tmp_path / "docs")
    assert main(_arguments(tmp_path, "--check")) == 1
    assert "results.md differs" in capsys.readouterr().err
    assert _digests(tmp_path / "docs") == edited


def test_check_tells_a_picture_that_no_result_makes(tmp_path):
    old = tmp_path / PICTURES / "old.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"")
    files = {"results.md": b"page", f"{PICTURES}/new.png": b"picture"}
    assert differing(files, tmp_path) == [*sorted(files), f"{PICTURES}/old.png"]
    write(files, tmp_path)
    assert differing(files, tmp_path) == []
    assert not old.exists()


def test_a_bad_unit_file_ends_with_a_sentence(tmp_path, capsys):
    write_units(tmp_path / "results" / "core", [unit()])
    (tmp_path / "results" / "core" / "bad.json").write_text("{}")
    assert main(_arguments(tmp_path)) == 2
    assert "bad.json" in capsys.readouterr().err


def test_without_results_the_page_says_so(tmp_path):
    assert "No results have been committed yet" in render_page(read_studies(tmp_path), tmp_path)


def test_one_seed_and_no_honest_units_make_a_page_with_notes(tmp_path):
    page = render_page({"core": parsed(unit(runs={"removal": method()}))}, tmp_path)
    assert "one seed, so nothing can be shown, only seen" in page
    assert "pneumonia: no honest units" in page
    assert "met, not shown" in page
    assert "nan" not in page
    assert "significant" not in page


def test_studies_stand_in_the_order_of_the_stages_and_others_after_them(tmp_path):
    (tmp_path / "stages.toml").write_text(
        '[[stages]]\nstudy = "wide"\nwhat = "more sites"\n'
        '[[stages]]\nstudy = "core"\nwhat = "both ends"\n'
    )
    page = render_page({name: parsed(unit()) for name in ("alone", "core", "wide")}, tmp_path)
    places = [page.index(f"## Study `{name}`") for name in ("wide", "core", "alone")]
    assert places == sorted(places)
    assert "Both ends. Settings" in page


def test_the_page_shows_floor_ablation_failures_and_wrong_passes(tmp_path):
    page = render_page({"core": parsed(*small_study())}, tmp_path)
    assert "*floor: retrained again*" in page
    assert "| removal_guard | removal |" in page
    assert "| leave | 0 | backdoor, disclosed, at +60 +88.0" in page


def test_only_what_the_file_of_a_study_calls_a_variant_is_one(tmp_path):
    study = tmp_path / "core.toml"
    study.write_text(
        'name = "core"\nseeds = [0]\n[[images]]\nname = "pneumonia"\nfile = "x.npz"\n'
        '[[methods]]\nlabel = "afu_ic"\nmethod = "afu_ic"\n'
        '[[methods]]\nlabel = "quick"\nmethod = "afu_ic"\nvariant_of = "afu_ic"\n'
        '[[methods]]\nlabel = "unrun"\nmethod = "afu_ic"\nvariant_of = "afu_ic"\n'
    )
    runs = {"afu_ic": method(), "afu_ic_rebased": method(), "quick": method()}
    units = with_bases(parsed(unit(runs=runs)), study)
    assert bases_of(units) == {"quick": "afu_ic"}
    assert "| quick | afu_ic |" in render_page({"core": units}, tmp_path)
    assert bases_of(with_bases(parsed(unit(runs=runs)), tmp_path / "none.toml")) == {}


def test_a_stage_without_results_is_listed_with_its_reason(tmp_path):
    stage = Stage(study="shares", what="five shares", why_not="It needs a week.")
    (sentence,) = not_run(stage, [], tmp_path / "shares.toml")
    assert sentence == "**shares** (five shares): not run. It needs a week."


def test_missing_units_and_methods_of_a_stage_are_named(tmp_path):
    study = tmp_path / "core.toml"
    study.write_text(
        'name = "core"\nseeds = [0, 1]\nkinds = ["backdoored"]\n'
        '[[images]]\nname = "pneumonia"\nfile = "x.npz"\n'
        '[[methods]]\nlabel = "removal"\nmethod = "removal"\n'
    )
    (sentence,) = not_run(Stage(study="core", what="all"), parsed(unit(0)), study)
    assert "pneumonia, backdoored, seed 0: removal; pneumonia, backdoored, seed 1" in sentence


def test_a_stage_with_an_unknown_key_is_refused(tmp_path):
    path = tmp_path / "stages.toml"
    path.write_text('[[stages]]\nstudy = "core"\nwhat = "x"\nwhen = "soon"\n')
    with pytest.raises(BadConfig, match="when"):
        load_stages(path)


def test_a_quick_run_has_a_table_for_the_terminal():
    out = io.StringIO()
    summary = summarise_units(parsed(unit(runs={"removal": method(last=60)})))
    print_summary(summary, Console(file=out, width=200))
    told = out.getvalue()
    assert "pneumonia, backdoored target, n = 1" in told
    assert "90.0 (0.0)" in told
    assert "note: pneumonia: no honest units" in told
