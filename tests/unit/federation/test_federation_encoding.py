"""Every way a vector travels: what it keeps, how large it gets, and what is refused."""

import contextlib
import mmap
from pathlib import Path

import numpy as np
import pytest
import zstandard
from federation_builders import a_layout, a_vector
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from letheon.errors import MalformedUpdate
from letheon.federation.encoding import (
    ENCODINGS,
    decode,
    encode,
    exact_encoding,
    needs_feedback,
    size_limits,
)
from letheon.federation.encodings.int8 import BLOCK
from letheon.federation.parameters import Vector

vectors = hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-60_000, 60_000, width=32))
any_vectors = hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(width=32))
long_vectors = st.builds(
    lambda size, scale, seed: (scale * np.random.default_rng(seed).standard_normal(size)).astype(
        np.float32
    ),
    st.sampled_from([1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5]),
    st.sampled_from([1e-30, 1e-3, 1.0, 1e4]),
    st.integers(0, 2**32 - 1),
)
encodings = pytest.mark.parametrize("encoding", ENCODINGS)


def travelled(vector: Vector, encoding: str, **how: float) -> Vector:
    """Checked against the size that the receiver knows, and as the receiver reads it again."""
    data = encode(vector, encoding, **how)
    arrived = decode(data, encoding, len(vector))
    assert decode(data, encoding).tobytes() == arrived.tobytes()
    return arrived


@given(any_vectors)
def test_float32_travels_bit_for_bit(vector: Vector) -> None:
    for encoding in ("float32", "float32+zstd"):
        assert travelled(vector, encoding).tobytes() == vector.tobytes()


@given(vectors)
def test_float16_keeps_a_value_to_eleven_bits(vector: Vector) -> None:
    error = np.abs(travelled(vector, "float16") - vector)
    assert np.all(error <= np.maximum(np.abs(vector) * 2.0**-11, 2.0**-25))


@given(any_vectors)
def test_bfloat16_keeps_a_value_to_eight_bits(vector: Vector) -> None:
    finite = np.isfinite(vector)
    if np.abs(vector[finite]).max(initial=0.0) > 3.38e38:
        return  # see the test of its range
    arrived = travelled(vector, "bfloat16")
    assert np.array_equal(np.isnan(arrived), np.isnan(vector))
    assert np.array_equal(arrived[np.isinf(vector)], vector[np.isinf(vector)])
    error = np.abs(arrived[finite].astype(np.float64) - vector[finite])
    # Below the smallest normal number steps are no longer relative.
    assert np.all(error <= np.maximum(np.abs(vector[finite]) * 2.0**-8, 2.0**-134))


def test_bfloat16_rounds_ties_to_even() -> None:
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8)], dtype=np.float32)
    assert travelled(ties, "bfloat16").tolist() == [1.0, 1 + 2**-6, -1.0]


@given(long_vectors)
def test_int8_keeps_a_value_to_half_a_step_of_its_block(vector: Vector) -> None:
    arrived = travelled(vector, "int8")
    for start in range(0, len(vector), BLOCK):
        block, got = vector[start : start + BLOCK], arrived[start : start + BLOCK]
        step = float(np.abs(block).max()) / 127
        assert np.all(np.abs(got.astype(np.float64) - block) <= step * (0.5 + 1e-5))


@given(long_vectors, st.floats(0.001, 1.0))
def test_topk_keeps_the_largest_values_and_nothing_else(vector: Vector, share: float) -> None:
    arrived = travelled(vector, "topk", top_share=share)
    kept = np.flatnonzero(arrived)
    due = max(1, round(share * len(vector)))
    assert len(kept) == min(due, np.count_nonzero(vector))
    assert np.array_equal(arrived[kept], vector[kept])
    left = np.delete(np.abs(vector), kept)
    assert not len(left) or left.max() <= np.abs(vector[kept]).min()


def test_of_equal_values_topk_keeps_the_first() -> None:
    vector = np.array([1, -1, 1, -1], dtype=np.float32)
    assert travelled(vector, "topk", top_share=0.5).tolist() == [1, -1, 0, 0]


@encodings
@given(vector=vectors)
def test_what_travelled_once_travels_again_unchanged(encoding: str, vector: Vector) -> None:
    once = travelled(vector, encoding)
    if encoding.startswith("int8"):  # its scale is that of the largest value, which is kept
        assert np.allclose(travelled(once, encoding), once, rtol=1e-5, atol=0)
    else:
        assert travelled(once, encoding).tobytes() == once.tobytes()


@encodings
@given(vector=long_vectors)
def test_encoded_bytes_stay_within_what_the_layout_allows(encoding: str, vector: Vector) -> None:
    least, most = size_limits(a_layout((len(vector),)), encoding)
    assert least <= len(encode(vector, encoding)) <= most


