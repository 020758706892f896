"""Photographs and scans in PNG, JPEG, BMP or TIFF to pixels."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from letheon.imaging.records import Pixels
from letheon.imaging.sources.assembly import Undecodable
from letheon.imaging.sources.report import Skipped

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
_TURNED = 5  # from this EXIF orientation on, width and height change places
_ORIENTATION = 0x0112


def describe(data: bytes) -> tuple[tuple[int, int], bool]:
    """Height and width as shown, and whether it has colours. Raises Undecodable."""
    try:
        with _opened(data) as image:
            width, height = image.size
            # Of a PNG this reads the pixels: its EXIF may stand behind them.
            turned = image.getexif().get(_ORIENTATION, 1) >= _TURNED
            colour = image.mode not in ("1", "L", "LA", "F") and not image.mode.startswith("I")
            return ((width, height) if turned else (height, width)), colour
    except (OSError, ValueError, SyntaxError, TypeError, struct.error) as error:
        raise _undecodable(error) from None


def pixels(data: bytes, size: tuple[int, int], channels: int) -> Pixels:
    """[channels, height, width] in [0, 1] at `size`. Raises Undecodable.

    Upright as its EXIF says. Grey of 16 bits keeps its depth: 65535 is 1.
    """
    try:
        with _opened(data) as opened:
            image = ImageOps.exif_transpose(opened)
            return np.ascontiguousarray(_pixels(image, size, channels))
    except (OSError, ValueError, SyntaxError, TypeError, struct.error) as error:
        raise _undecodable(error) from None


def _undecodable(error: Exception) -> Undecodable:
    torn = "truncated" in str(error)
    return Undecodable(Skipped.TRUNCATED if torn else Skipped.UNREADABLE, type(error).__name__)


def _pixels(image: Image.Image, size: tuple[int, int], channels: int) -> Pixels:
    height, width = size
    if image.mode == "F":
        raise Undecodable(Skipped.UNSUPPORTED, "its pixels are fractions of no known scale")
    if image.mode.startswith("I"):
        deep = Image.fromarray(np.asarray(image).astype(np.float32) / np.float32(65535))
        grey = np.asarray(deep.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
        return np.broadcast_to(grey.clip(0, 1), (channels, height, width))
    shown = image.convert("L" if channels == 1 else "RGB")
    values = np.asarray(shown.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    values = values / np.float32(255)
    return values[None] if channels == 1 else np.moveaxis(values, -1, 0)


def _opened(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Undecodable(Skipped.TOO_LARGE) from None
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
        raise Undecodable(Skipped.UNREADABLE, type(error).__name__) from None
