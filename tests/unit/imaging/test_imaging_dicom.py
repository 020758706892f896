"""DICOM as hospitals have it: every file here is written by pydicom and read from disk."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import a_dicom, a_series, ramp, save
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.sequence import Sequence
from pydicom.uid import (
    HEVCMP51,
    JPEG2000,
    BasicTextSRStorage,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
    generate_uid,
)

from letheon.errors import BadConfig, BadData
from letheon.imaging.records import Records
from letheon.imaging.sources.dicom import DicomSource
from letheon.imaging.sources.report import Loaded, Note, Skipped


def read(folder: Path, **arguments: Any) -> Loaded:
    return DicomSource(folder, **arguments).load_with_report()


def one(folder: Path, **arguments: Any) -> np.ndarray:
    """Pixels of the only record, [height, width] where it is grey and flat."""
    records = read(folder, **arguments).records
    assert len(records) == 1
    image = np.asarray(records.images[0])
    return image[0] if image.shape[0] == 1 and image.ndim == 3 else image


def in_order(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min())


def test_the_window_of_the_file_is_applied_after_the_rescale(tmp_path: Path) -> None:
    stored = ramp(top=2000).astype("i2")
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 500, "WindowWidth": 1001}
    save(a_dicom(stored, **tags), tmp_path / "a.dcm")
    expected = ((stored * 2.0 - 1000 - 499.5) / 1000 + 0.5).clip(0, 1)
    np.testing.assert_allclose(one(tmp_path), expected, atol=1e-5)


def test_a_window_of_the_configuration_wins(tmp_path: Path) -> None:
    stored = ramp(top=2000).astype("i2")
    save(a_dicom(stored, WindowCenter=5, WindowWidth=2), tmp_path / "a.dcm")
    expected = ((stored - 999.5) / 400 + 0.5).clip(0, 1)
    np.testing.assert_allclose(one(tmp_path, window=[1000, 401]), expected, atol=1e-5)


def test_of_several_windows_the_first_counts(tmp_path: Path) -> None:
    save(a_dicom(ramp(), WindowCenter=[500, 0], WindowWidth=[1001, 3]), tmp_path / "a.dcm")
    np.testing.assert_allclose(one(tmp_path), ((ramp() - 499.5) / 1000 + 0.5).clip(0, 1), atol=1e-5)


def test_an_intensity_of_the_configuration_hides_the_window_of_the_file(tmp_path: Path) -> None:
    save(a_dicom(ramp(), WindowCenter=5, WindowWidth=2), tmp_path / "a.dcm")
    np.testing.assert_allclose(one(tmp_path, intensity="min-max"), in_order(ramp()), atol=1e-6)


def test_fixed_bounds_make_one_scale_of_all_images(tmp_path: Path) -> None:
    save(a_dicom(ramp()), tmp_path / "a.dcm")
    np.testing.assert_allclose(one(tmp_path, bounds=[0, 2000]), ramp() / 2000, atol=1e-6)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    dark = a_dicom(ramp(), PhotometricInterpretation="MONOCHROME1")
    save(dark, tmp_path / "a.dcm")
    np.testing.assert_allclose(one(tmp_path, intensity="min-max"), 1 - in_order(ramp()), atol=1e-6)


def test_eight_bits_keep_their_range_without_a_window(tmp_path: Path) -> None:
    values = ramp(dtype="u1", top=100)
    save(a_dicom(values), tmp_path / "a.dcm")
    np.testing.assert_allclose(one(tmp_path), values / 255, atol=1e-6)


def test_padding_does_not_stretch_the_scale(tmp_path: Path) -> None:
    values = ramp().astype("i2")
    values[0] = -2000
    save(a_dicom(values, PixelPaddingValue=-2000), tmp_path / "a.dcm")
    inside = values[1:]
    np.testing.assert_allclose(one(tmp_path, intensity="min-max")[1:], in_order(inside), atol=1e-6)
    assert not one(tmp_path, intensity="min-max")[0].any()


def test_colour_is_rgb_or_turned_grey(tmp_path: Path) -> None:
    values = np.zeros((3, 4, 3), np.uint8)
    values[..., 0], values[..., 2] = 255, 51
    save(a_dicom(values), tmp_path / "a.dcm")
    image = one(tmp_path)
    assert image.shape == (3, 3, 4)
    assert image[:, 0, 0].tolist() == pytest.approx([1.0, 0.0, 0.2])
    assert one(tmp_path, channels=1)[0, 0] == pytest.approx(0.299 + 0.114 * 0.2, abs=0.01)


def test_ybr_becomes_rgb(tmp_path: Path) -> None:
    values = np.zeros((3, 4, 3), np.uint8)
    values[:] = (76, 85, 255)  # red
    save(a_dicom(values, PhotometricInterpretation="YBR_FULL"), tmp_path / "a.dcm")
    assert one(tmp_path)[:, 0, 0].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=0.02)


def test_run_length_encoding_is_decoded(tmp_path: Path) -> None:
    packed = a_dicom(ramp())
    packed.compress(RLELossless)
    packed.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_allclose(one(tmp_path, intensity="min-max"), in_order(ramp()), atol=1e-6)


def test_frames_are_records_in_their_order(tmp_path: Path) -> None:
    frames = np.stack([ramp(), ramp() + 500, ramp() + 900])
    save(a_dicom(frames), tmp_path / "a.dcm")
    records = read(tmp_path, bounds=[0, 2000]).records
    assert [record_id.rpartition("#")[2] for record_id in records.record_ids] == ["1", "2", "3"]
    np.testing.assert_allclose(records.images[:][:, 0], frames / 2000, atol=1e-6)


def test_a_file_of_several_frames_is_a_volume_when_asked(tmp_path: Path) -> None:
    frames = np.stack([ramp(), ramp() + 500, ramp() + 900])
    save(a_dicom(frames), tmp_path / "a.dcm")
    np.testing.assert_allclose(
        one(tmp_path, volume=True, bounds=[0, 2000])[0], frames / 2000, atol=1e-6
    )


def test_an_enhanced_file_keeps_scale_and_place_in_its_groups(tmp_path: Path) -> None:
    frames = np.stack([ramp(), ramp(), ramp()])
    enhanced = a_dicom(frames)
    groups = []
    for place, intercept in ((4.0, 200), (0.0, 0), (2.0, 100)):
        scale, position, group = Dataset(), Dataset(), Dataset()
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 1, intercept, "HU"
        position.ImagePositionPatient = [0, 0, place]
        group.PixelValueTransformationSequence = Sequence([scale])
        group.PlanePositionSequence = Sequence([position])
        groups.append(group)
    enhanced.PerFrameFunctionalGroupsSequence = Sequence(groups)
    shared, plane = Dataset(), Dataset()
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PlaneOrientationSequence = Sequence([plane])
    enhanced.SharedFunctionalGroupsSequence = Sequence([shared])
    save(enhanced, tmp_path / "a.dcm")
    volume = one(tmp_path, volume=True, bounds=[0, 2000])
    expected = np.stack([ramp(), ramp() + 100.0, ramp() + 200.0]) / 2000
    np.testing.assert_allclose(volume[0], expected, atol=1e-6)


def test_slices_are_ordered_by_position_whatever_their_numbers_say(tmp_path: Path) -> None:
    a_series(tmp_path, numbers=[3, 1, 5, 2, 4])
    volume = one(tmp_path, volume=True, bounds=[0, 1000])
    np.testing.assert_allclose(volume[0, :, 2, 2], np.arange(5) / 10, atol=1e-6)


def test_slices_without_positions_are_ordered_by_number(tmp_path: Path) -> None:
    a_series(tmp_path, numbers=[3, 1, 5, 2, 4], ImagePositionPatient=None)
    volume = one(tmp_path, volume=True, bounds=[0, 1000])
    np.testing.assert_allclose(volume[0, :, 2, 2], [0.1, 0.3, 0.0, 0.4, 0.2], atol=1e-6)


def test_oblique_slices_are_ordered_along_their_normal(tmp_path: Path) -> None:
    a_series(tmp_path, ImageOrientationPatient=[0, 1, 0, 0, 0, 1], ImagePositionPatient=None)
    for file in sorted(tmp_path.iterdir()):
        place = int(file.stem.rpartition("-")[2])
        import pydicom

        told = pydicom.dcmread(file)
        told.ImagePositionPatient = [-3.0 * place, 7, 9]  # sagittal: the normal is +x
        told.save_as(file)
    volume = one(tmp_path, volume=True, bounds=[0, 1000])
    np.testing.assert_allclose(volume[0, :, 2, 2], np.arange(5)[::-1] / 10, atol=1e-6)


def remove(folder: Path, place: int) -> None:
    next(folder.glob(f"*-{place}.dcm")).unlink()


def test_a_missing_slice_is_named_and_its_series_left_out(tmp_path: Path) -> None:
    a_series(tmp_path / "whole")
    a_series(tmp_path / "torn")
    remove(tmp_path / "torn", 2)
    loaded = read(tmp_path, volume=True)
    assert len(loaded.records) == 1
    assert loaded.report.skipped == {Skipped.MISSING_SLICES: 4}
    with pytest.raises(BadData, match=r"about 1 missing, the first after slice 2 of 4"):
        read(tmp_path, volume=True, strict=True)


def test_a_missing_number_is_named_where_there_are_no_positions(tmp_path: Path) -> None:
    a_series(tmp_path, ImagePositionPatient=None)
    remove(tmp_path, 2)
    with pytest.raises(BadData, match="no slice has the number 3"):
        read(tmp_path, volume=True, strict=True)


def test_two_slices_at_one_place_are_named(tmp_path: Path) -> None:
    a_series(tmp_path, numbers=[1, 2, 3, 4, 5])
    import pydicom

    double = pydicom.dcmread(next(tmp_path.glob("*-3.dcm")))
    double.SOPInstanceUID = double.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    double.save_as(tmp_path / "double.dcm")
    with pytest.raises(BadData, match="slices 4 and 5 of 6 are at one place"):
        read(tmp_path, volume=True, strict=True)


def test_a_series_of_mixed_orientation_is_left_out_as_a_volume(tmp_path: Path) -> None:
    a_series(tmp_path, ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    import pydicom

    file = next(tmp_path.glob("*-3.dcm"))
    turned = pydicom.dcmread(file)
    turned.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    turned.save_as(file)
    with pytest.raises(BadData, match="several orientations"):
        read(tmp_path, volume=True, strict=True)
    assert len(read(tmp_path).records) == 5


def test_the_same_file_twice_is_one_record(tmp_path: Path) -> None:
    dataset = a_dicom(ramp())
    save(dataset, tmp_path / "a.dcm")
    save(dataset, tmp_path / "copy" / "a.dcm")
    loaded = read(tmp_path)
    assert len(loaded.records) == 1
    assert loaded.report.skipped == {Skipped.DUPLICATE: 1}


def test_the_middle_images_of_each_series_can_be_taken(tmp_path: Path) -> None:
    a_series(tmp_path / "a", numbers=[5, 4, 3, 2, 1])
    a_series(tmp_path / "b")
    records = read(tmp_path, middle=1, bounds=[0, 1000]).records
    assert len(records) == 2
    np.testing.assert_allclose(records.images[:][:, 0, 2, 2], [0.2, 0.2], atol=1e-6)


@pytest.mark.parametrize("kept", [0.9, 0.3])
def test_a_truncated_file_is_counted_and_the_others_are_read(tmp_path: Path, kept: float) -> None:
    save(a_dicom(ramp(64, 64)), tmp_path / "a.dcm")
    whole = save(a_dicom(ramp(64, 64)), tmp_path / "jane-doe.dcm").read_bytes()
    (tmp_path / "jane-doe.dcm").write_bytes(whole[: int(len(whole) * kept)])
    loaded = read(tmp_path)
    assert len(loaded.records) == 1
    assert loaded.report.skipped == {Skipped.TRUNCATED: 1}
    assert loaded.report.examples["truncated"] == ("jane-doe.dcm",)
    with pytest.raises(BadData, match=r"file 2 of .* ends too early") as caught:
        read(tmp_path, strict=True)
    assert "jane" not in str(caught.value)


def test_a_truncated_compressed_file_is_counted(tmp_path: Path) -> None:
    save(a_dicom(ramp()), tmp_path / "a.dcm")
    packed = a_dicom(np.random.default_rng(0).integers(0, 999, (64, 64)).astype("u2"))
    packed.compress(RLELossless)
    packed.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    whole = (tmp_path / "b.dcm").read_bytes()
    (tmp_path / "b.dcm").write_bytes(whole[: len(whole) // 2])
    assert read(tmp_path, size=[4, 4]).report.skipped == {Skipped.TRUNCATED: 1}


def test_damage_inside_compressed_pixels_is_found_before_training(tmp_path: Path) -> None:
    save(a_dicom(ramp()), tmp_path / "a.dcm")
    packed = a_dicom(ramp())
    packed.compress(RLELossless)
    packed.PixelData = packed.PixelData[:20] + b"\xff" * (len(packed.PixelData) - 20)
    packed.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    assert len(read(tmp_path).records) == 1
    trusting = read(tmp_path, check_pixels=False).records
    row = trusting.record_ids.index(str(packed.SOPInstanceUID))
    with pytest.raises(BadData, match="file 2 cannot be used"):
        trusting.images[row]


def test_objects_without_pixels_are_counted(tmp_path: Path) -> None:
    save(a_dicom(ramp()), tmp_path / "a.dcm")
    for name, kind in (
        ("report.dcm", BasicTextSRStorage),
        ("DICOMDIR", MediaStorageDirectoryStorage),
    ):
        other = a_dicom(ramp(), SOPClassUID=kind)
        for keyword in ("PixelData", "Rows", "Columns"):
            delattr(other, keyword)
        other.save_as(tmp_path / name, enforce_file_format=True)
    (tmp_path / "notes.txt").write_text("Dear colleague")
    (tmp_path / "empty.dcm").write_bytes(b"")
    report = read(tmp_path).report
    assert report.skipped == {
        Skipped.NOT_AN_IMAGE: 2,
        Skipped.OTHER_FILE: 1,
        Skipped.UNREADABLE: 1,
    }
    assert report.records == 1


def test_a_missing_decoder_is_named_with_what_installs_it(tmp_path: Path) -> None:
    packed = a_dicom(ramp())
    packed.compress(JPEGLSLossless)
    packed.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    decoder = get_decoder(JPEGLSLossless)
    plugins = {name: decoder._available[name] for name in decoder.available_plugins}
    assert plugins
    try:
        for name in plugins:
            decoder.remove_plugin(name)
        with pytest.raises(BadData, match=r"1 x compressed.*JPEG-LS.*pip install pyjpegls"):
            read(tmp_path)
        save(a_dicom(ramp()), tmp_path / "b.dcm")
        report = read(tmp_path).report
    finally:
        decoder._available.update(plugins)
    assert report.skipped == {Skipped.NO_DECODER: 1}
    assert "pip install pyjpegls" in report.advice[0]
    assert len(read(tmp_path).records) == 2


def test_a_syntax_that_nothing_decodes_says_so(tmp_path: Path) -> None:
    film = a_dicom(ramp())
    film.compress(RLELossless)
    film.file_meta.TransferSyntaxUID = HEVCMP51
    film.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(BadData, match="has no decoder: convert it"):
        read(tmp_path)


def test_images_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    save(a_dicom(ramp(8, 8)), tmp_path / "a.dcm")
    save(a_dicom(ramp(6, 9)), tmp_path / "b.dcm")
    with pytest.raises(BadData, match=r"2 sizes: .*1x6x9 \(1\).* give it as `size`"):
        read(tmp_path)
    assert read(tmp_path, size=[4, 5]).records.images.shape == (2, 1, 4, 5)


def test_volumes_are_brought_to_a_size(tmp_path: Path) -> None:
    a_series(tmp_path)
    image = one(tmp_path, volume=True, size=[3, 8, 10], bounds=[0, 1000])
    assert image.shape == (1, 3, 8, 10)
    assert image[0, 1, 6, 8] == pytest.approx(0.2, abs=0.02)
    assert image[0, 0, 6, 8] < image[0, 1, 6, 8] < image[0, 2, 6, 8]


@pytest.mark.parametrize("key", ["file", "SOPInstanceUID", "SeriesInstanceUID", "PatientID"])
def test_labels_come_from_a_file_by_any_of_its_keys(tmp_path: Path, key: str) -> None:
    lines = [f"{key},label"]
    for number, label in enumerate(("sick", "well", "sick")):
        dataset = a_dicom(ramp() + number, PatientID=f"p{number}")
        save(dataset, tmp_path / "deep" / f"{number}.dcm")
        lines.append(f"{f'{number}.dcm' if key == 'file' else dataset.get(key)},{label}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    records = read(tmp_path, labels="labels.csv").records
    assert records.class_names == ("sick", "well")
    assert records.labels.tolist() == [0, 1, 0]
    assert records.patients == ("p0", "p1", "p2")


def test_labels_may_come_from_a_tag(tmp_path: Path) -> None:
    for number, part in enumerate(("HAND", "CHEST", None)):
        tags = {} if part is None else {"BodyPartExamined": part}
        save(a_dicom(ramp() + number, PatientID=f"p{number}", **tags), tmp_path / f"{number}.dcm")
    loaded = read(tmp_path, label_tag="BodyPartExamined")
    assert loaded.records.class_names == ("CHEST", "HAND")
    assert loaded.records.labels.tolist() == [1, 0]
    assert loaded.report.skipped == {Skipped.NO_LABEL: 1}
    assert read(tmp_path, label_tag="(0018,0015)").records == loaded.records
    with pytest.raises(BadConfig, match="'BodyPart' is no DICOM tag"):
        read(tmp_path, label_tag="BodyPart")
    fixed = read(tmp_path, label_tag="BodyPartExamined", class_names=["FOOT", "HAND"])
    assert fixed.records.labels.tolist() == [1]
    assert fixed.report.skipped == {Skipped.NO_LABEL: 1, Skipped.UNKNOWN_LABEL: 1}


def test_the_topmost_folder_may_be_the_class(tmp_path: Path) -> None:
    for number, place in enumerate(("well/x/1.dcm", "sick/2.dcm", "3.dcm")):
        save(a_dicom(ramp() + number, PatientID=f"p{number}"), tmp_path / place)
    loaded = read(tmp_path, class_folders=True)
    assert loaded.records.class_names == ("sick", "well")
    assert loaded.records.labels.tolist() == [1, 0]
    assert loaded.report.skipped == {Skipped.NO_LABEL: 1}


def test_patients_are_told_apart_by_their_issuer(tmp_path: Path) -> None:
    save(a_dicom(ramp(), IssuerOfPatientID="north"), tmp_path / "a.dcm")
    save(a_dicom(ramp() + 1, IssuerOfPatientID="south"), tmp_path / "b.dcm")
    save(a_dicom(ramp() + 2, PatientID=""), tmp_path / "c.dcm")
    loaded = read(tmp_path)
    assert len(set(loaded.records.patients or ())) == 3
    assert loaded.report.notes[Note.NO_PATIENT] == 1


def test_another_modality_is_left_out(tmp_path: Path) -> None:
    save(a_dicom(ramp()), tmp_path / "a.dcm")
    save(a_dicom(ramp(), Modality="MR"), tmp_path / "b.dcm")
    assert read(tmp_path, modality="MR").report.skipped == {Skipped.OTHER_MODALITY: 1}


def test_names_and_order_of_files_change_nothing(tmp_path: Path) -> None:
    datasets = [a_dicom(ramp() + n, PatientID=f"p{n}", InstanceNumber=n) for n in range(4)]
    for number, dataset in enumerate(datasets):
        save(dataset, tmp_path / "one" / f"{number}.dcm")
        save(dataset, tmp_path / "two" / "deeper" / f"{9 - number}")
    first, second = read(tmp_path / "one").records, read(tmp_path / "two").records
    assert first == second
    assert first.fingerprint() == second.fingerprint()


def test_a_zip_is_read_like_the_folder_it_was_made_of(tmp_path: Path) -> None:
    a_series(tmp_path / "tree")
    with zipfile.ZipFile(tmp_path / "tree.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in (tmp_path / "tree").iterdir():
            archive.write(file, f"deep/{file.name}")
    assert (
        read(tmp_path / "tree.zip", volume=True).records
        == read(tmp_path / "tree", volume=True).records
    )


def test_without_check_pixels_nothing_is_decoded_by_load(tmp_path: Path) -> None:
    save(a_dicom(ramp(), syntax="1.2.840.10008.1.2.1"), tmp_path / "a.dcm")
    records: Records = read(tmp_path, check_pixels=False).records
    (tmp_path / "a.dcm").unlink()
    assert len(records) == 1
    with pytest.raises(BadData, match="file 1 cannot be used"):
        records.images[0]


def test_neither_log_nor_warning_of_the_library_quotes_a_value(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    import pydicom

    with pydicom.config.disable_value_validation():
        odd = a_dicom(ramp(), PatientBirthDate="jane-doe-born", PatientID="jane-doe")
        save(odd, tmp_path / "a.dcm")
    recwarn.clear()
    records = read(tmp_path).records
    assert "jane" not in caplog.text
    assert not any("jane" in str(warning.message) for warning in recwarn)
    assert "jane" not in repr(records)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": "a.csv", "label_tag": "Modality"}, "not both"),
        ({"channels": 2}, "channels"),
        ({"window": [40, 0]}, "width above 1"),
        ({"size": [4]}, "height, width"),
        ({"volume": True, "size": [4, 4]}, "depth, height, width"),
        ({"middle": 1, "volume": True}, "middle"),
        ({"intensity": "loud"}, "min-max, percentile"),
        ({"drop_duplicates": True, "check_pixels": False}, "check_pixels"),
    ],
)
def test_contradicting_arguments_are_refused_at_once(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DicomSource("nowhere", **arguments)


def test_the_chest_x_rays_are_read_in_place(real_file: Any) -> None:
    loaded = read(
        real_file("dicom/dicom_cxr_rsna.zip"),
        labels="index.csv",
        class_names=["normal", "pneumonia"],
        size=[32, 32],
    )
    assert loaded.report.class_counts == {"normal": 17, "pneumonia": 8}
    assert loaded.report.patients == 25
    assert not loaded.report.skipped
    pixels = np.asarray(loaded.records.images)
    assert 0.4 < pixels.mean() < 0.55
    assert pixels.max() > 0.9


def test_every_odd_file_that_pydicom_ships_is_read_or_counted() -> None:
    import pydicom.data

    folder = Path(pydicom.data.__file__).parent / "test_files"
    files = sum(file.is_file() for file in folder.rglob("*"))
    loaded = read(folder, size=[8, 8], channels=1, check_pixels=False)
    frames = {record_id.partition("#")[0] for record_id in loaded.records.record_ids}
    assert len(frames) + sum(loaded.report.skipped.values()) == files
    assert loaded.report.skipped[Skipped.NOT_AN_IMAGE] > 5
    assert len(frames) > 30


def a_table(entries: np.ndarray, first: int) -> Dataset:
    table = Dataset()
    table.LUTDescriptor = [len(entries), first, 16]
    table.LUTData = entries.astype("<u2").tobytes()
    table["LUTData"].VR = "OW"
    return table


def test_tables_of_the_file_are_applied_one_after_the_other(tmp_path: Path) -> None:
    stored = np.arange(20).reshape(4, 5).astype("u2")
    modality = a_table(np.arange(20) * 10 + 100, 0)
    modality.ModalityLUTType = "US"
    voi = a_table(np.linspace(65535, 0, 200), 100)
    tables = {"ModalityLUTSequence": Sequence([modality]), "VOILUTSequence": Sequence([voi])}
    save(a_dicom(stored, **tables), tmp_path / "a.dcm")
    expected = np.linspace(1, 0, 200)[stored * 10]
    np.testing.assert_allclose(one(tmp_path), expected, atol=1e-4)


def test_a_sigmoid_window_is_one(tmp_path: Path) -> None:
    tags = {"WindowCenter": 500, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"}
    save(a_dicom(ramp(), **tags), tmp_path / "a.dcm")
    expected = 1 / (1 + np.exp(-4 * (ramp() - 500.0) / 400))
    np.testing.assert_allclose(one(tmp_path), expected, atol=1e-4)


def test_palette_colours_become_rgb(tmp_path: Path) -> None:
    stored = np.array([[0, 1], [2, 3]], np.uint8)
    palette = a_dicom(stored, PhotometricInterpretation="PALETTE COLOR")
    for colour, entries in (
        ("Red", [0, 65535, 0, 0]),
        ("Green", [0, 0, 65535, 0]),
        ("Blue", [0, 0, 0, 65535]),
    ):
        setattr(palette, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 16])
        data = np.array(entries, "<u2").tobytes()
        setattr(palette, f"{colour}PaletteColorLookupTableData", data)
        palette[f"{colour}PaletteColorLookupTableData"].VR = "OW"
    save(palette, tmp_path / "a.dcm")
    image = one(tmp_path)
    assert image.shape == (3, 2, 2)
    np.testing.assert_allclose(image.reshape(3, 4)[:, 1:], np.eye(3), atol=1e-6)


@pytest.mark.parametrize("suffix", ["JPEG", "JPEG2000", "JPEG-LS"])
def test_no_damage_ends_the_process(tmp_path: Path, suffix: str) -> None:
    """GDCM would: it is asked only where no other decoder is there."""
    stream = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8)
    packed = a_dicom(values)
    if suffix == "JPEG-LS":
        packed.compress(JPEGLSLossless)
    else:
        Image.fromarray(values).save(stream, suffix)
        packed.PixelData = encapsulate([stream.getvalue()])
        syntax = JPEGBaseline8Bit if suffix == "JPEG" else JPEG2000
        packed.file_meta.TransferSyntaxUID = syntax
    save_encapsulated(packed, tmp_path / "whole.dcm")
    generator = np.random.default_rng(1)
    for number in range(40):
        data = bytearray(packed.PixelData)
        for place in generator.integers(20, len(data), 3):
            data[place] = generator.integers(256)
        torn = a_dicom(values)
        torn.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
        torn.PixelData = bytes(data)
        save_encapsulated(torn, tmp_path / f"{number}.dcm")
    loaded = read(tmp_path)
    assert str(packed.SOPInstanceUID) in loaded.records.record_ids
    assert len(loaded.records) + sum(loaded.report.skipped.values()) == 41
    assert loaded.report.skipped[Skipped.UNREADABLE] > 0


def save_encapsulated(dataset: Dataset, path: Path) -> None:
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
