"""What the study sees in versions whose answers are known, and what the gate says of them."""

import math

import numpy as np
import pytest
from simulation_builders import some_rules
from test_hospitals import dealt, some_records

from letheon.federation.parameters import flatten
from letheon.imaging.models.weights import read_weights
from letheon.simulation.hospitals import Planting
from letheon.simulation.measure import Lens, utilities
from letheon.simulation.sites import Network
from letheon.simulation.watch_gate import SimulatedGate
from letheon.unlearning.gate import Verdict
from letheon.unlearning.removal import Removal

CONFIDENT = 4.0  # logit of the class that a constant network answers


@pytest.fixture(scope="module")
def network():
    return Network.of(some_rules(model={"plugin": "small_cnn", "arguments": {"width": 4}}).plan)


@pytest.fixture(scope="module")
def planted():
    return dealt(some_records(), planting=Planting())


def always(network, answer):
    """Weights of a network that answers one class, whatever it sees."""
    state = {name: np.zeros_like(values) for name, values in read_weights(network.module).items()}
    state["head.bias"][answer] = CONFIDENT
    return flatten(state, network.layout)


def look(lens, weights):
    return lens.look(weights, accepted=7, seconds=3.5, version=9)


def test_a_constant_answer_is_right_as_often_as_its_class_occurs(network, planted):
    lens = Lens(network, planted, seed=0)
    labels = lens.test[1]
    for answer in range(3):
        seen = look(lens, always(network, answer))
        share = float((labels == answer).mean())
        assert seen.accuracy == pytest.approx(share)
        assert seen.balanced_accuracy == pytest.approx(1 / 3)
        wrong = math.log(math.exp(CONFIDENT) + 2)
        assert seen.loss == pytest.approx(wrong - share * CONFIDENT, abs=1e-5)
        assert (seen.accepted, seen.seconds, seen.version) == (7, 3.5, 9)


def test_every_retained_site_is_seen_on_its_own_records_and_the_target_is_not(network, planted):
    lens = Lens(network, planted, seed=0)
    seen = look(lens, always(network, 0))
    assert len(seen.site_accuracy) == len(planted.retained())
    for site, accuracy in zip(planted.retained(), seen.site_accuracy, strict=True):
        held = planted.sites[site].test.labels
        assert accuracy == pytest.approx(float((held == 0).mean()), abs=1e-6)


def test_a_probe_succeeds_where_the_planted_class_is_answered(network, planted):
    lens = Lens(network, planted, seed=0)
    wanted = planted.planted.target_class
    hit, missed = (always(network, answer) for answer in (wanted, (wanted + 1) % 3))
    assert (look(lens, hit).disclosed, look(lens, hit).undisclosed) == (1.0, 1.0)
    assert (look(lens, missed).disclosed, look(lens, missed).undisclosed) == (0.0, 0.0)
    assert lens.disclosed_success(network.load(hit)) == 1.0


def test_where_nothing_was_planted_there_is_no_probe(network):
    lens = Lens(network, dealt(some_records()), seed=0)
    seen = look(lens, always(network, 0))
    assert seen.disclosed is None
    assert seen.undisclosed is None
    with pytest.raises(ValueError, match="nothing was planted"):
        lens.disclosed_success(network.module)


def test_the_forget_set_is_seen_with_the_labels_it_was_trained_on(network, planted):
    lens = Lens(network, planted, seed=0)
    trained = planted.sites[planted.target].train.labels
    shares = [look(lens, always(network, answer)).forget_accuracy for answer in range(3)]
    assert sum(shares) == pytest.approx(1.0)
    # Planting gives half of the others the planted class: the most frequent one as trained.
    assert int(np.argmax(shares)) == int(np.bincount(trained).argmax())


def test_every_look_goes_through_the_same_records(network, planted):
    weights = network.initial(5)
    first, again = (look(Lens(network, planted, seed=3), weights) for _ in range(2))
    assert first == again


def test_looks_are_told_with_the_digits_they_have(network, planted):
    told = look(Lens(network, planted, seed=0), network.initial(1)).to_json()
    assert told["accuracy"] == round(told["accuracy"], 5)
    assert isinstance(told["site_accuracy"], list)


def test_utilities_count_each_sites_own_records(network, planted):
    records = {site: planted.sites[site].validation for site in planted.retained()}
    for site, (count, accuracy) in utilities(network, always(network, 1), records).items():
        assert count == len(records[site])
        assert accuracy == pytest.approx(float((records[site].labels == 1).mean()))


@pytest.fixture(scope="module")
def gate(network, planted):
    common = always(network, 0)  # half of all records
    return SimulatedGate(network, planted, some_rules(gate={"bootstrap": 20}).plan.gate, common, 0)


def test_the_gate_refuses_a_candidate_that_lost_what_the_sites_need(network, gate):
    verdict = gate.judge(always(network, 2), Removal().offer)
    assert verdict.verdict is Verdict.FAIL
    assert "utility" in verdict.reason


def test_a_version_that_never_saw_the_target_leaves_the_forgetting_tests_without_a_control(
    network, gate
):
    verdict = gate.judge(always(network, 0), Removal().offer)
    tests = {test.name: test.verdict for test in verdict.tests}
    assert tests["utility"] is Verdict.PASS
    assert not verdict.statistically_verified


def test_the_gate_audits_the_target_with_the_records_it_set_aside(network, planted, gate):
    told = gate.audit(network.initial(2))
    held = planted.sites[planted.target]
    assert (told.erased_records, told.control_records) == (len(held.train), len(held.control))
