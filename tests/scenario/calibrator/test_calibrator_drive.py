import json

import numpy as np
import pytest
from erasure_world import BEFORE, CONTRIBUTION_NORM, ScriptedCoordinator

from calibrator.ports import Certified, Failed
from letheon import errors
from letheon.proof import certificate
from letheon.unlearning.method import CALIBRATION_IMAGES
from letheon.v1 import erasures_pb2 as pb
from letheon.v1 import training_pb2


def statement_of(world: ScriptedCoordinator) -> dict:
    return dict(certificate.verify(world.certificate, None).statement)


def test_a_removal_is_certified_once_the_retained_sites_have_repaired_the_model(bench):
    world = ScriptedCoordinator()
    made = bench(world)
    # Broken by the subtraction, healed ten versions later.
    world.evaluate = lambda site, version: 0.9 if not BEFORE < version < BEFORE + 10 else 0.4

    assert isinstance(made.run(), Certified)

    verdicts = [attempt.verdict for attempt in world.attempts]
    assert verdicts == [pb.Attempt.FAIL, pb.Attempt.FAIL, pb.Attempt.PASS]
    assert world.erasure.state == pb.Erasure.CERTIFIED
    assert not world.patches
    said = statement_of(world)
    assert said["claim"] == "influence removed and statistically verified"
    assert said["subject"]["site"] == "sites/north"
    assert said["model"]["version_before"] == BEFORE
    assert said["model"]["sha256_promoted"] == world.model(world.attempts[-1].version).sha256
    assert said["process"]["ledger"]["holds"] is True
    assert said["deadline_met"] is True


def test_without_the_subjects_data_a_removal_is_certified_on_its_process_alone(bench):
    world = ScriptedCoordinator()
    world.audit = lambda version: None
    made = bench(world)

    assert isinstance(made.run(), Certified)

    said = statement_of(world)
    assert said["claim"] == "influence removed, not statistically verified"
    assert {test["verdict"] for test in said["gate"]["tests"][1:]} == {"inconclusive"}
    assert any("forget_auc was inconclusive" in text for text in said["what_is_not_proven"])
    assert made.clock.elapsed_s >= world.plan.gate.answer_timeout_seconds


def test_a_method_that_only_suppresses_fails_without_a_forgetting_test(bench):
    world = ScriptedCoordinator("afu_ic_rebased")
    world.target_patch = np.full(world.layout.size, 0.01, "<f4")
    world.audit = lambda version: None

    ended = bench(world).run()

    assert isinstance(ended, Failed)
    assert "only suppresses influence" in world.erasure.failure
    assert world.erasure.state == pb.Erasure.FAILED


def test_a_suppressing_method_whose_positive_control_is_silent_fails_at_once(bench):
    world = ScriptedCoordinator("afu_ic_rebased")
    world.target_patch = np.full(world.layout.size, 0.01, "<f4")
    world.audit = lambda version: 0.5

    assert isinstance(bench(world).run(), Failed)
    assert len(world.attempts) == 1
    assert "ask for method removal" in world.erasure.failure


def test_a_subject_still_on_the_member_side_ends_the_erasure_after_the_last_attempt(bench):
    world = ScriptedCoordinator()
    world.audit = lambda version: 0.7

    assert isinstance(bench(world).run(), Failed)

    assert len(world.attempts) == world.plan.gate.max_attempts
    assert "forget_auc" in world.erasure.failure


