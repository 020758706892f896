"""Laws of scaling and fitting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from letheon.imaging.sources.intensity import Intensity, padded_or_cropped, resized

VALUES = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=3, max_side=6),
    elements=st.floats(-1e6, 1e6, width=32),
)
METHODS = st.sampled_from(
    [
        Intensity("min-max"),
        Intensity("percentile", (5, 95)),
        Intensity("z-score"),
        Intensity("range", bounds=(-100, 1000)),
    ]
)


@settings(max_examples=25, deadline=None)
@given(VALUES, METHODS)
def test_every_method_ends_in_the_unit_range_and_keeps_the_order(
    values: np.ndarray, method: Intensity
) -> None:
    scaled = method(values)
    assert scaled.dtype == np.float32
    assert scaled.shape == values.shape
    assert np.isfinite(scaled).all()
    assert ((scaled >= 0) & (scaled <= 1)).all()
    order = np.argsort(values, axis=None, kind="stable")
    assert (np.diff(scaled.ravel()[order]) >= 0).all()


def test_a_constant_image_becomes_zero() -> None:
    for method in ("min-max", "percentile", "z-score"):
        assert not Intensity(method)(np.full((3, 3), 7.0)).any()


@settings(max_examples=25, deadline=None)
@given(VALUES, st.lists(st.integers(1, 9), min_size=2, max_size=2))
def test_padding_and_cutting_keep_the_middle(values: np.ndarray, sides: list[int]) -> None:
    fitted = padded_or_cropped(values, tuple(sides))
    assert fitted.shape == (*values.shape[:-2], *sides)
    larger = tuple(side + 4 for side in values.shape[-2:])
    back = padded_or_cropped(padded_or_cropped(values, larger), values.shape[-2:])
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize("size", [(5, 7), (2, 3), (4, 5, 6), (1, 2, 9)])
def test_resizing_keeps_a_constant_and_the_shape(size: tuple[int, ...]) -> None:
    image = np.full((2, *(4,) * len(size)), 0.25, np.float32)
    made = resized(image, size)
    assert made.shape == (2, *size)
    np.testing.assert_allclose(made, 0.25, atol=1e-6)


def test_a_mask_keeps_its_values_when_it_is_resized() -> None:
    mask = np.random.default_rng(0).integers(0, 3, (1, 5, 6, 7)).astype(np.float32)
    assert set(np.unique(resized(mask, (7, 9, 4), nearest=True))) <= {0.0, 1.0, 2.0}
