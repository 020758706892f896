"""Arrays of a NumPy archive, checked as they are read. Nothing pickled is ever read."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.imaging.records import Labels, Pixels, Targets

Array = npt.NDArray[np.generic]


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """An open `.npz` file. Raises BadData if there is none, or it is something else."""
    try:
        archive = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise BadData(f"there is no file {path}", path=path) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadData(f"{path} cannot be read as a NumPy archive: {error}", path=path) from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise BadData(f"{path} is a single array, not an .npz archive", path=path)
    with archive:
        yield Archive(path, archive)


class Archive:
    """Arrays of an open archive, checked as they are read."""

    def __init__(self, path: Path, archive: np.lib.npyio.NpzFile) -> None:
        self.path = path
        self._archive = archive
        self.keys = tuple(archive.files)

    def has(self, key: str) -> bool:
        """Whether there is an array of that name."""
        return key in self.keys

    def read(self, key: str) -> Array:
        """The array as stored. Raises BadData if it is missing, damaged or pickled."""
        if not self.has(key):
            there = ", ".join(self.keys) or "nothing"
            raise BadData(f"{self.path} has no array {key!r}; it has {there}", path=self.path)
        try:
            return np.asarray(self._archive[key])
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise BadData(
                f"array {key!r} of {self.path} cannot be read: {error}", path=self.path
            ) from error

    def whole_numbers(self, key: str) -> npt.NDArray[np.int64]:
        """An array of integers, as int64."""
        values = self.read(key)
        if values.dtype.kind not in "iu":
            raise BadData(
                f"{key!r} of {self.path} must be whole numbers, not {values.dtype}", path=self.path
            )
        return values.astype(np.int64)

    def targets(self, key: str) -> Targets:
        """Labels of any kind: one a record, one column a class, or masks of uint8."""
        values = self.read(key)
        if values.ndim >= 3 and values.dtype == np.uint8:
            return values
        return self.labels(key) if values.ndim < 2 else self.whole_numbers(key)

    def features_or_volumes(self, key: str) -> Pixels:
        """What is stored with the channels first: [n, features] or [n, c, d, h, w]."""
        values = self.read(key)
        if values.ndim not in (2, 4, 5):
            raise BadData(
                f"{key!r} of {self.path} has shape {list(values.shape)}; wanted [n, features], "
                "[n, c, h, w] or [n, c, d, h, w] with the channels first",
                path=self.path,
            )
        if values.ndim == 2:
            if values.dtype != np.float32 or not np.isfinite(values).all():
                raise BadData(
                    f"{key!r} of {self.path} must be finite float32 features", path=self.path
                )
            return values.astype(np.float32)
        return self._pixels(key, values)

    def labels(self, key: str) -> Labels:
        """One label a record: stored as [n] or [n, 1]."""
        values = self.whole_numbers(key)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise BadData(
                f"{key!r} of {self.path} has shape {list(values.shape)}; "
                "each record needs exactly one label",
                path=self.path,
            )
        return values

    def strings(self, key: str, count: int | None) -> tuple[str, ...]:
        """`count` (or, if None, any number of) names, or numbers spelt out."""
        values = self.read(key)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1 or (count is not None and len(values) != count):
            raise BadData(
                f"{key!r} of {self.path} has shape {list(values.shape)}, not [{count or 'n'}]",
                path=self.path,
            )
        return tuple(str(value) for value in values.tolist())

    def images(self, key: str) -> Pixels:
        """Images as float32 [n, c, h, w] in [0, 1]."""
        values = self.read(key)
        grey = values.ndim == 3
        if not grey and not (values.ndim == 4 and 1 <= values.shape[-1] <= 4):
            raise BadData(
                f"{key!r} of {self.path} has shape {list(values.shape)}; wanted [n, h, w] "
                "or [n, h, w, c] with the channels last",
                path=self.path,
            )
        pixels = self._pixels(key, values)
        shaped = pixels[:, None] if grey else np.moveaxis(pixels, -1, 1)
        return np.ascontiguousarray(shaped)

    def _pixels(self, key: str, values: Array) -> Pixels:
        if values.dtype == np.uint8:
            return values.astype(np.float32) / np.float32(255)
        if values.dtype != np.float32:
            raise BadData(
                f"{key!r} of {self.path} must be uint8 or float32, not {values.dtype}",
                path=self.path,
            )
        pixels = values.astype(np.float32)
        if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):
            raise BadData(f"{key!r} of {self.path} has pixels outside [0, 1]", path=self.path)
        return pixels