def test_the_targets_patch_is_capped_and_added_to_the_newest_head(bench):
    world = ScriptedCoordinator("afu_ic_rebased")
    world.target_patch = np.full(world.layout.size, 5.0, "<f4")
    made = bench(world)

    assert isinstance(made.run(), Certified)

    limit = world.plan.erasure.patch_cap_ratio * CONTRIBUTION_NORM
    kinds = [purpose.kind for _, _, purpose in world.patches]
    assert kinds == [training_pb2.PatchPurpose.PATCH] + 3 * [training_pb2.PatchPurpose.CALIBRATION]
    assert np.linalg.norm(world.patches[0][1]) == pytest.approx(limit, rel=1e-5)
    # Added, never swapped in: every delta accepted meanwhile is still there.
    rest = world.version - BEFORE - len(world.patches)
    total = world.weights[BEFORE] + sum(p for _, p, _ in world.patches) + rest * np.float32(1e-3)
    np.testing.assert_allclose(world.weights[world.version], total, atol=1e-5)
    steps = statement_of(world)["method"]["steps"]
    assert [step["outcome"] for step in steps[:2]] == ["TargetAnswered", "PatchAdded"]
    assert statement_of(world)["model"]["subtracted"] is False


def test_the_ascent_is_asked_for_with_its_parameters_and_the_snapshot(bench):
    world = ScriptedCoordinator("afu_ic_rebased")
    world.target_patch = np.full(world.layout.size, 0.01, "<f4")
    bench(world).run()

    task = next(q.erase for q in world.questions.values() if q.WhichOneof("task") == "erase")
    assert task.version == BEFORE
    assert json.loads(task.parameters_json)["steps"] == 24


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda w: setattr(w, "target_reachable", False), "cannot be asked"),
        (lambda w: setattr(w, "target_failure", "no records left"), "no records left"),
        (lambda w: None, "did not answer within"),
    ],
)
def test_a_target_that_does_not_take_part_fails_the_method_with_a_sentence(
    bench, prepare, sentence
):
    world = ScriptedCoordinator("afu_ic_rebased")
    prepare(world)

    assert isinstance(bench(world).run(), Failed)
    assert sentence in world.erasure.failure
    assert "removal" in world.erasure.failure


def test_a_patch_that_costs_too_much_accuracy_fails_the_erasure(bench):
    world = ScriptedCoordinator("afu_ic_rebased")
    world.target_patch = np.full(world.layout.size, 5.0, "<f4")
    made = bench(world)
    made.laboratory.refusal = "the patch costs too much accuracy"

    assert isinstance(made.run(), Failed)
    assert "too much accuracy" in world.erasure.failure
    assert not world.patches


def test_calibration_after_a_removal_waits_for_repair_and_adds_patches(bench):
    world = ScriptedCoordinator(calibrate=True)
    assert isinstance(bench(world).run(), Certified)

    assert len(world.patches) == 3
    assert world.patches[0][2].base_version >= BEFORE + 1 + 8
    assert world.attempts[0].accepted_since_removal < world.version - BEFORE - 1


def test_a_removal_asked_to_calibrate_without_images_goes_on_and_says_so(bench):
    world = ScriptedCoordinator(calibrate=True)
    made = bench(world)
    made.laboratory.refusal, made.laboratory.unequipped = f"no {CALIBRATION_IMAGES}", True

    assert isinstance(made.run(), Certified)
    assert not world.patches
    refused = [s for s in statement_of(world)["method"]["steps"] if s["outcome"] == "PatchRefused"]
    assert len(refused) == 3


def test_a_method_that_needs_images_is_refused_before_anything_is_changed(bench):
    world = ScriptedCoordinator("afu_ic_rebased")
    made = bench(world)
    made.laboratory.unequipped = True

    assert isinstance(made.run(), Failed)
    assert "needs calibration and audit images" in world.erasure.failure
    assert not world.erasure.HasField("removal")
    assert not world.questions
    assert not world.patches


def test_a_distilled_removal_adds_the_patch_computed_beside_the_coordinator(bench):
    world = ScriptedCoordinator("removal_distilled", calibrate=True)
    made = bench(world)

    assert isinstance(made.run(), Certified)

    [(rule, parameters, allowed_drop)] = made.laboratory.computed
    assert (rule, parameters["teacher_steps"], allowed_drop) == ("distil", 400, 0.02)
    # Whole: the coordinator caps what a site computed, and this is of kind calibration.
    _, patch, purpose = world.patches[0]
    np.testing.assert_array_equal(patch, 2.0)
    assert purpose.kind == training_pb2.PatchPurpose.CALIBRATION
    assert purpose.base_version == BEFORE + 1
    assert len(world.patches) == 1 + 3
    step = statement_of(world)["method"]["steps"][0]
    assert (step["step"], step["outcome"]) == ("ComputePatch", "PatchAdded")
    assert step["numbers"]["agreement_after"] == 0.95


