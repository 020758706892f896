"""NIfTI volumes with their masks, scaled, as records are cut from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from letheon.imaging.records import Pixels
from letheon.imaging.sources.assembly import Undecodable
from letheon.imaging.sources.intensity import Intensity
from letheon.imaging.sources.nifti_volume import SUFFIXES, Volume, check_mask, read_volume
from letheon.imaging.sources.report import Skipped
from letheon.imaging.sources.tree import TooLarge, Tree

# Which axis of [channels, x, y, z] is cut.
CUTS = {"axial": 3, "coronal": 2, "sagittal": 1}


@dataclass(frozen=True)
class Scan:
    """A volume, scaled, with its mask."""

    values: Pixels  # [channels, x, y, z] in [0, 1]
    mask: npt.NDArray[np.uint8] | None  # [x, y, z]
    not_finite: int

    @property
    def channels(self) -> int:
        """Of the volume: one, or its fourth axis."""
        return int(self.values.shape[0])


class Scans:
    """Volumes with their masks. The last one is kept: its slices are asked for one by one."""

    def __init__(
        self, tree: Tree, intensity: Intensity, *, images: str, masks: str | None, channels: bool
    ) -> None:
        self._tree = tree
        self._intensity = intensity
        self._images = images.strip("/")
        self._masks = None if masks is None else masks.strip("/")
        self._channels = channels
        self._names = frozenset(tree.names)
        self._last: tuple[str, Scan] | None = None

    def read(self, name: str) -> Scan:
        """Raises Undecodable."""
        last = self._last
        if last is not None and last[0] == name:
            return last[1]
        volume = self._volume(name)
        if volume.values.min() == volume.values.max():
            raise Undecodable(Skipped.EMPTY)
        mask = None if self._masks is None else self._mask(name, volume)
        # Each channel has its own scale: T1 and T2 are no two readings of one quantity.
        scaled = np.stack([self._intensity(channel) for channel in volume.values])
        scan = Scan(scaled, mask, volume.not_finite)
        self._last = name, scan
        return scan

    def _volume(self, name: str) -> Volume:
        try:
            data = self._tree.read(name)
        except TooLarge as error:
            raise Undecodable(Skipped.TOO_LARGE, error.message) from None
        except OSError as error:
            raise Undecodable(Skipped.UNREADABLE, error.strerror or type(error).__name__) from None
        return read_volume(data, channels=self._channels)

    def _mask(self, name: str, volume: Volume) -> npt.NDArray[np.uint8]:
        below = name.removeprefix(f"{self._images}/")
        stem = below.removesuffix(".gz").removesuffix(".nii")
        places = [f"{self._masks}/{stem}{suffix}" for suffix in SUFFIXES]
        found = next((place for place in places if place in self._names), None)
        if found is None:
            raise Undecodable(Skipped.NO_MASK, f"no mask of its name in the folder {self._masks}")
        mask = self._volume(found)
        check_mask(mask, volume)
        whole: npt.NDArray[np.uint8] = mask.values[0].astype(np.uint8)
        return whole


def laid_out(values: npt.NDArray[Any], axis: str, part: int | None) -> npt.NDArray[Any]:
    """[channels, x, y, z] as a person looks at it: [c, z, y, x] with the front first, or a cut."""
    if part is None:
        return values.transpose(0, 3, 2, 1)[:, :, ::-1]
    cut: npt.NDArray[Any] = np.take(values, part, axis=CUTS[axis])
    return cut.transpose(0, 2, 1)[:, ::-1]
