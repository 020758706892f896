"""Erasing records of a site that stays: the coordinator's rules, without a wire."""

from __future__ import annotations

import hashlib
import random
import uuid
from pathlib import Path

import numpy as np
import pytest
from builders import LAYOUT, a_plan, a_vector
from erasure_bench import Bench, a_bench

from coordinator.domain.erasure import ErasureState
from coordinator.domain.site import SiteState
from coordinator.domain.task import AnswerKind, Task, TaskKind
from coordinator.domain.training_task import TrainTask
from coordinator.domain.upload import AnswerPurpose, Header, PatchKind, PatchPurpose, Receipt
from coordinator.erasure_wiring import amend
from coordinator.services.ask_sites import Question, ask_sites
from coordinator.services.cancel_erasure import cancel_erasure
from coordinator.services.claim_erasure import claim_erasure
from coordinator.services.exchange_files import ExchangeFiles
from coordinator.services.next_task import NextTask, Polling
from coordinator.services.remaining_subjects import remaining_subjects
from coordinator.services.remove_contribution import remove_contribution
from coordinator.services.replay_start import contribution_at
from coordinator.services.retained_parts import Part, RetainedParts
from coordinator.services.submit_answer import SubmitAnswer
from letheon.errors import (
    ErasureAlreadyRequested,
    ExchangeRunning,
    MalformedRequest,
    MalformedUpdate,
    MethodRefused,
    ModelDestroyed,
    PatchVoid,
    RequestAltered,
    SiteFenced,
    StaleEpoch,
    UnknownModelVersion,
)
from letheon.federation.arithmetic import norm
from letheon.federation.encoding import encode
from letheon.federation.parameters import Vector
from letheon.federation.replay import fold

REFERENCE = hashlib.sha256(b"salt and pseudonym").hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()


@pytest.fixture
def bench(tmp_path: Path):
    made = a_bench(tmp_path)
    yield made
    made.close()


def ask_records(bench: Bench, request_id: str = "r1", records: str = REFERENCE, site="south"):
    return bench.request(site, request_id, records=records, method="patient_swap")


def claimed(bench: Bench, erasure) -> int:
    return claim_erasure(erasure.id, "c1", bench.context)[1].token


def asked(bench: Bench, erasure, token: int, request_id: str = "swap") -> Task:
    version = bench.position.version
    payload = {"method": "patient_swap", "parameters_json": "{}", "version": version, "seed": 0}
    question = Question(TaskKind.ERASE, (version,), payload)
    (task,) = ask_sites(erasure.id, token, request_id, question, bench.context)
    return task


def patch_header(bench: Bench, erasure, token: int, patch: Vector, **more) -> tuple[Header, bytes]:
    payload = encode(patch, bench.plan.encoding)
    purpose = PatchPurpose(
        erasure=erasure.id,
        fencing_token=token,
        kind=PatchKind.PATCH,
        epoch=more.get("epoch", bench.position.epoch),
        base_version=bench.position.version,
        site=more.get("site", erasure.site),
    )
    layout = tuple((t.name, t.shape, bench.plan.encoding) for t in LAYOUT.tensors)
    digest = hashlib.sha256(payload).hexdigest()
    return Header(str(uuid.uuid4()), len(payload), digest, 0, layout, purpose), payload


def add_patch(bench: Bench, erasure, token: int, patch: Vector, **more) -> Receipt:
    header, payload = patch_header(bench, erasure, token, patch, **more)
    receipt = bench.uploads.receive(header, lambda offset: iter([payload[offset:]]))
    assert isinstance(receipt, Receipt)
    return receipt


def contribution(bench: Bench, site: str = "south") -> Vector | None:
    return bench.context.keep.contribution(site)[0]


def next_task(bench: Bench) -> NextTask:
    core = bench.coordinator.core
    return NextTask(
        core.store, core.live, core.presence, core.rounds, core.metrics, core.clock,
        random.Random(0), Polling(), bench.plan.digest, bench.plan.training,
    )  # fmt: skip


def submitting(bench: Bench) -> SubmitAnswer:
    core = bench.coordinator.core
    return SubmitAnswer(core.store, core.clock, lambda: None, amend(core))


def confirm(bench: Bench, erasure, *, found: bool = True) -> None:
    task = next_task(bench)(erasure.site, abandoned=None)
    assert isinstance(task, Task)
    assert task.kind is TaskKind.EXCLUDE
    submit = submitting(bench)
    submit(erasure.site, task.id, kind=AnswerKind.EXCLUDE, answer={"found": found})


