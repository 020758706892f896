import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from letheon.errors import BadData
from letheon.imaging.records import LabelKind
from letheon.imaging.sources.image_folder import ImageFolderSource
from letheon.imaging.sources.report import Loaded, Note, Skipped


def picture(path: Path, value: int | tuple[int, int, int], size: tuple[int, int] = (6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(value, int) else "RGB", size, value).save(path)


def test_each_folder_is_a_class_in_name_order(tmp_path: Path) -> None:
    picture(tmp_path / "normal" / "2.png", 51)
    picture(tmp_path / "normal" / "1.png", 0)
    picture(tmp_path / "ill" / "9.PNG", 255)
    (tmp_path / "ill" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    records = ImageFolderSource(tmp_path, 4, 3, 1).load()
    assert records.class_names == ("ill", "normal")
    assert records.labels.tolist() == [0, 1, 1]
    assert records.record_ids == ("ill/9.PNG", "normal/1.png", "normal/2.png")
    assert records.images.shape == (3, 1, 4, 3)
    assert records.images[:, 0, 2, 1].tolist() == pytest.approx([1.0, 0.0, 0.2])
    assert records.patients is None


def test_colour_images_keep_their_channels(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png", (255, 0, 51))
    image = ImageFolderSource(tmp_path, 2, 2, 3).load().images[0]
    assert image[:, 0, 0].tolist() == pytest.approx([1.0, 0.0, 0.2])


def test_a_folder_inside_a_class_is_a_patient(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "ann" / "1.png", 1)
    picture(tmp_path / "a" / "ann" / "2.png", 2)
    picture(tmp_path / "b" / "bob" / "1.png", 3)
    picture(tmp_path / "b" / "loose.png", 3)
    records = ImageFolderSource(tmp_path, 2, 2, 1).load()
    assert records.patients == ("ann", "ann", "bob", "b/loose.png")


def test_grey_images_of_16_bits_keep_their_depth(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    deep = np.full((4, 4), 13107, dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "a" / "deep.png")
    image = ImageFolderSource(tmp_path, 2, 2, 1).load().images
    assert image[0, 0, 0, 0] == pytest.approx(0.2)


def test_a_site_without_one_class_keeps_the_plans_labels(tmp_path: Path) -> None:
    picture(tmp_path / "tumour" / "1.png", 1)
    records = ImageFolderSource(tmp_path, 2, 2, 1, class_names=["healthy", "tumour"]).load()
    assert records.labels.tolist() == [1]


def test_a_folder_that_is_no_class_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "tumor" / "1.png", 1)
    with pytest.raises(BadData, match="tumor; the classes are healthy, tumour"):
        ImageFolderSource(tmp_path, 2, 2, 1, class_names=["healthy", "tumour"]).load()


def test_a_damaged_image_is_reported_without_its_name(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png", 1)
    (tmp_path / "a" / "jane-doe.png").write_bytes(b"\x89PNG torn")
    with pytest.raises(BadData, match=r"image 2 \(class 'a'\) of ") as caught:
        ImageFolderSource(tmp_path, 2, 2, 1, strict=True).load()
    assert "jane" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_torn_image_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png", (9, 8, 7), size=(300, 300))
    whole = (tmp_path / "a" / "1.png").read_bytes()
    (tmp_path / "a" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadData, match=r"image 1 .*ends too early"):
        ImageFolderSource(tmp_path, 2, 2, 1, strict=True).load()


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no folder"):
        ImageFolderSource(tmp_path / "gone", 2, 2, 1).load()
    with pytest.raises(BadData, match="no class folders"):
        ImageFolderSource(tmp_path, 2, 2, 1).load()
    (tmp_path / "a").mkdir()
    with pytest.raises(BadData, match="no image that can be used"):
        ImageFolderSource(tmp_path, 2, 2, 1).load()


@pytest.mark.parametrize("arguments", [(2, 2, 2), (0, 2, 1)])
def test_impossible_shapes_are_refused_at_once(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ImageFolderSource("x", *arguments)


def labelled(folder: Path, text: str, **pictures_of: int) -> Path:
    for name, value in pictures_of.items():
        picture(folder / "deep" / f"{name}.png", value)
    (folder / "labels.csv").write_text(text)
    return folder


def read(folder: Path, **arguments: Any) -> Loaded:
    return ImageFolderSource(folder, 4, 4, 1, labels="labels.csv", **arguments).load_with_report()


def test_a_file_gives_labels_and_patients(tmp_path: Path) -> None:
    text = "file,label,patient\na.png,ill,p1\ndeep/b.png,well,p2\nc,ill,p1\n"
    loaded = read(labelled(tmp_path, text, a=1, b=2, c=3))
    assert loaded.records.record_ids == ("deep/a.png", "deep/b.png", "deep/c.png")
    assert loaded.records.class_names == ("ill", "well")
    assert loaded.records.labels.tolist() == [0, 1, 0]
    assert loaded.records.patients == ("p1", "p2", "p1")
    assert not loaded.report.skipped
    assert not loaded.report.notes


def test_what_the_file_and_the_folder_do_not_share_is_counted(tmp_path: Path) -> None:
    text = "file,label,patient\na.png,ill,p\nb.png,well,p\nghost.png,ill,q\n"
    loaded = read(labelled(tmp_path, text, a=1, b=2, c=3))
    assert loaded.report.skipped == {Skipped.NO_LABEL: 1}
    assert loaded.report.examples["no_label"] == ("deep/c.png",)
    assert loaded.report.notes == {Note.UNKNOWN_FILES: 1, Note.PATIENT_IN_TWO_CLASSES: 1}
    assert loaded.report.examples["unknown_files"] == ("ghost.png",)


def test_numbers_count_the_classes_that_the_configuration_names(tmp_path: Path) -> None:
    text = "file,label\na.png,1\nb.png,0\nc.png,7\n"
    loaded = read(labelled(tmp_path, text, a=1, b=2, c=3), class_names=["well", "ill"])
    assert loaded.records.labels.tolist() == [1, 0]
    assert loaded.report.skipped == {Skipped.UNKNOWN_LABEL: 1}


def test_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    text = "file;label\na.png;10\nb.png;9\nc.png;2\n"
    loaded = read(labelled(tmp_path, text, a=1, b=2, c=3))
    assert loaded.records.class_names == ("2", "9", "10")


def test_several_columns_are_several_labels(tmp_path: Path) -> None:
    text = "image,edema,mass\na.png,1,0\nb.png,1.0,\nc.png,no,-1\n"
    loaded = read(labelled(tmp_path, text, a=1, b=2, c=3), label_columns=["edema", "mass"])
    assert loaded.records.label_kind is LabelKind.MULTI
    assert loaded.records.labels.tolist() == [[1, 0], [1, -1], [0, -1]]
    assert loaded.report.class_counts == {"edema": 2, "mass": 0}


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("file,label\na.png,x\na.png,y\n", {}, "lines 2 and 3 of .*different things"),
        ("file,diagnosis\na.png,x\n", {}, "no column 'label'; it has file, diagnosis"),
        ("scan,label\na.png,x\n", {}, "none of them names the image; give one by key_column"),
        ("file,label\n,x\n", {}, "line 2 of .* has no file"),
        (
            "file,a\na.png,often\n",
            {"label_columns": ["a"]},
            "column 'a' in line 2 of .* neither 1 nor 0",
        ),
        ("file,label\nz.png,x\n", {}, "1 x no label is known"),
    ],
)
def test_a_label_file_that_cannot_be_used_is_named(
    tmp_path: Path, text: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadData, match=message):
        read(labelled(tmp_path, text, a=1), **arguments)


def test_a_label_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    with pytest.raises(BadData, match=r"no label file 'labels.csv' below"):
        read(tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadData, match="not UTF-8"):
        read(tmp_path)


def test_labels_may_lie_outside_the_data(tmp_path: Path) -> None:
    picture(tmp_path / "data" / "a.png", 1)
    (tmp_path / "elsewhere.csv").write_text("file,label\na.png,x\n")
    source = ImageFolderSource(tmp_path / "data", 4, 4, 1, labels=str(tmp_path / "elsewhere.csv"))
    assert source.load().class_names == ("x",)


def test_copies_are_kept_and_counted_or_dropped(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        picture(tmp_path / name, 9)
    kept = ImageFolderSource(tmp_path, 4, 4, 1).load_with_report()
    assert kept.report.notes == {Note.SAME_PIXELS: 2}
    assert kept.report.records == 3
    dropped = ImageFolderSource(tmp_path, 4, 4, 1, drop_duplicates=True).load_with_report()
    assert dropped.report.skipped == {Skipped.DUPLICATE: 2}
    assert dropped.records.record_ids == ("a/1.png",)


def test_without_a_size_images_keep_theirs_and_must_agree(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png", 1)
    picture(tmp_path / "a" / "2.png", (1, 2, 3))
    picture(tmp_path / "a" / "3.png", (4, 5, 6))
    assert ImageFolderSource(tmp_path).load().images.shape == (3, 3, 5, 6)
    picture(tmp_path / "b" / "4.png", (4, 5, 6), size=(9, 9))
    with pytest.raises(BadData, match=r"2 sizes: 3x5x6 \(3\), 3x9x9 \(1\)"):
        ImageFolderSource(tmp_path).load()


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    lying = Image.new("L", (6, 4))
    lying.paste(255, (0, 0, 3, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    lying.save(tmp_path / "a" / "1.png", exif=exif)
    image = ImageFolderSource(tmp_path).load().images[0][0]
    assert image.shape == (6, 4)
    assert image[0].all()
    assert not image[-1].any()


def test_a_zip_is_read_like_its_folder(tmp_path: Path) -> None:
    for name, value in (("a/ann/1.png", 1), ("a/ann/2.png", 2), ("b/bob/1.png", 3)):
        picture(tmp_path / "tree" / name, value)
    with zipfile.ZipFile(tmp_path / "tree.zip", "w") as archive:
        for file in sorted((tmp_path / "tree").rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path / "tree"))
        archive.writestr("__MACOSX/a/._1.png", b"")
    assert (
        ImageFolderSource(tmp_path / "tree.zip", 4, 4, 1).load()
        == ImageFolderSource(tmp_path / "tree", 4, 4, 1).load()
    )


def test_the_alzheimer_slices_have_their_subjects(real_file: Any) -> None:
    loaded = ImageFolderSource(
        real_file("alzheimer_mri/alzheimer_mri_128_jpeg.zip"),
        64,
        64,
        1,
        labels="index.csv",
        check_pixels=False,
    ).load_with_report()
    assert loaded.report.patients == 200
    assert list(loaded.report.class_counts.values()) == [3200, 2240, 896, 64]
    assert not loaded.report.notes
    assert np.asarray(loaded.records.images[:2]).std() > 0.1
