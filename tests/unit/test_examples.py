"""The examples: what their files say can be built, and their own code is loaded."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from letheon import registry
from letheon.cli.local.score_picture import draw_scores
from letheon.cli.local.sites_file import SitesFile, read_sites_file
from letheon.federation.plan import PlanDraft
from letheon.imaging.sources.source import Source
from letheon.imaging.tasks.task import build_task
from letheon.site.code import load_code

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.parent.name for path in ROOT.glob("examples/*/sites.toml"))


def told(name: str, data: Path) -> SitesFile:
    return read_sites_file(ROOT / "examples" / name / "sites.toml", data)


def draft(name: str, data: Path) -> PlanDraft:
    return PlanDraft.model_validate(told(name, data).plan)


def source(settings: dict[str, Any]) -> Source:
    data = settings["data"]
    built: Source = registry.build(registry.SOURCES, data["plugin"], data["arguments"])
    return built


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_all_its_parts(name: str, tmp_path: Path) -> None:
    folder = ROOT / "examples" / name
    assert f"python examples/{name}/run.py" in (folder / "README.md").read_text()
    plan = draft(name, tmp_path)
    task = build_task(plan.task.plugin, plan.task.arguments)
    task.output_shape(plan.image.shape, plan.classes)
    assert plan.model.plugin in registry.names(registry.MODELS)
    for settings in told(name, tmp_path).agents.values():
        assert isinstance(source(settings), Source)
    spec = importlib.util.spec_from_file_location(f"example_{name}", folder / "run.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))  # starts nothing: no main


def test_the_own_code_of_the_examples_is_loaded(tmp_path: Path) -> None:
    agents = told("own_code", tmp_path).agents
    codes = [each["training"]["code"] for each in agents.values() if "training" in each]
    assert len(codes) == 3
    for code in codes:
        if "client_algo" in code:
            pytest.importorskip("monai")
        load_code(code)


@pytest.mark.parametrize("name", ["heart_disease", "own_code"])
def test_each_hospitals_table_fits_the_plan(name: str) -> None:
    data = Path(os.environ.get("LETHEON_DATA", ROOT.parent / "shared" / "data"))
    if not (data / "heart_disease").is_dir():
        pytest.skip(f"no heart_disease under {data} (set LETHEON_DATA)")
    plan = draft(name, data)
    task = build_task(plan.task.plugin, plan.task.arguments)
    counts = {}
    for site, settings in told(name, data).agents.items():
        records = source(settings).load()
        task.check_fit(
            records, shape=plan.image.shape, classes=plan.classes, class_names=plan.class_names
        )
        counts[site] = len(records)
    assert counts == {"cleveland": 303, "hungary": 294, "switzerland": 123, "va-long-beach": 200}


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = draw_scores(
        tmp_path / "new" / "scores.png",
        {"north": [(0, 0.2), (8, 0.7)], "south": [(0, 0.3), (8, 0.6)]},
        title="Two sites",
        score="accuracy",
        marks={"south removed": 6, "gate passed": 7},
        dashed=["south"],
    )
    assert path.read_bytes().startswith(b"\x89PNG")
