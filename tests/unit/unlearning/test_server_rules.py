import copy

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
from letheon.unlearning.distillation import DistillationSettings, distil_head
from letheon.unlearning.negation import negate
from letheon.unlearning.server_rules import RULES, find_rule

SPEC = ImageSpec(1, 16, 16)
QUICK = {"teacher_steps": 60, "steps": 30, "batch_size": 16}


def a_network(seed: int) -> nn.Module:
    return initialise("small_cnn", {"width": 4}, SPEC, 2, seed)


def bars(seed: int, count: int = 64) -> Records:
    """A bright bar above or below the middle, in noise."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0.0, 0.6, (count, 1, 16, 16)).astype(np.float32)
    labels = (np.arange(count) % 2).astype(np.int64)
    for image, place in zip(images, labels, strict=True):
        image[0, 3 + 7 * place : 6 + 7 * place, :] += 0.3
    return Records(images, labels, tuple(f"r{i}" for i in range(count)), None, ("above", "below"))


def weights_of(module: nn.Module) -> np.ndarray:
    return np.concatenate([array.ravel() for array in read_weights(module).values()])


class Nursery:
    """Makes networks and keeps them, so that a test can look at the teacher afterwards."""

    def __init__(self):
        self.made: list[nn.Module] = []

    def __call__(self, seed: int) -> nn.Module:
        self.made.append(a_network(seed))
        return self.made[-1]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def records():
    return bars(2)


@pytest.fixture(scope="module")
def mistaken(records):
    """A head that learned every label the wrong way round."""
    module = a_network(0)
    wrong = Records(records.images, 1 - records.labels, records.record_ids, None, ("a", "b"))
    train_locally(module, wrong, LocalTraining(steps=60, batch_size=16), 1)
    assert utility(module, records).accuracy < 0.2
    return module


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_found_by_its_name(name):
    assert find_rule(name) is RULES[name]


def test_an_unknown_rule_names_those_there_are():
    with pytest.raises(BadConfig, match="distil, negate"):
        find_rule("amnesia")


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_repeated_from_the_same_head_and_seed_makes_the_same_patch(rule, mistaken, records):
    parameters = QUICK if rule == "distil" else {}
    once, again = copy.deepcopy(mistaken), copy.deepcopy(mistaken)
    told = RULES[rule](once, records, parameters, 4, a_network)
    assert RULES[rule](again, records, parameters, 4, a_network) == told
    np.testing.assert_array_equal(weights_of(once), weights_of(again))
    assert not np.array_equal(weights_of(once), weights_of(mistaken))


def test_a_distilled_head_agrees_with_its_teacher(mistaken, records):
    head, nursery = copy.deepcopy(mistaken), Nursery()
    told = distil_head(head, records, {**QUICK, "teacher_steps": 120, "steps": 80}, 4, nursery)
    assert told["agreement_before"] < 0.3
    assert told["agreement_after"] > 0.9
    taught = predict(nursery.made[0], records.images).classes
    said = predict(head, records.images).classes
    assert told["agreement_after"] == pytest.approx((said == taught).mean())
    assert utility(head, records).accuracy > 0.9  # of the mistake nothing is left


def test_the_teacher_is_the_same_whatever_the_head_says(mistaken, records):
    teachers = []
    for head in (copy.deepcopy(mistaken), a_network(77)):
        nursery = Nursery()
        distil_head(head, records, QUICK, 4, nursery)
        teachers.append(weights_of(nursery.made[0]))
    np.testing.assert_array_equal(*teachers)


def test_the_target_of_every_step_is_the_teachers_prediction_alone(mistaken, records):
    """With a teacher that says the same of every image, the head says so too."""

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.tensor([3.0, 0.0]))

        def forward(self, images):
            return self.logits.expand(len(images), 2)

    head = copy.deepcopy(mistaken)
    still = {"teacher_learning_rate": 1e-9, "teacher_steps": 1, "steps": 120, "learning_rate": 0.02}
    distil_head(head, records, still, 4, lambda seed: Constant())
    probabilities = np.exp(predict(head, records.images).log_probabilities)
    np.testing.assert_allclose(probabilities[:, 0], 1 / (1 + np.exp(-3.0)), atol=0.05)


def test_records_without_a_label_teach_nothing(mistaken, records):
    unknown = records.labels.copy()
    unknown[::4] = -1
    some = Records(records.images, unknown, records.record_ids, None, records.class_names)
    heads = []
    for given in (some, some.select(some.labels >= 0)):
        head = copy.deepcopy(mistaken)
        distil_head(head, given, QUICK, 4, a_network)
        heads.append(weights_of(head))
    np.testing.assert_array_equal(*heads)


def test_there_is_no_distillation_without_labelled_images(mistaken, records):
    unknown = Records(
        records.images, np.full_like(records.labels, -1), records.record_ids, None, ("a", "b")
    )
    for missing in (None, unknown):
        with pytest.raises(BadData, match="labelled"):
            distil_head(copy.deepcopy(mistaken), missing, QUICK, 4, a_network)


@pytest.mark.parametrize("parameters", [{"steps": 0}, {"speed": 1}, {"learning_rate": 0.0}])
def test_parameters_of_the_distillation_are_checked(parameters, mistaken, records):
    with pytest.raises(BadConfig, match="distil"):
        distil_head(copy.deepcopy(mistaken), records, parameters, 4, a_network)


def test_a_distillation_that_diverges_says_so(mistaken, records):
    images = records.images.copy()
    images[0] = np.nan
    broken = Records(images, records.labels, records.record_ids, None, records.class_names)
    with pytest.raises(BadData, match="diverged"):
        distil_head(copy.deepcopy(mistaken), broken, QUICK, 4, a_network)


def test_the_mode_of_the_head_is_left_as_it_was(mistaken, records):
    head = copy.deepcopy(mistaken).train()
    distil_head(head, records, {**QUICK, "teacher_steps": 1, "steps": 1}, 4, a_network)
    assert head.training


def test_small_batches_are_enough(records):
    assert DistillationSettings(batch_size=1).batch_size == 1
    few = records.select(range(3))
    told = distil_head(a_network(1), few, {"teacher_steps": 2, "steps": 2}, 4, a_network)
    assert told["steps"] == 2


def test_negation_is_its_own_inverse_bit_for_bit():
    head = a_network(5)
    before = weights_of(head)
    negate(head, None, {}, 0, a_network)
    negate(head, None, {}, 0, a_network)
    np.testing.assert_array_equal(weights_of(head), before)


def test_the_patch_of_a_negation_is_minus_twice_the_chosen_weights_and_nothing_else():
    head = a_network(5)
    before = read_weights(head)
    told = negate(head, None, {}, 0, a_network)
    first = next(iter(before))
    assert told == {"negated_elements": before[first].size}
    for name, weights in read_weights(head).items():
        patch = weights - before[name]
        np.testing.assert_array_equal(patch, -2 * before[name] if name == first else 0 * patch)


def test_tensors_to_negate_can_be_named():
    head = a_network(5)
    before = read_weights(head)
    negate(head, None, {"tensors": ["head.bias", "place.weight"]}, 0, a_network)
    changed = [n for n, w in read_weights(head).items() if not np.array_equal(w, before[n])]
    assert set(changed) <= {"head.bias", "place.weight"}
    assert "place.weight" in changed


def test_a_network_without_a_convolution_must_name_what_to_negate():
    with pytest.raises(BadConfig, match="no convolution"):
        negate(nn.Linear(2, 2), None, {}, 0, a_network)
    with pytest.raises(BadConfig, match="no tensor nose; it has weight, bias"):
        negate(nn.Linear(2, 2), None, {"tensors": ["nose"]}, 0, a_network)
    with pytest.raises(BadConfig, match="takes tensors, not layers"):
        negate(nn.Linear(2, 2), None, {"layers": 1}, 0, a_network)
