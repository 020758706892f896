"""Screening: what it lets pass and what it finds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from letheon.federation.screening import Finding, Rules, Seen, judge, sketch

Vector = npt.NDArray[np.float32]
RULES = Rules()


def deltas(seed: int, count: int, size: int = 50) -> list[Vector]:
    """Of one site: a direction of its own, and noise."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(size)
    return [(direction + 0.5 * rng.standard_normal(size)).astype(np.float32) for _ in range(count)]


def seen(site: str, delta: Vector) -> Seen:
    return Seen(site, float(np.linalg.norm(delta)), sketch(delta))


def look(site: str, delta: Vector, recent: list[Seen]) -> Finding:
    return judge(site, float(np.linalg.norm(delta)), sketch(delta), recent, RULES)


def history(seed: int) -> list[Seen]:
    return [seen(f"site-{i}", delta) for i in range(4) for delta in deltas(10 * seed + i, 6)]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000))
def test_honest_sites_pass_though_they_point_in_different_directions(seed: int) -> None:
    recent = history(seed)
    for site in range(4):
        assert not look(f"site-{site}", deltas(10 * seed + site, 7)[-1], recent).reason


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), factor=st.floats(10, 1e6))
def test_a_scaled_and_a_turned_delta_are_found(seed: int, factor: float) -> None:
    recent, honest = history(seed), deltas(10 * seed, 7)[-1]
    assert "its norm is" in look("site-0", honest * np.float32(factor), recent).reason
    assert "points away" in look("site-0", -honest, recent).reason


@given(seed=st.integers(0, 100), count=st.integers(0, 7))
def test_with_too_few_deltas_nothing_is_said(seed: int, count: int) -> None:
    recent = [seen("other", delta) for delta in deltas(seed, count)]
    assert look("site-0", deltas(seed + 1, 1)[0] * np.float32(1e6), recent) == Finding()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), size=st.integers(65_537, 300_000))
def test_a_sketch_keeps_directions_nearly(seed: int, size: int) -> None:
    one, other = deltas(seed, 2, size)
    short, also = sketch(one), sketch(other)
    assert short.shape == also.shape == (4096,)

    def cosine(a: Vector, b: Vector) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert abs(cosine(short, also) - cosine(one, other)) < 0.12
    assert abs(cosine(short, sketch(-one)) + 1) < 1e-5


def test_a_delta_of_zeros_is_no_outlier_and_no_error() -> None:
    assert not look("site-0", np.zeros(50, np.float32), history(1)).reason