def certify(bench: Bench, erasure, token: int) -> dict:
    return bench.passes(erasure.id, token)


def test_filing_raises_the_counter_and_leaves_the_site_and_the_others_as_they_are(bench: Bench):
    bench.train("north", "south")
    filed = ask_records(bench)
    site = bench.site("south")
    assert (site.state, site.exclusion_counter, site.erasure) == (SiteState.ACTIVE, 1, None)
    assert (filed.exclusion_counter, filed.records) == (1, REFERENCE)
    assert bench.site("north").exclusion_counter == 0
    assert bench.position.epoch == 0


def test_work_begun_before_is_refused_and_work_begun_after_is_taken(bench: Bench):
    bench.train("south")
    ask_records(bench)
    with pytest.raises(StaleEpoch, match="records of this site were excluded"):
        bench.push("south", a_vector(5))
    bench.push("south", a_vector(6), exclusion_counter=1)
    bench.push("north", a_vector(7))


def test_a_site_gets_no_train_task_before_it_has_excluded_the_records(bench: Bench):
    bench.train("south")
    erasure = ask_records(bench)
    task = next_task(bench)
    assert task.should_abandon("south", "train-0-0-0")
    assert not task.should_abandon("north", "train-0-0-0")
    confirm(bench, erasure)
    found = task("south", abandoned=None)
    assert isinstance(found, TrainTask)
    assert found.exclusion_counter == 1


def test_the_fence_outlives_a_restart(tmp_path: Path):
    bench = a_bench(tmp_path)
    bench.train("south")
    ask_records(bench)
    bench.close()
    again = a_bench(tmp_path)
    try:
        with pytest.raises(StaleEpoch):
            again.push("south", a_vector(5))
        assert next_task(again)("south", abandoned=None).kind is TaskKind.EXCLUDE
    finally:
        again.close()


def test_waiting_deltas_of_the_site_are_voided_and_those_of_others_kept(tmp_path: Path):
    plan = a_plan(strategy={"plugin": "fedbuff", "arguments": {"buffer_size": 3}})
    bench = a_bench(tmp_path, plan=plan)
    try:
        bench.train("north", "south")
        ask_records(bench)
        with bench.context.store.read() as uow:
            assert [delta.site for delta in uow.buffered.waiting()] == ["north"]
            assert [delta.site for delta in uow.buffered.voided("south")] == ["south"]
        bench.push("south", a_vector(8), exclusion_counter=1)
        bench.push("west", a_vector(9))
        assert bench.position.version == 1
        assert bench.ledger_holds()
    finally:
        bench.close()


@pytest.mark.parametrize(
    "reference", ["short", "x" * 129, "has a space in it.", "-leading-dash-here"]
)
def test_a_malformed_reference_is_refused_by_name_and_fences_nothing(bench: Bench, reference: str):
    with pytest.raises(MalformedRequest) as refused:
        ask_records(bench, records=reference)
    assert refused.value.facts["field"] == "records"
    assert bench.site("south").exclusion_counter == 0


def test_a_method_of_whole_sites_refuses_records_and_the_reverse(bench: Bench):
    with pytest.raises(MethodRefused, match="ask for a method that does: patient_swap"):
        bench.request("south", records=REFERENCE, method="removal")
    with pytest.raises(MethodRefused, match="does not take a whole site"):
        bench.request("south", method="patient_swap")
    assert bench.site("south").exclusion_counter == 0


def test_repeating_a_request_is_harmless_and_the_same_records_are_asked_for_once(bench: Bench):
    bench.train("south")
    first = ask_records(bench)
    assert ask_records(bench).id == first.id
    assert bench.site("south").exclusion_counter == 1
    with pytest.raises(RequestAltered):
        ask_records(bench, records=OTHER)
    with pytest.raises(ErasureAlreadyRequested, match="names these records already"):
        ask_records(bench, "r2")
    assert ask_records(bench, "r3", OTHER).exclusion_counter == 2
    bench.request("south", "whole")
    with pytest.raises((SiteFenced, ErasureAlreadyRequested)):
        ask_records(bench, "r4", "f" * 64)


def test_the_site_is_asked_for_its_merged_deltas_in_order_with_their_coefficients(bench: Bench):
    receipts = [bench.push("south", a_vector(i), base_version=0) for i in range(3)]
    bench.train("north")
    erasure = ask_records(bench)
    task = asked(bench, erasure, claimed(bench, erasure))
    assert task.payload["records"] == REFERENCE
    assert task.payload["deltas"] == [
        [r.update_id, 0, float(r.coefficient).hex()] for r in receipts
    ]
    exchange = bench.erasure(erasure.id).exchange
    assert exchange is not None
    assert exchange.contribution_norm == pytest.approx(norm(contribution(bench)))


