"""The serving version follows the head when the sites find it as useful."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from builders import NOON, a_core, a_plan, a_vector, an_erasure, enrol, take_delta

from coordinator.core import Core
from coordinator.core_wiring import new_id
from coordinator.domain.erasure import ErasureState, Removal
from coordinator.domain.site import fence
from coordinator.domain.task import AnswerKind, Task
from coordinator.erasure_wiring import amend
from coordinator.services.advance_serving import AdvanceServing
from coordinator.services.submit_answer import SubmitAnswer
from letheon.errors import MalformedRequest, UnknownTask
from letheon.federation.ledger import EntryKind
from letheon.servicekit.clock import FakeClock

SITES = ("east", "north", "south", "west")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON)


@pytest.fixture
def core(tmp_path: Path, clock: FakeClock) -> Core:
    plan = a_plan(serving={"advance_every": 3, "utility_margin": 0.05})
    built = a_core(tmp_path, plan=plan, clock=clock)
    enrol(built, *SITES)
    return built


@pytest.fixture
def advance(core: Core) -> AdvanceServing:
    return AdvanceServing(
        store=core.store,
        live=core.live,
        files=core.files,
        clock=core.clock,
        new_id=new_id,
        every=3,
        margin=0.05,
        answer_timeout=timedelta(seconds=60),
    )


def serving(core: Core) -> int | None:
    with core.store.read() as uow:
        return uow.federation.get().serving_version


def waiting(core: Core, site: str) -> list[Task]:
    with core.store.read() as uow:
        return uow.tasks.waiting(site)


def train(core: Core, deltas: int) -> None:
    for number in range(deltas):
        take_delta(core, SITES[number % 4], a_vector(core.live.position.version))


def answer(core: Core, site: str, accuracy: float, served_accuracy: float = 0.8) -> None:
    task = waiting(core, site)[0]
    versions = task.payload["versions"]
    assert isinstance(versions, list)
    utilities = [
        {"version": v, "records": 10, "accuracy": a}
        for v, a in zip(versions, (accuracy, served_accuracy), strict=True)
    ]
    submit = SubmitAnswer(core.store, core.clock, lambda: None, amend(core))
    submit(site, task.id, kind=AnswerKind.EVALUATE, answer={"utilities": utilities})


def test_a_useful_head_is_served_once_half_of_the_sites_say_so(
    core: Core, advance: AdvanceServing
) -> None:
    train(core, 2)
    advance()
    assert waiting(core, "north") == []
    train(core, 1)
    advance()
    assert waiting(core, "north")[0].payload == {"versions": [3, 0]}
    train(core, 1)
    answer(core, "north", 0.79)
    advance()
    assert serving(core) == 0
    answer(core, "south", 0.79)
    advance()
    assert serving(core) == 3
    assert waiting(core, "east") == []  # withdrawn: nobody needs it any more
    with core.store.read() as uow:
        newest = uow.entries.newest()
        assert newest is not None
        assert newest.kind is EntryKind.PROMOTION
        assert dict(newest.details) == {"version": 3, "erasure": None}
        assert uow.models.pins() == {3: {"serving"}}
    assert list(core.verify_ledger())[-1].holds  # type: ignore[union-attr]


def test_a_worse_head_is_not_served_and_tried_again_later(
    core: Core, advance: AdvanceServing
) -> None:
    train(core, 3)
    advance()
    for site in ("north", "south"):
        answer(core, site, 0.6)
    advance()
    assert serving(core) == 0
    advance()
    assert waiting(core, "north") == []
    train(core, 3)
    advance()
    assert waiting(core, "north")[0].payload == {"versions": [6, 0]}


def test_a_candidate_without_answers_is_dropped_after_a_while(
    core: Core, advance: AdvanceServing, clock: FakeClock
) -> None:
    train(core, 3)
    advance()
    clock.advance(61)
    advance()
    assert waiting(core, "north") == []
    with core.store.read() as uow:
        assert uow.federation.get().candidate_version is None
    assert serving(core) == 0


def test_nothing_is_proposed_or_promoted_while_an_erasure_is_open(
    core: Core, advance: AdvanceServing
) -> None:
    train(core, 3)
    advance()
    for site in SITES:
        answer(core, site, 0.9)
    with core.store.write() as uow:
        uow.erasures.add(an_erasure(site="west"))
        uow.commit()
    advance()
    assert serving(core) == 0


def with_a_failed_erasure(core: Core, *, subtracted: bool) -> None:
    """West was fenced and its erasure failed."""
    removal = Removal(
        epoch=1,
        version_before=3,
        version_after=3,
        sha256_before="",
        sha256_after="",
        contribution_norm=1.0,
        head_norm_before=1.0,
        removed_entries=1,
        voided_entries=0,
        subtracted=subtracted,
        entry=3,
    )
    with core.store.write() as uow:
        failed = an_erasure(site="west", state=ErasureState.FAILED, removal=removal)
        uow.erasures.add(failed)
        uow.sites.save(fence(uow.sites.get("west"), failed.id))
        uow.commit()


@pytest.mark.parametrize("subtracted", [False, True])
def test_after_a_failed_erasure_a_head_that_holds_its_subject_is_not_proposed(
    core: Core, advance: AdvanceServing, subtracted: bool
) -> None:
    train(core, 4)
    with_a_failed_erasure(core, subtracted=subtracted)
    advance()
    assert bool(waiting(core, "north")) is subtracted


def test_a_candidate_that_holds_the_subject_of_a_failed_erasure_is_not_promoted(
    core: Core, advance: AdvanceServing
) -> None:
    train(core, 4)
    advance()
    for site in SITES:
        answer(core, site, 0.9)
    with_a_failed_erasure(core, subtracted=False)
    advance()
    assert serving(core) == 0


def test_a_failed_erasure_of_a_site_that_never_contributed_withholds_nothing(
    core: Core, advance: AdvanceServing
) -> None:
    train(core, 3)  # none of west
    with_a_failed_erasure(core, subtracted=False)
    advance()
    assert waiting(core, "north")


def test_the_first_answer_counts_and_a_withdrawn_task_is_unknown(
    core: Core, advance: AdvanceServing
) -> None:
    train(core, 3)
    advance()
    task = waiting(core, "north")[0]
    submit = SubmitAnswer(core.store, core.clock, lambda: None, amend(core))
    first: dict[str, object] = {"utilities": []}
    submit("north", task.id, kind=AnswerKind.EVALUATE, answer=first)
    submit("north", task.id, kind=AnswerKind.FAILURE, answer={"reason": "too late"})
    with core.store.read() as uow:
        assert uow.tasks.get(task.id).answer == first
    with pytest.raises(UnknownTask):
        submit("south", task.id, kind=AnswerKind.EVALUATE, answer=first)
    other = waiting(core, "south")[0]
    with pytest.raises(MalformedRequest):
        submit("south", other.id, kind=AnswerKind.AUDIT, answer={"statistics": []})
    with core.store.write() as uow:
        uow.tasks.save(replace(other, withdrawn_at=NOON))
        uow.commit()
    with pytest.raises(UnknownTask):
        submit("south", other.id, kind=AnswerKind.EVALUATE, answer=first)
