import numpy as np
import pytest

from calibrator.adapters.torch_laboratory import TorchLaboratory
from calibrator.adapters.unequipped_laboratory import UnequippedLaboratory
from calibrator.domain.contributions import Recombination, RetainedPart
from calibrator.ports import Rejected, Trial
from calibrator.services.images import Images
from letheon.errors import BadConfig, MethodRefused
from letheon.federation import arithmetic
from letheon.federation.parameters import Layout, TensorSpec, flatten
from letheon.federation.plan import Image, PlanDraft, Plugin
from letheon.imaging.local_training import LocalTraining, train_locally
from letheon.imaging.models.model import ImageSpec
from letheon.imaging.models.weights import initialise, read_weights
from letheon.imaging.records import Records


def bars(seed: int, count: int = 80) -> Records:
    """A bright bar above or below the middle, in noise."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0.0, 0.6, (count, 1, 16, 16)).astype(np.float32)
    bars_at = np.arange(count) % 2
    for image, place in zip(images, bars_at, strict=True):
        image[0, 3 + 7 * place : 6 + 7 * place, :] += 0.15
    # Some labels are wrong, so that no network becomes so sure that its gradient vanishes.
    labels = (bars_at ^ (rng.random(count) < 0.15)).astype(np.int64)
    names = tuple(f"{seed}-{index}" for index in range(count))
    return Records(images, labels, names, None, ("above", "below"))


@pytest.fixture(scope="module")
def lab():
    module = initialise("small_cnn", {"width": 4}, ImageSpec(1, 16, 16), 2, 0)
    train_locally(module, bars(1), LocalTraining(steps=40, batch_size=16), 1)
    weights = read_weights(module)
    layout = Layout(tuple(TensorSpec(name, array.shape) for name, array in weights.items()))
    draft = PlanDraft(
        name="bars",
        model=Plugin(plugin="small_cnn", arguments={"width": 4}),
        image=Image(channels=1, height=16, width=16),
        classes=2,
    )
    made = TorchLaboratory(draft.with_layout(layout), Images(bars(2), bars(3)), threads=1)
    return made, flatten(weights, layout), draft.with_layout(layout)


def test_a_harmless_patch_is_taken_whole(lab):
    laboratory, head, _ = lab
    patch = np.full_like(head, 1e-6)
    trial = laboratory.try_patch(head, patch, (0.25, 1.0, 0.5), 0.02)
    assert isinstance(trial, Trial)
    assert trial.scale == 1.0
    assert trial.accuracy_before > 0.7
    np.testing.assert_array_equal(trial.patch, patch)


def test_a_patch_that_ruins_the_model_is_scaled_down_or_rejected(lab):
    laboratory, head, _ = lab
    ruin = -head  # at scale 1 every weight is zero
    scaled = laboratory.try_patch(head, ruin, (1.0, 0.001), 0.02)
    assert isinstance(scaled, Trial)
    assert scaled.scale == 0.001
    rejected = laboratory.try_patch(head, ruin, (1.0,), 0.02)
    assert isinstance(rejected, Rejected)
    assert not rejected.unequipped
    assert " at 1; allowed drop 0.020" in rejected.reason


def test_a_calibration_round_is_capped(lab):
    laboratory, head, _ = lab
    free = laboratory.calibrate(head, {}, seed=1, cap_norm=1e3, allowed_drop=0.5)
    assert free.scale == 1.0
    limit = arithmetic.norm(free.patch) / 2
    capped = laboratory.calibrate(head, {}, seed=1, cap_norm=limit, allowed_drop=0.5)
    assert arithmetic.norm(capped.patch) == pytest.approx(limit, rel=1e-5)
    assert capped.scale == pytest.approx(0.5, rel=1e-5)


def test_a_calibration_round_that_costs_too_much_is_rejected(lab):
    laboratory, head, _ = lab
    violent = {"learning_rate": 5.0, "anchor_weight": 1e-6, "epochs": 4}
    rejected = laboratory.calibrate(head, violent, seed=1, cap_norm=1e3, allowed_drop=-1.0)
    assert isinstance(rejected, Rejected)
    assert not rejected.unequipped


def test_unknown_calibration_parameters_are_refused(lab):
    laboratory, head, _ = lab
    with pytest.raises(BadConfig):
        laboratory.calibrate(head, {"speed": 1}, seed=1, cap_norm=1.0, allowed_drop=0.1)


def test_a_calibration_on_the_attackers_trigger_is_refused(lab):
    laboratory, head, _ = lab
    how = {"transform": "family"}
    assert isinstance(
        laboratory.calibrate(head, how, seed=1, cap_norm=1e3, allowed_drop=0.5), Trial
    )
    with pytest.raises(MethodRefused, match="trigger"):
        laboratory.calibrate(head, {"transform": "probe"}, seed=1, cap_norm=1.0, allowed_drop=0.5)
    with pytest.raises(BadConfig, match="family or probe"):
        laboratory.calibrate(head, {"transform": "x"}, seed=1, cap_norm=1.0, allowed_drop=0.5)


def test_a_computed_patch_is_what_the_rule_changed_the_head_by(lab):
    laboratory, head, plan = lab
    trial = laboratory.compute_patch(head, "negate", {}, seed=1, allowed_drop=None)
    assert isinstance(trial, Trial)
    first = plan.parameters.tensors[0].size
    np.testing.assert_array_equal(trial.patch[:first], -2 * head[:first])
    assert not trial.patch[first:].any()
    assert trial.numbers == {"negated_elements": first}


def test_a_head_cut_open_is_brought_back_by_distillation(lab):
    laboratory, head, _ = lab
    broken = head + np.random.default_rng(0).normal(0, 0.3, head.shape).astype(np.float32)
    quick = {"teacher_steps": 200, "steps": 80, "learning_rate": 0.02}
    trial = laboratory.compute_patch(broken, "distil", quick, seed=1, allowed_drop=0.02)
    assert isinstance(trial, Trial)
    assert trial.accuracy_after > trial.accuracy_before
    assert trial.numbers["agreement_after"] > trial.numbers["agreement_before"]


def test_a_computed_patch_that_costs_too_much_is_rejected_unless_nobody_minds(lab):
    laboratory, head, _ = lab
    rejected = laboratory.compute_patch(head, "negate", {}, seed=1, allowed_drop=-1.0)
    assert isinstance(rejected, Rejected)
    assert not rejected.unequipped
    assert "rule negate costs too much accuracy" in rejected.reason


def test_rules_and_parameters_of_a_computed_patch_are_checked(lab):
    laboratory, head, _ = lab
    with pytest.raises(BadConfig, match="no rule 'amnesia'"):
        laboratory.compute_patch(head, "amnesia", {}, seed=1, allowed_drop=None)
    with pytest.raises(BadConfig, match="speed"):
        laboratory.compute_patch(head, "distil", {"speed": 1}, seed=1, allowed_drop=None)


def test_a_laboratory_without_images_computes_no_patch(lab):
    _, head, plan = lab
    for laboratory in (
        UnequippedLaboratory(),
        TorchLaboratory(plan, Images(bars(2), None), threads=1),
    ):
        refused = laboratory.compute_patch(head, "negate", {}, seed=1, allowed_drop=None)
        assert refused.unequipped
        assert "[calibration]" in refused.reason


def parts_of(head):
    """Two sites, two parts each."""
    rng = np.random.default_rng(4)
    sites = ("sites/south", "sites/south", "sites/east", "sites/east")
    return [
        RetainedPart(site, 1, 9, rng.normal(0, 0.05, head.shape).astype(np.float32))
        for site in sites
    ]


def test_a_recombination_is_a_share_of_each_site(lab):
    laboratory, head, _ = lab
    parts = parts_of(head)
    broken = head + sum(part.values for part in parts)
    how = {"steps": 40, "batch_size": 32}
    made = laboratory.recombine(broken, parts, how, seed=1, allowed_drop=0.02)
    assert isinstance(made, Recombination)
    assert list(made.patches) == ["sites/south", "sites/east"]
    assert made.accuracy_after >= made.accuracy_before - 0.02
    assert made.numbers["parts"] == 4.0
    assert made.numbers["loss_after"] < made.numbers["loss_before"]
    again = laboratory.recombine(broken, parts, how, seed=1, allowed_drop=0.02)
    for site, patch in made.patches.items():
        np.testing.assert_array_equal(patch, again.patches[site])
    only_south = laboratory.recombine(broken, parts[:2], how, seed=1, allowed_drop=1.0)
    assert list(only_south.patches) == ["sites/south"]


def test_a_recombination_that_costs_too_much_or_lacks_images_is_rejected(lab):
    laboratory, head, plan = lab
    parts, quick = parts_of(head), {"steps": 2}
    rejected = laboratory.recombine(head, parts, quick, seed=1, allowed_drop=-1.0)
    assert isinstance(rejected, Rejected)
    assert not rejected.unequipped
    assert "the recombination costs too much accuracy" in rejected.reason
    without = TorchLaboratory(plan, Images(bars(2), None), threads=1)
    for other in (UnequippedLaboratory(), without):
        assert other.recombine(head, parts, quick, seed=1, allowed_drop=0.1).unequipped


def test_without_the_images_it_says_which_ones_to_configure(lab):
    _, head, plan = lab
    audit_only = TorchLaboratory(plan, Images(None, bars(3)), threads=1)
    refused = audit_only.calibrate(head, {}, seed=1, cap_norm=1.0, allowed_drop=0.1)
    assert refused.unequipped
    assert "[calibration]" in refused.reason
    without = TorchLaboratory(plan, Images(bars(2), None), threads=1)
    assert "[audit]" in without.try_patch(head, head, (1.0,), 0.1).reason