def test_the_agent_gets_every_base_and_its_contribution_and_nobody_else_does(bench: Bench):
    heads = {0: bench.head}
    for i in range(4):
        bench.push("south" if i % 2 else "north", a_vector(i))
        heads[bench.position.version] = bench.head
    total = contribution(bench)
    erasure = ask_records(bench)
    asked(bench, erasure, claimed(bench, erasure))
    bench.push("south", a_vector(9), exclusion_counter=1)
    files = ExchangeFiles(bench.context.store, bench.context.blobs, size=LAYOUT.size)
    for version in (1, 3, 4, 0):  # forward by one replay, back by a new one
        made = files.base(erasure.id, version, "south")
        assert np.array_equal(np.frombuffer(made.content, "<f4"), heads[version])
    kept = files.contribution(erasure.id, "south")
    assert np.array_equal(np.frombuffer(kept.content, "<f4"), total)
    for reader in ("north", None):
        with pytest.raises(UnknownModelVersion):
            files.base(erasure.id, 1, reader)
        with pytest.raises(UnknownModelVersion):
            files.contribution(erasure.id, reader)
    with pytest.raises(UnknownModelVersion):
        files.base(erasure.id, 5, "south")


def test_an_exchange_leaves_exactly_the_recomputed_contribution(bench: Bench):
    old = [a_vector(i) for i in range(3)]
    receipts = [bench.push("south", delta, base_version=0) for delta in old]
    bench.train("north", "west")
    erasure = ask_records(bench)
    token = claimed(bench, erasure)
    asked(bench, erasure, token)
    late = a_vector(50)
    bench.push("south", late, exclusion_counter=1)  # without the records, while the site computes
    new = None
    for receipt, delta in zip(receipts, old, strict=True):
        new = fold(new, receipt.coefficient, delta * np.float32(0.95))
    files = ExchangeFiles(bench.context.store, bench.context.blobs, size=LAYOUT.size)
    kept = np.frombuffer(files.contribution(erasure.id, "south").content, "<f4")
    before = bench.head
    patch = (new - kept).astype(np.float32)

    add_patch(bench, erasure, token, patch)

    removal = remove_contribution(erasure.id, token, bench.context)
    assert (removal.exchanged, removal.subtracted, removal.epoch) == (True, False, 0)
    assert (removal.version_after, removal.removed_entries) == (bench.position.version, 3)
    np.testing.assert_array_equal(bench.head, before + patch)
    due = fold(np.array(new), bench.rows()[-2].coefficient, late)
    np.testing.assert_allclose(contribution(bench), due, atol=1e-6)
    assert bench.erasure(erasure.id).state is ErasureState.ERASING
    assert bench.site("south").state is SiteState.ACTIVE
    assert bench.ledger_holds()


def exchange_of(bench: Bench, share: float, request_id="r1", records=REFERENCE):
    """An erasure whose exchange changes the contribution by that share of its norm."""
    erasure = ask_records(bench, request_id, records)
    token = claimed(bench, erasure)
    asked(bench, erasure, token)
    total = contribution(bench)
    return erasure, token, (np.float32(-share) * total).astype(np.float32)


def test_a_large_exchange_begins_a_new_epoch_and_a_small_one_does_not(bench: Bench):
    bench.train("south", "north")
    erasure, token, patch = exchange_of(bench, 0.05)
    add_patch(bench, erasure, token, patch)
    assert bench.position.epoch == 0
    later, token, patch = exchange_of_after_readmission(bench)
    add_patch(bench, later, token, patch)
    assert bench.position.epoch == 2
    assert bench.erasure(later.id).removal.epoch == 2
    assert [row.kind.value for row in bench.rows()][-2:] == ["removal", "patch"]
    with pytest.raises(StaleEpoch):
        bench.push("north", a_vector(3), epoch=1)
    bench.close()
    again = a_bench(bench.coordinator._config.data_dir.parent)  # recovered to the same bits
    assert (again.position.epoch, again.position.version) == (2, bench.position.version)
    assert again.ledger_holds()


