import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from letheon.errors import BadData
from letheon.imaging.local_training import LocalTraining, train_locally
from letheon.imaging.models.model import ImageSpec
from letheon.imaging.models.weights import initialise, read_weights
from letheon.imaging.records import Records
from letheon.imaging.scores import utility
from letheon.imaging.sources.synthetic import SyntheticSource
from letheon.unlearning.evidence.finding import Verdict
from letheon.unlearning.evidence.relearning import (
    judge_relearning,
    relearn,
    relearn_ratio,
    steps_to,
)
from letheon.unlearning.evidence.resurfacing import judge_resurfacing, resurfacing

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE

SERIES = [(0, 0.9), (5, 0.02), (12, 0.01), (25, 0.05), (65, 0.04), (70, 0.03)]


def test_rises_are_counted_from_the_first_measurement_at_the_gate() -> None:
    result = resurfacing(SERIES, at=10)
    assert result.at_value == 0.01
    assert result.rises == {10: pytest.approx(0.04), 50: pytest.approx(0.03), 100: None}
    assert (result.peak, result.peak_at) == (0.05, 25)


@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=20),
    at=st.integers(0, 19),
    shift=st.floats(-1, 1),
)
def test_a_constant_added_to_the_probe_changes_no_rise(values, at, shift) -> None:
    at = min(at, len(values) - 1)
    plain = resurfacing(list(enumerate(values)), at=at, after=(1, 5))
    moved = resurfacing([(i, v + shift) for i, v in enumerate(values)], at=at, after=(1, 5))
    assert moved.rises == {
        k: None if v is None else pytest.approx(v, abs=1e-9) for k, v in plain.rises.items()
    }
    assert plain.peak == max(values[at:])
    assert plain.peak >= plain.at_value


@pytest.mark.parametrize(
    "series", [[], [(0, 0.1)], [(0, 0.1), (0, 0.2), (9, 0.1)], [(0, 0.1), (9, math.nan)]]
)
def test_a_series_that_says_nothing_is_refused(series) -> None:
    with pytest.raises(BadData, match="resurfacing"):
        resurfacing(series, at=5)


def risen_to(value: float):
    return resurfacing([(0, 0.01), (60, value)], at=0, after=(50,))


def test_resurfacing_passes_fails_and_is_inconclusive() -> None:
    assert judge_resurfacing(risen_to(0.012), 0.98, records=500).verdict is PASS
    assert judge_resurfacing(risen_to(0.3), 0.98, records=500).verdict is FAIL
    assert judge_resurfacing(risen_to(0.012), 0.02, records=500).verdict is INCONCLUSIVE
    assert judge_resurfacing(risen_to(0.012), None, records=500).verdict is INCONCLUSIVE
    short = judge_resurfacing(
        resurfacing([(0, 0.01)], at=0, after=(50,)), 0.98, records=500
    )  # fmt: skip
    assert short.verdict is INCONCLUSIVE
    assert short.to_json()["value"] is None


def test_resurfacing_is_judged_for_shares_that_were_asked_for() -> None:
    with pytest.raises(BadData, match="not asked for"):
        judge_resurfacing(risen_to(0.1), 0.9, records=500, after=10)
    with pytest.raises(BadData, match="no share"):
        judge_resurfacing(risen_to(1.5), 0.9, records=500)


@pytest.fixture(scope="module")
def records() -> Records:
    torch.set_num_threads(1)
    return SyntheticSource(96, 2, 1, 16, 16, seed=1).load()


@pytest.fixture(scope="module")
def module(records: Records) -> nn.Module:
    return initialise("small_cnn", {"width": 4}, ImageSpec(1, 16, 16), 2, 0)


def minus_loss(records: Records):
    return lambda module: -utility(module, records).mean_loss


def test_relearning_leaves_the_module_as_it_was(module: nn.Module, records: Records) -> None:
    before, mode = copy.deepcopy(read_weights(module)), module.training
    values = relearn(module, records, minus_loss(records), steps=3, seed=0)
    assert len(values) == 4
    assert values[0] == minus_loss(records)(module)
    assert module.training is mode
    for name, weights in read_weights(module).items():
        np.testing.assert_array_equal(weights, before[name])
    assert all(weight.grad is None for weight in module.parameters())


