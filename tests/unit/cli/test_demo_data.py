"""Where the demo finds its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from letheon.cli.demo import data
from letheon.cli.demo.data import Backdoor, find_images, resplit, trimmed
from letheon.cli.local.dataset import make_synthetic
from letheon.errors import BadData
from letheon.imaging.backdoor import Trigger


def a_file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    np.savez(
        path,
        images=rng.integers(0, 255, (60, 8, 8), dtype=np.uint8),
        labels=np.tile([0, 1], 30),
        class_names=np.array(["a", "b"]),
        split=np.repeat([0, 1, 2], 20),
    )
    return path


def find(given: Path | None, dataset: str | None = None, **more: object) -> data.Found:
    return find_images(given, dataset, seed=0, download_to=Path("unused"), offline=True)


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = a_file(tmp_path / "any.npz")
    assert find(path).dataset.name == "any"


def test_a_folder_prefers_pneumonia_also_one_level_down(tmp_path: Path) -> None:
    a_file(tmp_path / "pbc_blood_28.npz")
    a_file(tmp_path / "x" / "pneumoniamnist.npz")
    assert find(tmp_path).dataset.name == "pneumoniamnist"
    assert find(tmp_path, "pbc_blood_28").dataset.name == "pbc_blood_28"


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"pneumoniamnist\.npz or pbc_blood_28\.npz"):
        find(tmp_path)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="nowhere"):
        find(tmp_path / "nowhere")


def test_the_cache_comes_before_phantoms_and_phantoms_are_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "MEDMNIST_CACHE", tmp_path)
    found = find(None)
    assert found.dataset.name == "synthetic"
    assert found.origin.startswith("SYNTHETIC phantoms, no medical images")
    a_file(tmp_path / "pneumoniamnist.npz")
    assert find(None).dataset.name == "pneumoniamnist"


def test_trimming_keeps_at_most_so_many(tmp_path: Path) -> None:
    dataset = trimmed(find(a_file(tmp_path / "a.npz")).dataset, training=7, test=100, seed=0)
    assert (len(dataset.training), len(dataset.test)) == (7, 20)


def test_a_planted_backdoor_relabels_a_share_of_the_other_classes(tmp_path: Path) -> None:
    records = find(a_file(tmp_path / "a.npz")).dataset.training
    planted = Backdoor(Trigger(), 0, 0.5, 0).plant(records)
    assert int((planted.labels == 0).sum()) == 15


def test_a_new_split_keeps_every_image_and_no_patient_twice() -> None:
    dataset = make_synthetic(0)
    split = resplit(dataset, seed=1)
    before = (dataset.training, dataset.validation, dataset.test)
    after = (split.training, split.validation, split.test)
    assert sorted(r for part in after for r in part.record_ids) == sorted(
        r for part in before for r in part.record_ids
    )
    patients = [set(part.patients or ()) for part in after]
    assert not patients[0] & patients[1]
    assert not patients[0] & patients[2]
    assert not patients[1] & patients[2]
