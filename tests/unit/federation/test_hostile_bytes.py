"""Bytes of a stranger: a decoder, a plan or a certificate is read, or refused with a sentence."""

from __future__ import annotations

import contextlib
import json
import tracemalloc

import numpy as np
import pytest
import zstandard
from builders import a_plan
from hypothesis import given, settings
from hypothesis import strategies as st

from letheon.errors import LetheonError, MalformedUpdate
from letheon.federation.encoding import decode, encode
from letheon.federation.plan import Plan

ENCODINGS = (*a_plan().delta_encodings, "float16", "float32+zstd", "float16+zstd", "int8", "topk")
KNOWN = tuple(dict.fromkeys(ENCODINGS))
SIZE = 300


def known(encoding: str) -> bool:
    try:
        encode(np.zeros(SIZE, np.float32), encoding)
    except MalformedUpdate:
        return False
    return True


USABLE = [encoding for encoding in KNOWN if known(encoding)]


@settings(max_examples=150, deadline=1000)
@given(encoding=st.sampled_from(USABLE), data=st.binary(max_size=2000))
def test_any_bytes_are_decoded_or_refused(encoding: str, data: bytes) -> None:
    with contextlib.suppress(MalformedUpdate):
        assert decode(data, encoding, SIZE).shape == (SIZE,)


@settings(max_examples=150, deadline=1000)
@given(
    encoding=st.sampled_from(USABLE),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=5),
    cut=st.integers(0, 20),
)
def test_a_damaged_delta_is_decoded_or_refused(
    encoding: str, flips: list[tuple[float, int]], cut: int
) -> None:
    data = bytearray(encode(np.linspace(-1, 1, SIZE, dtype=np.float32), encoding))
    for place, change in flips:
        data[min(int(place * len(data)), len(data) - 1)] ^= change
    with contextlib.suppress(MalformedUpdate):
        assert decode(bytes(data[: len(data) - cut]), encoding, SIZE).shape == (SIZE,)


@pytest.mark.parametrize("size", [10**6, 10**9])
def test_a_bomb_is_refused_before_it_is_unpacked(size: int) -> None:
    zipped = [encoding for encoding in USABLE if "zstd" in encoding]
    if size < 10**7:
        bomb = zstandard.ZstdCompressor().compress(bytes(size))
    else:  # a frame that says so, and holds little
        bomb = zstandard.ZstdCompressor().compressobj(size=size).compress(b"x" * 100)
        bomb += b"\0" * 50
    assert zipped
    for encoding in zipped:
        tracemalloc.start()
        with pytest.raises(MalformedUpdate):
            decode(bomb, encoding, SIZE)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


def leaves() -> st.SearchStrategy[object]:
    return st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


TREES = st.recursive(
    leaves(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(max_examples=150, deadline=1000)
@given(key=st.sampled_from(sorted(a_plan().model_dump())), value=TREES)
def test_a_plan_with_any_value_is_read_or_refused(key: str, value: object) -> None:
    content = {**json.loads(a_plan().canonical_json()), key: value}
    with contextlib.suppress(LetheonError):
        Plan.from_canonical(json.dumps(content).encode())


@settings(max_examples=150, deadline=1000)
@given(data=st.binary(max_size=500))
def test_any_bytes_are_a_plan_or_refused(data: bytes) -> None:
    with contextlib.suppress(LetheonError):
        Plan.from_canonical(data)


def test_a_deeply_nested_plan_is_refused() -> None:
    with pytest.raises(LetheonError):
        Plan.from_canonical(b"[" * 100_000)