def exchange_of_after_readmission(bench: Bench):
    """Bases from before an earlier exchange hold its records: only readmission clears the way."""
    second = ask_records(bench, "r2", OTHER)
    token = claimed(bench, second)
    with pytest.raises(ModelDestroyed, match="holds what another erasure has removed since"):
        asked(bench, second, token)
    assert remove_contribution(second.id, token, bench.context).subtracted
    bench.push("south", a_vector(11), exclusion_counter=2)
    return exchange_of(bench, 0.2, "r3", "e" * 64)


def test_an_exchange_beyond_the_cap_is_refused_whole(bench: Bench):
    bench.train("south", "north")
    erasure, token, patch = exchange_of(bench, 0.3)
    with pytest.raises(MalformedUpdate, match="remove and readmit") as refused:
        add_patch(bench, erasure, token, patch)
    assert refused.value.facts["rule"] == "cap"
    assert bench.erasure(erasure.id).removal is None


def test_a_patch_of_another_site_or_epoch_is_refused(bench: Bench):
    bench.train("south", "north")
    erasure, token, patch = exchange_of(bench, 0.05)
    with pytest.raises(MalformedRequest):
        add_patch(bench, erasure, token, patch, site="north")
    bench.removed("north", "whole")
    with pytest.raises(PatchVoid):
        add_patch(bench, erasure, token, patch)


def test_two_exchanges_of_one_site_come_one_after_the_other(bench: Bench):
    bench.train("south", "north")
    first, token, patch = exchange_of(bench, 0.05)
    second = ask_records(bench, "r2", OTHER)
    with pytest.raises(ExchangeRunning):
        asked(bench, second, claimed(bench, second))
    add_patch(bench, first, token, patch)


def test_a_readmission_subtracts_everything_and_the_site_goes_on_from_zero(bench: Bench):
    bench.train("south", "north", "west")
    total, before = contribution(bench), bench.head
    erasure = ask_records(bench)
    token = claimed(bench, erasure)
    removal = remove_contribution(erasure.id, token, bench.context)
    assert (removal.subtracted, removal.exchanged, removal.epoch) == (True, False, 1)
    np.testing.assert_array_equal(bench.head, before - total)
    assert contribution(bench) is None
    receipt = bench.push("south", a_vector(40), exclusion_counter=1)
    np.testing.assert_array_equal(
        contribution(bench), np.float32(receipt.coefficient) * a_vector(40)
    )
    evidence = certify(bench, erasure, token)
    assert evidence["removal_relative_error"] <= 1e-5
    assert bench.site("south").state is SiteState.ACTIVE


def test_two_erasures_of_one_site_share_a_readmission(bench: Bench):
    bench.train("south", "north")
    first, second = ask_records(bench), ask_records(bench, "r2", OTHER)
    removal = remove_contribution(first.id, claimed(bench, first), bench.context)
    shared = remove_contribution(second.id, claimed(bench, second), bench.context)
    assert shared == removal
    assert bench.position.epoch == 1


def test_what_holds_the_records_is_destroyed_and_what_the_site_sent_since_is_not(bench: Bench):
    old = [bench.push("south", a_vector(i), base_version=0) for i in range(3)]
    north = bench.push("north", a_vector(20))
    erasure, token, patch = exchange_of(bench, 0.05)
    since = bench.push("south", a_vector(30), exclusion_counter=1)
    answer = add_patch(bench, erasure, token, patch)
    remove_contribution(erasure.id, token, bench.context)
    held = bench.erasure(erasure.id).exchange.contribution_sha256
    total = contribution(bench)

    evidence = certify(bench, erasure, token)

    with bench.context.store.read() as uow:
        gone = {
            r.sha256: uow.destroyed.destroyer_of(r.sha256) for r in (*old, answer, since, north)
        }
    assert [gone[r.sha256] for r in (*old, answer)] == [erasure.id] * 4
    assert [gone[r.sha256] for r in (since, north)] == [None, None]
    assert held not in bench.context.blobs.contributions.sizes()
    assert evidence["destroyed"]["payloads"] == 4
    assert evidence["destroyed_versions"] == [1, answer.version - 1]
    assert evidence["replay_equals_head"]
    np.testing.assert_array_equal(contribution(bench), total)
    assert bench.ledger_holds()
    bench.push("south", a_vector(31), exclusion_counter=1)


def test_another_version_is_not_promoted_while_records_are_due_to_go(bench: Bench):
    bench.train("north", "south", "west")
    name, token = bench.removed("north", "whole")
    ask_records(bench)
    with pytest.raises(PatchVoid, match="whose removal is due"):
        bench.passes(name, token)


