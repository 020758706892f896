from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from letheon.errors import BadData
from letheon.imaging.sources.image_folder import ImageFolderSource


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
    with pytest.raises(BadData, match=r"image 2 of .* \(class 'a'\)") as caught:
        ImageFolderSource(tmp_path, 2, 2, 1).load()
    assert "jane" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_torn_image_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png", (9, 8, 7), size=(300, 300))
    whole = (tmp_path / "a" / "1.png").read_bytes()
    (tmp_path / "a" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadData, match="image 1"):
        ImageFolderSource(tmp_path, 2, 2, 1).load()


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no folder"):
        ImageFolderSource(tmp_path / "gone", 2, 2, 1).load()
    with pytest.raises(BadData, match="no class folders"):
        ImageFolderSource(tmp_path, 2, 2, 1).load()
    (tmp_path / "a").mkdir()
    with pytest.raises(BadData, match="hold no image"):
        ImageFolderSource(tmp_path, 2, 2, 1).load()


@pytest.mark.parametrize("arguments", [(2, 2, 2), (0, 2, 1)])
def test_impossible_shapes_are_refused_at_once(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ImageFolderSource("x", *arguments)
