"""Filing and withdrawing a request."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from builders import a_plan, a_vector, an_erasure
from erasure_bench import Bench, a_bench

from coordinator.domain.erasure import ErasureState, Level
from coordinator.domain.site import SiteState
from coordinator.services.advance_serving import add_promotion
from coordinator.services.cancel_erasure import cancel_erasure
from coordinator.services.claim_erasure import claim_erasure
from coordinator.services.conclude_erasure import Failed, conclude_erasure
from coordinator.services.request_erasure import file_again
from letheon.errors import (
    ErasureAlreadyRequested,
    ErasureNotCancellable,
    LevelRefused,
    MalformedRequest,
    MethodRefused,
    RequestAltered,
    SiteFenced,
    UnknownSite,
)
from letheon.federation.ledger import EntryKind
from letheon.servicekit.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def bench(tmp_path: Path, clock: FakeClock, chosen_database: str | None) -> Iterator[Bench]:
    made = a_bench(tmp_path, database_url=chosen_database, clock=clock)
    yield made
    made.close()


def test_a_request_fences_its_subject_and_waits_in_the_outbox(bench: Bench) -> None:
    erasure = bench.request("south")
    assert erasure.state is ErasureState.RECEIVED
    assert bench.site("south").state is SiteState.FENCED
    assert bench.site("north").state is SiteState.ACTIVE
    with bench.context.store.read() as uow:
        assert [row.erasure for row in uow.outbox.due()] == [erasure.id]


def test_the_deadline_is_that_of_the_plan_unless_one_is_named(bench: Bench) -> None:
    first = bench.request("south")
    second = bench.request("north", "r2", deadline=timedelta(hours=2))
    assert first.deadline - first.requested_at == timedelta(days=30)
    assert second.deadline - second.requested_at == timedelta(hours=2)


def test_repeating_a_request_gives_the_same_erasure(bench: Bench) -> None:
    assert bench.request("south").id == bench.request("south").id
    with bench.context.store.read() as uow:
        assert len(uow.outbox.due()) == 1


def test_a_request_id_names_one_subject(bench: Bench) -> None:
    bench.request("south")
    with pytest.raises(RequestAltered):
        bench.request("north")


def test_a_site_has_one_open_erasure(bench: Bench) -> None:
    first = bench.request("south")
    with pytest.raises(ErasureAlreadyRequested) as raised:
        bench.request("south", "r2")
    assert raised.value.facts["erasure"] == first.id


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("legal_basis", {"legal_basis": ""}),
        ("legal_basis", {"legal_basis": "because she asked"}),
        ("deadline", {"deadline": timedelta(0)}),
        ("deadline", {"deadline": timedelta(days=-1)}),
        ("requester", {"requester": "x" * 201}),
    ],
)
def test_a_malformed_request_names_its_field(bench: Bench, field: str, change: dict) -> None:
    with pytest.raises(MalformedRequest) as raised:
        bench.request("south", **change)
    assert raised.value.facts["field"] == field
    assert bench.site("south").state is SiteState.ACTIVE


def test_a_request_without_an_id_is_refused(bench: Bench) -> None:
    with pytest.raises(MalformedRequest) as raised:
        bench.request("south", " ")
    assert raised.value.facts["field"] == "request_id"


def test_an_unknown_subject_is_refused(bench: Bench) -> None:
    with pytest.raises(UnknownSite):
        bench.request("nowhere")


@pytest.mark.parametrize("level", [Level.L2, Level.L3])
def test_levels_that_are_not_offered_yet_are_refused_with_a_sentence(
    bench: Bench, level: Level
) -> None:
    with pytest.raises(LevelRefused, match="not offered yet"):
        bench.request("south", level=level)


def test_a_level_the_method_cannot_give_names_what_can_be_had(bench: Bench) -> None:
    with pytest.raises(LevelRefused, match="levels to be had: L1"):
        bench.request("south", level=Level.L0)


def test_a_method_that_overwrites_the_head_is_refused_with_its_reason(bench: Bench) -> None:
    with pytest.raises(MethodRefused, match="overwrites the head"):
        bench.request("south", method="afu_ic")


def test_an_unknown_method_names_those_there_are(bench: Bench) -> None:
    with pytest.raises(MethodRefused, match="removal"):
        bench.request("south", method="amnesia")


def test_waiting_deltas_of_the_subject_are_voided_by_a_row(
    tmp_path: Path, clock: FakeClock
) -> None:
    plan = a_plan(strategy={"plugin": "fedbuff", "arguments": {"buffer_size": 4}})
    bench = a_bench(tmp_path, plan=plan, clock=clock)
    bench.train("south", "north", "south")
    bench.request("south")
    newest = bench.rows()[-1]
    assert (newest.kind, newest.site) == (EntryKind.VOID, "south")
    assert newest.details["entries"] == [1, 3]
    bench.train("north", "west", "north", seed=9)
    flush = bench.rows()[-1]
    assert flush.kind is EntryKind.FLUSH
    assert [number for number, _ in flush.details["merged"]] == [2, 5, 6, 7]
    assert bench.site("south").first_version is None
    assert bench.ledger_holds()
    bench.close()


def test_cancelling_lifts_the_fence_and_may_be_repeated(bench: Bench) -> None:
    erasure = bench.request("south")
    assert cancel_erasure(erasure.id, bench.context).state is ErasureState.CANCELLED
    assert cancel_erasure(erasure.id, bench.context).state is ErasureState.CANCELLED
    assert bench.site("south").state is SiteState.ACTIVE
    bench.train("south")
    assert bench.request("south", "r2").state is ErasureState.RECEIVED


def test_after_the_removal_nothing_can_be_cancelled(bench: Bench) -> None:
    bench.train("south")
    erasure, _ = bench.removed("south")
    with pytest.raises(ErasureNotCancellable):
        cancel_erasure(erasure, bench.context)


def test_after_a_failure_the_fence_stays_and_a_new_request_may_be_filed(bench: Bench) -> None:
    erasure = bench.request("south")
    _, claim = claim_erasure(erasure.id, "c1", bench.context)
    conclude_erasure(erasure.id, claim.token, Failed("no method was left"), bench.context)
    with pytest.raises(SiteFenced):
        bench.train("south")
    assert bench.request("south", "r2").id != erasure.id


def test_a_delta_on_its_way_when_the_fence_goes_up_is_refused(bench: Bench) -> None:
    """Its header was accepted before; its last byte comes after."""
    began, go_on = threading.Event(), threading.Event()
    delta = a_vector(5)
    outcome: list[Exception] = []

    def chunks(offset: int) -> Iterator[bytes]:
        began.set()
        assert go_on.wait(60)
        yield delta.tobytes()[offset:]

    def send() -> None:
        try:
            bench.push("south", delta, chunks=chunks)
        except SiteFenced as error:
            outcome.append(error)

    sending = threading.Thread(target=send)
    sending.start()
    assert began.wait(60)
    bench.request("south")
    go_on.set()
    sending.join(10)
    assert len(outcome) == 1
    assert bench.position.version == 0
    assert not [row for row in bench.rows() if row.site == "south"]


def test_no_row_of_the_subject_follows_its_acknowledgement_under_load(bench: Bench) -> None:
    stop = threading.Event()

    def keep_sending(site: str, seed: int) -> None:
        while not stop.is_set():
            try:
                bench.push(site, a_vector(seed), base_version=0)
            except SiteFenced:
                return

    senders = [threading.Thread(target=keep_sending, args=("south", 100 + n)) for n in range(2)]
    for sender in senders:
        sender.start()
    while bench.position.version < 5:
        stop.wait(0.005)
    bench.request("south")
    acknowledged = bench.rows()[-1].entry
    bench.train("north", "west")
    for sender in senders:
        sender.join(20)
    stop.set()
    later = [row for row in bench.rows() if row.entry > acknowledged]
    assert {row.site for row in later} == {"north", "west"}
    assert bench.ledger_holds()


def test_an_erasure_filed_again_is_never_refused_and_finds_its_caveats_anew(
    bench: Bench, clock: FakeClock
) -> None:
    clock.advance(3600.0)
    with pytest.raises(MethodRefused, match="needs the agent"):
        bench.request("south", method="afu_ic_rebased")
    lost = an_erasure("e1", "south", method="afu_ic_rebased", requested_at=clock.now())
    again = file_again(lost, bench.context)
    assert bench.site("south").state is SiteState.FENCED
    assert "was last heard of 3600 s before the request" in again.caveats[0]
    assert bench.erasure("e1") == again


def serving_during(tmp_path: Path, policy: str) -> Bench:
    bench = a_bench(tmp_path, plan=a_plan(serving={"policy": policy}))
    bench.train("south", "north")
    context = bench.context
    context.files.head()
    with context.live.exclusive() as head, context.store.write() as uow:
        head.commit(uow, [add_promotion(uow, head, 2, context.clock, erasure=None)])
    return bench


def test_serve_old_keeps_the_version_and_says_that_it_carries_the_subject(tmp_path: Path) -> None:
    bench = serving_during(tmp_path, "serve-old")
    bench.request("south")
    row = bench.serving()
    assert (row.serving_version, row.serving_carries_subject) == (2, True)
    bench.close()


def test_serve_none_takes_the_version_away_until_the_request_is_cancelled(tmp_path: Path) -> None:
    bench = serving_during(tmp_path, "serve-none")
    erasure = bench.request("south")
    assert bench.serving().serving_version is None
    cancel_erasure(erasure.id, bench.context)
    assert bench.serving().serving_version == 2
    bench.close()


def test_serve_fallback_without_an_anchor_serves_nothing(tmp_path: Path) -> None:
    bench = serving_during(tmp_path, "serve-fallback")
    bench.request("south")
    assert bench.serving().serving_version is None
    bench.close()


def test_serve_fallback_serves_the_newest_anchor_from_before_the_subject(tmp_path: Path) -> None:
    bench = a_bench(tmp_path, plan=a_plan(serving={"policy": "serve-fallback"}))
    bench.train("north", "west")
    erasure, token = bench.removed("west")
    bench.train("north", seed=3)
    evidence = bench.passes(erasure, token)
    anchored = bench.position.version
    assert bench.rows()[-1].entry == evidence["anchor_entry"]
    bench.train("south", "north", seed=20)
    context = bench.context
    version = context.files.head().version
    with context.live.exclusive() as head, context.store.write() as uow:
        head.commit(uow, [add_promotion(uow, head, version, context.clock, erasure=None)])
    bench.request("south", "r2")
    assert bench.serving().serving_version == anchored
    assert context.files.serving().version == anchored
    bench.close()
