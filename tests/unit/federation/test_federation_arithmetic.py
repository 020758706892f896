from pathlib import Path

import numpy as np
import pytest
from federation_builders import a_vector
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from letheon.federation.arithmetic import (
    BLOCK,
    accumulate,
    as_coefficient,
    norm,
    relative_error,
    subtract,
)
from letheon.federation.parameters import Vector

coefficients = st.floats(0, 4, width=32)
numbers = st.floats(-1e6, 1e6, width=32)
pairs = st.integers(1, 60).flatmap(
    lambda n: st.tuples(*(hnp.arrays(np.float32, n, elements=numbers) for _ in range(2)))
)


@given(pairs, coefficients)
def test_accumulation_is_a_float32_multiply_then_a_float32_add(
    pair: tuple[Vector, Vector], coefficient: float
) -> None:
    target, delta = pair
    expected = target + np.float32(coefficient) * delta
    accumulate(target, coefficient, delta)
    assert target.tobytes() == expected.tobytes()


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_the_walk_in_blocks_shows_in_no_bit(size: int) -> None:
    target, delta = a_vector(size, 1), a_vector(size, 2)
    expected, difference = target + np.float32(0.1) * delta, target - delta
    subtracted = target.copy()
    accumulate(target, 0.1, delta)
    subtract(subtracted, delta)
    assert target.tobytes() == expected.tobytes()
    assert subtracted.tobytes() == difference.tobytes()


def test_a_read_only_memory_map_is_merged_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "delta"
    delta = a_vector(BLOCK + 3, 2)
    path.write_bytes(delta.tobytes())
    mapped = np.memmap(path, dtype="<f4", mode="r")
    target = a_vector(delta.size, 1)
    expected = target + np.float32(0.3) * delta
    accumulate(target, 0.3, mapped)
    subtract(target, mapped)
    assert target.tobytes() == (expected - delta).tobytes()
    assert path.read_bytes() == delta.tobytes()
    assert norm(mapped) == norm(delta)


@given(pairs, coefficients)
def test_a_zero_delta_and_a_zero_coefficient_change_nothing(
    pair: tuple[Vector, Vector], coefficient: float
) -> None:
    target, delta = pair
    before = target.copy()
    accumulate(target, coefficient, np.zeros_like(target))
    accumulate(target, 0.0, delta)
    assert np.array_equal(target, before)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(6)))
def test_the_order_of_independent_merges_does_not_matter_to_rounding(
    seed: int, order: list[int]
) -> None:
    start = a_vector(5_000, seed)
    deltas = [a_vector(5_000, seed + 1 + i, 0.1) for i in range(6)]
    one, other = start.copy(), start.copy()
    for i in range(6):
        accumulate(one, 0.6 / (i + 1), deltas[i])
    for i in order:
        accumulate(other, 0.6 / (i + 1), deltas[i])
    assert relative_error(other, one) <= 1e-6


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_subtraction_takes_away_what_was_added(seed: int) -> None:
    size, start = 30_000, a_vector(30_000, seed, 0.05)
    head, without, contribution = start.copy(), start.copy(), np.zeros_like(start)
    for i in range(200):
        delta = a_vector(size, 31 * seed + i, 0.01)
        accumulate(head, 0.37, delta)
        accumulate(contribution if i % 2 else without, 0.37, delta)
    subtract(head, contribution)
    assert relative_error(head, without) <= 1e-5


@given(pairs)
def test_norms_and_errors_agree_with_float64(pair: tuple[Vector, Vector]) -> None:
    a, b = (v.astype(np.float64) for v in pair)
    assert norm(pair[0]) == pytest.approx(np.linalg.norm(a), rel=1e-12, abs=0)
    if np.any(b):
        expected = np.linalg.norm(a - b) / np.linalg.norm(b)
        assert relative_error(*pair) == pytest.approx(expected, rel=1e-12, abs=0)


def test_a_norm_does_not_overflow_and_shows_what_is_not_finite() -> None:
    assert norm(np.full(BLOCK + 1, 3e38, np.float32)) == pytest.approx(3e38 * (BLOCK + 1) ** 0.5)
    assert np.isnan(norm(np.array([1, np.nan], np.float32)))
    assert norm(np.array([1, np.inf], np.float32)) == np.inf


def test_the_relative_error_of_zero_vectors_is_defined() -> None:
    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert relative_error(zero, zero) == 0
    assert relative_error(one, zero) == np.inf


def test_a_coefficient_is_a_finite_float32_number() -> None:
    assert as_coefficient(0.1) == float(np.float32(0.1))
    assert as_coefficient(as_coefficient(1 / 3)) == as_coefficient(1 / 3)
    for bad in (float("nan"), float("inf"), 1e39):
        with pytest.raises(ValueError, match="float32"):
            as_coefficient(bad)


def test_vectors_that_do_not_match_are_refused() -> None:
    vector = a_vector(3)
    with pytest.raises(ValueError, match="shapes"):
        accumulate(vector, 1.0, a_vector(4))
    with pytest.raises(ValueError, match="shapes"):
        subtract(vector.reshape(1, 3), vector.reshape(1, 3))
    with pytest.raises(ValueError, match="float64"):
        accumulate(vector, 1.0, np.ones(3, np.float64))  # type: ignore[arg-type]
