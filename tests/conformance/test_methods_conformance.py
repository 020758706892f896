"""The laws of `letheon.unlearning.method`, on every registered method."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from letheon import registry
from letheon.errors import LevelRefused, MethodRefused
from letheon.unlearning.method import (
    CALIBRATION_IMAGES,
    HISTORY,
    TARGET,
    AskTarget,
    Calibrate,
    Case,
    ComputePatch,
    DeltasArrived,
    Finished,
    GiveUp,
    LabStepDone,
    Overwrite,
    PatchAdded,
    PatchRefused,
    Preparing,
    PushPatch,
    Readmit,
    Recombine,
    Replay,
    Retrain,
    Synchronise,
    TargetAnswered,
    TargetSilent,
    WaitForDeltas,
)

METHODS = registry.names(registry.UNLEARNING)
SERVED = [name for name in METHODS if registry.build(registry.UNLEARNING, name, {}).offer.services]
LAB_STEPS = Overwrite | Synchronise | Replay | Retrain | Readmit
LONGEST = 100  # steps


def a_method(name):
    return registry.build(registry.UNLEARNING, name, {})


def a_case(method, *, calibrate=False, **fields):
    """A case that admits the method: one of the laboratory where the services refuse it."""
    settings = {
        "erasure": "erasures/e1",
        "site": "sites/north",
        "level": sorted(method.offer.levels)[0],
        "epoch": 3,
        "version_before": 40,
        "version_after": 41,
        "contribution_norm": 2.0,
        "calibrate": calibrate,
        "seed": 7,
        "sites": 5,
        # What the services do in place of a removal, an exchange is a step of in the laboratory.
        "laboratory": not method.offer.services or method.offer.exchanges,
    }
    return Case(**{**settings, **fields})


def outcomes_of(step):
    """Every way in which a step can end."""
    match step:
        case AskTarget():
            return [TargetAnswered("u-1", 0.5, 24, 0.1, 2.0), TargetSilent("its agent is away")]
        case PushPatch() | Calibrate() | ComputePatch() | Recombine():
            return [
                PatchAdded(50, 0.5, 0.3, {"accuracy_before": 0.9}),
                PatchRefused("costs too much", final=True),
                PatchRefused("this round costs too much", final=False),
            ]
        case WaitForDeltas(count):
            return [DeltasArrived(50 + count)]
        case Overwrite() | Synchronise() | Replay() | Retrain() | Readmit():
            return [LabStepDone(50)]
    raise AssertionError(step)


def walk(method, case, choose):
    """The steps of one erasure; `choose(outcomes)` picks how each ends."""
    state = method.begin(case)
    steps = [method.preparation()] if isinstance(method, Preparing) else []
    for _ in range(LONGEST):
        step = method.next_step(state)
        steps.append(step)
        if isinstance(step, Finished | GiveUp):
            return steps
        state = method.fold(state, choose(outcomes_of(step)))
    raise AssertionError("the method does not come to an end")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_offered_under_its_entry_point_and_with_the_levels_we_have(name):
    offer = a_method(name).offer
    assert offer.name == name
    assert offer.levels
    assert offer.levels <= ({"L0", "L1"} if offer.services else {"L0", "L1", "L3"})
    assert offer.needs <= {TARGET, CALIBRATION_IMAGES, HISTORY}
    assert offer.services or offer.why_not_services.strip()


def takes_the_contribution_out(step):
    """Whether the step replaces what the subject, or its records, had added to the head."""
    return isinstance(step, Replay | Retrain | Readmit) or (
        isinstance(step, AskTarget) and step.rule == "swap"
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_leaves_the_contribution_in_the_head_admits_that_it_suppresses(name):
    method = a_method(name)
    steps = walk(method, a_case(method), lambda o: o[0])
    out = method.offer.subtracts or any(map(takes_the_contribution_out, steps))
    assert out != method.offer.suppresses


@pytest.mark.parametrize("name", sorted(set(METHODS) - set(SERVED)))
def test_a_method_the_services_refuse_says_why_at_once(name):
    method = a_method(name)
    with pytest.raises(MethodRefused, match=r"\w+ \w+") as raised:
        method.begin(a_case(method, laboratory=False))
    assert raised.value.message == method.offer.why_not_services


@pytest.mark.parametrize("name", SERVED)
def test_a_method_the_services_accept_asks_for_no_step_of_the_laboratory(name):
    method = a_method(name)
    steps = walk(method, a_case(method, calibrate=True, laboratory=False), lambda o: o[0])
    assert not any(isinstance(step, LAB_STEPS) for step in steps)
    assert all(step.rule == "ascent" for step in steps if isinstance(step, AskTarget))


@pytest.mark.parametrize("level", ["L0", "L1", "L2", "L3"])
@pytest.mark.parametrize("name", METHODS)
def test_a_level_that_is_not_offered_is_refused(name, level):
    method = a_method(name)
    if level in method.offer.levels:
        method.begin(a_case(method, level=level))
        return
    with pytest.raises(LevelRefused):
        method.begin(a_case(method, level=level))


@pytest.mark.parametrize("calibrate", [False, True])
@pytest.mark.parametrize("name", METHODS)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_every_sequence_of_outcomes_comes_to_an_end(name, calibrate, data):
    method = a_method(name)
    walk(method, a_case(method, calibrate=calibrate), lambda o: data.draw(st.sampled_from(o)))


@pytest.mark.parametrize("calibrate", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_interrupted_and_resumed_from_json_equals_uninterrupted(name, calibrate):
    method = a_method(name)
    state = method.begin(a_case(method, calibrate=calibrate))
    while not isinstance(step := method.next_step(state), Finished):
        resumed = json.loads(json.dumps(state))
        assert resumed == state
        assert a_method(name).next_step(resumed) == step
        outcome = outcomes_of(step)[0]
        state, other = method.fold(state, outcome), a_method(name).fold(resumed, outcome)
        assert state == other


@pytest.mark.parametrize("name", METHODS)
def test_neither_the_state_nor_the_outcome_is_changed(name):
    method = a_method(name)
    state = method.begin(a_case(method, calibrate=True))
    while not isinstance(step := method.next_step(state), Finished):
        kept = copy.deepcopy(state)
        outcome = outcomes_of(step)[0]
        after = method.fold(state, outcome)
        assert state == kept
        assert outcome == outcomes_of(step)[0]
        state = after


@pytest.mark.parametrize("calibrate", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_no_step_needs_what_the_offer_does_not_name(name, calibrate):
    method = a_method(name)
    steps = walk(method, a_case(method, calibrate=calibrate), lambda o: o[0])
    for step in steps:
        if isinstance(step, AskTarget | PushPatch):
            assert TARGET in method.offer.needs
        if isinstance(step, Calibrate):
            assert calibrate or CALIBRATION_IMAGES in method.offer.needs
        if isinstance(step, ComputePatch):
            assert CALIBRATION_IMAGES in method.offer.needs
        if isinstance(step, Recombine):
            assert {CALIBRATION_IMAGES, HISTORY} <= method.offer.needs


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_prepares_is_always_the_same_and_for_a_removal(name):
    method = a_method(name)
    if isinstance(method, Preparing):
        assert method.offer.subtracts
        assert method.preparation() == a_method(name).preparation()
        json.dumps(dict(method.preparation().parameters))


@pytest.mark.parametrize("name", METHODS)
def test_names_of_questions_and_patches_are_never_used_twice(name):
    method = a_method(name)
    steps = walk(method, a_case(method, calibrate=True), lambda o: o[0])
    for names in (
        [step.request_id for step in steps if isinstance(step, AskTarget)],
        [step.update_id_hint for step in steps if isinstance(step, PushPatch)],
        [step.round for step in steps if isinstance(step, Calibrate)],
        [step.round for step in steps if isinstance(step, Recombine)],
    ):
        assert len(names) == len(set(names))


@pytest.mark.parametrize("name", METHODS)
def test_a_silent_target_or_a_refused_patch_ends_with_its_sentence(name):
    method = a_method(name)
    steps = walk(method, a_case(method, calibrate=True), lambda outcomes: outcomes[-1])
    asked = any(isinstance(step, AskTarget) for step in steps)
    ends = [step for step in steps if isinstance(step, GiveUp | Readmit)]
    assert [step.reason for step in ends] == ["its agent is away"] * asked
    # Of records the site's whole contribution leaves instead: a right is not given up on.
    assert method.offer.exchanges == any(isinstance(step, Readmit) for step in steps)


@pytest.mark.parametrize("name", METHODS)
def test_the_targets_patch_is_the_one_that_is_pushed_and_starts_from_the_snapshot(name):
    method = a_method(name)
    steps = walk(method, a_case(method), lambda o: o[0])
    for step in steps:
        if isinstance(step, AskTarget):
            assert step.version == 41
            json.dumps(dict(step.parameters))
        if isinstance(step, PushPatch):
            assert step.source == "u-1"
            assert list(step.scales) == sorted(step.scales, reverse=True)
            assert all(0 < scale <= 1 for scale in step.scales)
