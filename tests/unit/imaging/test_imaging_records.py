from dataclasses import replace

import numpy as np
import pytest

from letheon.errors import BadData
from letheon.imaging.fitness import check_fit
from letheon.imaging.records import Records
from letheon.imaging.sources.synthetic import SyntheticSource


@pytest.fixture(scope="module")
def records() -> Records:
    return SyntheticSource(24, 3, 2, 10, 12, seed=1).load()


def test_selected_rows_keep_their_labels_ids_and_patients(records: Records) -> None:
    rows = [5, 0, 7]
    chosen = records.select(rows)
    assert chosen.record_ids == tuple(records.record_ids[row] for row in rows)
    assert records.patients is not None
    assert chosen.patients == tuple(records.patients[row] for row in rows)
    np.testing.assert_array_equal(chosen.labels, records.labels[rows])
    np.testing.assert_array_equal(chosen.images, records.images[rows])


def test_a_mask_selects_what_its_indices_select(records: Records) -> None:
    mask = records.labels == 1
    assert records.select(mask) == records.select(np.flatnonzero(mask))


def test_a_mask_of_another_length_is_refused(records: Records) -> None:
    with pytest.raises(BadData, match="mask"):
        records.select(np.ones(3, dtype=bool))


def test_an_empty_selection_is_empty_records(records: Records) -> None:
    assert len(records.select([])) == 0


def test_selecting_copies_the_pixels(records: Records) -> None:
    chosen = records.select([0, 1])
    chosen.images[:] = 0
    assert records.images[:2].any()


def test_the_representation_names_no_record_and_no_patient(records: Records) -> None:
    shown = repr(records)
    assert "2x10x12" in shown
    assert not any(name in shown for name in (*records.record_ids, *(records.patients or ())))


@pytest.mark.parametrize("part", ["images", "labels", "record_ids", "patients", "class_names"])
def test_the_fingerprint_and_equality_see_a_change_of_every_part(
    records: Records, part: str
) -> None:
    images, labels = records.images.copy(), records.labels.copy()
    images[3, 0, 0, 0] += np.float32(0.01)
    labels[3] = (labels[3] + 1) % 3
    changed = replace(
        records,
        **{
            "images": {"images": images},
            "labels": {"labels": labels},
            "record_ids": {"record_ids": ("other", *records.record_ids[1:])},
            "patients": {"patients": None},
            "class_names": {"class_names": ("x", "y", "z")},
        }[part],
    )
    assert changed != records
    assert changed.fingerprint() != records.fingerprint()


def test_equal_records_have_equal_fingerprints(records: Records) -> None:
    again = records.select(np.arange(len(records)))
    assert again == records
    assert again.fingerprint() == records.fingerprint()


def test_the_fingerprint_sees_the_order(records: Records) -> None:
    assert records.select([1, 0]).fingerprint() != records.select([0, 1]).fingerprint()


def test_records_are_equal_to_nothing_else(records: Records) -> None:
    assert records != "records"


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": np.zeros((24, 10, 12), np.float32)},
        {"images": np.zeros((24, 2, 10, 12), np.float64)},
        {"labels": np.zeros(23, np.int64)},
        {"labels": np.zeros(24, np.int32)},
        {"record_ids": ("a",)},
        {"patients": ("a",)},
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    records: Records, wrong: dict[str, object]
) -> None:
    with pytest.raises(BadData):
        replace(records, **wrong)


FIT = {"classes": 3, "channels": 2, "height": 10, "width": 12}


def test_fitting_records_pass(records: Records) -> None:
    check_fit(records, **FIT, class_names=records.class_names)


def test_no_records_do_not_fit(records: Records) -> None:
    with pytest.raises(BadData, match="no records"):
        check_fit(records.select([]), **FIT)


@pytest.mark.parametrize("side", ["channels", "height", "width"])
def test_images_of_another_shape_do_not_fit(records: Records, side: str) -> None:
    with pytest.raises(BadData, match="2 x 10 x 12"):
        check_fit(records, **{**FIT, side: 5})


def test_a_label_beyond_the_plans_classes_does_not_fit(records: Records) -> None:
    with pytest.raises(BadData, match="labels must be 0 to 1"):
        check_fit(records, **{**FIT, "classes": 2})


def test_one_class_alone_does_not_fit(records: Records) -> None:
    with pytest.raises(BadData, match="at least two classes"):
        check_fit(records.select(records.labels == 2), **FIT)


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.5, np.inf])
def test_pixels_outside_the_range_do_not_fit(records: Records, value: float) -> None:
    images = records.images.copy()
    images[0, 0, 0, 0] = value
    with pytest.raises(BadData, match="pixels"):
        check_fit(replace(records, images=images), **FIT)


def test_classes_in_another_order_do_not_fit(records: Records) -> None:
    with pytest.raises(BadData, match="order"):
        check_fit(records, **FIT, class_names=records.class_names[::-1])
