from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from letheon.errors import BadData
from letheon.imaging.records import Records
from letheon.imaging.sources.npz import NpzSource, write_npz
from letheon.imaging.sources.synthetic import SyntheticSource

RNG = np.random.default_rng(0)


def medmnist(path: Path, **extra: np.ndarray) -> Path:
    arrays: dict[str, np.ndarray] = {}
    for prefix, count in (("train", 6), ("val", 2), ("test", 3)):
        arrays[f"{prefix}_images"] = RNG.integers(0, 256, (count, 5, 4), dtype=np.uint8)
        arrays[f"{prefix}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    np.savez(path, **{**arrays, **extra})
    return path


def table(path: Path, **extra: np.ndarray | None) -> Path:
    arrays: dict[str, np.ndarray | None] = {
        "images": RNG.integers(0, 256, (8, 5, 4, 3), dtype=np.uint8),
        "labels": (np.arange(8) % 3).astype(np.uint8),
        "class_names": np.array(["a", "b", "c"]),
        "split": np.array([0, 0, 0, 0, 1, 1, 2, 0], dtype=np.uint8),
    }
    arrays.update(extra)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_a_medmnist_split_is_read_as_float_images(tmp_path: Path) -> None:
    path = medmnist(tmp_path / "chest.npz")
    records = NpzSource(path, "validation").load()
    stored = np.load(path)["val_images"]
    np.testing.assert_array_equal(records.images[:, 0], stored.astype(np.float32) / np.float32(255))
    assert records.labels.tolist() == [0, 1]
    assert records.record_ids == ("chest:validation:0", "chest:validation:1")
    assert records.class_names == ("class 0", "class 1")
    assert records.patients is None


def test_all_of_a_medmnist_file_is_its_splits_in_order(tmp_path: Path) -> None:
    path = medmnist(tmp_path / "chest.npz")
    every = NpzSource(path, "all").load()
    assert len(every) == 11
    assert every.select(np.arange(6)) == NpzSource(path, "train").load()
    assert every.select([8, 9, 10]) == NpzSource(path, "test").load()


def test_a_table_is_split_by_its_split_array(tmp_path: Path) -> None:
    path = table(tmp_path / "skin.npz")
    train, every = NpzSource(path, "train").load(), NpzSource(path, "all").load()
    assert train.images.shape == (5, 3, 5, 4)
    assert train.record_ids[-1] == "skin:train:7"
    assert train == every.select([0, 1, 2, 3, 7])
    assert train.class_names == ("a", "b", "c")


def test_colour_moves_before_the_rows(tmp_path: Path) -> None:
    images = np.zeros((8, 5, 4, 3), dtype=np.uint8)
    images[2, 1, 3, 2] = 255
    records = NpzSource(table(tmp_path / "t.npz", images=images), "all").load()
    assert records.images[2, 2, 1, 3] == 1.0
    assert records.images.sum() == 1.0


def test_another_split_array_is_chosen_by_key(tmp_path: Path) -> None:
    path = table(tmp_path / "t.npz", split=None, split_subject=np.array([2] * 7 + [0], np.uint8))
    assert len(NpzSource(path, "train", split_key="split_subject").load()) == 1
    with pytest.raises(BadData, match="split_subject by split_key"):
        NpzSource(path, "train").load()


@pytest.mark.parametrize("key", ["patients", "patient", "subject", "lesion"])
def test_patients_are_found_under_their_usual_names(tmp_path: Path, key: str) -> None:
    path = table(tmp_path / "t.npz", **{key: np.arange(8) // 2})
    assert NpzSource(path, "validation").load().patients == ("2", "2")


def test_patients_may_be_named_by_key(tmp_path: Path) -> None:
    path = table(tmp_path / "t.npz", site=np.arange(8), who=np.array(list("abcdefgh")))
    assert NpzSource(path, "validation", patient_key="who").load().patients == ("e", "f")
    with pytest.raises(BadData, match="no array 'whom'"):
        NpzSource(path, patient_key="whom").load()


def test_class_names_can_be_given_for_a_file_without(tmp_path: Path) -> None:
    path = medmnist(tmp_path / "m.npz")
    assert NpzSource(path, class_names=["no", "yes"]).load().class_names == ("no", "yes")
    with pytest.raises(BadData, match="1 class names"):
        NpzSource(path, class_names=["no"]).load()


@pytest.mark.parametrize("patients", [True, False])
@pytest.mark.parametrize("grey_levels", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_shard_reads_back_as_it_was_written(
    tmp_path: Path, channels: int, grey_levels: bool, patients: bool
) -> None:
    records = SyntheticSource(9, 2, channels, 8, 9).load()
    if grey_levels:
        levels = np.rint(records.images * 255).astype(np.uint8)
        records = replace(records, images=levels.astype(np.float32) / np.float32(255))
    if not patients:
        records = replace(records, patients=None)
    path = tmp_path / "new" / "shard.npz"
    write_npz(path, records)
    back = NpzSource(path, split="all").load()
    assert back == records
    assert back.fingerprint() == records.fingerprint()
    assert np.load(path)["images"].dtype == (np.uint8 if grey_levels else np.float32)
    assert [file.name for file in path.parent.iterdir()] == ["shard.npz"]


def test_an_empty_shard_reads_back(tmp_path: Path) -> None:
    empty = SyntheticSource(4, 2, 1, 8, 8).load().select([])
    write_npz(tmp_path / "e.npz", empty)
    assert NpzSource(tmp_path / "e.npz", split="all").load() == empty


def test_a_file_that_is_not_split_is_read_whole_unless_a_split_is_asked_for(tmp_path: Path) -> None:
    records = SyntheticSource(4, 2, 1, 8, 8).load()
    write_npz(tmp_path / "s.npz", records)
    assert NpzSource(tmp_path / "s.npz").load() == records
    with pytest.raises(BadData, match="leave split out"):
        NpzSource(tmp_path / "s.npz", "train").load()


def test_an_unknown_split_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="validation"):
        NpzSource("x.npz", split="dev")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"there is no file .*gone\.npz"):
        NpzSource(tmp_path / "gone.npz").load()


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 torn"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(BadData, match="cannot be read"):
        NpzSource(tmp_path / "bad.npz").load()


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="cannot be read"):
        NpzSource(tmp_path).load()


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(BadData, match="single array"):
        NpzSource(tmp_path / "one.npz").load()


def test_a_damaged_array_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "t.npz")
    content = bytearray(path.read_bytes())
    content[200:260] = b"\xff" * 60
    path.write_bytes(content)
    with pytest.raises(BadData, match="cannot be read"):
        NpzSource(path).load()


