import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrator.domain.case import ModelRef, Removal, derived_seed, derived_uuid
from calibrator.domain.progress import (
    Asked,
    Candidate,
    GateProgress,
    Judged,
    MethodProgress,
    PendingPatch,
    Progress,
    Stage,
    read_progress,
)
from letheon.errors import MalformedRequest
from letheon.unlearning.gate import Judgement, Test, Verdict

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MODEL = ModelRef(50, 2, "ab" * 32)
REMOVAL = Removal(2, 40, 41, "a", "b", 2.0, 9.0, 7, 1, True)


def a_progress(**fields) -> Progress:
    asked = Asked(request_id="e1-gate-1-evaluate", at=NOW)
    test = Test("forget_auc", Verdict.PASS, True, "numbers", {"auc": 0.5, "over_forgotten": False})
    judgement = Judgement(Verdict.PASS, (test,), "fine")
    base = {
        "stage": Stage.GATE,
        "stage_since": NOW,
        "salt": "00ff",
        "removal": REMOVAL,
        "own_patches": 2,
        "method": MethodProgress(
            snapshot=MODEL,
            state={"done": 1},
            pending=PendingPatch(
                update_id="u", sha256="c", epoch=2, base_version=41, scale=0.5, norm=0.3,
                numbers={"accuracy_before": 0.9},
            ),
        ),
        "steps": ({"step": "AskTarget", "outcome": "TargetAnswered"},),
        "gate": GateProgress(
            before={"sites/south": 0.9},
            candidate=Candidate(
                model=MODEL, accepted=7, evaluated=(40, 50), audited=(50,), evaluate=asked,
                audit=asked,
            ),
            judged=Judged(number=1, model=MODEL, accepted=7, at=NOW, judgement=judgement),
        ),
    }  # fmt: skip
    return Progress(**{**base, **fields})


def test_everything_survives_the_coordinator():
    progress = a_progress()
    again = read_progress(progress.model_dump_json())
    assert again == progress
    assert again.gate.judged.judgement.statistically_verified


def test_an_erasure_without_progress_begins_anew():
    assert read_progress("") is None


@pytest.mark.parametrize("text", ["{}", "nonsense", '{"stage": "remove"}'])
def test_progress_of_another_schema_is_refused(text):
    with pytest.raises(MalformedRequest):
        read_progress(text)
    newer = a_progress(schema_version=2).model_dump_json()
    with pytest.raises(MalformedRequest):
        read_progress(newer)


def test_the_calibrators_own_patches_are_no_retained_deltas():
    assert a_progress().accepted_since_removal(50) == 50 - 41 - 2
    assert a_progress().accepted_since_removal(41) == 0


def test_starting_over_keeps_the_removal_and_drops_void_work():
    again = a_progress().restarted(NOW)
    assert again.stage is Stage.METHOD
    assert again.removal == REMOVAL
    assert again.method is None
    assert again.gate.candidate is None
    assert again.gate.judged is None
    assert again.gate.before == {"sites/south": 0.9}
    assert again.restarts == 1


@given(st.text(min_size=1), st.text(), st.text())
def test_a_step_has_the_same_name_for_whoever_carries_it_out(erasure, one, other):
    assert derived_uuid(erasure, one) == derived_uuid(erasure, one)
    assert (derived_uuid(erasure, one) == derived_uuid(erasure, other)) == (one == other)
    uuid.UUID(derived_uuid(erasure, one))
    assert 0 <= derived_seed(erasure, one) < 2**31


def test_the_progress_of_a_large_federation_fits_the_coordinators_limit():
    before = {f"sites/hospital-with-a-long-name-{index}": 0.123456789 for index in range(1000)}
    progress = a_progress(gate=GateProgress(before=before))
    assert len(progress.model_dump_json()) < 256 * 1024
