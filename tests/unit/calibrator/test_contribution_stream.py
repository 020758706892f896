"""Parts of contributions as they arrive."""

import hashlib

import google_crc32c
import numpy as np
import pytest

from calibrator.adapters.contribution_stream import read_parts
from letheon.errors import CoordinatorUnreachable
from letheon.federation.parameters import Layout, TensorSpec
from letheon.v1.erasures_pb2 import ContributionPart, DownloadContributionsResponse
from letheon.v1.models_pb2 import Chunk

LAYOUT = Layout((TensorSpec("weight", (5, 4)),))


def header(site, data, **fields):
    fields = {"size_bytes": len(data), "sha256": hashlib.sha256(data).digest(), **fields}
    part = ContributionPart(site=site, first_entry=3, last_entry=9, **fields)
    return DownloadContributionsResponse(header=part)


def chunk(data, offset=0, **fields):
    fields = {"crc32c": google_crc32c.value(data), **fields}
    return DownloadContributionsResponse(chunk=Chunk(offset=offset, data=data, **fields))


def some_bytes(seed):
    return np.random.default_rng(seed).normal(size=20).astype("<f4").tobytes()


def test_parts_arrive_whole_and_in_order_however_they_were_cut():
    first, second = some_bytes(1), some_bytes(2)
    stream = [
        header("sites/north", first), chunk(first[:48]), chunk(first[48:], 48),
        header("sites/west", second), chunk(second),
    ]  # fmt: skip
    north, west = read_parts(stream, LAYOUT)
    assert (north.site, north.first_entry, north.last_entry) == ("sites/north", 3, 9)
    assert north.values.tobytes() == first
    assert (west.site, west.values.tobytes()) == ("sites/west", second)
    assert list(read_parts([], LAYOUT)) == []


DATA = some_bytes(1)


@pytest.mark.parametrize(
    ("stream", "sentence"),
    [
        ([chunk(DATA)], "begin with a header"),
        ([header("sites/north", DATA[:40])], "40 bytes, the plan's layout 80"),
        ([header("sites/north", DATA), chunk(DATA[:40])], "not the one promised"),
        ([header("sites/north", DATA), chunk(some_bytes(2))], "not the one promised"),
        ([header("sites/north", DATA), chunk(DATA, 4)], "expected 0"),
        ([header("sites/north", DATA), chunk(DATA, crc32c=1)], "damaged"),
        ([header("sites/north", DATA), chunk(DATA), chunk(DATA, 80)], "longer than promised"),
    ],
)
def test_a_stream_that_is_not_what_it_promised_is_asked_for_again(stream, sentence):
    with pytest.raises(CoordinatorUnreachable, match=sentence):
        list(read_parts(stream, LAYOUT))