def test_a_recombination_adds_each_sites_share_attributed_to_the_site(bench):
    world = ScriptedCoordinator("removal_recombined")
    made = bench(world)

    assert isinstance(made.run(), Certified)

    [(parts, parameters, allowed_drop)] = made.laboratory.recombined
    assert [part.site for part in parts] == ["sites/south"] * 4 + ["sites/east"] * 4
    np.testing.assert_array_equal(parts[5].values, np.float32(0.06))
    assert (parameters["steps"], allowed_drop) == (250, 0.02)
    assert [(p.site, p.kind) for _, _, p in world.patches] == [
        ("sites/south", training_pb2.PatchPurpose.CALIBRATION),
        ("sites/east", training_pb2.PatchPurpose.CALIBRATION),
    ]
    # Prepared for the head without the subject, and added to it with nothing between.
    np.testing.assert_array_equal(made.laboratory.recombined_heads, [world.weights[BEFORE] - 0.5])
    assert {p.base_version for _, _, p in world.patches} == {BEFORE + 1}
    # Whole: far longer than what a site's patch may be, and no share is capped.
    assert np.linalg.norm(world.patches[1][1]) > world.plan.erasure.patch_cap_ratio * 2.0
    step = statement_of(world)["method"]["steps"][0]
    assert (step["step"], step["outcome"], step["scale"]) == ("Recombine", "PatchAdded", 1.0)
    assert step["version"] == BEFORE + 1 + 2
    assert step["numbers"]["sites"] == 2
    assert step["numbers"]["loss_after"] == 0.5
    unproven = " ".join(statement_of(world)["what_is_not_proven"])
    assert "other sites' contributions" in unproven
    assert world.attempts[0].accepted_since_removal == world.attempts[0].version - BEFORE - 1 - 2


def test_a_recombination_that_costs_too_much_leaves_a_plain_removal(bench):
    world = ScriptedCoordinator("removal_recombined")
    made = bench(world)
    made.laboratory.refusal = "the recombination costs too much accuracy"

    assert isinstance(made.run(), Certified)
    assert not world.patches
    assert statement_of(world)["method"]["steps"][0]["outcome"] == "PatchRefused"
    assert "enlarge" not in " ".join(statement_of(world)["what_is_not_proven"])


def test_a_site_fenced_while_its_share_is_on_its_way_is_left_out_of_the_next_one(bench):
    world = ScriptedCoordinator("removal_recombined")
    made = bench(world)
    told = made.laboratory.recombine

    def meanwhile(*arguments, **keywords):
        world.fenced.add("sites/east")
        return told(*arguments, **keywords)

    made.laboratory.recombine = meanwhile
    assert isinstance(made.run(), Certified)
    sites = [[part.site for part in parts] for parts, _, _ in made.laboratory.recombined]
    assert sites == [["sites/south"] * 4 + ["sites/east"] * 4, ["sites/south"] * 4]
    # One share of south had arrived before, and stays: it is attributed to south.
    assert [purpose.site for _, _, purpose in world.patches] == ["sites/south"] * 2
    assert world.attempts[0].accepted_since_removal == world.attempts[0].version - BEFORE - 1 - 2


@pytest.mark.parametrize("error", [errors.PatchVoid("fenced"), errors.PayloadCorrupt("compacted")])
def test_what_could_not_be_prepared_is_recombined_after_the_removal(bench, error):
    world = ScriptedCoordinator("removal_recombined")
    world.refusals["contributions"] = [error]
    made = bench(world)
    assert isinstance(made.run(), Certified)
    np.testing.assert_array_equal(made.laboratory.recombined_heads, [world.weights[BEFORE + 1]])
    assert [purpose.site for _, _, purpose in world.patches] == ["sites/south", "sites/east"]
    assert world.calls["contributions"] == 2


