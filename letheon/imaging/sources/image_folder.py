"""Records from folders of PNG, JPEG, BMP or TIFF files, one folder a class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from letheon.errors import BadData
from letheon.imaging.records import Records

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True)
class ImageFolderSource:
    """`<path>/<class>/<image>` or `<path>/<class>/<patient>/<image>`.

    Images are turned grey (1 channel) or RGB (3) and resized without keeping their aspect.
    Grey images of 16 bits keep their depth: 65535 is white. Record ids are paths below `path`.
    Errors give the place of an image, not its file name, which may name a patient.
    """

    path: str | Path
    height: int
    width: int
    channels: int
    class_names: Sequence[str] | None = None  # folders in label order; None: sorted by name

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), not {self.channels}")
        if self.height < 1 or self.width < 1:
            raise ValueError("height and width must be at least 1 pixel")

    def load(self) -> Records:
        """Reads every image. Raises BadData."""
        root = Path(self.path).expanduser()
        names = self._classes(root)
        files = [(label, file) for label, name in enumerate(names) for file in _images(root / name)]
        if not files:
            raise BadData(
                f"the class folders of {root} hold no image ({', '.join(sorted(_SUFFIXES))})",
                path=root,
            )
        images = np.empty((len(files), self.channels, self.height, self.width), dtype=np.float32)
        for row, (label, file) in enumerate(files):
            images[row] = self._read(file, f"image {row + 1} of {root} (class {names[label]!r})")
        return Records(
            images=images,
            labels=np.array([label for label, _ in files], dtype=np.int64),
            record_ids=tuple(file.relative_to(root).as_posix() for _, file in files),
            patients=_patients(root, [file for _, file in files]),
            class_names=names,
        )

    def _classes(self, root: Path) -> tuple[str, ...]:
        if not root.is_dir():
            raise BadData(f"there is no folder {root}", path=root)
        folders = sorted(
            entry.name
            for entry in root.iterdir()
            if entry.is_dir() and not entry.name.startswith(".")
        )
        if not folders:
            raise BadData(f"{root} has no class folders: one folder for each class", path=root)
        if self.class_names is None:
            return tuple(folders)
        if unknown := sorted(set(folders) - set(self.class_names)):
            raise BadData(
                f"{root} has folders that are no class: {', '.join(unknown)}; "
                f"the classes are {', '.join(self.class_names)}",
                path=root,
            )
        return tuple(self.class_names)

    def _read(self, file: Path, place: str) -> npt.NDArray[np.float32]:
        try:
            with Image.open(file) as image:
                return self._pixels(image)
        except (
            OSError,
            ValueError,
            SyntaxError,
            UnidentifiedImageError,
            Image.DecompressionBombError,
        ) as error:
            # The cause would carry the file's name into logs.
            raise BadData(f"{place} cannot be read ({type(error).__name__})") from None

    def _pixels(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """[channels, height, width] in [0, 1]."""
        size = (self.width, self.height)
        if image.mode.startswith("I"):
            deep = Image.fromarray(np.asarray(image).astype(np.float32) / np.float32(65535))
            grey = np.asarray(deep.resize(size, Image.Resampling.BILINEAR), dtype=np.float32)
            return np.broadcast_to(grey.clip(0, 1), (self.channels, self.height, self.width))
        shown = image.convert("L" if self.channels == 1 else "RGB")
        pixels = np.asarray(shown.resize(size, Image.Resampling.BILINEAR), dtype=np.float32)
        pixels = pixels / np.float32(255)
        return pixels[None] if self.channels == 1 else np.moveaxis(pixels, -1, 0)


def _images(folder: Path) -> Iterator[Path]:
    """Image files of a class folder and of its patient folders, in name order."""
    if not folder.is_dir():
        return
    for file in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".") and file.is_file():
            yield file


def _patients(root: Path, files: Sequence[Path]) -> tuple[str, ...] | None:
    """The patient folder of each file; a loose file beside such folders is its own patient."""
    parts = [file.relative_to(root).parts for file in files]
    if all(len(part) == 2 for part in parts):
        return None
    return tuple(part[1] if len(part) == 3 else "/".join(part) for part in parts)