@encodings
def test_zeros_and_vectors_too_small_to_scale_travel(encoding: str) -> None:
    for value in (0.0, 1e-44):
        arrived = travelled(np.full(2000, value, np.float32), encoding)
        assert np.abs(arrived).max() <= 1e-44


@encodings
@given(data=st.binary(max_size=64), size=st.integers(1, 20))
def test_no_bytes_can_do_more_than_be_refused(encoding: str, data: bytes, size: int) -> None:
    with contextlib.suppress(MalformedUpdate):
        assert decode(data, encoding, size).shape == (size,)


@encodings
def test_a_vector_of_another_length_is_refused(encoding: str) -> None:
    with pytest.raises(MalformedUpdate):
        decode(encode(a_vector(40), encoding), encoding, 41)


def test_a_value_beyond_float16_is_refused_not_cut_off() -> None:
    with pytest.raises(MalformedUpdate, match="70000") as refused:
        encode(np.array([1, -70_000, np.inf], dtype=np.float32), "float16")
    assert refused.value.facts["rule"] == "range"


@pytest.mark.parametrize("encoding", ["bfloat16", "int8"])
def test_a_value_that_would_come_back_as_infinity_is_refused(encoding: str) -> None:
    with pytest.raises(MalformedUpdate) as refused:
        encode(np.array([3.4e38], dtype=np.float32), encoding)
    assert refused.value.facts["rule"] == "range"


@pytest.mark.parametrize("encoding", ["float32", "float16", "bfloat16"])
def test_nan_and_infinity_travel_so_that_validation_can_name_them(encoding: str) -> None:
    vector = np.array([np.nan, np.inf, -np.inf, 1], dtype=np.float32)
    assert np.array_equal(travelled(vector, encoding), vector, equal_nan=True)


@pytest.mark.parametrize("encoding", ["int8", "topk", "int8+zstd"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_encodings_that_cannot_write_nan_say_so(encoding: str, value: float) -> None:
    with pytest.raises(MalformedUpdate) as refused:
        encode(np.array([1, value], dtype=np.float32), encoding)
    assert refused.value.facts["rule"] == "finite"


def test_places_that_repeat_or_lie_outside_are_refused() -> None:
    for places in ([0, 1], [1, 0], [1, 9], [2**32 - 1, 2**32 - 1]):
        body = np.array([5, *places], "<u4").tobytes() + np.ones(2, "<f4").tobytes()
        with pytest.raises(MalformedUpdate) as refused:
            decode(body, "topk", 5)
        assert refused.value.facts["rule"] == "places"


def test_a_frame_that_unpacks_to_more_than_the_layout_holds_is_refused_unopened() -> None:
    bomb = zstandard.compress(bytes(1 << 26))
    with pytest.raises(MalformedUpdate, match="67108864") as refused:
        decode(bomb, "float32+zstd", 100)
    assert refused.value.facts["rule"] == "size"
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(400))
    with pytest.raises(MalformedUpdate):
        decode(silent, "float32+zstd", 100)


def test_bytes_behind_a_frame_are_refused() -> None:
    with pytest.raises(MalformedUpdate) as refused:
        decode(encode(a_vector(9), "int8+zstd") + b"more", "int8+zstd", 9)
    assert refused.value.facts["rule"] == "compression"


def test_decoding_reads_a_memory_map_without_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "payload"
    path.write_bytes(encode(a_vector(9), "float32"))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    vector = decode(mapped, "float32", 9)
    assert not vector.flags.writeable
    assert not vector.flags.owndata
    assert vector.tobytes() == a_vector(9).tobytes()


@encodings
def test_every_encoding_reads_a_memory_map(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "payload"
    path.write_bytes(encode(a_vector(9), encoding))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    assert decode(mapped, encoding, 9).shape == (9,)


def test_bytes_of_half_a_value_and_unknown_encodings_are_refused() -> None:
    with pytest.raises(MalformedUpdate) as refused:
        decode(b"123", "float16")
    assert refused.value.facts["rule"] == "size"
    with pytest.raises(MalformedUpdate, match="float32, float16"):
        decode(b"", "int4")
    with pytest.raises(MalformedUpdate):
        encode(a_vector(1), "float64")
    with pytest.raises(MalformedUpdate):
        size_limits(a_layout((1,)), "")


def test_patches_travel_whole_where_deltas_lose_something() -> None:
    assert {one for one in ENCODINGS if needs_feedback(one)} == {
        "int8",
        "int8+zstd",
        "topk",
        "topk+zstd",
    }
    assert exact_encoding("topk+zstd") == "float32"
    assert exact_encoding("float16") == "float16"
