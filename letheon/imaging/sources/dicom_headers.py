"""What one DICOM file says of itself, and whether all of it is there."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from letheon.errors import BadConfig
from letheon.imaging.sources.assembly import Undecodable
from letheon.imaging.sources.report import Skipped

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MOST_VALUES = 2**30  # of one file, unpacked
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

INSTALL = 'pip install "letheon[dicom]"'
# What decodes a family of transfer syntaxes, by a word of its name.
_DECODERS = (
    ("JPEG-LS", "pip install pyjpegls"),
    ("JPEG 2000", "pip install pylibjpeg pylibjpeg-openjpeg"),
    ("JPEG", "pip install python-gdcm"),
    ("RLE", "pip install pylibjpeg-rle"),
)


@dataclass(frozen=True)
class Instance:
    """One file's place in its series. Identifiers stay out of its repr."""

    name: str = field(repr=False)
    instance: str = field(repr=False)
    series: str = field(repr=False)
    study: str = field(repr=False)
    patient: str | None = field(repr=False)
    modality: str
    number: int | None
    rows: int
    columns: int
    frames: int
    colour: bool
    orientation: tuple[float, ...] | None  # six direction cosines: along a row, along a column
    positions: tuple[tuple[float, ...] | None, ...]  # of each frame, mm
    tag: str | None  # value of the tag that labels are taken from


@contextmanager
def quiet() -> Iterator[None]:
    """No warning of pydicom is shown: they quote values, which can be a patient's."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def require_pydicom() -> None:
    """Raises BadConfig, with what to install."""
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise BadConfig(f"the source 'dicom' needs pydicom: {INSTALL}") from None


def read_dataset(name: str, data: bytes) -> Dataset:
    """The file with an image in it. Raises Undecodable."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    named = name.lower().endswith((".dcm", ".dicom", ".ima"))
    try:
        with quiet():
            # A file without the preamble is read if its name says that it is one.
            dataset = dcmread(io.BytesIO(data), force=named)
            known = "SOPClassUID" in dataset or "Rows" in dataset
            # An empty dataset is what pydicom leaves of a file that ends within compressed pixels.
            whole = known and any(keyword in dataset for keyword in _PIXELS)
            missing = None if whole else _reason_without_pixels(dataset)
    except InvalidDicomError:
        raise Undecodable(Skipped.OTHER_FILE) from None
    except EOFError:
        raise Undecodable(Skipped.TRUNCATED) from None
    except Exception as error:  # noqa: BLE001 - pydicom raises anything on a damaged file
        raise Undecodable(Skipped.UNREADABLE, type(error).__name__) from None
    if missing is not None:
        raise Undecodable(missing)
    return dataset


def _reason_without_pixels(dataset: Dataset) -> Skipped:
    from pydicom.uid import UID

    told = dataset.get("SOPClassUID") or getattr(dataset.file_meta, "MediaStorageSOPClassUID", None)
    if not told:
        return Skipped.TRUNCATED if "Rows" in dataset else Skipped.UNREADABLE
    return Skipped.TRUNCATED if "Image Storage" in UID(str(told)).name else Skipped.NOT_AN_IMAGE


def read_instance(name: str, data: bytes, tag: str | None) -> Instance:
    """The header, once the pixels are known to be whole and decodable. Raises Undecodable."""
    dataset = read_dataset(name, data)
    try:
        with quiet():
            _check_pixels(dataset)
            return _instance(name, dataset, tag)
    except Undecodable:
        raise
    except Exception as error:  # noqa: BLE001 - see above
        raise Undecodable(Skipped.UNREADABLE, f"its header: {type(error).__name__}") from None


def _instance(name: str, dataset: Dataset, tag: str | None) -> Instance:
    issuer = str(dataset.get("IssuerOfPatientID") or "").strip()
    patient = str(dataset.get("PatientID") or "").strip()
    instance = str(dataset.get("SOPInstanceUID") or name)
    frames = int(dataset.get("NumberOfFrames") or 1)
    number = dataset.get("InstanceNumber")
    return Instance(
        name=name,
        instance=instance,
        series=str(dataset.get("SeriesInstanceUID") or instance),
        study=str(dataset.get("StudyInstanceUID") or dataset.get("SeriesInstanceUID") or instance),
        patient=(f"{patient}^{issuer}" if issuer else patient) if patient else None,
        modality=str(dataset.get("Modality") or ""),
        number=None if number is None else int(number),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        frames=frames,
        colour=int(dataset.get("SamplesPerPixel", 1)) > 1
        or dataset.get("PhotometricInterpretation") == "PALETTE COLOR",
        orientation=_orientation(dataset),
        positions=tuple(_position(dataset, frame) for frame in range(frames)),
        tag=None if tag is None else _tag(dataset, tag),
    )


