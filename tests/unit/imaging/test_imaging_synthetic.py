import numpy as np
import pytest

from letheon.imaging.sources.synthetic import SyntheticSource


def test_another_seed_gives_other_records_of_the_same_classes() -> None:
    one = SyntheticSource(40, 4, 1, 16, 16, seed=1).load()
    two = SyntheticSource(40, 4, 1, 16, 16, seed=2).load()
    assert one.class_names == two.class_names
    assert not set(one.record_ids) & set(two.record_ids)
    assert not set(one.patients or ()) & set(two.patients or ())
    assert not np.array_equal(one.images, two.images)


def test_classes_are_balanced_and_a_patient_has_one_class() -> None:
    records = SyntheticSource(240, 3, 1, 12, 12, records_per_patient=4).load()
    assert np.bincount(records.labels).tolist() == [80, 80, 80]
    assert records.patients is not None
    of_patient: dict[str, set[int]] = {}
    for patient, label in zip(records.patients, records.labels, strict=True):
        of_patient.setdefault(patient, set()).add(int(label))
    assert len(of_patient) == 60
    assert all(len(labels) == 1 for labels in of_patient.values())


def test_the_mean_of_an_image_says_little_of_its_class() -> None:
    records = SyntheticSource(600, 2, 1, 28, 28, seed=3).load()
    means = records.images.mean(axis=(1, 2, 3))
    threshold = np.median(means)
    accuracy = ((means > threshold) == (records.labels == 1)).mean()
    assert abs(accuracy - 0.5) < 0.1


@pytest.mark.parametrize(
    "arguments",
    [
        (0, 2, 1, 28, 28),
        (9, 1, 1, 28, 28),
        (9, 2, 0, 28, 28),
        (9, 2, 1, 4, 28),
        (9, 2, 1, 28, 28, -1),
    ],
)
def test_impossible_arguments_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        SyntheticSource(*arguments)
