"""Runs of the gate: proof, promotion, anchor, destruction, conclusion."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import a_vector
from erasure_bench import Bench, a_bench

from coordinator.domain.erasure import ErasureState, Verdict
from coordinator.domain.model import Export
from coordinator.services import record_attempt as recording
from coordinator.services.claim_erasure import claim_erasure
from coordinator.services.record_attempt import record_attempt
from letheon.errors import (
    LedgerBroken,
    MalformedRequest,
    ModelDestroyed,
    PatchVoid,
    PayloadCorrupt,
    RequestAltered,
)
from letheon.federation.ledger import EntryKind


@pytest.fixture
def bench(tmp_path: Path, chosen_database: str | None) -> Iterator[Bench]:
    made = a_bench(tmp_path, database_url=chosen_database)
    yield made
    made.close()


def blobs(bench: Bench, area: str) -> set[str]:
    return set(getattr(bench.context.blobs, area).all())


def payloads_of(bench: Bench, site: str) -> set[str]:
    return {row.payload_sha256 for row in bench.rows() if row.site == site and row.payload_sha256}


def test_a_failing_attempt_is_numbered_and_kept(bench: Bench) -> None:
    bench.train("south", "north")
    erasure, token = bench.removed("south")
    bench.train("north", "west", seed=5)
    version = bench.position.version
    for number in (1, 2):
        run = bench.run(version, Verdict.FAIL, number)
        found = record_attempt(erasure, token, run, bench.context)
        assert found.state is ErasureState.VERIFYING
        assert record_attempt(erasure, token, run, bench.context) == found
    with bench.context.store.read() as uow:
        attempts = uow.attempts.of(erasure)
    assert [a.number for a in attempts] == [1, 2]
    assert attempts[0].accepted_since_removal == 2


def test_an_attempt_out_of_turn_or_altered_is_refused(bench: Bench) -> None:
    bench.train("south", "north")
    erasure, token = bench.removed("south")
    with pytest.raises(MalformedRequest):
        record_attempt(erasure, token, bench.run(3, Verdict.FAIL, 2), bench.context)
    record_attempt(erasure, token, bench.run(3, Verdict.FAIL, 1), bench.context)
    with pytest.raises(RequestAltered):
        record_attempt(erasure, token, bench.run(2, Verdict.FAIL, 1), bench.context)


def test_the_gate_comes_after_the_removal(bench: Bench) -> None:
    erasure = bench.request("south").id
    _, claim = claim_erasure(erasure, "c1", bench.context)
    with pytest.raises(MalformedRequest):
        record_attempt(erasure, claim.token, bench.run(0), bench.context)


def test_a_passing_attempt_promotes_anchors_and_destroys(bench: Bench) -> None:
    bench.train("south", "north", "west", "south")
    own, retained = payloads_of(bench, "south"), payloads_of(bench, "north")
    erasure, token = bench.removed("south")
    bench.train("north", "west", seed=40)
    evidence = bench.passes(erasure, token)
    kinds = [row.kind for row in bench.rows()[-2:]]
    assert kinds == [EntryKind.PROMOTION, EntryKind.ANCHOR]
    assert bench.serving().serving_version == bench.position.version
    assert not bench.serving().serving_carries_subject
    assert not own & blobs(bench, "payloads")
    assert retained <= blobs(bench, "payloads")
    for version in range(1, 5):
        with pytest.raises(ModelDestroyed):
            bench.context.files.of(version)
    assert (
        len(
            blobs(bench, "checkpoints")
            & {row.details.get("checkpoint_sha256") for row in bench.rows()}
        )
        == 1
    )
    assert evidence["destroyed_versions"] == [1, 4]
    assert evidence["removal_relative_error"] <= 1e-5
    assert bench.ledger_holds()


def test_the_evidence_lists_who_holds_the_subject(bench: Bench) -> None:
    bench.train("south", "north")
    context = bench.context
    with context.store.write() as uow:
        uow.exports.add(Export("x1", 2, "clinic", "research", context.clock.now()))
        uow.exports.add(Export("x0", 0, "archive", "research", context.clock.now()))
        uow.commit()
    erasure, token = bench.removed("south")
    bench.train("north", seed=40)
    evidence = bench.passes(erasure, token)
    carry = evidence["exports_that_carry_the_subject"]
    assert [export["recipient"] for export in carry] == ["clinic"]
    assert evidence["sites_that_trained_from_versions_with_the_subject"] == ["north"]
    assert evidence["replay_sha256"] == evidence["head_sha256"]
    assert evidence["removal_hash"] == bench.rows()[evidence["removal_entry"]].hash


def test_repeating_a_passing_attempt_gives_the_same_evidence(bench: Bench) -> None:
    bench.train("south", "north")
    erasure, token = bench.removed("south")
    bench.train("north", seed=40)
    version = bench.position.version
    evidence = bench.passes(erasure, token)
    rows = bench.rows()
    again = record_attempt(erasure, token, bench.run(version, number=1), bench.context)
    assert json.loads(again.evidence_json) == evidence
    assert bench.rows() == rows


def test_training_goes_on_between_candidate_and_promotion(bench: Bench) -> None:
    bench.train("south", "north")
    erasure, token = bench.removed("south")
    bench.train("north", seed=40)
    candidate = bench.context.files.head().version
    bench.train("west", "north", seed=60)
    head = bench.head
    recorded = record_attempt(erasure, token, bench.run(candidate), bench.context)
    assert recorded.promoted_version == candidate
    assert bench.serving().serving_version == candidate
    assert np.array_equal(bench.head, head)
    assert bench.ledger_holds()


def test_a_candidate_from_before_a_later_removal_is_void(bench: Bench) -> None:
    bench.train("south", "north", "west")
    erasure, token = bench.removed("south", "r1")
    candidate = bench.context.files.head().version
    bench.removed("west", "r2")
    with pytest.raises(PatchVoid):
        record_attempt(erasure, token, bench.run(candidate), bench.context)
    assert bench.erasure(erasure).promoted_at is None


def test_nothing_is_promoted_while_another_removal_is_due(bench: Bench) -> None:
    bench.train("south", "north", "west")
    erasure, token = bench.removed("south", "r1")
    candidate = bench.context.files.head().version
    bench.request("west", "r2")
    with pytest.raises(PatchVoid, match="removal is due"):
        record_attempt(erasure, token, bench.run(candidate), bench.context)


def test_a_damaged_payload_stops_everything_before_anything_is_destroyed(bench: Bench) -> None:
    bench.train("south", "north", "south")
    erasure, token = bench.removed("south")
    bench.train("north", seed=40)
    damaged = bench.context.blobs.payloads.path(sorted(payloads_of(bench, "north"))[0])
    data = bytearray(damaged.read_bytes())
    data[3] ^= 1
    damaged.write_bytes(data)
    before = blobs(bench, "payloads")
    with pytest.raises(PayloadCorrupt):
        bench.passes(erasure, token)
    assert blobs(bench, "payloads") == before
    assert bench.erasure(erasure).promoted_at is None
    assert bench.context.files.of(3)


def test_a_head_that_is_not_its_replay_stops_everything(bench: Bench) -> None:
    bench.train("south", "north")
    erasure, token = bench.removed("south")
    bench.train("north", seed=40)
    with bench.context.live.exclusive() as head:
        head.weights[0] += np.float32(1)
    before = blobs(bench, "payloads")
    with pytest.raises(LedgerBroken):
        bench.passes(erasure, token)
    assert blobs(bench, "payloads") == before


def test_a_crash_before_the_files_are_gone_is_made_good_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = a_bench(tmp_path)
    bench.train("south", "north", "south")
    own = payloads_of(bench, "south")
    erasure, token = bench.removed("south")
    bench.train("north", seed=40)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(recording, "destroy_marked", crash)
        with pytest.raises(KeyboardInterrupt):
            bench.passes(erasure, token)
    assert own <= blobs(bench, "payloads")
    bench.close()
    again = a_bench(tmp_path)
    assert not own & blobs(again, "payloads")
    with again.context.store.read() as uow:
        assert not {1, 2, 3} & {file.version for file in uow.models.newest()}
    assert again.ledger_holds()
    assert again.erasure(erasure).promoted_at is not None
    again.close()


def test_a_payload_that_a_retained_site_sent_too_is_kept(bench: Bench) -> None:
    same = a_vector(77)
    bench.push("south", same)
    bench.push("north", same)
    bench.train("south", seed=5)
    shared = payloads_of(bench, "north")
    erasure, token = bench.removed("south")
    bench.train("west", seed=40)
    evidence = bench.passes(erasure, token)
    assert evidence["destroyed"]["payloads"] == 1
    assert shared <= blobs(bench, "payloads")


def test_a_method_that_only_suppresses_destroys_up_to_the_promoted_version(bench: Bench) -> None:
    bench.train("south", "north")
    erasure, token = bench.removed("south", method="afu_ic_rebased")
    bench.train("north", "west", seed=40)
    evidence = bench.passes(erasure, token)
    assert evidence["removal_relative_error"] is None
    assert "does not subtract" in evidence["removal_note"]
    assert evidence["destroyed_versions"] == [1, 3]
    bench.train("north", "west", seed=80)
    assert bench.ledger_holds()
