"""Stored values of DICOM images to grey or RGB in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from letheon.imaging.records import Pixels
from letheon.imaging.sources.assembly import Undecodable
from letheon.imaging.sources.dicom_headers import functional, quiet, read_dataset
from letheon.imaging.sources.dicom_series import Slice
from letheon.imaging.sources.intensity import Intensity, resized, to_unit
from letheon.imaging.sources.report import Skipped

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Window = tuple[float, float] | Literal["file"] | None
# A window turned [0, 65535] loses nothing that float32 in [0, 1] could keep.
_BITS = 16
_BYTE = 8


class OpenFile:
    """The file that was read last: its frames are asked for one by one."""

    def __init__(self, read: Callable[[str], bytes]) -> None:
        self._read = read
        self._last: tuple[str, Dataset] | None = None

    def dataset(self, name: str) -> Dataset:
        """Raises Undecodable."""
        last = self._last
        if last is None or last[0] != name:
            try:
                data = self._read(name)
            except (OSError, KeyError) as error:
                raise Undecodable(Skipped.UNREADABLE, type(error).__name__) from None
            last = self._last = name, read_dataset(name, data)
        return last[1]


@dataclass(frozen=True)
class Rendering:
    """How stored values become [channels, (depth,) height, width] in [0, 1].

    Modality LUT or rescale first, then the window (`file`: the file's, where it has one), else
    `intensity`; without one, the stored range of 8 bits and percentiles of more. MONOCHROME1 is
    inverted. Colour keeps its stored range.
    """

    window: Window
    intensity: Intensity | None
    channels: int
    size: tuple[int, ...] | None

    def image(self, slices: Sequence[Slice], files: OpenFile, *, deep: bool) -> Pixels:
        """One slice [c, h, w], or with `deep` several [c, d, h, w]. Raises Undecodable."""
        planes = self._planes(slices, files)
        stacked = np.stack([self._coloured(plane) for plane in planes], axis=1)
        shown = stacked if deep else stacked[:, 0]
        return shown if self.size is None else resized(shown, self.size)

    def _planes(self, slices: Sequence[Slice], files: OpenFile) -> list[Pixels]:
        stored = [
            _decoded(files.dataset(one.instance.name), one.frame, self.window) for one in slices
        ]
        if stored[0].colour or all(plane.shown is not None for plane in stored):
            return [
                plane.upright(plane.values if plane.shown is None else plane.shown)
                for plane in stored
            ]
        whole = np.stack([plane.values for plane in stored])
        scaled = (self.intensity or _usual(stored[0]))(whole)
        return [plane.upright(part) for plane, part in zip(stored, scaled, strict=True)]

    def _coloured(self, plane: Pixels) -> Pixels:
        """[channels, height, width]."""
        if plane.ndim == 2:
            return np.repeat(plane[None], self.channels, axis=0)
        if self.channels == 3:
            return np.moveaxis(plane, -1, 0)
        grey = Image.fromarray(np.rint(plane * 255).astype(np.uint8)).convert("L")
        return np.asarray(grey, dtype=np.float32)[None] / np.float32(255)


@dataclass(frozen=True)
class _Plane:
    values: Pixels  # after the modality LUT; colour already in [0, 1]
    shown: Pixels | None  # windowed to [0, 1]
    colour: bool
    inverted: bool
    stored_range: tuple[float, float] | None  # of 8 bits

    def upright(self, plane: Pixels) -> Pixels:
        """Dark is low, whatever the file says of it."""
        return np.float32(1) - plane if self.inverted else plane


def _usual(plane: _Plane) -> Intensity:
    if plane.stored_range is not None:
        return Intensity("range", bounds=plane.stored_range)
    return Intensity("percentile")


def _decoded(dataset: Dataset, frame: int, window: Window) -> _Plane:
    try:
        with quiet():
            return _plane(dataset, frame, window)
    except Undecodable:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged bytes
        raise Undecodable(Skipped.UNREADABLE, f"its pixels: {type(error).__name__}") from None


def _plane(dataset: Dataset, frame: int, window: Window) -> _Plane:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import apply_color_lut

    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    plugin = _plugin(decoder.available_plugins, dataset)
    raw, told = decoder.as_array(dataset, index=frame, decoding_plugin=plugin)
    bits = int(dataset.BitsStored) if "BitsStored" in dataset else 32
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        raw = apply_color_lut(raw, dataset)
        bits = 8 if raw.dtype == np.uint8 else 16
    if raw.ndim == 3:
        colour = to_unit(raw[..., :3].astype(np.float32), 0.0, float(2**bits - 1))
        return _Plane(colour, None, colour=True, inverted=False, stored_range=None)
    values = _rescaled(raw, dataset, frame)
    plain = bits <= 8 and dataset.get("PixelRepresentation", 0) == 0 and (values == raw).all()
    return _Plane(
        values=_unpadded(values.astype(np.float32), raw, dataset),
        shown=_windowed(values, dataset, frame, window),
        colour=False,
        inverted=told["photometric_interpretation"] == "MONOCHROME1",
        stored_range=(0.0, float(2**bits - 1)) if plain else None,
    )


def _plugin(available: Sequence[str], dataset: Dataset) -> str:
    """The decoder to use; GDCM only where nothing else can.

    GDCM 3.2 ends the whole process at some damaged JPEG, JPEG-LS and JPEG 2000 streams; the others
    raise. Pillow reads 12 bits of no JPEG.
    """
    bits = int(dataset.get("BitsStored", 8))
    deep = dataset.file_meta.TransferSyntaxUID.name.startswith("JPEG Extended") and bits > _BYTE
    usable = [name for name in available if not (deep and name == "pillow")]
    return min(usable, key=lambda name: (name == "gdcm", name == "pillow", name), default="")


def _rescaled(raw: npt.NDArray[Any], dataset: Dataset, frame: int) -> npt.NDArray[np.float64]:
    from pydicom.pixels.processing import apply_modality_lut

    if dataset.get("ModalityLUTSequence"):
        return apply_modality_lut(raw, dataset).astype(np.float64)
    group = "PixelValueTransformationSequence"
    slope = functional(dataset, frame, group, "RescaleSlope")
    intercept = functional(dataset, frame, group, "RescaleIntercept")
    if slope is None or intercept is None:
        return raw.astype(np.float64)
    return raw.astype(np.float64) * float(slope) + float(intercept)


def _windowed(
    values: npt.NDArray[np.float64], dataset: Dataset, frame: int, window: Window
) -> Pixels | None:
    from pydicom.dataset import Dataset as Header
    from pydicom.pixels.processing import apply_voi, apply_windowing

    header = Header()
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsStored, header.PixelRepresentation = _BITS, 0
    if window == "file":
        if dataset.get("VOILUTSequence"):
            table = dataset.VOILUTSequence[0]
            shown = apply_voi(np.rint(values).astype(np.int64), dataset)
            top = float(2 ** int(table.LUTDescriptor[2]) - 1)
            return to_unit(shown.astype(np.float32), 0.0, top)
        group = "FrameVOILUTSequence"
        center = functional(dataset, frame, group, "WindowCenter")
        width = functional(dataset, frame, group, "WindowWidth")
        if center is None or width is None:
            return None
        header.VOILUTFunction = functional(dataset, frame, group, "VOILUTFunction") or "LINEAR"
        header.WindowCenter, header.WindowWidth = _first(center), _first(width)
    elif window is not None:
        header.WindowCenter, header.WindowWidth = window
    else:
        return None
    return to_unit(apply_windowing(values, header).astype(np.float32), 0.0, float(2**_BITS - 1))


def _first(value: Any) -> float:  # noqa: ANN401 - pydicom's own
    """Of several windows, the first one, as viewers show it."""
    return float(value if isinstance(value, int | float | str) else value[0])


def _unpadded(values: Pixels, raw: npt.NDArray[Any], dataset: Dataset) -> Pixels:
    """Padding outside the scanned field takes the lowest value inside: it is no measurement."""
    padding = dataset.get("PixelPaddingValue")
    if padding is None:
        return values
    limit = dataset.get("PixelPaddingRangeLimit", padding)
    outside = (raw >= min(padding, limit)) & (raw <= max(padding, limit))
    if outside.all() or not outside.any():
        return values
    return np.where(outside, values[~outside].min(), values)
