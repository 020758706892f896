"""One NIfTI file as an array in canonical orientation."""

from __future__ import annotations

import gzip
import io
import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from letheon.errors import BadConfig
from letheon.imaging.sources.assembly import Undecodable
from letheon.imaging.sources.report import Skipped

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

INSTALL = 'pip install "letheon[nifti]"'
SUFFIXES = (".nii", ".nii.gz")

_MOST_BYTES = 4 * 1024**3  # of one volume, unpacked
_HEADER = 540  # of NIfTI-2; NIfTI-1 needs less
_AFFINE_MM = 1e-2  # files rounded to float32 by another program agree to better than that

Affine = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Volume:
    """Values [channels, x, y, z] with x to the right, y to the front and z to the head."""

    values: npt.NDArray[np.float32]
    affine: Affine  # voxel to mm, 4 x 4
    not_finite: int  # values that were NaN or infinite, and are 0


@contextmanager
def quiet() -> Iterator[None]:
    """No warning of nibabel is shown: what matters of it becomes a reason."""
    logger = logging.getLogger("nibabel.global")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def require_nibabel() -> None:
    """Raises BadConfig, with what to install."""
    try:
        import nibabel  # noqa: F401
    except ImportError:
        raise BadConfig(f"the source 'nifti' needs nibabel: {INSTALL}") from None


def read_volume(data: bytes, *, channels: bool = False) -> Volume:
    """A .nii or .nii.gz. A fourth axis becomes channels, or is refused. Raises Undecodable."""
    with quiet():
        return _read(data, channels=channels)


def _read(data: bytes, *, channels: bool) -> Volume:
    from nibabel.funcs import as_closest_canonical

    image = _image(_unpacked(data))
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 4 and not channels:
        raise Undecodable(
            Skipped.UNSUPPORTED, f'it has four axes ({shape[3]} images): four_d = "channels"'
        )
    if not 3 <= len(shape) <= 4:
        raise Undecodable(Skipped.UNSUPPORTED, f"it has {len(shape)} axes, not three")
    try:
        canonical: Any = as_closest_canonical(image)  # type: ignore[no-untyped-call]
        values = np.asarray(canonical.dataobj, dtype=np.float32).reshape((*canonical.shape[:3], -1))
    except Exception as error:  # noqa: BLE001 - nibabel raises anything on a damaged file
        raise Undecodable(Skipped.UNREADABLE, type(error).__name__) from None
    broken = ~np.isfinite(values)
    values = np.where(broken, np.float32(0), values) if broken.any() else values
    return Volume(np.moveaxis(values, -1, 0), canonical.affine, int(broken.sum()))


def check_mask(mask: Volume, volume: Volume) -> None:
    """Raises Undecodable unless the mask lies on the voxels of the volume."""
    if mask.values.shape[1:] != volume.values.shape[1:]:
        shapes = ["x".join(map(str, v.values.shape[1:])) for v in (mask, volume)]
        raise Undecodable(Skipped.MASK_MISMATCH, f"its mask is {shapes[0]}, the volume {shapes[1]}")
    if not np.allclose(mask.affine, volume.affine, atol=_AFFINE_MM):
        distance = float(np.abs(mask.affine - volume.affine).max())
        raise Undecodable(
            Skipped.MASK_MISMATCH,
            f"its mask lies elsewhere: the affines differ by up to {distance:g}",
        )
    values = mask.values
    if mask.values.shape[0] != 1 or not np.array_equal(values, np.rint(values)):
        raise Undecodable(Skipped.MASK_MISMATCH, "its mask holds other values than whole numbers")
    if values.min(initial=0) < 0 or values.max(initial=0) > 255:
        raise Undecodable(Skipped.MASK_MISMATCH, "its mask holds values outside 0 to 255")


def _unpacked(data: bytes) -> bytes:
    """All bytes the header promises, and no more: a small file cannot fill the memory."""
    packed = data[:2] == b"\x1f\x8b"
    stream: Any = gzip.GzipFile(fileobj=io.BytesIO(data)) if packed else io.BytesIO(data)
    try:
        head = stream.read(_HEADER)
        need = _promised(head)
        if need > _MOST_BYTES:
            raise Undecodable(Skipped.TOO_LARGE)
        whole: bytes = head + stream.read(max(0, need - len(head)))
    except EOFError:
        raise Undecodable(Skipped.TRUNCATED) from None
    except (OSError, zlib.error) as error:
        raise Undecodable(Skipped.UNREADABLE, type(error).__name__) from None
    if len(whole) < need:
        raise Undecodable(Skipped.TRUNCATED)
    return whole


def _promised(head: bytes) -> int:
    """Bytes of the file by its header."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    second = int.from_bytes(head[:4], "little") == _HEADER or (
        int.from_bytes(head[:4], "big") == _HEADER
    )
    kind = Nifti2Header if second else Nifti1Header
    if len(head) < kind.sizeof_hdr:
        raise Undecodable(Skipped.TRUNCATED)
    try:
        header: Any = kind.from_fileobj(io.BytesIO(head), check=False)  # type: ignore[no-untyped-call]
        count = int(np.prod([int(side) for side in header.get_data_shape()], dtype=object))
        kind_of = header.get_data_dtype()
        offset = int(header["vox_offset"])
    except Exception as error:  # noqa: BLE001 - see read_volume
        raise Undecodable(Skipped.UNREADABLE, f"its header: {type(error).__name__}") from None
    if kind_of.kind not in "iufb":
        raise Undecodable(Skipped.UNSUPPORTED, f"its values are {kind_of}")
    if count <= 0 or offset < 0:
        raise Undecodable(Skipped.UNREADABLE, "its header gives no size")
    return offset + count * int(kind_of.itemsize)


def _image(data: bytes) -> Nifti1Image:
    from nibabel.nifti1 import Nifti1Image
    from nibabel.nifti2 import Nifti2Image

    second = _HEADER in (int.from_bytes(data[:4], order) for order in ("little", "big"))
    try:
        return (Nifti2Image if second else Nifti1Image).from_bytes(data)
    except Exception as error:  # noqa: BLE001 - see read_volume
        raise Undecodable(Skipped.UNREADABLE, type(error).__name__) from None
