"""The directions in which an erased subject pulled the model, as unit vectors.

Inner products are summed block by block in float64, vectors are built by elementwise float32
multiply and add, as in `arithmetic`; the small eigenproblem is solved by Jacobi rotations. So no
BLAS or LAPACK decides on a bit of a delta that a guard lets through.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from letheon.errors import BadConfig, BadData
from letheon.federation.arithmetic import BLOCK, accumulate, blocks, norm
from letheon.federation.parameters import Vector

Matrix = npt.NDArray[np.float64]

LARGEST_RANK = 5
# Share of the largest singular value below which a direction is rounding, not the subject.
_NEGLIGIBLE = 1e-4
_SWEEPS = 60
_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Direction:
    """One direction; `unit` is [d] float32 with L2 norm 1 to rounding. Raises BadData otherwise."""

    unit: Vector

    def __post_init__(self) -> None:
        if self.unit.ndim != 1 or self.unit.dtype != np.float32:
            raise BadData(f"a direction is [d] float32, not {self.unit.shape} {self.unit.dtype}")
        length = norm(self.unit)
        if not abs(length - 1.0) <= _UNIT_TOLERANCE:
            raise BadData(f"a direction has L2 norm 1, not {length:g}")


def inner(a: Vector, b: Vector) -> float:
    """`<a, b>` of two [d] float32 vectors, in float64: each product is exact, then summed by block.

    Raises ValueError if the shapes differ.
    """
    left, right = np.asarray(a), np.asarray(b)
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError(f"vectors of shapes {left.shape} and {right.shape} do not match")
    scratch = np.empty(min(BLOCK, left.size), dtype=np.float64)
    total = 0.0
    for block in blocks(left.size):
        part = scratch[: block.stop - block.start]
        np.multiply(left[block], right[block], out=part, dtype=np.float64)
        total += float(np.sum(part))
    return total


def directions(deltas: Sequence[Vector], rank: int = 1) -> tuple[Direction, ...]:
    """The top `rank` right singular vectors of the subject's deltas [n][d], strongest first.

    Each points to where the deltas went on average, so that re-learning has a positive component.
    Of one vector, such as the contribution, it is that vector over its norm. Fewer are returned if
    the deltas span less. Costs n (n + 1) / 2 inner products: hand over a few dozen, not a history.
    Source: the project's study of unlearning, "Guard against relearning".

    Raises BadConfig for a rank out of range; BadData for no delta, or deltas that are all zero or
    not finite.
    """
    if not 1 <= rank <= LARGEST_RANK:
        raise BadConfig(f"the rank of a guard is 1 to {LARGEST_RANK}, not {rank}")
    gram = _gram(deltas)
    values, vectors = _eigen(gram)
    order = sorted(range(len(deltas)), key=lambda index: -values[index])[:rank]
    floor = max(values) * _NEGLIGIBLE**2
    found: list[Direction] = []
    for index in order:
        if values[index] > floor:
            found.append(_direction(deltas, vectors[:, index], found))
    return tuple(found)


def _gram(deltas: Sequence[Vector]) -> Matrix:
    count = len(deltas)
    if not count:
        raise BadData("there is no delta to take a direction from")
    gram = np.empty((count, count), dtype=np.float64)
    for row in range(count):
        for column in range(row + 1):
            gram[row, column] = gram[column, row] = inner(deltas[row], deltas[column])
    trace = sum(float(gram[row, row]) for row in range(count))
    if not (math.isfinite(trace) and trace > 0):
        raise BadData("the subject's deltas are all zero or not finite: they give no direction")
    return gram


def _direction(deltas: Sequence[Vector], weights: Matrix, known: Sequence[Direction]) -> Direction:
    """The weighted sum of the deltas, orthogonal to those known, pointing where the deltas went."""
    vector = np.zeros(deltas[0].shape, dtype=np.float32)
    for weight, delta in zip(weights, deltas, strict=True):
        accumulate(vector, float(weight), delta)
    vector = _normalised(vector)
    for other in known:
        # The weights are orthogonal; what float32 lost of that is taken off once more.
        accumulate(vector, -inner(vector, other.unit), other.unit)
    unit = _normalised(vector)
    if sum(inner(delta, unit) for delta in deltas) < 0:
        unit = -unit
    return Direction(unit)


def _normalised(vector: Vector) -> Vector:
    length = norm(vector)
    if not (math.isfinite(length) and length > 0):
        raise BadData("the subject's deltas are zero or too large to take a direction from")
    unit = np.empty_like(vector)
    for block in blocks(vector.size):
        # In float64: the norm of a long vector may not fit float32.
        np.divide(vector[block], length, out=unit[block], dtype=np.float64, casting="same_kind")
    return unit


def _eigen(symmetric: Matrix) -> tuple[list[float], Matrix]:
    """Eigenvalues, and eigenvectors as columns, by cyclic Jacobi rotations (Jacobi 1846)."""
    matrix = symmetric.copy()
    size = len(matrix)
    vectors = np.eye(size, dtype=np.float64)
    for _ in range(_SWEEPS):
        rotated = [
            _rotate(matrix, vectors, row, column)
            for row in range(size)
            for column in range(row + 1, size)
        ]
        if not any(rotated):
            break
    return [float(value) for value in np.diagonal(matrix)], vectors


def _rotate(matrix: Matrix, vectors: Matrix, row: int, column: int) -> bool:
    """Zeroes one pair of off-diagonal elements in place; false if they are negligible already."""
    off = float(matrix[row, column])
    first, second = float(matrix[row, row]), float(matrix[column, column])
    if abs(off) <= 1e-15 * math.sqrt(abs(first * second)) or off == 0.0:
        return False
    theta = (second - first) / (2.0 * off)
    tangent = math.copysign(1.0, theta) / (abs(theta) + math.hypot(theta, 1.0))
    cosine = 1.0 / math.hypot(tangent, 1.0)
    sine = tangent * cosine
    for rows in (matrix, matrix.T, vectors.T):
        upper, lower = rows[row].copy(), rows[column].copy()
        rows[row] = cosine * upper - sine * lower
        rows[column] = sine * upper + cosine * lower
    matrix[row, column] = matrix[column, row] = 0.0
    return True
