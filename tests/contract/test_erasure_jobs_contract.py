"""letheon.v1.ErasureJobs over the wire: what a calibrator can rely on."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from builders import a_vector, a_wire_layout, messages
from erasure_builders import FAIL, Federation, Job, a_running_federation

from letheon.errors import (
    AttemptMissing,
    CertificateInvalid,
    ClaimHeld,
    ClaimLost,
    ErasureConcluded,
    MalformedRequest,
    PatchVoid,
    UnknownErasure,
    UnknownUpload,
)
from letheon.servicekit.signing import SigningKey
from letheon.v1 import erasures_pb2, training_pb2

TASKS = erasures_pb2.AskSitesRequest


@pytest.fixture
def federation(tmp_path: Path, chosen_database: str | None) -> Iterator[Federation]:
    with a_running_federation(tmp_path, database_url=chosen_database) as running:
        yield running


@pytest.fixture
def job(federation: Federation) -> Job:
    federation.train("south", "north", "south")
    taken = federation.job(federation.request("south").name)
    taken.remove()
    return taken


def next_task(federation: Federation, site: str) -> training_pb2.NextTaskResponse:
    return federation.client.training.NextTask(training_pb2.NextTaskRequest(site=f"sites/{site}"))


def answer(federation: Federation, site: str, task: str, **fields: object) -> None:
    federation.client.training.SubmitAnswer(
        training_pb2.SubmitAnswerRequest(site=f"sites/{site}", task=task, **fields)
    )


def contributions(
    federation: Federation, job: Job, segments: int = 2
) -> list[erasures_pb2.DownloadContributionsResponse]:
    request = erasures_pb2.DownloadContributionsRequest(
        name=job.name, fencing_token=job.token, segments=segments
    )
    return list(federation.jobs.DownloadContributions(request))


def test_a_claim_shows_its_holder_and_lease(federation: Federation) -> None:
    filed = federation.request("south")
    claim = federation.jobs.ClaimErasure(
        erasures_pb2.ClaimErasureRequest(name=filed.name, holder="c1")
    )
    assert claim.fencing_token == 1
    assert claim.lease.seconds == 30
    assert claim.erasure.state == erasures_pb2.Erasure.CLAIMED
    assert federation.get(filed.name).holder == "c1"


def test_a_held_claim_says_when_to_come_back(federation: Federation) -> None:
    filed = federation.request("south")
    federation.job(filed.name, "c1")
    with pytest.raises(ClaimHeld) as raised:
        federation.job(filed.name, "c2")
    assert 0 < raised.value.retry_after_s <= 30
    cause = raised.value.__cause__
    if isinstance(cause, grpc.Call):
        assert cause.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_every_call_checks_the_token(federation: Federation, job: Job) -> None:
    job.token -= 1
    calls = (
        job.remove,
        job.renew,
        lambda: job.ask_evaluate("q", federation.version),
        lambda: job.answers("q"),
        lambda: job.attempt(federation.version, FAIL),
        lambda: job.conclude(failure="no"),
        lambda: list(
            federation.jobs.DownloadAnswer(
                erasures_pb2.DownloadAnswerRequest(
                    name=job.name, fencing_token=job.token, update_id="u"
                )
            )
        ),
        lambda: contributions(federation, job),
    )
    for call in calls:
        with pytest.raises(ClaimLost):
            call()


def test_an_unknown_erasure_is_dead_and_a_concluded_one_done(
    federation: Federation, job: Job
) -> None:
    with pytest.raises(UnknownErasure):
        federation.job("erasures/nothing")
    job.conclude(failure="no method is left")
    with pytest.raises(ErasureConcluded):
        federation.job(job.name)
    assert federation.get(job.name).failure == "no method is left"


def test_progress_survives_the_calibrator(federation: Federation, job: Job) -> None:
    job.renew(progress_json='{"a":1}', state=erasures_pb2.Erasure.CALIBRATING)
    claim = federation.jobs.ClaimErasure(
        erasures_pb2.ClaimErasureRequest(name=job.name, holder="calibrator-1")
    )
    assert claim.progress_json == '{"a":1}'
    assert claim.erasure.state == erasures_pb2.Erasure.CALIBRATING
    job.token = claim.fencing_token
    with pytest.raises(MalformedRequest):
        job.renew(progress_json="x" * (256 * 1024 + 1))


def test_retained_sites_are_asked_and_their_answers_listed(
    federation: Federation, job: Job
) -> None:
    tasks = job.ask_evaluate("q1", 3, federation.version)
    assert list(job.ask_evaluate("q1", 3, federation.version)) == list(tasks)
    assert len(tasks) == 2
    given = next_task(federation, "north").evaluate
    assert list(given.versions) == [3, 4]
    utility = training_pb2.Utility(version=3, records=10, accuracy=0.5, mean_loss=1.5)
    answer(
        federation,
        "north",
        given.name,
        evaluate=training_pb2.EvaluateAnswer(utilities=[utility]),
    )
    found = {one.site: one for one in job.answers("q1")}
    assert found["sites/north"].evaluate.utilities[0] == utility
    assert found["sites/west"].WhichOneof("outcome") is None


def test_the_subject_gets_its_audit_but_no_training(federation: Federation, job: Job) -> None:
    job.ask("q2", audit=training_pb2.AuditTask(versions=[3, 4], seed=7))
    given = next_task(federation, "south").audit
    assert given.erasure == job.name
    assert given.seed == 7
    statistic = training_pb2.ForgetStatistic(version=3, erased_records=5, auc=float("nan"))
    answer(federation, "south", given.name, audit=training_pb2.AuditAnswer(statistics=[statistic]))
    assert job.answers("q2")[0].audit.statistics[0].erased_records == 5
    assert next_task(federation, "south").WhichOneof("outcome") == "retry_after"


def test_an_erase_answer_travels_to_the_calibrator_and_is_destroyed_in_the_end(
    federation: Federation, job: Job
) -> None:
    erase = training_pb2.EraseTask(method="afu_ic_rebased", parameters_json="{}", version=4, seed=1)
    job.ask("q3", erase=erase)
    given = next_task(federation, "south").erase
    payload = a_vector(3).tobytes()
    header = training_pb2.UploadHeader(
        update_id="answer-1",
        size_bytes=len(payload),
        sha256=hashlib.sha256(payload).digest(),
        layout=a_wire_layout(federation.client.plan),
        answer=training_pb2.AnswerPurpose(site="sites/south", task=given.name),
    )
    federation.client.training.PushDelta(messages(header, payload))
    answer(
        federation,
        "south",
        given.name,
        erase=training_pb2.EraseAnswer(update_id="answer-1", norm=1.0, steps=3),
    )
    assert job.answers("q3")[0].erase.steps == 3
    request = erasures_pb2.DownloadAnswerRequest(
        name=job.name, fencing_token=job.token, update_id="answer-1"
    )
    parts = list(federation.jobs.DownloadAnswer(request))
    assert parts[0].header.size_bytes == len(payload)
    assert b"".join(part.chunk.data for part in parts[1:]) == payload
    federation.train("north", seed=30)
    evidence = job.passes()
    assert evidence["destroyed"]["answers"] == 1
    assert hashlib.sha256(payload).hexdigest() not in federation.blobs("payloads")


def test_only_answers_of_this_erasure_can_be_downloaded(federation: Federation, job: Job) -> None:
    request = erasures_pb2.DownloadAnswerRequest(
        name=job.name, fencing_token=job.token, update_id="somebody-elses"
    )
    with pytest.raises(UnknownUpload):
        list(federation.jobs.DownloadAnswer(request))


def test_a_question_without_a_task_is_malformed(federation: Federation, job: Job) -> None:
    with pytest.raises(MalformedRequest):
        job.ask("q4")


def test_a_failed_attempt_has_no_evidence(federation: Federation, job: Job) -> None:
    federation.train("north", seed=9)
    recorded = job.attempt(federation.version, FAIL)
    assert recorded.evidence_json == ""
    assert recorded.erasure.state == erasures_pb2.Erasure.VERIFYING
    assert recorded.erasure.attempts[0].verdict == FAIL


def test_a_candidate_without_a_file_or_from_before_the_removal_is_void(
    federation: Federation, job: Job
) -> None:
    federation.train("north", "west", seed=9)
    for version in (3, federation.version - 1):
        with pytest.raises(PatchVoid):
            job.attempt(version)


def test_an_erasure_ends_only_with_a_good_certificate(
    federation: Federation, job: Job, tmp_path: Path
) -> None:
    key = SigningKey.load_or_create(tmp_path / "key.pem")
    with pytest.raises(AttemptMissing):
        job.certify(key)
    with pytest.raises(CertificateInvalid):
        job.conclude(certificate=b"{}")
    with pytest.raises(MalformedRequest):
        job.conclude()
    federation.train("north", seed=9)
    job.passes()
    assert job.certify(key) == job.certify(key)


def test_a_claim_that_is_given_back_can_be_taken_by_another_calibrator_at_once(
    federation: Federation,
) -> None:
    first = federation.job(federation.request("south").name, "c1")
    with pytest.raises(ClaimHeld):
        federation.job(first.name, "c2")
    request = erasures_pb2.ReleaseClaimRequest(name=first.name, fencing_token=first.token)
    federation.jobs.ReleaseClaim(request)
    federation.job(first.name, "c2")
    with pytest.raises(ClaimLost):
        federation.jobs.ReleaseClaim(request)


def test_contributions_of_retained_sites_come_in_parts_with_their_digests(
    federation: Federation, job: Job
) -> None:
    federation.train("north", "west", "north", seed=50)
    messages = contributions(federation, job)
    headers = [m.header for m in messages if m.WhichOneof("part") == "header"]
    chunks = [m.chunk for m in messages if m.WhichOneof("part") == "chunk"]
    assert [h.site for h in headers] == ["sites/north", "sites/north", "sites/west"]
    oldest, newest, of_west = (h.first_entry for h in headers)
    assert oldest < of_west < newest
    for header, chunk in zip(headers, chunks, strict=True):
        assert chunk.offset == 0
        assert header.size_bytes == len(chunk.data)
        assert header.sha256 == hashlib.sha256(chunk.data).digest()


def test_contributions_cut_in_no_segments_are_refused(federation: Federation, job: Job) -> None:
    with pytest.raises(MalformedRequest, match="segments"):
        contributions(federation, job, segments=0)