def test_before_any_site_that_stays_contributed_the_removal_goes_on_alone(bench):
    world = ScriptedCoordinator("removal_recombined")
    made = bench(world)
    world.fenced = set(world.retained)
    assert isinstance(made.run(), Certified)
    assert statement_of(world)["method"]["steps"][0]["reason"].startswith("no retained site")


def test_a_distillation_that_costs_too_much_leaves_a_plain_removal(bench):
    world = ScriptedCoordinator("removal_distilled")
    made = bench(world)
    made.laboratory.refusal = "the patch of rule distil costs too much accuracy"

    assert isinstance(made.run(), Certified)
    assert not world.patches
    [step] = statement_of(world)["method"]["steps"]
    assert step["outcome"] == "PatchRefused"
    assert statement_of(world)["model"]["subtracted"] is True


def test_a_negation_is_not_held_to_any_accuracy_but_a_refusal_ends_it(bench):
    world = ScriptedCoordinator("weight_negation")
    made = bench(world)
    assert isinstance(made.run(), Certified)
    assert made.laboratory.computed == [("negate", {"tensors": []}, None)]
    assert "suppressed" in statement_of(world)["claim"]


def test_a_negation_that_is_refused_fails_the_erasure(bench):
    world = ScriptedCoordinator("weight_negation")
    made = bench(world)
    made.laboratory.refusal = "the network has no convolution"

    assert isinstance(made.run(), Failed)
    assert "no convolution" in world.erasure.failure


@pytest.mark.parametrize("method", ["afu_ic", "pga", "leave", "retrain", "fedosd", "federaser"])
def test_a_method_of_the_laboratory_fails_with_its_sentence_and_changes_nothing(bench, method):
    world = ScriptedCoordinator(method)
    assert isinstance(bench(world).run(), Failed)
    assert "ask for" in world.erasure.failure
    assert not world.patches


def test_a_later_removal_voids_the_work_and_the_method_starts_over(bench):
    world = ScriptedCoordinator("afu_ic_rebased")
    world.target_patch = np.full(world.layout.size, 0.01, "<f4")
    made = bench(world)
    made.clock.on_wait = lambda number: world.later_removal() if number == 2 else None

    assert isinstance(made.run(), Certified)

    asked = [q.erase.version for q in world.questions.values() if q.WhichOneof("task") == "erase"]
    assert len(asked) == 2
    assert asked[1] > asked[0]
    assert made.metrics.restarts._value.get() == 1
    assert world.patches[-1][2].epoch == world.epoch


def test_evidence_from_before_a_later_removal_is_gathered_again(bench):
    world = ScriptedCoordinator()
    world.refusals["record"] = [errors.PatchVoid("a later removal happened")]

    assert isinstance(bench(world).run(), Certified)
    audits = {q.request_id for q in world.questions.values() if q.WhichOneof("task") == "audit"}
    assert audits == {"e1-before-audit", "e1-gate-1-audit", "e1-gate-2-audit"}


def test_an_unreachable_coordinator_is_waited_for(bench):
    world = ScriptedCoordinator()
    for call in ("remove", "ask", "record", "conclude", "renew"):
        world.refusals[call] = [errors.StorageUnavailable("away") for _ in range(3)]

    assert isinstance(bench(world).run(), Certified)
    assert len(world.attempts) == 1


def test_a_replay_that_differs_fails_the_erasure_and_calls_a_human(bench):
    world = ScriptedCoordinator()
    world.refusals["record"] = [errors.LedgerBroken("the replay differs at entry 12", entry=12)]

    assert isinstance(bench(world).run(), Failed)
    assert "the replay differs" in world.erasure.failure