def test_a_cancelled_request_leaves_the_site_active_and_its_old_work_refused(bench: Bench):
    bench.train("south")
    erasure = ask_records(bench)
    cancel_erasure(erasure.id, bench.context)
    assert bench.site("south").state is SiteState.ACTIVE
    assert isinstance(next_task(bench)("south", abandoned=None), TrainTask)
    with pytest.raises(StaleEpoch):
        bench.push("south", a_vector(5))


def test_records_the_site_does_not_know_leave_nothing_behind(bench: Bench):
    from coordinator.services.conclude_erasure import Failed, conclude_erasure

    bench.train("south")
    unknown, silent = ask_records(bench), ask_records(bench, "r2", OTHER)
    confirm(bench, unknown, found=False)
    conclude_erasure(unknown.id, claimed(bench, unknown), Failed("not here"), bench.context)
    with bench.context.store.read() as uow:
        assert remaining_subjects(uow) == []
    conclude_erasure(silent.id, claimed(bench, silent), Failed("no answer"), bench.context)
    with bench.context.store.read() as uow:
        assert remaining_subjects(uow) == ["south"]


def test_answers_of_another_kind_are_refused(bench: Bench):
    erasure = ask_records(bench)
    with bench.context.store.read() as uow:
        (task,) = uow.tasks.of_erasure(erasure.id)
    submit = submitting(bench)
    with pytest.raises(MalformedRequest):
        submit("south", task.id, kind=AnswerKind.AUDIT, answer={})
    header = Header("u-1", 1, "0" * 64, 0, (), AnswerPurpose("south", task.id))
    with pytest.raises(Exception, match="no open erase task"):
        bench.uploads.receive(header, lambda offset: iter(()))


def test_records_go_with_their_whole_site_and_do_not_hold_its_erasure_up(bench: Bench):
    bench.train("north", "south", "west")
    records = ask_records(bench)
    token = claimed(bench, records)
    name, site_token = bench.removed("south", "whole")
    with pytest.raises(SiteFenced):
        asked(bench, records, token)
    with pytest.raises(SiteFenced):
        remove_contribution(records.id, token, bench.context)
    assert bench.passes(name, site_token)["replay_equals_head"]


def parts_of(bench: Bench, site: str, segments: int = 2) -> list[Part]:
    """What a recombination for another site's erasure would get of this one."""
    name, token = bench.removed("north", "for-parts")
    made = RetainedParts(name, token, segments, bench.context)
    return [part for part in made if part.site == site]


def test_what_a_readmitted_site_added_before_is_never_counted_again(bench: Bench):
    bench.train("north", "south", "west")
    erasure = ask_records(bench)
    token = claimed(bench, erasure)
    remove_contribution(erasure.id, token, bench.context)
    first = bench.push("south", a_vector(60), exclusion_counter=1)
    second = bench.push("south", a_vector(61), exclusion_counter=1)
    bench.context.keep.fold("south")
    store, blobs = bench.context.store, bench.context.blobs
    due = np.float32(first.coefficient) * a_vector(60)
    then = contribution_at(store, blobs, "south", through=second.entry - 1)  # older than is stored
    np.testing.assert_array_equal(then, due)
    summed = sum(part.values for part in parts_of(bench, "south"))
    np.testing.assert_allclose(summed, contribution(bench), atol=1e-6)


def test_parts_of_a_site_after_an_exchange_sum_to_its_contribution(bench: Bench):
    bench.train("north", "south", "west")
    bench.push("south", a_vector(70))
    erasure, token, patch = exchange_of(bench, 0.05)
    add_patch(bench, erasure, token, patch)
    remove_contribution(erasure.id, token, bench.context)
    certify(bench, erasure, token)  # the payloads from before are destroyed
    bench.push("south", a_vector(71), exclusion_counter=1)
    bench.push("south", a_vector(72), exclusion_counter=1)
    parts = parts_of(bench, "south", segments=3)
    assert len(parts) == 3
    np.testing.assert_allclose(sum(p.values for p in parts), contribution(bench), atol=1e-6)


def test_no_patch_is_made_of_a_contribution_whose_records_are_due_to_go(bench: Bench):
    bench.train("north", "south", "west")
    ask_records(bench)
    name, token = bench.removed("north", "whole")
    parts = RetainedParts(name, token, 1, bench.context)
    assert {part.site for part in parts} == {"west"}
    whole = bench.erasure(name)
    with pytest.raises(PatchVoid, match="records of sites/south are being erased"):
        add_patch(bench, whole, token, a_vector(1, scale=1e-4), site="south")