class Planted:
    """Unpickling an instance would set the flag."""

    unpickled = False

    def __setstate__(self, state: dict[str, object]) -> None:
        Planted.unpickled = True


def test_a_pickled_object_is_never_loaded(tmp_path: Path) -> None:
    planted = Planted()
    planted.anything = 1  # type: ignore[attr-defined]
    path = table(tmp_path / "t.npz", labels=np.array([planted] * 8, dtype=object))
    with pytest.raises(BadData, match="'labels'"):
        NpzSource(path).load()
    assert not Planted.unpickled


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"labels": None}, "no array 'labels'"),
        ({"images": None}, "no array 'images'"),
        ({"labels": np.zeros(7, np.uint8)}, "8 images but 7 labels"),
        ({"labels": np.zeros((8, 14), np.uint8)}, "exactly one label"),
        ({"labels": np.zeros(8)}, "whole numbers"),
        ({"labels": np.full(8, 9, np.uint8)}, "3 class names"),
        ({"labels": np.full(8, -1, np.int64)}, "-1"),
        ({"images": np.zeros((8, 5), np.uint8)}, "channels last"),
        ({"images": np.zeros((8, 3, 5, 40), np.uint8)}, "channels last"),
        ({"images": np.zeros((8, 5, 4), np.int16)}, "uint8 or float32"),
        ({"images": np.full((8, 5, 4), 200, np.float32)}, "outside"),
        ({"images": np.full((8, 5, 4), np.nan, np.float32)}, "outside"),
        ({"split": np.full(8, 3, np.uint8)}, "0 .train."),
        ({"split": np.zeros(5, np.uint8)}, "each of 8 records"),
        ({"split": np.array(["train"] * 8)}, "whole numbers"),
        ({"patient": np.zeros(5, np.int64)}, "'patient'"),
        ({"record_ids": np.array(["same"] * 8)}, "same id"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_with_a_sentence(
    tmp_path: Path, extra: dict[str, np.ndarray | None], sentence: str
) -> None:
    path = table(tmp_path / "t.npz", **extra)
    with pytest.raises(BadData, match=sentence):
        NpzSource(path).load()


def test_a_missing_medmnist_split_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", train_images=np.zeros((2, 4, 4), np.uint8), train_labels=[0, 1])
    with pytest.raises(BadData, match="no array 'test_images'"):
        NpzSource(tmp_path / "m.npz", "test").load()
    assert len(NpzSource(tmp_path / "m.npz", "all").load()) == 2


@pytest.mark.parametrize(
    ("name", "split_key", "shape", "classes", "patients"),
    [
        ("pneumoniamnist/pneumoniamnist.npz", None, (4708, 1, 28, 28), 2, None),
        ("medical_mnist/medical_mnist_mini_32.npz", None, (1260, 1, 32, 32), 6, None),
        ("ham10000/ham10000_28.npz", None, (7015, 3, 28, 28), 7, 5230),
        ("alzheimer_mri/alzheimer_mri_64.npz", "split_subject", (4448, 1, 64, 64), 4, 139),
    ],
)
def test_a_real_file_reads_as_documented(
    real_file: Callable[[str], Path],
    name: str,
    split_key: str | None,
    shape: tuple[int, ...],
    classes: int,
    patients: int | None,
) -> None:
    records: Records = NpzSource(real_file(name), "train", split_key=split_key).load()
    assert records.images.shape == shape
    assert len(records.class_names) == classes
    assert (None if records.patients is None else len(set(records.patients))) == patients
    assert 0 <= records.images.min() < 0.1
    assert 0.9 < records.images.max() <= 1
