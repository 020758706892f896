"""The coordinator over gRPC: the only file that sees stubs. Errors arrive as LetheonError."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from calibrator.adapters import convert
from calibrator.adapters.contribution_stream import read_parts
from calibrator.domain.case import Claim, ModelRef, Removal, Ticket
from calibrator.domain.contributions import RetainedPart
from calibrator.ports import Answer, Attempt, Certified, Failed, PatchUpload, Recorded, Stage
from letheon.errors import CoordinatorUnreachable
from letheon.federation import encoding
from letheon.federation.parameters import Vector
from letheon.federation.plan import Plan
from letheon.names import HEAD
from letheon.servicekit import transfer
from letheon.servicekit.erasure_queue import ConsentRequest
from letheon.servicekit.signing import canonical_json
from letheon.v1 import erasures_pb2 as pb
from letheon.v1 import federation_pb2, models_pb2, training_pb2
from letheon.v1.erasures_pb2_grpc import ErasureJobsStub, ErasuresStub
from letheon.v1.federation_pb2_grpc import FederationStub
from letheon.v1.models_pb2_grpc import ModelsStub
from letheon.v1.training_pb2_grpc import TrainingStub

_REQUESTER = "consent"  # the role under which queued requests are filed
_STATES = {
    "calibrating": pb.Erasure.CALIBRATING,
    "verifying": pb.Erasure.VERIFYING,
    None: pb.Erasure.STATE_UNSPECIFIED,
}
# The coordinator replays the ledger and destroys files before it answers these.
_LONG_CALL_S = 30 * 60.0


class CoordinatorClient:
    """Implements `calibrator.ports.Coordinator`. Safe to share between threads."""

    def __init__(self, channel: grpc.Channel, reader: str) -> None:
        """`reader` names this calibrator in the coordinator's log of downloads."""
        self._jobs = ErasureJobsStub(channel)
        self._erasures = ErasuresStub(channel)
        self._federation = FederationStub(channel)
        self._models = ModelsStub(channel)
        self._training = TrainingStub(channel)
        self._reader = reader
        self._plan: Plan | None = None

    def request(self, request: ConsentRequest) -> str:
        """Files a request found in the queue."""
        filed = self._erasures.RequestErasure(
            pb.RequestErasureRequest(
                request_id=request.request_id,
                site=request.site,
                legal_basis=request.basis,
                requester=_REQUESTER,
            )
        )
        return filed.name

    def claim(self, erasure: str, holder: str) -> Claim:
        """Takes the job."""
        request = pb.ClaimErasureRequest(name=erasure, holder=holder)
        return convert.claim_from(self._jobs.ClaimErasure(request))

    def renew(self, ticket: Ticket, progress_json: str | None, stage: Stage | None) -> None:
        """Keeps the lease; stores progress and state if given."""
        request = pb.RenewClaimRequest(
            name=ticket.erasure, fencing_token=ticket.token, state=_STATES[stage]
        )
        if progress_json is not None:
            request.progress_json = progress_json
        self._jobs.RenewClaim(request)

    def release(self, ticket: Ticket) -> None:
        """Gives the job back."""
        self._jobs.ReleaseClaim(
            pb.ReleaseClaimRequest(name=ticket.erasure, fencing_token=ticket.token)
        )

    def conclude(self, ticket: Ticket, end: Certified | Failed) -> None:
        """Ends the job."""
        request = pb.ConcludeErasureRequest(name=ticket.erasure, fencing_token=ticket.token)
        match end:
            case Certified(certificate):
                request.certificate = certificate
            case Failed(reason):
                request.failure = reason
        self._jobs.ConcludeErasure(request, timeout=_LONG_CALL_S)

    def plan(self) -> Plan:
        """The plan, read once."""
        if self._plan is None:
            answer = self._federation.GetPlan(federation_pb2.GetPlanRequest())
            self._plan = Plan.from_canonical(answer.canonical_json)
        return self._plan

    def head_version(self) -> int:
        """The newest version."""
        status = self._federation.GetFederation(federation_pb2.GetFederationRequest())
        return int(status.head_version)

    def pin_head(self) -> ModelRef:
        """Begins a download of the head and ends it after the header.

        By the time the header is sent the version has been written to a file.
        """
        request = models_pb2.DownloadModelRequest(name=HEAD, reader=self._reader)
        stream: Any = self._models.DownloadModel(request, timeout=transfer.TRANSFER_DEADLINE_S)
        try:
            first = next(iter(stream), None)
        finally:
            stream.cancel()
        if first is None or first.WhichOneof("part") != "header":
            raise CoordinatorUnreachable("the download of the head did not begin with a header")
        return convert.model_from(first.header)

    def download_head(self, directory: Path) -> tuple[ModelRef, Vector]:
        """The newest version, [d] float32."""
        model = transfer.download(
            self._models.DownloadModel, directory / "head", name=HEAD, reader=self._reader
        )
        weights = _take(model.path, "float32")
        return ModelRef(model.version, model.epoch, model.sha256), weights

    def remove(self, ticket: Ticket) -> Removal:
        """The removal transaction."""
        request = pb.RemoveContributionRequest(name=ticket.erasure, fencing_token=ticket.token)
        answer = self._jobs.RemoveContribution(request, timeout=_LONG_CALL_S)
        return convert.removal_from(answer)

    def record_attempt(self, ticket: Ticket, attempt: Attempt) -> Recorded:
        """Records a run of the gate."""
        request = pb.RecordAttemptRequest(
            name=ticket.erasure, fencing_token=ticket.token, attempt=convert.attempt_to(attempt)
        )
        answer = self._jobs.RecordAttempt(request, timeout=_LONG_CALL_S)
        return Recorded(
            convert.erasure_from(answer.erasure), convert.evidence_from(answer.evidence_json)
        )

    def retained_parts(
        self, ticket: Ticket, segments: int, *, with_subject: bool = False
    ) -> Sequence[RetainedPart]:
        """Each retained site's contribution in up to `segments` parts, oldest first."""
        request = pb.DownloadContributionsRequest(
            name=ticket.erasure,
            fencing_token=ticket.token,
            segments=segments,
            with_subject=with_subject,
        )
        stream = self._jobs.DownloadContributions(request, timeout=transfer.TRANSFER_DEADLINE_S)
        return tuple(read_parts(stream, self.plan().parameters))

    def ask_evaluate(self, ticket: Ticket, request_id: str, versions: Sequence[int]) -> None:
        """Utility of the versions, from every active site."""
        task = training_pb2.EvaluateTask(versions=versions)
        self._jobs.AskSites(_question(ticket, request_id, evaluate=task))

    def ask_audit(
        self, ticket: Ticket, request_id: str, versions: Sequence[int], seed: int
    ) -> None:
        """The forget statistic of the versions, from the subject."""
        task = training_pb2.AuditTask(erasure=ticket.erasure, versions=versions, seed=seed)
        self._jobs.AskSites(_question(ticket, request_id, audit=task))

    def ask_erase(
        self,
        ticket: Ticket,
        request_id: str,
        *,
        method: str,
        parameters: Mapping[str, Any],
        version: int,
        seed: int,
    ) -> None:
        """The agent's part of a method, from the subject."""
        task = training_pb2.EraseTask(
            erasure=ticket.erasure,
            method=method,
            parameters_json=canonical_json(dict(parameters)).decode(),
            version=version,
            seed=seed,
        )
        self._jobs.AskSites(_question(ticket, request_id, erase=task))

    def answers(self, ticket: Ticket, request_id: str) -> tuple[Answer, ...]:
        """Every task of the question."""
        answer = self._jobs.ListAnswers(
            pb.ListAnswersRequest(
                name=ticket.erasure, fencing_token=ticket.token, request_id=request_id
            )
        )
        return tuple(convert.answer_from(one) for one in answer.answers)

    def download_answer(self, ticket: Ticket, update_id: str, directory: Path) -> Vector:
        """The payload of an erase answer, [d] float32."""
        request = pb.DownloadAnswerRequest(
            name=ticket.erasure, fencing_token=ticket.token, update_id=update_id
        )
        stream = self._jobs.DownloadAnswer(request, timeout=transfer.TRANSFER_DEADLINE_S)
        received = transfer.receive(stream, directory / "answer")
        return _take(received.path, self.plan().patch_encoding)

    def merged_version(self, update_id: str) -> int | None:
        """Version after the patch was added, None if it was not."""
        answer = self._training.QueryUpload(training_pb2.QueryUploadRequest(update_id=update_id))
        if answer.WhichOneof("outcome") != "receipt":
            return None
        return int(answer.receipt.version)

    def push(self, ticket: Ticket, patch: PatchUpload) -> int:
        """Adds a patch; returns the version after it."""
        header = convert.patch_header(patch, ticket.erasure, ticket.token, self.plan())
        push_delta: Callable[..., training_pb2.PushDeltaResponse] = self._training.PushDelta
        receipt = transfer.push(push_delta, header, patch.path, query=self._training.QueryUpload)
        return int(receipt.version)


def _question(
    ticket: Ticket,
    request_id: str,
    *,
    evaluate: training_pb2.EvaluateTask | None = None,
    audit: training_pb2.AuditTask | None = None,
    erase: training_pb2.EraseTask | None = None,
) -> pb.AskSitesRequest:
    return pb.AskSitesRequest(
        name=ticket.erasure,
        fencing_token=ticket.token,
        request_id=request_id,
        evaluate=evaluate,
        audit=audit,
        erase=erase,
    )


def _take(path: Path, name: str) -> Vector:
    """Reads a payload and removes its file."""
    vector = encoding.decode(path.read_bytes(), name)
    path.unlink()
    return vector.copy()
