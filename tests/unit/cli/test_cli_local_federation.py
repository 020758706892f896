"""Preparing a federation on one machine."""

from __future__ import annotations

import json
import socket
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_builders import some_records
from typer.testing import CliRunner

from letheon.cli.local.dataset import Dataset, make_synthetic, read_npz
from letheon.cli.local.folder import FederationFolder, Made, read_marker, write_marker
from letheon.cli.local.preparation import (
    RECORDS_FILE,
    Recipe,
    dealing_labels,
    draft_of,
    halves,
    prepare,
)
from letheon.cli.local.running import Pace, check_port, free_ports
from letheon.cli.local.toml_text import toml_text
from letheon.cli.main import app
from letheon.errors import BadConfig, BadData
from letheon.federation.plan import PlanDraft
from letheon.imaging.partition import dirichlet_partition
from letheon.imaging.sources.npz import NpzSource
from letheon.imaging.sources.synthetic import SyntheticSource

_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
_KEYS = st.text("abcdefgh-_ .ü", min_size=1, max_size=8)
_SCALARS = st.one_of(_TEXT, st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False))
_TABLES = st.recursive(
    st.dictionaries(_KEYS, st.one_of(_SCALARS, st.lists(_SCALARS, max_size=3)), max_size=4),
    lambda inner: st.dictionaries(_KEYS, st.one_of(_SCALARS, inner), max_size=4),
    max_leaves=8,
)


@given(_TABLES)
def test_what_is_written_as_toml_is_read_back(table: dict[str, object]) -> None:
    assert tomllib.loads(toml_text(table)) == table  # type: ignore[arg-type]


def small() -> Dataset:
    def draw(records: int, seed: int) -> object:
        return SyntheticSource(records, 2, 1, 8, 8, seed=seed).load()

    return Dataset("small", draw(120, 0), draw(40, 1), draw(20, 2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "volumes", "model"),
    [
        ("classification", False, "small_cnn"),
        ("classification", True, "small_cnn_3d"),
        ("multi_label", False, "small_cnn"),
        ("tabular", False, "mlp"),
        ("segmentation", True, "monai_unet"),
    ],
)
def test_a_data_set_gets_the_plan_its_labels_are_made_for(
    kind: str, volumes: bool, model: str
) -> None:
    records = some_records(kind, volumes=volumes)
    draft = PlanDraft.model_validate(draft_of(Dataset("some", records, records, records)))
    assert draft.task.plugin == kind
    assert draft.model.plugin == model
    assert draft.image.shape == records.images.shape[1:]
    assert len(dirichlet_partition(dealing_labels(records), 3, 1.0, 0)) == 3


def test_a_prepared_folder_deals_every_training_record_once(tmp_path: Path) -> None:
    folder, dataset = FederationFolder(tmp_path / "fed"), small()
    made = prepare(folder, dataset, Recipe(sites=3, alpha=1.0, seed=1))
    assert read_marker(folder) == made
    assert json.loads(folder.plan.read_bytes())["layout"]
    assert folder.weights.is_file()
    shards = [
        NpzSource(path=folder.site(site) / RECORDS_FILE, split="all").load() for site in made.sites
    ]
    ids = sorted(record for shard in shards for record in shard.record_ids)
    assert ids == sorted(dataset.training.record_ids)


def test_leaving_a_site_out_changes_nothing_for_the_others(tmp_path: Path) -> None:
    dataset = small()
    whole, rest = FederationFolder(tmp_path / "whole"), FederationFolder(tmp_path / "rest")
    recipe = Recipe(sites=3, alpha=1.0, seed=1)
    prepare(whole, dataset, recipe)
    made = prepare(rest, dataset, replace(recipe, left_out=frozenset({"site-2"})))
    assert made.sites == ("site-1", "site-3")
    assert not rest.site("site-2").exists()
    for site in made.sites:
        one, other = (NpzSource(path=f.site(site) / RECORDS_FILE, split="all").load()
                      for f in (whole, rest))  # fmt: skip
        assert one == other
    assert whole.weights.read_bytes() == rest.weights.read_bytes()


def test_a_plan_that_cannot_be_built_is_told_in_a_sentence(tmp_path: Path) -> None:
    draft = tmp_path / "plan.toml"
    draft.write_text("name = 'x'\nclasses = 'two'\n")
    with pytest.raises(BadConfig, match="model"):
        prepare(FederationFolder(tmp_path / "fed"), small(), Recipe(3, 1.0, 0, plan=draft))
    assert not (tmp_path / "fed").exists()


def test_calibration_and_audit_images_share_no_patient() -> None:
    first, second = halves(make_synthetic(0).validation, seed=3)
    assert first.patients is not None
    assert second.patients is not None
    assert not set(first.patients) & set(second.patients)
    assert abs(len(first) - len(second)) < 40


def test_a_damaged_marker_is_refused(tmp_path: Path) -> None:
    folder = FederationFolder(tmp_path)
    write_marker(folder, Made(("site-1",), "x", 0, 1.0))
    folder.marker.write_text("{}")
    with pytest.raises(BadConfig, match="damaged"):
        read_marker(folder)


def test_a_federation_of_another_size_is_not_continued(tmp_path: Path) -> None:
    write_marker(FederationFolder(tmp_path), Made(("site-1", "site-2"), "x", 0, 1.0))
    words = ["up", "--dir", str(tmp_path), "--sites", "3", "--synthetic", "--port", "0"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 78
    assert "holds a federation of 2 sites" in result.stderr


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    words = ["up", "--data", str(tmp_path / "no.npz"), "--dir", str(tmp_path / "d")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 78
    assert "no.npz" in result.stderr
    assert not (tmp_path / "d").exists()


def test_data_with_one_class_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.npz"
    np.savez(
        path,
        images=np.zeros((30, 8, 8), np.uint8),
        labels=np.zeros(30, np.int64),
        class_names=np.array(["a", "b"]),
        split=np.repeat([0, 1, 2], 10),
    )
    with pytest.raises(BadData, match="class"):
        read_npz(path)


def test_a_port_in_use_is_refused_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadConfig, match=f"port {port}"):
            check_port(port)


def test_a_site_has_a_pace_of_its_own() -> None:
    pace = Pace(1.5, {"site-4": 3.0})
    assert (pace.of("site-1"), pace.of("site-4")) == (1.5, 3.0)
    assert pace.settings("site-4") == {"min_interval_seconds": 3.0}


def test_the_trainings_of_a_straggler_last() -> None:
    pace = Pace(1.5, stragglers={"site-5": 15.0})
    assert pace.of("site-5") == 15.0
    assert pace.settings("site-5") == {"min_duration_seconds": 15.0}
    assert pace.settings("site-1") == {"min_interval_seconds": 1.5}


def test_an_existing_federation_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    result = CliRunner().invoke(app, ["federation", "init", "p.toml", "--out", str(tmp_path)])
    assert result.exit_code == 78
    assert "holds a federation already" in result.stderr


def test_no_two_services_of_a_federation_get_the_same_port() -> None:
    ports = free_ports(500)
    assert len(set(ports)) == 500
    assert ports[0] not in free_ports(500, but=ports[0])
