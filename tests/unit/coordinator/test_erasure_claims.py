"""Leases and fencing tokens of calibrators, and the questions they ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from erasure_bench import Bench, a_bench

from coordinator.domain.erasure import ErasureState
from coordinator.domain.task import Task, TaskKind
from coordinator.services.ask_sites import Question, ask_sites, list_answers
from coordinator.services.cancel_erasure import cancel_erasure
from coordinator.services.claim_erasure import claim_erasure, release_claim, renew_claim
from letheon.errors import (
    ClaimHeld,
    ClaimLost,
    ErasureConcluded,
    MalformedRequest,
    PatchVoid,
    Refused,
    RequestAltered,
    UnknownErasure,
    UnknownModelVersion,
)
from letheon.servicekit.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def bench(tmp_path: Path, clock: FakeClock, chosen_database: str | None) -> Iterator[Bench]:
    made = a_bench(tmp_path, database_url=chosen_database, clock=clock)
    yield made
    made.close()


def evaluate(*versions: int) -> Question:
    return Question(TaskKind.EVALUATE, versions, {"versions": list(versions)})


def audit(*versions: int) -> Question:
    return Question(TaskKind.AUDIT, versions, {"versions": list(versions), "seed": 1})


def ask(bench: Bench, job: tuple[str, int], question: Question, name: str = "q") -> list[Task]:
    return ask_sites(*job, name, question, bench.context)


def test_a_released_claim_can_be_taken_at_once_and_its_token_is_then_refused(
    bench: Bench,
) -> None:
    erasure = bench.request("south").id
    first = claim_erasure(erasure, "c1", bench.context)[1]
    renew_claim(erasure, first.token, bench.context, progress_json='{"stage":"gate"}')
    for _ in range(2):  # idempotent
        release_claim(erasure, first.token, bench.context)
    second = claim_erasure(erasure, "c2", bench.context)[1]
    assert second.token > first.token
    assert second.progress_json == '{"stage":"gate"}'
    with pytest.raises(ClaimLost):
        release_claim(erasure, first.token, bench.context)
    with pytest.raises(UnknownErasure):
        release_claim("never-filed", 1, bench.context)


def test_the_token_grows_with_every_claim(bench: Bench, clock: FakeClock) -> None:
    erasure = bench.request("south").id
    first = claim_erasure(erasure, "c1", bench.context)[1]
    again = claim_erasure(erasure, "c1", bench.context)[1]
    clock.advance(31)
    other = claim_erasure(erasure, "c2", bench.context)[1]
    assert first.token < again.token < other.token
    assert bench.erasure(erasure).state is ErasureState.CLAIMED


def test_a_claim_is_held_while_its_lease_lasts(bench: Bench, clock: FakeClock) -> None:
    erasure = bench.request("south").id
    claim_erasure(erasure, "c1", bench.context)
    clock.advance(10)
    with pytest.raises(ClaimHeld) as raised:
        claim_erasure(erasure, "c2", bench.context)
    assert raised.value.retry_after_s == pytest.approx(20)


def test_renewing_keeps_the_lease_and_the_progress(bench: Bench, clock: FakeClock) -> None:
    erasure = bench.request("south").id
    _, claim = claim_erasure(erasure, "c1", bench.context)
    for _ in range(3):
        clock.advance(25)
        renew_claim(erasure, claim.token, bench.context, progress_json='{"step":1}')
    with pytest.raises(ClaimHeld):
        claim_erasure(erasure, "c2", bench.context)
    clock.advance(31)
    assert claim_erasure(erasure, "c2", bench.context)[1].progress_json == '{"step":1}'


def test_a_holder_that_was_replaced_is_told_so(bench: Bench, clock: FakeClock) -> None:
    erasure = bench.request("south").id
    _, old = claim_erasure(erasure, "c1", bench.context)
    clock.advance(31)
    claim_erasure(erasure, "c2", bench.context)
    with pytest.raises(ClaimLost):
        renew_claim(erasure, old.token, bench.context)
    with pytest.raises(ClaimLost):
        ask(bench, (erasure, old.token), evaluate(0))


def test_a_holder_nobody_replaced_goes_on_after_its_lease(bench: Bench, clock: FakeClock) -> None:
    erasure = bench.request("south").id
    _, claim = claim_erasure(erasure, "c1", bench.context)
    clock.advance(1000)
    assert renew_claim(erasure, claim.token, bench.context)[1].token == claim.token


def test_progress_has_a_limit(bench: Bench) -> None:
    erasure = bench.request("south").id
    _, claim = claim_erasure(erasure, "c1", bench.context)
    with pytest.raises(MalformedRequest):
        renew_claim(erasure, claim.token, bench.context, progress_json="x" * (256 * 1024 + 1))


def test_a_calibrator_tells_only_the_states_that_are_its_own(bench: Bench) -> None:
    bench.train("south")
    erasure, token = bench.removed("south")
    for state in (ErasureState.CALIBRATING, ErasureState.VERIFYING):
        assert renew_claim(erasure, token, bench.context, state=state)[0].state is state
    with pytest.raises(MalformedRequest):
        renew_claim(erasure, token, bench.context, state=ErasureState.CERTIFIED)


def test_no_state_is_skipped(bench: Bench) -> None:
    erasure = bench.request("south").id
    _, claim = claim_erasure(erasure, "c1", bench.context)
    with pytest.raises(Refused):
        renew_claim(erasure, claim.token, bench.context, state=ErasureState.VERIFYING)


def test_what_is_concluded_or_unknown_cannot_be_claimed(bench: Bench) -> None:
    erasure = bench.request("south").id
    cancel_erasure(erasure, bench.context)
    with pytest.raises(ErasureConcluded):
        claim_erasure(erasure, "c1", bench.context)
    with pytest.raises(UnknownErasure):
        claim_erasure("nothing", "c1", bench.context)


def test_evaluate_goes_to_every_active_site_once(bench: Bench) -> None:
    bench.train("south", "north")
    job = bench.removed("south")
    asked = ask(bench, job, evaluate(2, 3))
    assert {task.site for task in asked} == {"north", "west"}
    assert ask(bench, job, evaluate(2, 3)) == asked
    assert list_answers(*job, "q", bench.context) == asked


def test_one_request_id_is_one_question(bench: Bench) -> None:
    bench.train("south")
    job = bench.removed("south")
    ask(bench, job, evaluate(2))
    with pytest.raises(RequestAltered):
        ask(bench, job, audit(1, 2))


def test_only_a_subject_seen_lately_is_asked(bench: Bench, clock: FakeClock) -> None:
    bench.train("south")
    job = bench.removed("south")
    assert [task.site for task in ask(bench, job, audit(1, 2), "q1")] == ["south"]
    clock.advance(301)
    assert ask(bench, job, audit(1, 2), "q2") == []
    bench.context.presence.heard("south", clock.now())
    assert len(ask(bench, job, audit(1, 2), "q3")) == 1


def test_the_versions_asked_about_are_pinned(bench: Bench) -> None:
    bench.train("south")
    job = bench.removed("south")
    bench.train("north", seed=8)
    ask(bench, job, evaluate(bench.position.version))
    with bench.context.store.read() as uow:
        assert f"erasure:{job[0]}" in uow.models.pins()[bench.position.version]


def test_a_version_nobody_wrote_out_must_be_chosen_again(bench: Bench) -> None:
    bench.train("south")
    job = bench.removed("south")
    bench.train("north", "west", seed=8)
    with pytest.raises(PatchVoid):
        ask(bench, job, evaluate(bench.position.version - 1))
    with pytest.raises(UnknownModelVersion):
        ask(bench, job, evaluate(bench.position.version + 1))
