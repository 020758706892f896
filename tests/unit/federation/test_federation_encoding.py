import mmap
from pathlib import Path

import numpy as np
import pytest
from federation_builders import a_layout, a_vector
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from letheon.errors import MalformedUpdate
from letheon.federation.encoding import ENCODINGS, decode, encode, encoded_size
from letheon.federation.parameters import Vector

vectors = hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-60_000, 60_000, width=32))
any_vectors = hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(width=32))


@given(any_vectors)
def test_float32_travels_bit_for_bit(vector: Vector) -> None:
    assert decode(encode(vector, "float32"), "float32").tobytes() == vector.tobytes()


@given(vectors)
def test_float16_keeps_a_value_to_eleven_bits(vector: Vector) -> None:
    error = np.abs(decode(encode(vector, "float16"), "float16") - vector)
    assert np.all(error <= np.maximum(np.abs(vector) * 2.0**-11, 2.0**-25))


@given(vectors)
def test_a_vector_that_travelled_once_in_float16_travels_again_unchanged(vector: Vector) -> None:
    once = decode(encode(vector, "float16"), "float16")
    assert decode(encode(once, "float16"), "float16").tobytes() == once.tobytes()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_encoded_size_is_known_beforehand(encoding: str) -> None:
    layout = a_layout((3, 4), (5,))
    assert len(encode(a_vector(17), encoding)) == encoded_size(layout, encoding)


def test_a_value_beyond_float16_is_refused_not_cut_off() -> None:
    with pytest.raises(MalformedUpdate, match="70000") as refused:
        encode(np.array([1, -70_000, np.inf], dtype=np.float32), "float16")
    assert refused.value.facts["rule"] == "range"


def test_nan_and_infinity_travel_so_that_validation_can_name_them() -> None:
    vector = np.array([np.nan, np.inf, -np.inf, 1], dtype=np.float32)
    assert np.array_equal(decode(encode(vector, "float16"), "float16"), vector, equal_nan=True)


def test_decoding_reads_a_memory_map_without_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "payload"
    path.write_bytes(encode(a_vector(9), "float32"))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    vector = decode(mapped, "float32")
    assert not vector.flags.writeable
    assert not vector.flags.owndata
    assert vector.tobytes() == a_vector(9).tobytes()


def test_bytes_of_half_a_value_and_unknown_encodings_are_refused() -> None:
    with pytest.raises(MalformedUpdate) as refused:
        decode(b"123", "float16")
    assert refused.value.facts["rule"] == "size"
    with pytest.raises(MalformedUpdate, match="float32, float16"):
        decode(b"", "int8")
    with pytest.raises(MalformedUpdate):
        encode(a_vector(1), "float64")
    with pytest.raises(MalformedUpdate):
        encoded_size(a_layout((1,)), "")
