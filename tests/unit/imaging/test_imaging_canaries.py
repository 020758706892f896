import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import BadData
from letheon.imaging.canaries import mislabel
from letheon.imaging.records import Records


def some_records(patients: list[int], classes: int, *, known: bool = True) -> Records:
    count = len(patients)
    labels = np.random.default_rng(count).integers(0, classes, count)
    return Records(
        np.zeros((count, 1, 2, 2), np.float32),
        labels.astype(np.int64),
        tuple(f"r{i}" for i in range(count)),
        tuple(f"p{p}" for p in patients) if known else None,
        tuple("abcdefgh"[:classes]),
    )


@given(
    patients=st.lists(st.integers(0, 9), min_size=1, max_size=40),
    classes=st.integers(2, 8),
    share=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_a_canary_patient_has_only_wrong_labels(patients, classes, share, seed) -> None:
    records = some_records(patients, classes)
    changed, rows = mislabel(records, share, seed)
    np.testing.assert_array_equal(rows, np.flatnonzero(changed.labels != records.labels))
    assert ((changed.labels >= 0) & (changed.labels < classes)).all()
    chosen = {records.groups()[row] for row in rows}
    assert {i for i, p in enumerate(records.groups()) if p in chosen} == set(rows.tolist())
    distinct = len(set(patients))
    assert len(chosen) == min(distinct, max(round(share * distinct), int(share > 0)))
    assert changed.record_ids == records.record_ids


@given(seed=st.integers(0, 100))
def test_equal_labels_of_a_patient_stay_equal(seed) -> None:
    records = some_records([0] * 20 + [1] * 20, 4)
    changed, _ = mislabel(records, 1.0, seed)
    for start in (0, 20):
        pairs = set(
            zip(records.labels[start : start + 20], changed.labels[start : start + 20], strict=True)
        )
        assert len(pairs) == len({before for before, _ in pairs}) == len({a for _, a in pairs})


def test_without_known_patients_each_record_is_its_own() -> None:
    records = some_records(list(range(20)), 2, known=False)
    changed, rows = mislabel(records, 0.25, 1)
    assert len(rows) == 5
    np.testing.assert_array_equal(changed.labels[rows], 1 - records.labels[rows])
    assert mislabel(records, 0.25, 1)[0] == changed
    assert mislabel(records, 0.0, 1)[0] == records


def test_impossible_canaries_are_refused() -> None:
    with pytest.raises(ValueError, match="share"):
        mislabel(some_records([1, 2], 2), 1.5, 0)
    with pytest.raises(BadData, match="two classes"):
        mislabel(some_records([1, 2], 1), 0.5, 0)