def functional(dataset: Dataset, frame: int, sequence: str, keyword: str) -> Any:  # noqa: ANN401
    """A value of one frame: from its own group, the shared group, or the file itself."""
    groups = []
    if "PerFrameFunctionalGroupsSequence" in dataset:
        own = dataset.PerFrameFunctionalGroupsSequence
        groups.extend(own[frame : frame + 1])
    groups.extend(dataset.get("SharedFunctionalGroupsSequence", [])[:1])
    for group in groups:
        items = group.get(sequence) or []
        if items and keyword in items[0]:
            return items[0][keyword].value
    return dataset.get(keyword)


def _orientation(dataset: Dataset) -> tuple[float, ...] | None:
    value = functional(dataset, 0, "PlaneOrientationSequence", "ImageOrientationPatient")
    return tuple(float(part) for part in value) if value and len(value) == 6 else None


def _position(dataset: Dataset, frame: int) -> tuple[float, ...] | None:
    value = functional(dataset, frame, "PlanePositionSequence", "ImagePositionPatient")
    if value and "PerFrameFunctionalGroupsSequence" not in dataset and frame > 0:
        return None  # one position for the whole file says nothing of its frames
    return tuple(float(part) for part in value) if value and len(value) == 3 else None


def check_tag(tag: str) -> None:
    """Raises BadConfig unless it is a keyword such as BodyPartExamined, or like (0018,0015)."""
    try:
        _number(tag)
    except (ValueError, OverflowError):
        raise BadConfig(
            f"label_tag {tag!r} is no DICOM tag: give a keyword (BodyPartExamined) or its number"
            " (0018,0015)"
        ) from None


def _number(tag: str) -> int:
    from pydicom.tag import Tag

    plain = tag.strip("() ").replace(",", "").replace(" ", "")
    is_number = len(plain) == 8 and all(letter in "0123456789abcdefABCDEF" for letter in plain)
    return int(plain, 16) if is_number else int(Tag(tag))


def _tag(dataset: Dataset, tag: str) -> str | None:
    number = _number(tag)
    if number not in dataset:
        return None
    value = dataset[number].value
    text = "\\".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.strip() or None


def _check_pixels(dataset: Dataset) -> None:
    """Lengths against the header, and whether something decodes the syntax."""
    from pydicom.pixels.decoders.base import get_decoder

    sides = [int(dataset.get(keyword) or 0) for keyword in ("Rows", "Columns")]
    if 0 in sides:
        raise Undecodable(Skipped.UNREADABLE, "its header names no rows or columns")
    frames = int(dataset.get("NumberOfFrames") or 1)
    values = sides[0] * sides[1] * frames * int(dataset.get("SamplesPerPixel", 1))
    if values > MOST_VALUES:
        raise Undecodable(Skipped.TOO_LARGE)
    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
    if syntax is None:
        raise Undecodable(Skipped.UNREADABLE, "its header names no transfer syntax")
    if not syntax.is_compressed:
        have = len(dataset[next(k for k in _PIXELS if k in dataset)].value)
        halved = dataset.get("PhotometricInterpretation") == "YBR_FULL_422"
        need = values * int(dataset.BitsAllocated) // 8
        if have < (need * 2 // 3 if halved else need):
            raise Undecodable(Skipped.TRUNCATED)
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise Undecodable(Skipped.NO_DECODER, decoder_advice(syntax.name))


def decoder_advice(syntax: str) -> str:
    """What to install for a transfer syntax, by its name."""
    for word, line in _DECODERS:
        if word in syntax:
            return f"{syntax} needs a decoder: {line}"
    return f"{syntax} has no decoder: convert it, for example with dcmconv or gdcmconv --raw"
