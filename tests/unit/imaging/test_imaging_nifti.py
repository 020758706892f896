"""NIfTI volumes: orientation, masks, damage. Every file is written by nibabel."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from letheon.errors import BadData
from letheon.imaging.records import LabelKind
from letheon.imaging.sources.nifti import NiftiSource
from letheon.imaging.sources.report import Loaded, Note, Skipped

# x to the right, y to the front, z to the head; every voxel its own value.
RAS = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
LAID_OUT = RAS.transpose(2, 1, 0)[:, ::-1]  # from foot to head, the front first, left to right
BOUNDS = {"intensity": "range", "bounds": [0, 59]}


def write(path: Path, values: np.ndarray = RAS, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def read(folder: Path, **arguments: Any) -> Loaded:
    return NiftiSource(folder, **arguments).load_with_report()


def pixels(folder: Path, **arguments: Any) -> np.ndarray:
    return np.asarray(read(folder, **{**BOUNDS, **arguments}).records.images)


def test_a_volume_is_laid_out_from_foot_to_head_with_the_front_first(tmp_path: Path) -> None:
    write(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(pixels(tmp_path)[0, 0], LAID_OUT / 59, atol=1e-6)


@pytest.mark.parametrize("axes", ["LPS", "PIR", "ASL", "RAI"])
def test_every_orientation_comes_out_the_same(tmp_path: Path, axes: str) -> None:
    plain = nibabel.Nifti1Image(RAS, np.diag([1.0, 2.0, 3.0, 1.0]))
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(plain.affine), nibabel.orientations.axcodes2ornt(axes)
    )
    nibabel.save(plain.as_reoriented(turn), tmp_path / "a.nii")
    np.testing.assert_allclose(pixels(tmp_path)[0, 0], LAID_OUT / 59, atol=1e-6)


def test_slices_are_cut_along_the_asked_axis(tmp_path: Path) -> None:
    write(tmp_path / "a.nii")
    cuts = {
        "axial": RAS.transpose(2, 1, 0)[:, ::-1],
        "coronal": RAS.transpose(1, 2, 0)[:, ::-1],
        "sagittal": RAS.transpose(0, 2, 1)[:, ::-1],
    }
    for axis, expected in cuts.items():
        found = pixels(tmp_path, volume=False, axis=axis)[:, 0]
        np.testing.assert_allclose(found, expected / 59, atol=1e-6)


def test_slices_of_one_value_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    values = RAS.copy()
    values[:, :, 0] = values[:, :, 4] = 7
    write(tmp_path / "a.nii", values)
    ids = read(tmp_path, volume=False).records.record_ids
    assert ids == ("a.nii:axial:1", "a.nii:axial:2", "a.nii:axial:3")
    assert len(read(tmp_path, volume=False, slices="all").records) == 5
    assert read(tmp_path, volume=False, slices=[1, 3]).records.record_ids == ids[:2]
    assert read(tmp_path, volume=False, middle=1).records.record_ids == ids[1:2]


def test_all_slices_of_a_volume_are_of_one_patient(tmp_path: Path) -> None:
    write(tmp_path / "a.nii")
    write(tmp_path / "b.nii", RAS[::-1].copy())
    records = read(tmp_path, volume=False).records
    assert len(set(records.patients or ())) == 2


def test_nan_and_infinity_become_zero_and_are_counted(tmp_path: Path) -> None:
    values = RAS.copy()
    values[0, 0, 0], values[1, 1, 1] = np.nan, np.inf
    write(tmp_path / "a.nii", values)
    loaded = read(tmp_path, **BOUNDS)
    assert loaded.report.notes == {Note.NOT_FINITE: 2}
    assert np.isfinite(np.asarray(loaded.records.images)).all()
    assert loaded.records.images[0][0, 1, 2, 1] == 0


def test_stored_scaling_is_applied(tmp_path: Path) -> None:
    scan = nibabel.Nifti1Image((RAS * 10).astype(np.int16), np.eye(4))
    scan.header.set_slope_inter(0.1, 0)
    nibabel.save(scan, tmp_path / "a.nii")
    np.testing.assert_allclose(pixels(tmp_path)[0, 0], LAID_OUT / 59, atol=1e-4)


def test_a_fourth_axis_is_refused_or_becomes_channels(tmp_path: Path) -> None:
    write(tmp_path / "a.nii", np.stack([RAS, RAS * 2], axis=-1))
    with pytest.raises(BadData, match=r'four axes.*four_d = "channels"'):
        read(tmp_path, strict=True)
    assert pixels(tmp_path, four_d="channels").shape == (1, 2, 5, 4, 3)
    write(tmp_path / "a.nii", RAS[..., None])
    assert pixels(tmp_path).shape == (1, 1, 5, 4, 3)


def test_masks_lie_on_their_volumes(tmp_path: Path) -> None:
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    write(tmp_path / "images" / "a.nii.gz", RAS, affine)
    mask = np.zeros(RAS.shape, np.uint8)
    mask[0, 1, 2] = 2
    write(tmp_path / "labels" / "a.nii.gz", mask, affine)
    records = read(tmp_path, images="images", masks="labels", **BOUNDS).records
    assert records.label_kind is LabelKind.MASK
    assert records.class_names == ("background", "class 1", "class 2")
    found = np.argwhere(np.asarray(records.labels)[0] == 2).tolist()
    assert found == [[2, 2, 2]]  # z, y from the front, x from the left
    np.testing.assert_allclose(records.images[0][0, 2, 2, 2], RAS[0, 1, 2] / 59, atol=1e-6)


def test_a_mask_is_padded_resized_and_cut_with_its_volume(tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.nii")
    write(tmp_path / "labels" / "a.nii", (RAS > 30).astype(np.uint8))
    for arguments in ({"size": [7, 3, 4]}, {"size": [10, 8, 6], "fit": "resize"}):
        records = read(tmp_path, images="images", masks="labels", **BOUNDS, **arguments).records
        image, mask = records.images[0][0], np.asarray(records.labels[0])
        assert image.shape == mask.shape == tuple(arguments["size"])
        assert mask[image > 0.75].all()
        assert not mask[image < 0.3].any()
    flat = read(tmp_path, images="images", masks="labels", volume=False, axis="coronal").records
    assert flat.labels.shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("mask", "affine", "message"),
    [
        (np.zeros((3, 4, 4), np.uint8), np.eye(4), "its mask is 3x4x4, the volume 3x4x5"),
        (np.zeros((3, 4, 5), np.uint8), np.diag([2.0, 1, 1, 1]), "its mask lies elsewhere"),
        (np.full((3, 4, 5), 0.5, np.float32), np.eye(4), "other values than whole numbers"),
        (np.full((3, 4, 5), 300, np.int16), np.eye(4), "outside 0 to 255"),
        (None, None, "no mask of its name in the folder labels"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(
    tmp_path: Path, mask: np.ndarray | None, affine: np.ndarray | None, message: str
) -> None:
    write(tmp_path / "images" / "good.nii")
    write(tmp_path / "labels" / "good.nii", np.ones(RAS.shape, np.uint8))
    write(tmp_path / "images" / "bad.nii")
    if mask is not None:
        write(tmp_path / "labels" / "bad.nii", mask, affine)
    masked = {"images": "images", "masks": "labels"}
    loaded = read(tmp_path, **masked)
    reason = Skipped.NO_MASK if mask is None else Skipped.MASK_MISMATCH
    assert loaded.report.skipped == {reason: 1}
    assert len(loaded.records) == 1
    with pytest.raises(BadData, match=f"volume 1 of .*{message}"):
        read(tmp_path, **masked, strict=True)


def test_a_mask_value_beyond_the_classes_is_left_out(tmp_path: Path) -> None:
    for name, top in (("a", 1), ("b", 2)):
        write(tmp_path / "images" / f"{name}.nii", RAS + top)
        write(tmp_path / "labels" / f"{name}.nii", (RAS > 30).astype(np.uint8) * top)
    names = ["background", "organ"]
    loaded = read(tmp_path, images="images", masks="labels", class_names=names)
    assert loaded.report.skipped == {Skipped.MASK_MISMATCH: 1}


def test_the_topmost_folder_may_be_the_class(tmp_path: Path) -> None:
    for number, place in enumerate(("well/a.nii", "sick/deep/b.nii")):
        write(tmp_path / "scans" / place, RAS + number)
    records = read(tmp_path, images="scans", class_folders=True).records
    assert records.class_names == ("sick", "well")
    assert records.labels.tolist() == [0, 1]


def test_damaged_volumes_are_counted_by_reason(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((9, 9, 9)).astype(np.float32)
    whole = write(tmp_path / "a.nii.gz", noise).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.nii").write_bytes(gzip.decompress(whole)[:-10])
    (tmp_path / "d.nii").write_bytes(b"no volume" * 100)
    (tmp_path / "e.nii.gz").write_bytes(b"")
    write(tmp_path / "f.nii", np.ones((3, 4, 5), np.float32))
    (tmp_path / "notes.txt").write_text("Dear colleague")
    report = read(tmp_path).report
    assert report.records == 1
    assert report.skipped == {
        Skipped.TRUNCATED: 3,
        Skipped.UNREADABLE: 1,
        Skipped.EMPTY: 1,
        Skipped.OTHER_FILE: 1,
    }


def test_a_header_that_promises_too_much_is_not_unpacked(tmp_path: Path) -> None:
    write(tmp_path / "a.nii.gz")
    data = bytearray(gzip.decompress((tmp_path / "a.nii.gz").read_bytes()))
    data[42:48] = np.array([32767, 32767, 32767], "<i2").tobytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(bytes(data) + bytes(1 << 20)))
    assert read(tmp_path).report.skipped == {Skipped.TOO_LARGE: 1}


def test_labels_name_a_volume_by_its_stem(tmp_path: Path) -> None:
    write(tmp_path / "a.nii.gz")
    write(tmp_path / "b.nii.gz", RAS * 2)
    write(tmp_path / "c.nii.gz", RAS * 3)
    (tmp_path / "l.csv").write_text("id,label,patient\na,1,p\nb,0,p\nghost,1,q\n")
    loaded = read(tmp_path, labels="l.csv")
    assert loaded.records.labels.tolist() == [1, 0]
    assert loaded.records.patients == ("p", "p")
    assert loaded.report.skipped == {Skipped.NO_LABEL: 1}
    assert loaded.report.notes[Note.UNKNOWN_FILES] == 1
    assert loaded.report.notes[Note.PATIENT_IN_TWO_CLASSES] == 1


@pytest.mark.parametrize("method", ["percentile", "z-score", "min-max"])
def test_intensities_end_in_the_unit_range(tmp_path: Path, method: str) -> None:
    write(tmp_path / "a.nii", RAS * 40 - 900)
    image = np.asarray(read(tmp_path, intensity=method).records.images)
    assert image.min() >= 0
    assert image.max() <= 1
    assert (np.diff(image[0, 0].transpose(2, 1, 0)[:, ::-1].ravel()) >= 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axis": "up"}, "axial"),
        ({"masks": "m", "labels": "l.csv"}, "not both"),
        ({"size": [3, 3]}, "depth, height, width"),
        ({"slices": [1]}, "slices"),
        ({"intensity": "range"}, "bounds"),
        ({"percentiles": [5, 5]}, "percentiles"),
        ({"middle": 2}, "middle"),
    ],
)
def test_impossible_arguments_are_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NiftiSource("nowhere", **arguments)


def test_the_hippocampus_volumes_are_read_in_place(real_file: Any, tmp_path: Path) -> None:
    whole = real_file("nifti/hippocampus_nifti.zip")
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(tmp_path / "few.zip", "w") as few:
        for name in archive.namelist():
            if "_00" in name:
                few.writestr(name, archive.read(name))
    arguments = {"images": "images", "masks": "labels", "class_names": ["none", "front", "back"]}
    with pytest.raises(BadData, match="give it as `size`"):
        read(tmp_path / "few.zip", **arguments)
    loaded = read(tmp_path / "few.zip", **arguments, size=[40, 56, 40])
    assert loaded.report.records == len(loaded.records) >= 3
    assert set(loaded.report.class_counts.values()) == {len(loaded.records)}
    masks = np.asarray(loaded.records.labels)
    assert 2000 < (masks > 0).sum(axis=(1, 2, 3)).mean() < 5000
