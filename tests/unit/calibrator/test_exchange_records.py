"""How the calibrator takes records out: exchange, or readmission with the reason why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_plan, a_vector

from calibrator.domain.case import Erasure, ModelRef, Ticket
from calibrator.domain.progress import Progress, read_progress
from calibrator.ports import Answer, CannotAnswer, ExcludeAnswered, Failed, Rejected, Trial
from calibrator.services.exchange_records import PATIENCE, exchange_fact, exchange_records
from calibrator.services.job import Ended, Job, Moved, Waiting, Workshop
from letheon.errors import (
    ExchangeRunning,
    MalformedUpdate,
    ModelDestroyed,
    PatchVoid,
    SiteFenced,
    UpdateAltered,
)
from letheon.servicekit.clock import FakeClock
from letheon.unlearning.method import TargetAnswered

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PATCH = a_vector(3, scale=0.01)
ANSWERED = TargetAnswered("u-1", 0.1, 3, 0.0, 0.0)


class Centre:
    """What a coordinator answers; a test changes it."""

    def __init__(self) -> None:
        self.excluded: ExcludeAnswered | CannotAnswer | None = ExcludeAnswered(True)
        self.recomputed: TargetAnswered | CannotAnswer | None = ANSWERED
        self.refusals: dict[str, Exception] = {}
        self.asked: list[str] = []
        self.pushed: list[Any] = []
        self.head = ModelRef(9, 0, "s")

    def answers(self, ticket: Ticket, request_id: str) -> tuple[Answer, ...]:
        outcome = self.excluded if request_id.endswith("-exclude") else self.recomputed
        return (Answer("sites/south", outcome),)

    def pin_head(self) -> ModelRef:
        return self.head

    def ask_erase(self, ticket: Ticket, request_id: str, **more: Any) -> None:
        self._enter("ask")
        self.asked.append(request_id)

    def download_answer(self, ticket: Ticket, update_id: str, directory: Path) -> Any:
        return np.array(PATCH)

    def download_head(self, directory: Path) -> tuple[ModelRef, Any]:
        return self.head, a_vector(1)

    def merged_version(self, update_id: str) -> None:
        return None

    def push(self, ticket: Ticket, patch: Any) -> int:
        self._enter("push")
        self.pushed.append(patch)
        return 10

    def _enter(self, call: str) -> None:
        if call in self.refusals:
            raise self.refusals.pop(call)


class World:
    def __init__(self, folder: Path) -> None:
        self.centre, self.clock = Centre(), FakeClock(NOON)
        erasure = Erasure(
            name="erasures/e1", request_id="r1", site="sites/south", legal_basis="B", level="L1",
            method="patient_swap", calibrate=False, requested_at=NOON, fenced_at=NOON,
            deadline=NOON + timedelta(days=30), promoted_at=None, records="f" * 64,
        )  # fmt: skip
        progress = Progress(stage_since=NOON, salt="00")
        self.job = Job(Ticket("erasures/e1", 1), erasure, progress)
        self.workshop = Workshop(
            self.centre, a_plan(), lambda name: None, lambda: self.laboratory, False,  # type: ignore[arg-type, return-value]
            self.clock, folder, None,  # type: ignore[arg-type]
        )  # fmt: skip
        self.laboratory: Any = None

    def step(self) -> Moved | Waiting | Ended | None:
        outcome = exchange_records(self.job, self.workshop)
        if isinstance(outcome, Moved):
            # As stored at the coordinator, and read again by whoever goes on.
            stored = read_progress(outcome.progress.model_dump_json())
            assert stored is not None
            self.job = replace(self.job, progress=stored)
        return outcome

    def run(self) -> Waiting | Ended | None:
        for _ in range(20):
            outcome = self.step()
            if not isinstance(outcome, Moved):
                return outcome
        raise AssertionError("it does not come to an end")

    @property
    def readmitted_because(self) -> str:
        assert self.job.progress.exchange is not None
        return self.job.progress.exchange.readmitted_because


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_recomputed_patch_is_added_whole_and_attributed_to_its_site(world: World) -> None:
    assert world.run() is None
    assert world.readmitted_because == ""
    (pushed,) = world.centre.pushed
    assert (pushed.site, pushed.kind, pushed.epoch, pushed.base_version) == (
        "sites/south", "patch", 0, 9,
    )  # fmt: skip
    fact = exchange_fact(world.job.progress.exchange, 10, 3)  # type: ignore[arg-type]
    assert (fact["step"], fact["deltas"], fact["version"]) == ("Exchange", 3, 10)
    assert fact["norm"] == pytest.approx(float(np.linalg.norm(PATCH)), rel=1e-5)


def test_records_the_site_does_not_know_end_it_with_a_sentence(world: World) -> None:
    world.centre.excluded = ExcludeAnswered(False)
    ended = world.run()
    assert isinstance(ended, Ended)
    assert isinstance(ended.end, Failed)
    assert "holds no records under the reference" in ended.end.reason


def test_it_waits_for_the_agent_a_day_and_then_readmits(world: World) -> None:
    world.centre.excluded = None
    assert isinstance(world.run(), Waiting)
    assert world.centre.asked == []
    world.clock.advance(PATIENCE.total_seconds())
    assert world.run() is None
    assert "did not confirm the exclusion within 1 day" in world.readmitted_because


def test_an_answer_that_does_not_come_ends_in_readmission(world: World) -> None:
    world.centre.recomputed = None
    assert isinstance(world.run(), Waiting)
    world.clock.advance(PATIENCE.total_seconds())
    assert world.run() is None
    assert "did not answer within 1 day" in world.readmitted_because


@pytest.mark.parametrize(
    ("call", "error", "why"),
    [
        ("ask", ModelDestroyed("base models/1 was destroyed by erasures/e0"), "was destroyed"),
        ("push", MalformedUpdate("the exchange is too long", rule="cap"), "too long"),
    ],
)
def test_a_base_that_is_gone_or_a_patch_over_the_cap_ends_in_readmission(
    world: World, call: str, error: Exception, why: str
) -> None:
    world.centre.refusals[call] = error
    assert world.run() is None
    assert why in world.readmitted_because
    assert world.centre.pushed == []
    fact = exchange_fact(world.job.progress.exchange, 10, 3)  # type: ignore[arg-type]
    assert fact["step"] == "Readmission"
    assert why in str(fact["why_not_exchanged"])


def test_an_agent_that_cannot_is_believed_and_the_site_readmitted(world: World) -> None:
    world.centre.recomputed = CannotAnswer("REFUSED: its log is lost")
    assert world.run() is None
    assert world.readmitted_because == "its agent says: REFUSED: its log is lost"


def test_a_patch_that_costs_accuracy_is_not_scaled_but_refused(world: World) -> None:
    class Laboratory:
        def try_patch(self, head: Any, patch: Any, scales: Any, allowed_drop: float) -> Rejected:
            assert scales == (1.0,)
            return Rejected("accuracy drops by 0.4")

    world.laboratory = Laboratory()
    world.workshop = replace(world.workshop, has_images=True)
    assert world.run() is None
    assert "drops by 0.4" in world.readmitted_because


def test_with_images_the_certificate_has_what_the_patch_did_to_accuracy(world: World) -> None:
    class Laboratory:
        def try_patch(self, head: Any, patch: Any, scales: Any, allowed_drop: float) -> Trial:
            return Trial(patch, 1.0, 0.91, 0.9, {})

    world.laboratory = Laboratory()
    world.workshop = replace(world.workshop, has_images=True)
    assert world.run() is None
    fact = exchange_fact(world.job.progress.exchange, 10, 3)  # type: ignore[arg-type]
    assert fact["numbers"] == {"accuracy_before": 0.91, "accuracy_after": 0.9}


@pytest.mark.parametrize("call", ["ask", "push"])
def test_after_a_later_removal_the_site_is_asked_again_under_another_name(
    world: World, call: str
) -> None:
    world.centre.refusals[call] = PatchVoid("a later removal happened")
    assert world.run() is None
    assert world.readmitted_because == ""
    assert {name.rpartition("-")[2] for name in world.centre.asked} >= {"1"}
    assert len(world.centre.pushed) == 1


def test_a_lost_payload_is_sent_anew_under_another_id(world: World) -> None:
    world.centre.refusals["push"] = UpdateAltered("used for other bytes")
    assert world.run() is None
    assert world.job.progress.exchange.tries == 1  # type: ignore[union-attr]
    assert len(world.centre.pushed) == 1


@pytest.mark.parametrize("error", [SiteFenced("named as a whole"), ExchangeRunning("first")])
def test_a_site_that_is_to_go_or_is_busy_is_not_readmitted(world: World, error: Exception) -> None:
    world.centre.refusals["ask"] = error
    with pytest.raises(type(error)):
        world.run()
    assert world.readmitted_because == ""
