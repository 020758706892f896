import numpy as np
import pytest
from federation_builders import a_vector
from hypothesis import given, settings
from hypothesis import strategies as st

from letheon.errors import BadConfig, BadData
from letheon.federation.arithmetic import BLOCK, norm
from letheon.federation.directions import Direction, directions, inner
from letheon.federation.parameters import Vector


def deltas_of(count: int, size: int, seed: int) -> list[Vector]:
    """Deltas with a common part, as those of one site have."""
    common = a_vector(size, seed)
    return [common + a_vector(size, seed + 1 + i, 0.7) for i in range(count)]


def test_an_inner_product_agrees_with_float64_across_blocks() -> None:
    a, b = a_vector(BLOCK + 5, 1), a_vector(BLOCK + 5, 2)
    expected = float(np.sum(a.astype(np.float64) * b))
    assert inner(a, b) == pytest.approx(expected, rel=1e-12)


def test_the_direction_of_a_contribution_is_the_contribution_over_its_norm() -> None:
    contribution = a_vector(1000, 3, 4.0)
    (found,) = directions([contribution])
    assert np.allclose(found.unit, contribution / norm(contribution), rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 10_000))
def test_directions_are_the_singular_vectors_and_point_where_the_deltas_went(
    count: int, rank: int, seed: int
) -> None:
    deltas = deltas_of(count, 50, seed)
    found = directions(deltas, rank)
    assert len(found) == min(count, rank)
    _, _, expected = np.linalg.svd(np.array(deltas, dtype=np.float64), full_matrices=False)
    for direction, row in zip(found, expected, strict=False):
        assert abs(inner(direction.unit, row.astype(np.float32))) == pytest.approx(1, abs=1e-3)
        assert sum(inner(delta, direction.unit) for delta in deltas) >= 0


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.integers(0, 10_000))
def test_directions_are_orthogonal_unit_vectors(count: int, seed: int) -> None:
    units = [direction.unit for direction in directions(deltas_of(count, 50, seed), 5)]
    for i, unit in enumerate(units):
        assert norm(unit) == pytest.approx(1, abs=1e-6)
        assert all(abs(inner(unit, other)) < 1e-6 for other in units[:i])


def test_the_same_deltas_give_the_same_bits() -> None:
    first, second = (directions(deltas_of(6, 5_000, 1), 3) for _ in range(2))
    assert [d.unit.tobytes() for d in first] == [d.unit.tobytes() for d in second]


def test_deltas_that_span_less_than_the_rank_give_fewer_directions() -> None:
    delta = a_vector(100, 1)
    assert len(directions([delta, 2 * delta, -0.5 * delta], 3)) == 1


def test_a_very_large_vector_still_has_a_direction() -> None:
    (found,) = directions([np.full(100, 1e38, np.float32)])
    assert norm(found.unit) == pytest.approx(1, abs=1e-6)


def test_deltas_without_a_direction_are_refused() -> None:
    zero, odd = np.zeros(3, np.float32), np.array([1, np.nan, 0], np.float32)
    for deltas in ([], [zero], [zero, zero], [odd]):
        with pytest.raises(BadData, match="direction"):
            directions(deltas)


def test_a_rank_out_of_range_is_refused() -> None:
    for rank in (0, 6):
        with pytest.raises(BadConfig, match="rank"):
            directions([a_vector(3)], rank)


def test_a_vector_that_is_not_a_unit_is_no_direction() -> None:
    for bad in (np.ones(3, np.float32), np.zeros(3, np.float32), np.full(1, np.nan, np.float32)):
        with pytest.raises(BadData, match="norm 1"):
            Direction(bad)
    with pytest.raises(BadData, match="float32"):
        Direction(np.ones(1, np.float64))  # type: ignore[arg-type]
