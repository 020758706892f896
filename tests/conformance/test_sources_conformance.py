"""What every registered data source keeps to."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_files import a_dicom, ramp, save
from PIL import Image

from letheon import registry
from letheon.errors import BadConfig
from letheon.imaging.fitness import check_fit
from letheon.imaging.sources.npz import write_npz
from letheon.imaging.sources.source import Source, load_with_report
from letheon.imaging.sources.synthetic import SyntheticSource

CLASSES, CHANNELS, HEIGHT, WIDTH = 2, 3, 9, 10


def npz(folder: Path) -> Mapping[str, Any]:
    write_npz(folder / "site.npz", SyntheticSource(12, CLASSES, CHANNELS, HEIGHT, WIDTH).load())
    return {"path": str(folder / "site.npz"), "split": "all"}


def image_folder(folder: Path) -> Mapping[str, Any]:
    for name, value in (("a/1.png", 0), ("a/2.jpg", 90), ("b/1.png", 200)):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 15), (value, value, value)).save(folder / name)
    return {"path": str(folder), "height": HEIGHT, "width": WIDTH, "channels": CHANNELS}


def synthetic(folder: Path) -> Mapping[str, Any]:
    return {
        "records": 12,
        "classes": CLASSES,
        "channels": CHANNELS,
        "height": HEIGHT,
        "width": WIDTH,
        "seed": 3,
    }


def dicom(folder: Path) -> Mapping[str, Any]:
    rows = ["file,label"]
    for number in range(4):
        save(a_dicom(ramp(12, 14) + number, PatientID=f"p{number}"), folder / f"{number}.dcm")
        rows.append(f"{number}.dcm,{'ab'[number % 2]}")
    (folder / "labels.csv").write_text("\n".join(rows))
    size = [HEIGHT, WIDTH]
    return {"path": str(folder), "labels": "labels.csv", "size": size, "channels": CHANNELS}


def nifti(folder: Path) -> Mapping[str, Any]:
    generator = np.random.default_rng(0)
    for name in "abcd":
        scan = nibabel.Nifti1Image(generator.random((7, 8, 5, CHANNELS), np.float32), np.eye(4))
        nibabel.save(scan, folder / f"{name}.nii.gz")
    (folder / "labels.csv").write_text("file,label\na,x\nb,y\nc,x\nd,y\n")
    return {
        "path": str(folder),
        "labels": "labels.csv",
        "volume": False,
        "size": [HEIGHT, WIDTH],
        "four_d": "channels",
    }


def tabular_csv(folder: Path) -> Mapping[str, Any]:
    (folder / "site.csv").write_text("age,sex,ill\n61,m,0\n52,f,1\n47,f,0\n70,m,1\n")
    return {
        "path": str(folder / "site.csv"),
        "target": "ill",
        "categorical": {"sex": ["f", "m"]},
        "standardise": {"age": [60, 10]},
    }


def share(folder: Path) -> Mapping[str, Any]:
    return {"plugin": "synthetic", "arguments": synthetic(folder), "shares": 2, "share": 1}


# A new source is tried by adding what builds its arguments here.
ARGUMENTS: Mapping[str, Callable[[Path], Mapping[str, Any]]] = {
    "npz": npz,
    "image_folder": image_folder,
    "synthetic": synthetic,
    "dicom": dicom,
    "nifti": nifti,
    "tabular_csv": tabular_csv,
    "share": share,
}


@pytest.fixture(params=registry.names(registry.SOURCES))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    name = request.param
    assert name in ARGUMENTS, f"source {name} is registered but not tried here"
    built: Source = registry.build(registry.SOURCES, name, ARGUMENTS[name](tmp_path))
    return built


def test_a_source_follows_the_protocol(source: Source) -> None:
    assert isinstance(source, Source)


def test_its_records_fit_the_plan_they_were_made_for(source: Source) -> None:
    records = source.load()
    if len(records.images.shape) == 2:  # features have no pixels
        assert np.isfinite(np.asarray(records.images)).all()
        return
    check_fit(records, classes=CLASSES, channels=CHANNELS, height=HEIGHT, width=WIDTH)
    assert len(records.class_names) == CLASSES


def test_loading_twice_gives_equal_records(source: Source) -> None:
    first, second = source.load(), source.load()
    assert first == second
    assert first.fingerprint() == second.fingerprint()


def test_record_ids_are_unique(source: Source) -> None:
    records = source.load()
    assert len(set(records.record_ids)) == len(records)


def test_the_records_of_one_load_do_not_share_pixels_with_the_next(source: Source) -> None:
    pixels = np.asarray(source.load().images)
    if pixels.flags.writeable:
        pixels[:] = 0
    assert np.asarray(source.load().images).any()


def test_pixels_are_contiguous(source: Source) -> None:
    assert np.asarray(source.load().images).flags.c_contiguous


def test_its_records_survive_a_shard(source: Source, tmp_path: Path) -> None:
    records = source.load()
    write_npz(tmp_path / "shard" / "s.npz", records)
    shard: Source = registry.build(
        registry.SOURCES, "npz", {"path": str(tmp_path / "shard" / "s.npz"), "split": "all"}
    )
    assert shard.load() == records
    assert np.array_equal(np.asarray(shard.load().images), np.asarray(records.images))


def test_the_report_counts_the_records_that_load_gives(source: Source) -> None:
    loaded = load_with_report(source)
    records = source.load()
    assert loaded.records == records
    assert loaded.report.records == len(records)
    assert sum(loaded.report.class_counts.values()) == len(records)
    if records.patients is not None:
        assert loaded.report.patients == len(set(records.patients))


def test_what_leaves_the_report_holds_no_identifier(source: Source) -> None:
    loaded = load_with_report(source)
    told = json.dumps(loaded.report.to_dict()) + repr(loaded.report) + repr(loaded.records)
    names = {*loaded.records.record_ids, *(loaded.records.patients or ())}
    assert not any(name in told for name in names if len(name) > 3)


def test_it_is_as_equal_when_its_rows_are_asked_for_in_another_order(source: Source) -> None:
    records = source.load()
    backwards = records.select(np.arange(len(records))[::-1])
    assert backwards.select(np.arange(len(records))[::-1]) == records


@pytest.mark.parametrize("name", registry.names(registry.SOURCES))
def test_an_unknown_argument_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=name):
        registry.build(registry.SOURCES, name, {**ARGUMENTS[name](tmp_path), "speling": 1})
