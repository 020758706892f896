"""The images of a series as one volume: in which order, and whether all slices are there."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from letheon.imaging.sources.assembly import Undecodable
from letheon.imaging.sources.dicom_headers import Instance
from letheon.imaging.sources.report import Skipped

# Two slices nearer than this share of the usual distance are at one place; farther apart than
# that multiple of it, one is missing between them. Scanners round positions to 0.01 mm.
_SAME = 0.1
_GAP = 1.5
_COSINE = 1e-3


@dataclass(frozen=True)
class Slice:
    """One frame of one file."""

    instance: Instance
    frame: int


def series_of(instances: Iterable[Instance]) -> list[list[Instance]]:
    """Files by series, in a fixed order that does not depend on file names."""
    grouped: dict[tuple[str, str, str], list[Instance]] = defaultdict(list)
    for one in instances:
        grouped[(one.patient or "", one.study, one.series)].append(one)
    return [sorted(grouped[key], key=_order) for key in sorted(grouped)]


def _order(one: Instance) -> tuple[int, str]:
    return (one.number if one.number is not None else 0, one.instance)


def volumes_of(series: Sequence[Instance]) -> list[list[Instance]]:
    """What becomes one volume each: a file of several frames, or all files of one frame."""
    single = [one for one in series if one.frames == 1]
    return [*([single] if single else []), *([one] for one in series if one.frames > 1)]


def ordered(volume: Sequence[Instance]) -> list[Slice]:
    """The slices along the normal of their planes, else by number. Raises Undecodable.

    By position where every slice has one (ascending along the cross product of the direction
    cosines, PS3.3 C.7.6.2.1.1); else by InstanceNumber; frames of one file as they are stored.
    """
    first = volume[0]
    if len({(one.rows, one.columns, one.colour) for one in volume}) > 1:
        raise Undecodable(Skipped.MIXED_SLICES, "its slices have several sizes")
    slices = [Slice(one, frame) for one in volume for frame in range(one.frames)]
    places = [one.instance.positions[one.frame] for one in slices]
    if first.orientation is not None and all(place is not None for place in places):
        _check_orientation(volume, first.orientation)
        along = np.array(list(places)) @ _normal(first.orientation)
        order = np.argsort(along, kind="stable")
        _check_distances(along[order])
        return [slices[row] for row in order]
    if first.frames > 1:
        return slices
    return _by_number(slices)


def around_middle(series: Sequence[Instance], count: int) -> list[Slice]:
    """The `count` images in the middle: along the body where that can be told."""
    try:
        slices = ordered(series)
    except Undecodable:
        slices = [Slice(one, frame) for one in series for frame in range(one.frames)]
    start = max(0, (len(slices) - count) // 2)
    return slices[start : start + count]


def record_id(slices: Sequence[Slice], *, deep: bool) -> str:
    """Of an image or volume: its instance UID and frame, or its series UID."""
    first = slices[0].instance
    if deep:
        return first.instance if first.frames > 1 else first.series
    return first.instance if first.frames == 1 else f"{first.instance}#{slices[0].frame + 1}"


def _normal(orientation: tuple[float, ...]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.cross(orientation[:3], orientation[3:])


def _check_orientation(volume: Sequence[Instance], first: tuple[float, ...]) -> None:
    for one in volume:
        if one.orientation is None or not np.allclose(one.orientation, first, atol=_COSINE):
            raise Undecodable(Skipped.MIXED_SLICES, "its slices have several orientations")


def _check_distances(along: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    steps = np.diff(along)
    if len(steps) == 0:
        return
    positive = steps[steps > 0]
    usual = float(np.median(positive)) if len(positive) else 0.0
    if (same := np.flatnonzero(steps <= _SAME * usual)).size:
        raise Undecodable(
            Skipped.DUPLICATE_SLICES,
            f"slices {same[0] + 1} and {same[0] + 2} of {len(along)} are at one place",
        )
    if (gaps := np.flatnonzero(steps > _GAP * usual)).size:
        missing = sum(round(float(steps[gap]) / usual) - 1 for gap in gaps)
        raise Undecodable(
            Skipped.MISSING_SLICES,
            f"about {missing} missing, the first after slice {gaps[0] + 1} of {len(along)}",
        )


def _by_number(slices: Sequence[Slice]) -> list[Slice]:
    numbers = [one.instance.number for one in slices]
    if len(slices) > 1 and None in numbers:
        raise Undecodable(
            Skipped.MISSING_SLICES, "its slices have neither positions nor instance numbers"
        )
    known = sorted((number or 0, row) for row, number in enumerate(numbers))
    for (before, _), (after, _) in itertools.pairwise(known):
        if before == after:
            raise Undecodable(Skipped.DUPLICATE_SLICES, f"two slices have the number {before}")
        if after > before + 1:
            raise Undecodable(Skipped.MISSING_SLICES, f"no slice has the number {before + 1}")
    return [slices[row] for _, row in known]
