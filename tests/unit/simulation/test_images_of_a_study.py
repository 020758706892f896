"""The images of a study: read, thinned out, made smaller."""

import numpy as np
import pytest

from letheon.errors import BadData
from letheon.simulation.images import DATA_VARIABLE, ImagesConfig, find_file, load_images


@pytest.fixture
def file(tmp_path):
    rng = np.random.default_rng(1)
    count = 240
    path = tmp_path / "small.npz"
    np.savez(
        path,
        train_images=rng.integers(0, 256, (count, 4, 4), dtype=np.uint8),
        train_labels=(np.arange(count) % 3).reshape(-1, 1),
        train_patients=np.array([f"p{row // 3}" for row in range(count)]),
        hospital=np.arange(count) % 2,
    )
    return path


def config(**more):
    return ImagesConfig(name="small", file="small.npz", **more)


def test_a_smaller_image_is_the_mean_of_its_squares(file):
    whole, _ = load_images(config(), file, seed=1)
    small, _ = load_images(config(shrink=2), file, seed=1)
    by_hand = (
        whole.images[:, :, 0::2, 0::2]
        + whole.images[:, :, 1::2, 0::2]
        + whole.images[:, :, 0::2, 1::2]
        + whole.images[:, :, 1::2, 1::2]
    ) / 4
    assert small.images.shape == (240, 1, 2, 2)
    assert np.allclose(small.images, by_hand, atol=1e-6)


def test_a_size_that_cannot_be_divided_is_refused(file):
    with pytest.raises(BadData, match="images of 4x4 cannot be shrunk by 3"):
        load_images(config(shrink=3), file, seed=1)


def test_classes_are_counted_as_others_and_numbers_close_up(file):
    whole, _ = load_images(config(), file, seed=1)
    first, second, third = whole.class_names
    merged, _ = load_images(config(merge_classes={first: third}), file, seed=1)
    assert merged.class_names == (second, third)
    assert np.array_equal(merged.labels, np.where(whole.labels == 1, 0, 1))


def test_a_class_that_is_not_there_is_named_with_those_that_are(file):
    with pytest.raises(BadData, match="there is no class 'ghost' to merge; there are"):
        load_images(config(merge_classes={"ghost": "0"}), file, seed=1)


def test_thinning_out_keeps_patients_whole(file):
    records, _ = load_images(config(most=100, patient_key="patients"), file, seed=1)
    assert 98 <= len(records) <= 100
    _, counts = np.unique(records.groups(), return_counts=True)
    assert (counts == 3).all()


def test_natural_sites_stay_with_their_records(file):
    records, sites = load_images(config(site_key="hospital", most=100), file, seed=1)
    assert len(sites) == len(records)
    assert set(sites) == {"site-1", "site-2"}


def test_an_array_of_sites_that_is_missing_is_named(file):
    with pytest.raises(BadData, match="has no array 'wards'"):
        load_images(config(site_key="wards"), file, seed=1)


def test_a_missing_file_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(BadData, match=r"'small' are not there \(looked for .*LETHEON_DATA"):
        find_file(config(), tmp_path)


def test_the_folder_of_the_environment_is_looked_in(file, monkeypatch):
    monkeypatch.setenv(DATA_VARIABLE, str(file.parent))
    assert find_file(config(), None) == file
    assert find_file(config(), file) == file