def test_a_strategy_that_is_not_linear_fails_with_the_coordinators_sentence(bench):
    world = ScriptedCoordinator()
    world.refusals["remove"] = [errors.ContributionNotSubtractable("the strategy is not linear")]

    assert isinstance(bench(world).run(), Failed)
    assert "not linear" in world.erasure.failure


def test_a_lost_claim_drops_the_job(bench):
    world = ScriptedCoordinator()
    made = bench(world)
    made.clock.on_wait = lambda number: setattr(world, "token", world.token + 1)

    with pytest.raises(errors.ClaimLost):
        made.run()
    assert not world.attempts


def test_the_version_from_before_is_asked_about_at_the_removal_and_only_once(bench):
    world = ScriptedCoordinator()
    assert isinstance(bench(world).run(), Certified)

    asked = {name: list(_versions(q)) for name, q in world.questions.items()}
    assert asked["e1-before-evaluate"] == asked["e1-before-audit"] == [BEFORE]
    assert BEFORE not in asked["e1-gate-1-evaluate"] + asked["e1-gate-1-audit"]


def test_a_subject_silent_at_the_removal_is_asked_for_both_versions_at_the_gate(bench):
    world = ScriptedCoordinator()
    world.audit = lambda version: None
    made = bench(world)

    def the_agent_returns(number):
        world.audit = lambda version: 0.7 if version <= BEFORE else 0.5

    made.clock.deltas = 4
    made.clock.on_wait = lambda number: the_agent_returns(number) if number == 3 else None
    assert isinstance(made.run(), Certified)
    asked = [list(_versions(q)) for name, q in world.questions.items() if "gate" in name]
    assert BEFORE in asked[1]


def test_a_candidate_whose_file_is_gone_is_replaced_by_another(bench):
    world = ScriptedCoordinator()
    made = bench(world)

    def drop_the_file(number):
        if number == 2:
            world.refusals["ask"] = [errors.UnknownModelVersion("no file")]

    made.clock.on_wait = drop_the_file
    assert isinstance(made.run(), Certified)
    assert len(world.attempts) == 1
    assert world.calls["record"] == 1


def test_a_straggler_holds_the_gate_up_for_its_grace_and_no_longer(bench):
    world = ScriptedCoordinator()
    world.evaluate = lambda site, version: 0.9 if site != "sites/east" else None
    made = bench(world)

    assert isinstance(made.run(), Certified)

    grace_s = world.plan.gate.straggler_grace_seconds
    assert grace_s <= made.clock.elapsed_s < grace_s + 10 < world.plan.gate.answer_timeout_seconds
    utility = next(test for test in world.attempts[0].tests if test.name == "utility")
    assert "not waited for: sites/east" in utility.detail
    assert json.loads(utility.numbers_json)["late_sites"] == "sites/east"


def test_an_audit_that_is_late_is_waited_for_beyond_the_grace(bench):
    world = ScriptedCoordinator()
    world.evaluate = lambda site, version: 0.9 if site != "sites/east" else None
    heard = world.audit
    world.audit = lambda version: None
    made = bench(world)
    made.clock.on_wait = lambda number: setattr(
        world, "audit", heard if number > 30 else world.audit
    )

    assert isinstance(made.run(), Certified)
    assert made.clock.elapsed_s > 30
    assert len(world.attempts) == 1
    assert statement_of(world)["claim"] == "influence removed and statistically verified"


def test_a_straggler_that_answers_within_its_grace_counts(bench):
    world = ScriptedCoordinator()
    heard = world.evaluate
    world.evaluate = lambda site, version: heard(site, version) if site != "sites/east" else None
    made = bench(world)
    made.clock.on_wait = lambda number: setattr(
        world, "evaluate", heard if number > 4 else world.evaluate
    )

    assert isinstance(made.run(), Certified)
    utility = next(test for test in world.attempts[0].tests if test.name == "utility")
    assert json.loads(utility.numbers_json)["sites"] == 2


def _versions(question):
    return getattr(question, question.WhichOneof("task")).versions
