"""Records whose pixels are decoded when they are needed are the records they would be in memory."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import BadData
from letheon.imaging.images import DecodedRows, LazyImages
from letheon.imaging.records import LabelKind, Records

COUNT = 7
EAGER = Records(
    images=np.random.default_rng(0).random((COUNT, 1, 3, 4), dtype=np.float32),
    labels=np.arange(COUNT) % 2,
    record_ids=tuple(f"r{row}" for row in range(COUNT)),
    patients=None,
    class_names=("no", "yes"),
)


class Decoder:
    """Hands out rows of an array and counts."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.calls: list[int] = []

    def __call__(self, row: int) -> np.ndarray:
        self.calls.append(row)
        return self.array[row].copy()


def lazily(array: np.ndarray, most_bytes: int = 1 << 20) -> tuple[LazyImages, Decoder]:
    decoder = Decoder(array)
    store = LazyImages(
        len(array), array.shape[1:], decoder, DecodedRows(most_bytes), dtype=array.dtype
    )
    return store, decoder


def lazy_records() -> tuple[Records, Decoder]:
    store, decoder = lazily(np.asarray(EAGER.images))
    return replace(EAGER, images=store), decoder


def test_nothing_is_decoded_before_it_is_asked_for() -> None:
    records, decoder = lazy_records()
    chosen = records.select([5, 2, 3]).select([True, False, True])
    assert decoder.calls == []
    np.testing.assert_array_equal(chosen.images[:], np.asarray(EAGER.images)[[5, 3]])
    assert decoder.calls == [5, 3]


def test_lazy_records_are_equal_to_eager_ones_and_have_their_fingerprint() -> None:
    records, _ = lazy_records()
    assert records == EAGER
    assert records.fingerprint() == EAGER.fingerprint()
    assert records.select([3, 1]).fingerprint() == EAGER.select([3, 1]).fingerprint()
    assert repr(records) == repr(EAGER)


@given(
    st.one_of(
        st.integers(-COUNT, COUNT - 1),
        st.slices(COUNT),
        st.lists(st.integers(-COUNT, COUNT - 1), min_size=1),
        st.lists(st.booleans(), min_size=COUNT, max_size=COUNT).map(np.array),
    )
)
def test_a_store_is_indexed_like_an_array(rows: object) -> None:
    store, _ = lazily(np.asarray(EAGER.images))
    np.testing.assert_array_equal(store[rows], np.asarray(EAGER.images)[rows])


@pytest.mark.parametrize("row", [COUNT, -COUNT - 1])
def test_a_row_that_is_not_there_is_refused(row: int) -> None:
    store, _ = lazily(np.asarray(EAGER.images))
    with pytest.raises(IndexError):
        store[row]


def test_what_a_store_gives_may_be_written_to() -> None:
    store, _ = lazily(np.asarray(EAGER.images))
    store[0][:] = 9
    store[:2][:] = 9
    next(iter(store))[:] = 9
    np.testing.assert_array_equal(np.asarray(store), EAGER.images)


def test_a_row_is_decoded_once_while_there_is_room() -> None:
    store, decoder = lazily(np.asarray(EAGER.images))
    np.asarray(store), np.asarray(store)
    assert decoder.calls == list(range(COUNT))


def test_the_least_recently_used_rows_make_room() -> None:
    row_bytes = EAGER.images[0].nbytes
    decoded = DecodedRows(2 * row_bytes)
    decoder = Decoder(np.asarray(EAGER.images))
    store = LazyImages(COUNT, (1, 3, 4), decoder, decoded)
    for row in (0, 1, 0, 2, 0, 1):
        store[row]
    assert decoder.calls == [0, 1, 2, 1]
    assert decoded.held_bytes == 2 * row_bytes


def test_a_row_larger_than_the_room_is_not_kept() -> None:
    store, decoder = lazily(np.asarray(EAGER.images), most_bytes=3)
    np.testing.assert_array_equal(store[0], EAGER.images[0])
    store[0]
    assert decoder.calls == [0, 0]


def test_stores_that_share_the_room_do_not_mix_rows() -> None:
    decoded = DecodedRows(1 << 20)
    array = np.asarray(EAGER.images)
    first, second = (LazyImages(COUNT, (1, 3, 4), Decoder(a), decoded) for a in (array, array + 1))
    np.testing.assert_array_equal(first[0] + 1, second[0])


def test_a_decoder_that_changes_the_shape_is_named() -> None:
    store = LazyImages(2, (1, 3, 4), lambda _: np.zeros((1, 4, 3), np.float32), DecodedRows(99))
    with pytest.raises(BadData, match=r"record 1 .*\[1, 4, 3\]"):
        store[1]


def test_masks_may_be_lazy_too() -> None:
    masks = (np.asarray(EAGER.images)[:, 0] > 0.5).astype(np.uint8)
    eager = replace(EAGER, labels=masks)
    lazy = replace(EAGER, labels=lazily(masks)[0])
    assert eager.label_kind is lazy.label_kind is LabelKind.MASK
    assert lazy == eager
    assert lazy.fingerprint() == eager.fingerprint() != EAGER.fingerprint()
    np.testing.assert_array_equal(lazy.select([2]).labels[:], masks[[2]])


def test_several_labels_a_record_are_one_column_a_class() -> None:
    labels = np.array([[0, 1], [1, 1], [-1, 0], [0, 0], [1, -1], [0, 1], [1, 0]])
    records = replace(EAGER, labels=labels)
    assert records.label_kind is LabelKind.MULTI
    assert records.select([2]).labels.tolist() == [[-1, 0]]
    assert records.fingerprint() != EAGER.fingerprint()
    with pytest.raises(BadData, match="unknown"):
        replace(EAGER, labels=labels * 2)


@pytest.mark.parametrize("shape", [(5,), (1, 2, 3, 4)])
def test_features_and_volumes_are_records_too(shape: tuple[int, ...]) -> None:
    records = replace(EAGER, images=np.zeros((COUNT, *shape), np.float32))
    assert "x".join(map(str, shape)) in repr(records)
    assert records.label_kind is LabelKind.CLASS


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((COUNT, 3), np.int64),
        np.zeros((COUNT, 4, 3), np.uint8),
        np.zeros((COUNT, 3, 4), np.int32),
        np.zeros(COUNT, np.uint8),
    ],
)
def test_labels_that_fit_no_kind_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(BadData, match="one column a class"):
        replace(EAGER, labels=labels)
