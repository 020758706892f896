"""A local federation whose sites each have data of their own."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from letheon.cli.initial_model import write_federation
from letheon.cli.local import configs
from letheon.cli.local.folder import FederationFolder, read_marker
from letheon.cli.local.sites_file import prepare_sites, read_sites_file
from letheon.cli.main import app
from letheon.errors import BadConfig, UnknownPlugin

PLAN = """
name = "rows"
classes = 2
task = "tabular"
model = { plugin = "mlp", arguments = { hidden = [] } }
image = { features = 5 }
"""
SITES = """
plan = "plan.toml"

[agent]
control_share = 0.2
[agent.data]
plugin = "tabular_csv"
[agent.data.arguments]
target = "num"
[agent.training]
code = "{here}/train.py:fit"

[sites.north.data.arguments]
path = "{data}/north.csv"
[sites.south]
control_share = 0.3
[sites.south.data.arguments]
path = "{data}/south.csv"
"""


def sites_file(folder: Path, text: str = SITES) -> Path:
    (folder / "plan.toml").write_text(PLAN)
    (folder / "sites.toml").write_text(text)
    return folder / "sites.toml"


@pytest.fixture(autouse=True)
def no_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LETHEON_DATA", raising=False)


def test_what_all_sites_share_and_what_each_says_come_together(tmp_path: Path) -> None:
    told = read_sites_file(sites_file(tmp_path), tmp_path)
    assert told.plan == tmp_path / "plan.toml"
    assert told.agents["north"] == {
        "control_share": 0.2,
        "data": {
            "plugin": "tabular_csv",
            "arguments": {"target": "num", "path": f"{tmp_path}/north.csv"},
        },
        "training": {"code": f"{tmp_path}/train.py:fit"},
    }
    assert told.agents["south"]["control_share"] == 0.3


def test_a_prepared_site_gets_its_own_configuration(tmp_path: Path) -> None:
    folder = FederationFolder(tmp_path / "fed")
    # The plan as a table of the file itself, and images for the calibrator.
    shared = SITES.replace('plan = "plan.toml"', "")
    text = f'{shared}\n[plan]\n{PLAN.strip()}\n[calibrator.audit]\nplugin = "npz"\n'
    made = prepare_sites(folder, read_sites_file(sites_file(tmp_path, text), tmp_path), seed=0)
    assert read_marker(folder) == made
    assert made.sites == ("north", "south")
    assert json.loads(folder.plan.read_bytes())["task"]["plugin"] == "tabular"
    path = configs.write_agent(
        folder,
        "north",
        coordinator="127.0.0.1:1",
        settings={"min_interval_seconds": 0.5},
        metrics="127.0.0.1:2",
    )
    written = tomllib.loads(path.read_text())
    assert written["site"] == "north"
    assert written["data"]["arguments"]["path"] == f"{tmp_path}/north.csv"
    assert written["training"] == {
        "min_interval_seconds": 0.5,
        "code": f"{tmp_path}/train.py:fit",
    }
    path = configs.write_calibrator(folder, coordinator="a:1", redis_url="redis://", metrics="b:2")
    written = tomllib.loads(path.read_text())
    assert written["audit"] == {"plugin": "npz"}
    assert "calibration" not in written


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[agent]", "[agents]", "unknown key 'agents'; valid: agent, calibrator, plan, sites"),
        ("[sites.north", "[sites.south", r"is no TOML|two sites"),
        ("sites.north", 'sites."North Clinic"', "North Clinic"),
        ('plan = "plan.toml"', "", "plan is the name of a plan draft"),
        ('plan = "plan.toml"', "plan = = 3", "is no TOML"),
    ],
)
def test_a_file_that_names_no_federation_is_refused(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    with pytest.raises(BadConfig, match=sentence):
        read_sites_file(sites_file(tmp_path, SITES.replace(old, new)), tmp_path)


def test_data_that_is_spoken_of_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="give --data FOLDER or set LETHEON_DATA"):
        read_sites_file(sites_file(tmp_path), None)
    with pytest.raises(BadConfig, match="there is no folder"):
        read_sites_file(sites_file(tmp_path), tmp_path / "nowhere")
    with pytest.raises(BadConfig, match="cannot be read: No such file"):
        read_sites_file(tmp_path / "none.toml", None)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('task = "tabular"', "", 'set task = "tabular"'),
        ("features = 5", "channels = 1, height = 8, width = 8", "the task tabular takes rows"),
        ('task = "tabular"', 'task = "regression"', "there are: classification"),
    ],
)
def test_a_plan_whose_parts_do_not_fit_is_refused(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    draft = tmp_path / "plan.toml"
    draft.write_text(PLAN.replace(old, new))
    with pytest.raises((BadConfig, UnknownPlugin), match=sentence):
        write_federation(draft, tmp_path / "fed", seed=0)
    assert not (tmp_path / "fed").exists()


def test_a_network_of_another_task_is_refused(tmp_path: Path) -> None:
    draft = tmp_path / "plan.toml"
    image = "channels = 1, height = 16, width = 16"
    text = PLAN.replace("features = 5", image).replace('"tabular"', '"segmentation"')
    draft.write_text(text.replace('"mlp", arguments = { hidden = [] }', '"small_cnn"'))
    with pytest.raises(BadConfig, match="choose a model that fits the task"):
        write_federation(draft, tmp_path / "fed", seed=0)


def test_up_says_what_does_not_go_together(tmp_path: Path) -> None:
    told = ["up", "--sites-file", str(sites_file(tmp_path)), "--dir", str(tmp_path / "fed")]
    both = CliRunner().invoke(app, [*told, "--synthetic"])
    assert both.exit_code == 78
    assert "leave --synthetic and --plan out" in both.stderr
