"""A coordinator that does what a test tells it, behind a real server on a free port."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import grpc
import numpy as np

from letheon import __version__
from letheon.errors import DigestMismatch, LetheonError, UnknownModelVersion, UnknownSite
from letheon.federation.parameters import Layout, flatten
from letheon.federation.plan import Plan, PlanDraft
from letheon.imaging.models.model import ImageSpec
from letheon.imaging.models.weights import initialise, read_weights
from letheon.servicekit.server import Server
from letheon.servicekit.transfer import CHUNK_BYTES, check_chunk, read_chunks
from letheon.v1 import (
    federation_pb2,
    federation_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    sites_pb2,
    sites_pb2_grpc,
    training_pb2,
    training_pb2_grpc,
)

SIDE = 12


def a_plan(*, width: int = 4, **overrides: object) -> tuple[Plan, np.ndarray]:
    """A tiny plan and its initial weights [d]."""
    fields = {
        "name": "tiny",
        "classes": 2,
        "model": {"plugin": "small_cnn", "arguments": {"width": width}},
        "image": {"channels": 1, "height": SIDE, "width": SIDE},
        "training": {"local_steps": 2, "batch_size": 8},
        "gate": {"bootstrap": 20},
        **overrides,
    }
    draft = PlanDraft.model_validate(fields)
    module = initialise("small_cnn", {"width": width}, ImageSpec(1, SIDE, SIDE), 2, seed=1)
    weights = read_weights(module)
    layout = Layout.from_json([{"name": n, "shape": list(w.shape)} for n, w in weights.items()])
    return draft.with_layout(layout), flatten(weights, layout)


@dataclass
class Stored:
    """What arrived of an upload."""

    header: training_pb2.UploadHeader
    held: bytearray = field(default_factory=bytearray)
    streams: int = 0
    receipt: training_pb2.Receipt | None = None


class ScriptedCoordinator(
    federation_pb2_grpc.FederationServicer,
    sites_pb2_grpc.SitesServicer,
    models_pb2_grpc.ModelsServicer,
    training_pb2_grpc.TrainingServicer,
):
    """Everything it was told is in its fields; `until` waits for a condition on them."""

    def __init__(self, plan: Plan, weights: np.ndarray, *, epoch: int = 0) -> None:
        self.canonical = plan.canonical_json()
        self.plan = plan
        self.epoch = epoch
        self.models: dict[int, tuple[int, bytes]] = {0: (epoch, weights.astype("<f4").tobytes())}
        self.site_state = sites_pb2.Site.ACTIVE
        self.clock_ahead_s = 0.0
        self.release = __version__
        self.registrations: list[sites_pb2.RegisterSiteRequest] = []
        self.tasks: deque[training_pb2.NextTaskResponse | LetheonError] = deque()
        self.polls = 0
        self.polled: list[training_pb2.NextTaskRequest] = []
        self.handed_out: list[training_pb2.NextTaskResponse] = []
        self.train_forever = False
        self.abandoned: list[str] = []
        self.heartbeats: list[str] = []
        self.of_no_use: set[str] = set()
        self.uploads: dict[str, Stored] = {}
        self.push_errors: deque[LetheonError] = deque()
        self.damage_next_uploads = 0  # as a disk that does not keep what was written
        self.pushed_bytes = 0
        self.cut_next_upload_at: int | None = None
        self.cut_next_download_at: int | None = None
        self.lose_next_receipt = False
        self.answers: list[training_pb2.SubmitAnswerRequest] = []
        self.answer_errors: deque[LetheonError] = deque()
        self.downloads: list[tuple[str, int]] = []
        self._changed = threading.Condition()
        self.address = ""
        self._server: Server | None = None

    def start(
        self, listen: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None
    ) -> ScriptedCoordinator:
        registrations = (
            (federation_pb2_grpc.add_FederationServicer_to_server, self),
            (sites_pb2_grpc.add_SitesServicer_to_server, self),
            (models_pb2_grpc.add_ModelsServicer_to_server, self),
            (training_pb2_grpc.add_TrainingServicer_to_server, self),
        )
        self._server = Server(registrations, listen=listen, credentials=credentials)
        self.address = self._server.start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(0.0)
            self._server = None

    def until(self, condition: Callable[[], bool], timeout_s: float = 100.0) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), "the condition never held"

    def change(self, action: Callable[[], None]) -> None:
        with self._changed:
            action()
            self._changed.notify_all()

    @property
    def receipts(self) -> list[training_pb2.Receipt]:
        return [one.receipt for one in list(self.uploads.values()) if one.receipt is not None]

    def ask_to_train(self, *, seed: int = 7, epoch: int | None = None) -> str:
        name = f"tasks/{uuid.uuid4()}"
        task = training_pb2.TrainTask(
            name=name,
            epoch=self.epoch if epoch is None else epoch,
            plan_digest=self.plan.digest,
            seed=seed,
            learning_rate=self.plan.training.learning_rate,
        )
        self.tasks.append(training_pb2.NextTaskResponse(train=task, epoch=self.epoch))
        return name

    # federation, sites

    def GetPlan(self, request, context):  # noqa: N802
        return federation_pb2.Plan(canonical_json=self.canonical, digest=self.plan.digest)

    def RegisterSite(self, request, context):  # noqa: N802
        self.change(lambda: self.registrations.append(request))
        return sites_pb2.Site(name=request.name, state=self.site_state)

    def GetFederation(self, request, context):  # noqa: N802
        told = federation_pb2.FederationStatus(
            epoch=self.epoch,
            head_version=max(self.models),
            model_size_bytes=len(self.models[0][1]),
            release=self.release,
        )
        told.read_at.FromDatetime(datetime.now(UTC) + timedelta(seconds=self.clock_ahead_s))
        return told

    def GetSite(self, request, context):  # noqa: N802
        if request.name not in {one.name for one in self.registrations}:
            raise UnknownSite(f"no site {request.name}")
        found = sites_pb2.Site(name=request.name, state=self.site_state, erasure="erasures/e1")
        found.registered_at.GetCurrentTime()
        return found

    # models

    def DownloadModel(self, request, context):  # noqa: N802
        with self._changed:
            self.downloads.append((request.name, request.offset))
            last = request.name.rpartition("/")[2]
            version = max(self.models) if last == "head" else int(last)
            if version not in self.models:
                raise UnknownModelVersion("no such version", version=version)
            epoch, content = self.models[version]
            cut, self.cut_next_download_at = self.cut_next_download_at, None
        header = models_pb2.Model(
            name=f"models/{version}",
            version=version,
            epoch=epoch,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        yield models_pb2.DownloadModelResponse(header=header)
        for response in _chunks(content, request.offset):
            if cut is not None and response.chunk.offset >= cut:
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            yield response

    # training

    def NextTask(self, request, context):  # noqa: N802
        with self._changed:
            self.polls += 1
            self.polled.append(request)
            if request.abandoned_task:
                self.abandoned.append(request.abandoned_task)
            if not self.tasks and self.train_forever:
                self.ask_to_train()
            self._changed.notify_all()
            if not self.tasks:
                idle = training_pb2.NextTaskResponse(epoch=self.epoch)
                idle.retry_after.FromMilliseconds(50)
                return idle
            task = self.tasks.popleft()
            if isinstance(task, LetheonError):
                raise task
            self.handed_out.append(task)
            return task

    def Heartbeat(self, request, context):  # noqa: N802
        self.change(lambda: self.heartbeats.append(request.task))
        abandon = request.task in self.of_no_use
        return training_pb2.HeartbeatResponse(epoch=self.epoch, abandon=abandon)

    def QueryUpload(self, request, context):  # noqa: N802
        stored = self.uploads.get(request.update_id)
        if stored is None:
            return training_pb2.QueryUploadResponse(committed_bytes=0)
        if stored.receipt is not None:
            return training_pb2.QueryUploadResponse(receipt=stored.receipt)
        return training_pb2.QueryUploadResponse(committed_bytes=len(stored.held))

    def PushDelta(self, request_iterator, context):  # noqa: N802
        header = next(request_iterator).header
        with self._changed:
            if self.push_errors:
                self._changed.notify_all()
                raise self.push_errors.popleft()
            stored = self.uploads.setdefault(header.update_id, Stored(header))
            stored.streams += 1
            cut, self.cut_next_upload_at = self.cut_next_upload_at, None
        for request in request_iterator:
            check_chunk(request.chunk, len(stored.held))
            stored.held += request.chunk.data
            self.pushed_bytes += len(request.chunk.data)
            if cut is not None and len(stored.held) >= cut:
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
        if self.damage_next_uploads:
            self.damage_next_uploads -= 1
            del self.uploads[header.update_id]
            raise DigestMismatch("the payload is not the one its header promised")
        assert hashlib.sha256(stored.held).digest() == header.sha256
        with self._changed:
            stored.receipt = self._accept(stored)
            self._changed.notify_all()
            lost, self.lose_next_receipt = self.lose_next_receipt, False
        if lost:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the receipt is lost")
        return training_pb2.PushDeltaResponse(receipt=stored.receipt)

    def SubmitAnswer(self, request, context):  # noqa: N802
        with self._changed:
            if self.answer_errors:
                self._changed.notify_all()
                raise self.answer_errors.popleft()
        self.change(lambda: self.answers.append(request))
        return training_pb2.SubmitAnswerResponse()

    def _accept(self, stored: Stored) -> training_pb2.Receipt:
        is_delta = stored.header.WhichOneof("purpose") == "delta"
        outcome = training_pb2.Receipt.MERGED if is_delta else training_pb2.Receipt.STORED
        number = len(self.receipts) + 1
        return training_pb2.Receipt(
            update_id=stored.header.update_id,
            outcome=outcome,
            version=number,
            coefficient=0.5,
            staleness=0,
            entry=number,
            ledger_hash=f"{number:064x}",
            sha256=hashlib.sha256(stored.held).hexdigest(),
        )


def _chunks(content: bytes, offset: int) -> Iterator[models_pb2.DownloadModelResponse]:
    import io

    for chunk in read_chunks(io.BytesIO(content), offset, len(content)):
        assert len(chunk.data) <= CHUNK_BYTES
        yield models_pb2.DownloadModelResponse(chunk=chunk)
