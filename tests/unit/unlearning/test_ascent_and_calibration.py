import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from letheon.errors import BadConfig, BadData
from letheon.imaging.local_training import LocalTraining, train_locally
from letheon.imaging.models.model import ImageSpec
from letheon.imaging.models.weights import initialise, read_weights
from letheon.imaging.records import Records
from letheon.imaging.scores import predict, utility
from letheon.unlearning.ascent import ascend
from letheon.unlearning.augmentations import TRANSFORMATIONS, augment
from letheon.unlearning.calibration import CalibrationSettings, calibrate

SPEC = ImageSpec(1, 16, 16)


def a_network(seed: int) -> nn.Module:
    return initialise("small_cnn", {"width": 4}, SPEC, 2, seed)


@pytest.fixture(scope="module")
def records():
    """A bright bar above or below the middle, in noise: learned in some forty steps."""
    rng = np.random.default_rng(3)
    images = rng.uniform(0.0, 0.6, (96, 1, 16, 16)).astype(np.float32)
    bars_at = np.arange(96) % 2
    for image, place in zip(images, bars_at, strict=True):
        image[0, 3 + 7 * place : 6 + 7 * place, :] += 0.15
    # Some labels are wrong, so that no network becomes so sure that its gradient vanishes.
    labels = (bars_at ^ (rng.random(96) < 0.15)).astype(np.int64)
    return Records(images, labels, tuple(f"r{i}" for i in range(96)), None, ("above", "below"))


@pytest.fixture(scope="module")
def trained(records):
    torch.set_num_threads(1)
    module = a_network(0)
    train_locally(module, records, LocalTraining(steps=40, batch_size=16), 1)
    assert utility(module, records).accuracy > 0.75
    return module


@pytest.fixture
def module(trained):
    return copy.deepcopy(trained)


def flat(module: nn.Module) -> np.ndarray:
    """The weights as one vector [d]."""
    return np.concatenate([array.ravel() for array in read_weights(module).values()])


def distance(one, other) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return math.sqrt(sum(float((a - b).detach().double().square().sum()) for a, b in pairs))


def test_the_ascent_raises_the_loss_on_the_records_to_erase(module, records):
    outcome = ascend(module, records, {}, 5, a_network)
    assert outcome.steps == 24
    assert outcome.loss_after > outcome.loss_before


def test_the_ascent_stays_in_the_ball_around_its_reference(module, trained, records):
    wild = {"learning_rate": 0.5, "clip_norm": 100.0, "radius_divisor": 1e7}
    ascend(module, records, wild, 5, a_network)
    squares = [distance(trained, a_network(5 + index)) ** 2 for index in range(10)]
    radius = math.sqrt(np.mean(squares) / 1e7)
    assert distance(module, trained) == pytest.approx(radius, rel=1e-3)


def test_the_same_seed_gives_the_same_ascent(module, trained, records):
    other = copy.deepcopy(trained)
    assert ascend(module, records, {"steps": 3}, 5, a_network) == ascend(
        other, records, {"steps": 3}, 5, a_network
    )
    for name, weights in read_weights(module).items():
        np.testing.assert_array_equal(weights, read_weights(other)[name])


def test_the_ascent_works_with_fewer_records_than_a_batch(module, records):
    assert ascend(module, records.select(range(3)), {"steps": 2}, 5, a_network).steps == 2


def test_the_reference_mean_is_the_head_without_one_of_its_n_models(module, records):
    head, local = flat(module), flat(a_network(9))
    still = {"learning_rate": 1e-12, "steps": 1, "reference": "mean", "sites": 5}
    ascend(module, records, still, 5, a_network, local)
    np.testing.assert_allclose(flat(module), 5 / 4 * head - 1 / 4 * local, atol=1e-6)


def test_the_ball_around_the_reference_mean_is_measured_from_it(module, records):
    head, local = flat(module), flat(a_network(9))
    wild = {"learning_rate": 0.5, "clip_norm": 100.0, "radius_divisor": 1e7}
    ascend(module, records, {**wild, "reference": "mean", "sites": 3}, 5, a_network, local)
    reference = 3 / 2 * head - 1 / 2 * local
    squares = [np.square(reference - flat(a_network(5 + index))).sum() for index in range(10)]
    radius = math.sqrt(np.mean(squares) / 1e7)
    assert np.linalg.norm(flat(module) - reference) == pytest.approx(radius, rel=1e-3)


def test_a_head_that_is_the_subjects_own_model_is_its_own_reference(module, records):
    other = copy.deepcopy(module)
    mean = {"steps": 3, "reference": "mean", "sites": 4}
    assert ascend(module, records, mean, 5, a_network, flat(module)) == ascend(
        other, records, {"steps": 3}, 5, a_network
    )


