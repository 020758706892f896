"""Signed updates, signed models, the audit log, the transparency log and notices, over the wire."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import NOON, a_vector
from erasure_builders import Federation, Job, a_running_federation

from client_agent.adapters import convert
from letheon.errors import (
    BadSignature,
    MalformedRequest,
    MethodRefused,
    ProofInvalid,
    SiteKeyChanged,
    UnknownCertificate,
)
from letheon.federation.encoding import encode
from letheon.names import site_id
from letheon.proof.audit_chain import parse, verify_rows
from letheon.proof.certificate import trust, verify_file
from letheon.proof.key_list import COORDINATOR, read_key_list
from letheon.proof.manifest import Manifest, check_manifest
from letheon.proof.merkle import leaf_hash, verify_consistency, verify_inclusion
from letheon.proof.note import verify_checkpoint
from letheon.proof.update_signature import sign_update, successor_content
from letheon.servicekit.clock import FakeClock
from letheon.servicekit.signing import SigningKey
from letheon.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    certificates_pb2,
    models_pb2,
    sites_pb2,
    training_pb2,
    transparency_pb2,
    transparency_pb2_grpc,
)


@pytest.fixture
def federation(tmp_path: Path, chosen_database: str | None) -> Iterator[Federation]:
    with a_running_federation(tmp_path, database_url=chosen_database) as running:
        yield running


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.load_or_create(tmp_path / "north.pem")


def register(federation: Federation, site: str, key: SigningKey, proof: bytes = b"") -> None:
    federation.client.sites.RegisterSite(
        sites_pb2.RegisterSiteRequest(
            name=f"sites/{site}",
            record_count=100,
            update_key_pem=key.public_pem,
            update_key_proof=proof,
        )
    )


def push(
    federation: Federation,
    site: str,
    key: SigningKey | None,
    change: dict[str, Any] | None = None,
    seed: int = 0,
) -> training_pb2.Receipt:
    """One delta, signed; `change` are fields that the signature is made for instead."""
    client = federation.client
    payload = encode(a_vector(seed), client.plan.encoding)
    header = client.header(site, payload, base_version=federation.version, epoch=federation.epoch)
    if key is not None:
        signed = sign_update(replace(convert.signed_update(header), **(change or {})), key)
        header.signature, header.signature_key = signed.signature, signed.key_id
    return client.send(header, payload).receipt


def audit_rows(federation: Federation) -> list[audit_pb2.AuditRow]:
    stub = audit_pb2_grpc.AuditStub(federation.client.channel)
    return list(stub.ListAuditRows(audit_pb2.ListAuditRowsRequest(page_size=1000)).rows)


def log_of(federation: Federation) -> transparency_pb2_grpc.TransparencyStub:
    return transparency_pb2_grpc.TransparencyStub(federation.client.channel)


def certified(federation: Federation, folder: Path, site: str = "south") -> Job:
    federation.train(site, "north", seed=5)
    job = federation.job(federation.request(site, f"r-{site}").name)
    job.remove()
    federation.train("north", seed=40)
    job.passes()
    job.certify(SigningKey.load_or_create(folder / "calibrator.pem"))
    return job


def certificate_of(federation: Federation, job: Job) -> bytes:
    name = job.name.replace("erasures/", "certificates/")
    request = certificates_pb2.GetCertificateRequest(name=name)
    return federation.certificates.GetCertificate(request).content


def checked(federation: Federation, content: bytes, folder: Path) -> Any:
    key = SigningKey.load_or_create(folder / "calibrator.pem")
    log = federation.coordinator.core.log
    return verify_file(content, trust(key.public_pem, log.signer.keys.content(), log.origin))


# Signed updates


def test_a_signed_delta_is_accepted_and_its_signature_checked_with_the_ledger(
    federation: Federation, key: SigningKey
) -> None:
    register(federation, "north", key)
    push(federation, "north", key)
    push(federation, "south", None)
    verdict = federation.verify_ledger()
    assert verdict.holds
    assert (verdict.signed_deltas, verdict.unsigned_deltas) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"payload_sha256": "0" * 64},
        {"base_version": 7},
        {"epoch": 7},
        {"update_id": "another"},
        {"site": "south"},
        {"record_count": 1_000_000},
        {"task": "another"},
    ],
)
def test_a_signature_for_anything_else_is_refused_with_the_rule(
    federation: Federation, key: SigningKey, change: dict[str, Any]
) -> None:
    register(federation, "north", key)
    version = federation.version
    with pytest.raises(BadSignature, match="is not that of sites/north") as caught:
        push(federation, "north", key, change)
    assert caught.value.facts["rule"] == "signature"
    assert federation.version == version


def test_a_missing_signature_and_that_of_another_site_are_refused(
    federation: Federation, key: SigningKey, tmp_path: Path
) -> None:
    other = SigningKey.load_or_create(tmp_path / "south.pem")
    register(federation, "north", key)
    register(federation, "south", other)
    with pytest.raises(BadSignature, match="is not signed, and sites/north has registered key"):
        push(federation, "north", None)
    with pytest.raises(BadSignature, match=f"signed with key {other.key_id}"):
        push(federation, "north", other)
    assert push(federation, "north", key).version > 0


def test_a_federation_may_refuse_sites_that_do_not_sign(tmp_path: Path, key: SigningKey) -> None:
    config = {"signing": {"require_updates": True}}
    with a_running_federation(tmp_path, config=config) as federation:
        with pytest.raises(BadSignature, match="takes signed updates only"):
            push(federation, "north", None)
        register(federation, "north", key)
        push(federation, "north", key)


def test_another_key_needs_the_hand_of_the_first_or_of_an_operator(
    federation: Federation, key: SigningKey, tmp_path: Path
) -> None:
    second = SigningKey.load_or_create(tmp_path / "second.pem")
    third = SigningKey.load_or_create(tmp_path / "third.pem")
    register(federation, "north", key)
    push(federation, "north", key)
    with pytest.raises(SiteKeyChanged, match="is not signed by it"):
        register(federation, "north", second)
    register(federation, "north", second, key.sign(successor_content("north", second.public)))
    push(federation, "north", second, seed=1)
    with pytest.raises(SiteKeyChanged, match="came to its end"):
        register(federation, "north", key)
    site = federation.client.sites.ForgetUpdateKey(
        sites_pb2.ForgetUpdateKeyRequest(name="sites/north")
    )
    assert site.update_key == ""
    register(federation, "north", third)
    push(federation, "north", third, seed=2)
    verdict = federation.verify_ledger()
    assert (verdict.holds, verdict.signed_deltas) == (True, 3)
    with pytest.raises(MalformedRequest):
        federation.client.sites.RegisterSite(
            sites_pb2.RegisterSiteRequest(name="sites/west", update_key_pem="no key")
        )


def test_a_ledger_whose_signature_was_taken_out_does_not_hold(
    tmp_path: Path, key: SigningKey
) -> None:
    with a_running_federation(tmp_path) as federation:
        register(federation, "north", key)
        entry = push(federation, "north", key).entry
        with closing(sqlite3.connect(federation.data / "coordinator.sqlite")) as database:
            database.execute("DROP TRIGGER entry_signatures_no_delete")
            database.execute("DELETE FROM entry_signatures")
            database.commit()
        verdict = federation.verify_ledger()
        assert not verdict.holds
        assert verdict.first_bad_entry == entry
        assert "is not signed, though the site had registered key" in verdict.reason


# Signed models


def test_every_download_begins_with_a_signed_manifest(federation: Federation) -> None:
    header, _ = federation.download("models/head")
    keys = read_key_list(
        log_of(federation).GetKeys(transparency_pb2.GetKeysRequest()).key_list, COORDINATOR
    )
    public = keys.find(header.signature_key)
    assert public is not None
    manifest = convert.manifest(header)
    check_manifest(manifest, header.signature, public)
    assert manifest.plan_digest == federation.client.plan.digest
    for change in ({"version": 9}, {"sha256": "0" * 64}, {"epoch": 9}, {"origin": "letheon/x"}):
        with pytest.raises(BadSignature):
            check_manifest(Manifest(**{**manifest.__dict__, **change}), header.signature, public)


# The transparency log and certificates


def test_a_certificate_is_handed_out_with_proofs_that_hold(
    federation: Federation, tmp_path: Path
) -> None:
    job = certified(federation, tmp_path)
    verified = checked(federation, certificate_of(federation, job), tmp_path)
    assert verified.caveat == ""
    ledger = verified.statement["ledger"]
    kinds = {row.entry: row.kind for row in federation.rows()}
    assert [kinds[number] for number, _ in ledger["rows"]] == ["delta", "removal"]
    assert ledger["rows"] == [
        [row.entry, row.hash] for row in federation.rows() if row.entry in dict(ledger["rows"])
    ]


def test_the_log_only_grows_and_proves_it(federation: Federation, tmp_path: Path) -> None:
    log = log_of(federation)
    public = federation.coordinator.core.log.signer.key.public

    def checkpoint() -> Any:
        note = log.GetCheckpoint(transparency_pb2.GetCheckpointRequest()).note
        return verify_checkpoint(note, public)

    empty = checkpoint()
    first_job = certified(federation, tmp_path)
    first = checkpoint()
    certified(federation, tmp_path, site="west")
    second = checkpoint()
    assert empty.size < first.size < second.size
    for before in (empty, first):
        request = transparency_pb2.GetConsistencyRequest(first=before.size, second=second.size)
        proof = list(log.GetConsistency(request).proof)
        verify_consistency(before.size, second.size, before.root, second.root, proof)
    for index in range(second.size):
        found = log.GetInclusion(transparency_pb2.GetInclusionRequest(index=index))
        verify_inclusion(found.leaf_hash, index, second.size, list(found.proof), second.root)
        if found.kind == "audit_head":
            assert leaf_hash(found.content) == found.leaf_hash
            assert json.loads(found.content)["rows"] <= len(audit_rows(federation))
    # What was handed out for the smaller log still holds.
    checked(federation, certificate_of(federation, first_job), tmp_path)
    for bad in (
        transparency_pb2.GetInclusionRequest(index=99),
        transparency_pb2.GetInclusionRequest(index=0, size=99),
    ):
        with pytest.raises(ProofInvalid):
            log.GetInclusion(bad)
    with pytest.raises(ProofInvalid):
        log.GetConsistency(transparency_pb2.GetConsistencyRequest(first=9, second=2))


def test_the_log_and_its_checkpoints_survive_a_restart(tmp_path: Path) -> None:
    with a_running_federation(tmp_path) as federation:
        job = certified(federation, tmp_path)
        before = certificate_of(federation, job)
    with a_running_federation(tmp_path) as federation:
        assert certificate_of(federation, job) == before


# Recipients


def download(federation: Federation, site: str) -> None:
    request = models_pb2.DownloadModelRequest(name="models/head", reader=f"sites/{site}")
    list(federation.client.models.DownloadModel(request))


def next_task(federation: Federation, site: str, *, knows: bool = True) -> Any:
    request = training_pb2.NextTaskRequest(site=f"sites/{site}", knows_invalidate=knows)
    return federation.client.training.NextTask(request)


def acknowledge(federation: Federation, site: str, removed: int) -> None:
    task = next_task(federation, site).invalidate
    federation.client.training.SubmitAnswer(
        training_pb2.SubmitAnswerRequest(
            site=f"sites/{site}",
            task=task.name,
            invalidate=training_pb2.InvalidateAnswer(copies_removed=removed),
        )
    )


def test_whoever_read_a_version_with_the_subject_is_told_and_the_answers_supersede(
    federation: Federation, tmp_path: Path
) -> None:
    federation.train("south")
    for site in ("north", "west", "south"):
        download(federation, site)
    held = federation.version
    job = certified(federation, tmp_path)
    told = checked(federation, certificate_of(federation, job), tmp_path).recipients
    assert [(one["site"], one["state"]) for one in told] == [
        ("north", "to be notified"),
        ("west", "to be notified"),
    ]
    task = next_task(federation, "north").invalidate
    assert task.first_version <= held <= task.last_version
    assert task.erasure == job.name
    # An agent of an older release is not given what it does not know.
    assert next_task(federation, "north", knows=False).WhichOneof("outcome") == "train"
    acknowledge(federation, "north", removed=2)
    half = supersede(federation, job)
    states = {one["site"]: one["state"] for one in checked(federation, half, tmp_path).recipients}
    assert states == {"north": "acknowledged", "west": "silent"}
    assert supersede(federation, job) == half  # nothing changed, nothing is signed
    acknowledge(federation, "west", removed=0)
    whole = checked(federation, certificate_of(federation, job), tmp_path)
    assert whole.amendment is not None
    assert (whole.amendment["number"], whole.amendment["complete"]) == (2, True)
    assert whole.recipients[0]["copies_removed"] == 2
    assert next_task(federation, "north").WhichOneof("outcome") == "train"


def supersede(federation: Federation, job: Job) -> bytes:
    name = job.name.replace("erasures/", "certificates/")
    request = certificates_pb2.SupersedeCertificateRequest(name=name)
    return federation.certificates.SupersedeCertificate(request).content


def test_what_is_not_certified_cannot_be_superseded(federation: Federation) -> None:
    job = federation.job(federation.request("south").name)
    with pytest.raises(UnknownCertificate):
        supersede(federation, job)


# The audit log


def test_every_act_has_a_row_and_the_chain_holds(federation: Federation, tmp_path: Path) -> None:
    certified(federation, tmp_path)
    rows = audit_rows(federation)
    acts = [row.action for row in rows]
    assert acts[:3] == ["site.registered"] * 3
    assert acts[3:] == [
        "erasure.requested",
        "erasure.claimed",
        "erasure.removed",
        "erasure.promoted",
        "erasure.certified",
    ]
    last = verify_rows([parse(row.canonical_json.encode(), row.hash, row.number) for row in rows])
    assert last is not None
    assert last.number == len(rows) - 1
    assert {row.outcome for row in rows} == {"done"}


def test_a_refused_call_that_matters_has_a_row_and_repeating_it_does_not_fill_the_disk(
    tmp_path: Path, key: SigningKey
) -> None:
    clock = FakeClock(NOON)
    with a_running_federation(tmp_path, clock=clock) as federation:
        register(federation, "north", key)
        for _ in range(5):
            with pytest.raises(BadSignature):
                push(federation, "north", None)
        with pytest.raises(MethodRefused):
            federation.request("south", method="no_such_method")
        with pytest.raises(MalformedRequest):
            federation.request("south", legal_basis="")
        refused = [row for row in audit_rows(federation) if row.outcome == "refused"]
        assert [row.action for row in refused] == ["call.PushDelta", "call.RequestErasure"]
        assert json.loads(refused[0].details_json) == {
            "reason": "BAD_SIGNATURE",
            "rule": "signature",
        }
        assert refused[0].object == "north"
        clock.advance(timedelta(minutes=2).total_seconds())
        with pytest.raises(BadSignature):
            push(federation, "north", None)
        newest = json.loads(audit_rows(federation)[-1].details_json)
        assert newest["not_written_before"] == 4


def test_no_row_holds_what_a_caller_wrote_freely(federation: Federation, tmp_path: Path) -> None:
    federation.request("south", requester="Erika Mustermann, born 1964-08-12")
    everything = "".join(row.canonical_json for row in audit_rows(federation))
    assert "Mustermann" not in everything


def test_names_of_sites_are_told_apart_from_free_text() -> None:
    assert site_id("sites/north") == "north"
