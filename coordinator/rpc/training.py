"""letheon.v1.Training."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

import grpc
from google.protobuf.duration_pb2 import Duration

from coordinator.domain.task import AnswerKind, Task
from coordinator.domain.training_task import TrainTask
from coordinator.domain.upload import Receipt
from coordinator.rpc import convert
from coordinator.services.live_model import LiveModel
from coordinator.services.next_task import NextTask
from coordinator.services.receive_upload import ReceiveUpload
from coordinator.services.submit_answer import SubmitAnswer
from letheon.errors import MalformedRequest, Unavailable
from letheon.names import site_id, task_id, task_name
from letheon.servicekit import tracing
from letheon.servicekit.chunks import RawChunk, check_chunk
from letheon.v1 import training_pb2, training_pb2_grpc
from letheon.v1.models_pb2 import Chunk

_PushMessage: TypeAlias = training_pb2.PushDeltaRequest | RawChunk


@dataclass(frozen=True)
class TrainingServicer(training_pb2_grpc.TrainingServicer):
    """Tasks, uploads and answers of agents."""

    next_task: NextTask
    uploads: ReceiveUpload
    submit_answer: SubmitAnswer
    live: LiveModel
    plan_digest: str

    def NextTask(
        self, request: training_pb2.NextTaskRequest, context: grpc.ServicerContext
    ) -> training_pb2.NextTaskResponse:
        """The next task, or a delay."""
        abandoned = task_id(request.abandoned_task) if request.abandoned_task else None
        found = self.next_task(
            site_id(request.site),
            abandoned=abandoned,
            knows_invalidate=request.knows_invalidate,
            privacy=convert.privacy(request.privacy) if request.HasField("privacy") else None,
        )
        response = self._outcome(found)
        response.epoch = self.live.position.epoch
        return response

    def Heartbeat(
        self, request: training_pb2.HeartbeatRequest, context: grpc.ServicerContext
    ) -> training_pb2.HeartbeatResponse:
        """Whether the task at hand is still of use."""
        task = task_id(request.task) if request.task else None
        abandon = self.next_task.should_abandon(site_id(request.site), task)
        return training_pb2.HeartbeatResponse(epoch=self.live.position.epoch, abandon=abandon)

    def QueryUpload(
        self, request: training_pb2.QueryUploadRequest, context: grpc.ServicerContext
    ) -> training_pb2.QueryUploadResponse:
        """The durable size of an upload, or its receipt."""
        site = site_id(request.site) if request.site else None
        found = self.uploads.query(convert.update_id(request.update_id), site)
        if isinstance(found, Receipt):
            return training_pb2.QueryUploadResponse(receipt=convert.receipt(found))
        return training_pb2.QueryUploadResponse(committed_bytes=found)

    def PushDelta(
        self,
        request_iterator: Iterator[_PushMessage],
        context: grpc.ServicerContext,
    ) -> training_pb2.PushDeltaResponse:
        """One stream of an upload; `RawUploads` makes its messages."""
        messages = _uncut(request_iterator)
        first = next(messages, None)
        if not isinstance(first, training_pb2.PushDeltaRequest) or not first.HasField("header"):
            raise MalformedRequest("the first message of an upload is its header", field="header")
        found = self.uploads.receive(
            convert.header(first.header), lambda offset: _checked(messages, offset)
        )
        if isinstance(found, Receipt):
            return training_pb2.PushDeltaResponse(receipt=convert.receipt(found))
        return training_pb2.PushDeltaResponse(committed_bytes=found)

    def SubmitAnswer(
        self, request: training_pb2.SubmitAnswerRequest, context: grpc.ServicerContext
    ) -> training_pb2.SubmitAnswerResponse:
        """The answer to a stored task."""
        kind = request.WhichOneof("answer")
        if kind is None:
            raise MalformedRequest("the answer is missing", field="answer")
        answer = convert.plain(getattr(request, kind))
        self.submit_answer(
            site_id(request.site), task_id(request.task), kind=AnswerKind(kind), answer=answer
        )
        return training_pb2.SubmitAnswerResponse()

    def _outcome(self, found: TrainTask | Task | timedelta) -> training_pb2.NextTaskResponse:
        match found:
            case TrainTask():
                train = training_pb2.TrainTask(
                    name=task_name(found.id),
                    epoch=found.epoch,
                    plan_digest=self.plan_digest,
                    seed=found.seed,
                    exclusion_counter=found.exclusion_counter,
                    learning_rate=found.learning_rate,
                )
                return training_pb2.NextTaskResponse(train=train)
            case Task():
                response = convert.task(found)
                response.traceparent = tracing.left(found.id) or ""
                return response
            case _:
                delay = Duration()
                delay.FromTimedelta(found)
                return training_pb2.NextTaskResponse(retry_after=delay)


def _uncut(messages: Iterator[_PushMessage]) -> Iterator[_PushMessage]:
    """The messages. Raises Unavailable if the caller or the link went away in the middle."""
    try:
        yield from messages
    except grpc.RpcError as error:
        raise Unavailable("the stream was cut; query the upload and go on") from error


def _checked(messages: Iterator[_PushMessage], offset: int) -> Iterator[bytes]:
    for message in messages:
        chunk = message if isinstance(message, RawChunk) else _chunk(message)
        data = check_chunk(chunk, offset)
        offset += len(data)
        yield data


def _chunk(message: training_pb2.PushDeltaRequest) -> Chunk:
    if not message.HasField("chunk"):
        raise MalformedRequest("after the header come chunks", field="chunk")
    return message.chunk