def test_relearning_is_the_same_for_the_same_seed(module: nn.Module, records: Records) -> None:
    probe = minus_loss(records)
    assert relearn(module, records, probe, seed=3) == relearn(module, records, probe, seed=3)
    assert relearn(module, records, probe, seed=3) != relearn(module, records, probe, seed=4)


def test_one_relearning_step_is_plain_gradient_descent(module: nn.Module, records: Records) -> None:
    few = records.select(np.arange(8))
    pupil = copy.deepcopy(module)
    images, labels = torch.from_numpy(few.images), torch.from_numpy(few.labels)
    nn.functional.cross_entropy(pupil(images), labels).backward()
    with torch.no_grad():
        for weight in pupil.parameters():
            weight.sub_(0.1 * weight.grad)
    values = relearn(module, few, minus_loss(records), steps=1, learning_rate=0.1, seed=0)
    assert values[1] == pytest.approx(minus_loss(records)(pupil), abs=1e-5)


def test_a_model_that_knew_the_records_relearns_sooner(module: nn.Module, records: Records) -> None:
    probe, knowing = minus_loss(records), copy.deepcopy(module)
    train_locally(knowing, records, LocalTraining(steps=30, learning_rate=0.02), 0)
    level = probe(knowing) + 0.005
    fast, slow = (
        relearn(m, records, probe, steps=60, learning_rate=0.05, seed=1) for m in (knowing, module)
    )
    ratio = relearn_ratio(fast, slow, level=level)
    assert ratio is not None
    assert ratio < 0.85


def test_steps_are_interpolated_and_a_level_may_never_come() -> None:
    assert steps_to([0.0, 0.4, 0.8], 0.5) == pytest.approx(1.25)
    assert steps_to([0.6, 0.4], 0.5) == 0.0
    assert steps_to([0.0, 0.4], 0.5) is None
    assert relearn_ratio([0.0, 1.0], [0.0, 0.5, 1.0], level=0.5) == pytest.approx(0.5)
    assert relearn_ratio([0.0, 1.0], [0.0, 0.1], level=0.5) is None
    assert relearn_ratio([0.0, 1.0], [0.6, 1.0], level=0.5) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_level_never_takes_fewer_steps(values, one, other) -> None:
    early, late = steps_to(values, min(one, other)), steps_to(values, max(one, other))
    assert late is None or (early is not None and early <= late)


def test_relearning_passes_fails_and_is_inconclusive() -> None:
    residue = [0.1, 0.2, 0.15, 0.1]

    def verdict(ratios, before=residue):
        return judge_relearning(ratios, before, records=64).verdict

    assert verdict([1.0, 1.05, 0.98, 1.02]) is PASS
    assert verdict([0.3, 0.4, 0.35, 0.3]) is FAIL
    assert verdict([2.0, 2.2, 2.1, 2.3]) is FAIL
    assert verdict([0.5, 1.5, 1.0]) is INCONCLUSIVE
    assert verdict([1.0, 1.05, 0.98], before=[1.0, 0.9, 1.1]) is INCONCLUSIVE
    assert verdict([1.0, 1.05, 0.98], before=[]) is INCONCLUSIVE
    silent = judge_relearning([1.0, None, None], residue, records=64)
    assert silent.verdict is INCONCLUSIVE
    assert "2 more without one" in silent.detail


def test_impossible_relearning_is_refused(module: nn.Module, records: Records) -> None:
    with pytest.raises(BadData, match="no records"):
        relearn(module, records.select([]), minus_loss(records), seed=0)
    with pytest.raises(BadData, match="at least 1"):
        relearn(module, records, minus_loss(records), steps=0, seed=0)
    with pytest.raises(BadData, match="margins"):
        judge_relearning([1.0, 1.1], [0.1, 0.2], band=(1.1, 1.3), records=1)