def test_a_mean_needs_the_last_local_model_and_a_second_site(module, records):
    kept = flat(module)
    with pytest.raises(BadConfig, match="last uploaded local model"):
        ascend(module, records, {"reference": "mean", "sites": 5}, 5, a_network)
    with pytest.raises(BadConfig, match="at least 2 sites"):
        ascend(module, records, {"reference": "mean", "sites": 1}, 5, a_network, kept)
    with pytest.raises(BadConfig, match="head or mean"):
        ascend(module, records, {"reference": "median"}, 5, a_network)
    with pytest.raises(BadData, match="shape"):
        ascend(module, records, {"reference": "mean", "sites": 5}, 5, a_network, kept[1:])
    np.testing.assert_array_equal(flat(module), kept)


@pytest.mark.parametrize("parameters", [{"steps": 0}, {"speed": 1}, {"learning_rate": -1.0}])
def test_parameters_of_the_ascent_are_checked(module, records, parameters):
    with pytest.raises(BadConfig):
        ascend(module, records, parameters, 5, a_network)


def test_there_is_no_ascent_without_records(module, records):
    with pytest.raises(BadData):
        ascend(module, records.select([]), {}, 5, a_network)


def test_calibration_brings_clean_and_transformed_predictions_together(module, records):
    settings = CalibrationSettings(epochs=6, learning_rate=5e-3)
    outcome = calibrate(module, records.images, settings, 5)
    assert outcome.steps == 12
    assert outcome.invariance_after < outcome.invariance_before


def test_calibration_keeps_what_the_head_says_about_clean_images(module, trained, records):
    before = predict(trained, records.images).classes
    calibrate(module, records.images, CalibrationSettings(epochs=6), 5)
    after = predict(module, records.images).classes
    assert (before == after).mean() > 0.9
    assert len(set(after.tolist())) == 2  # no constant predictor


def test_without_the_anchor_the_same_steps_stray_further_from_the_head(trained, records):
    strayed = {}
    for anchor in (1e-6, 5.0):
        module = copy.deepcopy(trained)
        settings = CalibrationSettings(epochs=10, learning_rate=2e-2, anchor_weight=anchor)
        strayed[anchor] = calibrate(module, records.images, settings, 5).anchor_after
    assert strayed[5.0] < strayed[1e-6]


def test_calibration_makes_the_model_ignore_the_transformation_it_is_given(module, records):
    def stamped(images, generator):
        marked = images.clone()
        marked[..., -4:, -4:] = 1.0
        return marked

    settings = CalibrationSettings(epochs=8, learning_rate=1e-2, anchor_weight=0.0)
    outcome = calibrate(module, records.images, settings, 5, stamped)
    assert outcome.invariance_after < 0.5 * outcome.invariance_before


@pytest.mark.parametrize(
    "weights", [{"anchor_weight": -1.0}, {"invariance_weight": 0.0, "anchor_weight": 0.0}]
)
def test_calibration_needs_a_term_to_calibrate_with(weights):
    with pytest.raises(BadConfig):
        CalibrationSettings(**weights)


def test_the_same_seed_gives_the_same_calibration(module, trained, records):
    other = copy.deepcopy(trained)
    settings = CalibrationSettings()
    assert calibrate(module, records.images, settings, 5) == calibrate(
        other, records.images, settings, 5
    )
    assert distance(module, other) == 0.0


def test_the_mode_of_the_network_is_left_as_it_was(module, records):
    module.train()
    calibrate(module, records.images, CalibrationSettings(), 5)
    ascend(module, records, {"steps": 1}, 5, a_network)
    assert module.training


def test_there_is_no_calibration_without_images(module, records):
    with pytest.raises(BadData):
        calibrate(module, records.images[:0], CalibrationSettings(), 5)


@pytest.mark.parametrize("transformation", TRANSFORMATIONS, ids=lambda t: t.__name__)
def test_a_transformation_keeps_shape_and_leaves_its_input_alone(transformation, records):
    images = torch.from_numpy(records.images[:8].copy())
    kept = images.clone()
    changed = transformation(images, torch.Generator().manual_seed(2))
    assert changed.shape == images.shape
    assert torch.equal(images, kept)
    assert not torch.equal(changed, images)


def test_the_family_stays_in_the_pixel_range_and_is_reproducible(records):
    images = torch.from_numpy(records.images[:8])
    for seed in range(10):
        first = augment(images, torch.Generator().manual_seed(seed))
        second = augment(images, torch.Generator().manual_seed(seed))
        assert torch.equal(first, second)
        assert float(first.min()) >= 0.0
        assert float(first.max()) <= 1.0
