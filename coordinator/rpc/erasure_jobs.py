"""letheon.v1.ErasureJobs."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from coordinator.domain.claim import Claim
from coordinator.domain.erasure import Erasure
from coordinator.rpc import contributions
from coordinator.rpc import convert_erasures as convert
from coordinator.rpc.erasures import message_of
from coordinator.services.ask_sites import answer_payload, ask_sites, list_answers
from coordinator.services.claim_erasure import claim_erasure, release_claim, renew_claim
from coordinator.services.conclude_erasure import conclude_erasure
from coordinator.services.erasure_context import ErasureContext
from coordinator.services.record_attempt import record_attempt
from coordinator.services.remove_contribution import remove_contribution
from coordinator.services.retained_parts import RetainedParts
from coordinator.services.transfer_slots import TransferSlots
from letheon.names import erasure_id, task_name
from letheon.servicekit.chunks import chunk_messages
from letheon.v1 import erasures_pb2, erasures_pb2_grpc, models_pb2


@dataclass(frozen=True)
class ErasureJobsServicer(erasures_pb2_grpc.ErasureJobsServicer):
    """Carrying an erasure out; called by calibrators."""

    setting: ErasureContext
    slots: TransferSlots

    def ClaimErasure(
        self, request: erasures_pb2.ClaimErasureRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.Claim:
        """Takes the job."""
        claimed = claim_erasure(erasure_id(request.name), request.holder, self.setting)
        return self._claim(*claimed)

    def RenewClaim(
        self, request: erasures_pb2.RenewClaimRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.Claim:
        """Keeps the job."""
        renewed = renew_claim(
            erasure_id(request.name),
            request.fencing_token,
            self.setting,
            progress_json=request.progress_json if request.HasField("progress_json") else None,
            state=convert.told_state(request.state),
        )
        return self._claim(*renewed)

    def ReleaseClaim(
        self, request: erasures_pb2.ReleaseClaimRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.ReleaseClaimResponse:
        """Gives the job back."""
        release_claim(erasure_id(request.name), request.fencing_token, self.setting)
        return erasures_pb2.ReleaseClaimResponse()

    def RemoveContribution(
        self, request: erasures_pb2.RemoveContributionRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.Removal:
        """The removal."""
        removed = remove_contribution(erasure_id(request.name), request.fencing_token, self.setting)
        return convert.removal(removed)

    def AskSites(
        self, request: erasures_pb2.AskSitesRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.AskSitesResponse:
        """Creates tasks."""
        tasks = ask_sites(
            erasure_id(request.name),
            request.fencing_token,
            request.request_id,
            convert.question(request),
            self.setting,
        )
        return erasures_pb2.AskSitesResponse(tasks=[task_name(task.id) for task in tasks])

    def ListAnswers(
        self, request: erasures_pb2.ListAnswersRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.ListAnswersResponse:
        """The tasks of a question, with the answers so far."""
        tasks = list_answers(
            erasure_id(request.name), request.fencing_token, request.request_id, self.setting
        )
        return erasures_pb2.ListAnswersResponse(answers=[convert.answer(task) for task in tasks])

    def DownloadAnswer(
        self, request: erasures_pb2.DownloadAnswerRequest, context: grpc.ServicerContext
    ) -> Iterator[models_pb2.DownloadModelResponse]:
        """A header with size and digest, then the payload in the plan's encoding."""
        sha256 = answer_payload(
            erasure_id(request.name), request.fencing_token, request.update_id, self.setting
        )
        with self.slots.take():
            size = len(self.setting.blobs.payloads.get(sha256))  # checked against its digest
            with self.setting.blobs.payloads.open(sha256) as opened:
                header = models_pb2.Model(size_bytes=size, sha256=sha256)
                yield models_pb2.DownloadModelResponse(header=header)
                yield from chunk_messages(models_pb2.DownloadModelResponse, opened, 0, size)

    def DownloadContributions(
        self, request: erasures_pb2.DownloadContributionsRequest, context: grpc.ServicerContext
    ) -> Iterator[erasures_pb2.DownloadContributionsResponse]:
        """Of each part a header, then its chunks."""
        parts = RetainedParts(
            erasure_id(request.name),
            request.fencing_token,
            request.segments,
            self.setting,
            with_subject=request.with_subject,
        )
        with self.slots.take():
            for part in parts:
                yield from contributions.messages(part)

    def RecordAttempt(
        self, request: erasures_pb2.RecordAttemptRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.AttemptRecorded:
        """Records a run of the gate; a passing one promotes and destroys."""
        erasure = record_attempt(
            erasure_id(request.name),
            request.fencing_token,
            convert.run_of_the_gate(request.attempt),
            self.setting,
        )
        evidence = erasure.evidence_json if erasure.promoted_at is not None else ""
        return erasures_pb2.AttemptRecorded(
            erasure=message_of(erasure, self.setting), evidence_json=evidence
        )

    def ConcludeErasure(
        self, request: erasures_pb2.ConcludeErasureRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.Erasure:
        """Ends the job."""
        ended = conclude_erasure(
            erasure_id(request.name), request.fencing_token, convert.end(request), self.setting
        )
        return message_of(ended, self.setting)

    def _claim(self, erasure: Erasure, claim: Claim) -> erasures_pb2.Claim:
        with self.setting.store.read() as uow:
            attempts = uow.attempts.of(erasure.id)
        return convert.claim(erasure, attempts, claim, self.setting.limits.claim_lease)
