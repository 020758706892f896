"""Records from candidates: one shape, every image tried once, copies found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.imaging.images import DecodedRows, LazyImages
from letheon.imaging.records import Pixels, Records
from letheon.imaging.sources.report import MEANINGS, Findings, Loaded, Note, Skipped

MIB = 1024**2


class MixedSizes(BadData):
    """Images of several sizes, and no `size` to bring them to. `largest` holds all of them."""

    def __init__(self, message: str, largest: tuple[int, ...], **facts: object) -> None:
        super().__init__(message, **facts)
        self.largest = largest


class Undecodable(BadData):
    """An image that becomes no record; says why, and where it is once that is known."""

    def __init__(self, skipped: Skipped, why: str = "", place: str = "an image") -> None:
        detail = f" ({why})" if why else ""
        super().__init__(f"{place} cannot be used: {MEANINGS[skipped]}{detail}")
        self.skipped = skipped
        self.why = why


@dataclass(frozen=True)
class Candidate:
    """What may become a record. `name` is its file: for the site's own eyes."""

    record_id: str
    name: str
    place: str  # says which it is without naming it
    patient: str | None
    label: int | tuple[int, ...]
    shape: tuple[int, ...]  # of `decode`'s answer
    decode: Callable[[], Pixels]  # raises Undecodable
    mask: Callable[[], npt.NDArray[np.uint8]] | None = None


@dataclass(frozen=True)
class Reading:
    """How much is kept in memory and looked at; the same keys in every source of files."""

    cache_mib: int = 1024
    check_pixels: bool = True
    drop_duplicates: bool = False

    def __post_init__(self) -> None:
        if self.cache_mib < 0:
            raise ValueError("cache_mib must be >= 0")
        if self.drop_duplicates and not self.check_pixels:
            raise ValueError("drop_duplicates needs check_pixels: copies are found by their pixels")


def assemble(
    candidates: Sequence[Candidate],
    *,
    class_names: Sequence[str],
    findings: Findings,
    reading: Reading,
    wanted: str,
) -> Loaded:
    """Loaded records whose pixels are decoded when needed.

    `wanted` says what is missing where nothing is left. Raises BadData: nothing left, mixed
    sizes, an id twice.
    """
    if not candidates:
        raise findings.nothing_left(wanted)
    shape = _one_shape(candidates, findings)
    ids = [candidate.record_id for candidate in candidates]
    if len(set(ids)) != len(ids):
        raise BadData(f"{findings.root} gives two records the same id", path=findings.root)
    decoded = DecodedRows(reading.cache_mib * MIB)
    records = _records(candidates, shape, tuple(class_names), decoded)
    if reading.check_pixels:
        kept = _tried(records, candidates, findings, drop=reading.drop_duplicates)
        if not kept:
            raise findings.nothing_left(wanted)
        if len(kept) < len(records):
            records = records.select(kept)
    return findings.loaded(records)


def _one_shape(candidates: Sequence[Candidate], findings: Findings) -> tuple[int, ...]:
    shapes: dict[tuple[int, ...], int] = {}
    for candidate in candidates:
        shapes[candidate.shape] = shapes.get(candidate.shape, 0) + 1
    if len(shapes) > 1:
        common = sorted(shapes.items(), key=lambda item: (-item[1], item[0]))
        spelt = ", ".join(f"{'x'.join(map(str, s))} ({count})" for s, count in common[:4])
        more = ", ..." if len(common) > 4 else ""
        same_axes = {len(shape) for shape in shapes} == {len(candidates[0].shape)}
        raise MixedSizes(
            f"{findings.root} holds images of {len(shapes)} sizes: {spelt}{more}; all records of a"
            " site have one size: give it as `size` (height and width for image folders)",
            tuple(max(sides) for sides in zip(*shapes, strict=True))[1:] if same_axes else (),
            path=findings.root,
        )
    return next(iter(shapes))


def _records(
    candidates: Sequence[Candidate],
    shape: tuple[int, ...],
    class_names: tuple[str, ...],
    decoded: DecodedRows,
) -> Records:
    labels: Any
    masks = [candidate.mask for candidate in candidates if candidate.mask is not None]
    if masks:
        labels = LazyImages(
            len(masks),
            shape[1:],
            lambda row: _named(candidates[row], masks[row]),
            decoded,
            dtype=np.uint8,
        )
    else:
        labels = np.array([candidate.label for candidate in candidates], dtype=np.int64)
    patients = tuple(candidate.patient for candidate in candidates)
    return Records(
        images=LazyImages(
            len(candidates),
            shape,
            lambda row: _named(candidates[row], candidates[row].decode),
            decoded,
        ),
        labels=labels,
        record_ids=tuple(candidate.record_id for candidate in candidates),
        patients=None if None in patients else tuple(str(patient) for patient in patients),
        class_names=class_names,
    )


def _named(candidate: Candidate, decode: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """What `decode` gives. The place joins the error; the file, which may name a patient, not."""
    try:
        return decode()
    except Undecodable as error:
        raise Undecodable(error.skipped, error.why, candidate.place) from None


def _tried(
    records: Records, candidates: Sequence[Candidate], findings: Findings, *, drop: bool
) -> list[int]:
    """Rows that can be decoded; copies among them only where they are not dropped."""
    kept: list[int] = []
    seen: set[bytes] = set()
    masked = candidates[0].mask is not None
    for row, candidate in enumerate(candidates):
        try:
            image = records.images[row]
            if masked:
                _check_mask(records.labels[row], len(records.class_names))
        except Undecodable as error:
            findings.skip(error.skipped, candidate.name, place=candidate.place, why=error.why)
            continue
        digest = hashlib.sha256(np.ascontiguousarray(image).data).digest()
        if digest in seen and drop:
            findings.skip(Skipped.DUPLICATE, candidate.name, place=candidate.place)
            continue
        if digest in seen:
            findings.note(Note.SAME_PIXELS, candidate.name)
        seen.add(digest)
        kept.append(row)
    return kept


def _check_mask(mask: npt.NDArray[np.uint8], classes: int) -> None:
    if mask.max(initial=0) >= classes:
        raise Undecodable(
            Skipped.MASK_MISMATCH, f"its mask holds {mask.max()}, but there are {classes} classes"
        )
