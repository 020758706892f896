from dataclasses import replace

import numpy as np
import pytest

from calibrator.services.images import Images, check_disjoint
from letheon.errors import BadData
from letheon.imaging.sources.synthetic import SyntheticSource


def some(seed):
    return SyntheticSource(20, 2, 1, 8, 8, seed=seed).load()


def test_two_hospitals_are_disjoint():
    check_disjoint(Images(some(1), some(2)))


def test_one_set_alone_is_disjoint():
    check_disjoint(Images(some(1), None))
    check_disjoint(Images(None, None))


def test_a_shared_record_id_is_refused():
    first, second = some(1), some(2)
    shared = replace(second, record_ids=(first.record_ids[0], *second.record_ids[1:]))
    with pytest.raises(BadData, match="record ids"):
        check_disjoint(Images(first, shared))


def test_a_shared_patient_is_refused():
    first, second = some(1), some(2)
    shared = replace(second, patients=(first.patients[0], *second.patients[1:]))
    with pytest.raises(BadData, match="patients"):
        check_disjoint(Images(first, shared))


def test_the_same_picture_under_another_name_is_refused():
    first, second = some(1), some(2)
    images = second.images.copy()
    images[3] = first.images[7]
    with pytest.raises(BadData, match="pixels") as caught:
        check_disjoint(Images(first, replace(second, images=images)))
    assert caught.value.facts == {"shared": "1"}
    assert first.record_ids[7] not in caught.value.message
    assert np.isfinite(images).all()
