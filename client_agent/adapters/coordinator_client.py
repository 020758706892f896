"""The `Coordinator` port over gRPC: the only file that sees a stub."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from client_agent.adapters import convert
from client_agent.domain.answers import Answer
from client_agent.domain.tasks import Assignment, ModelFile, Pulse, Standing
from client_agent.domain.upload import PayloadDamaged, Receipt, Upload
from client_agent.ports import Holdings
from letheon.errors import CoordinatorUnreachable, LetheonError
from letheon.federation.parameters import Layout
from letheon.federation.plan import Plan
from letheon.names import HEAD, model_name, site_name
from letheon.servicekit import transfer
from letheon.servicekit.channel import open_channel
from letheon.servicekit.faults import reach
from letheon.v1 import (
    federation_pb2,
    federation_pb2_grpc,
    models_pb2_grpc,
    sites_pb2,
    sites_pb2_grpc,
    training_pb2,
    training_pb2_grpc,
)

_HEARTBEAT_DEADLINE_S = 5.0


class CoordinatorClient:
    """One channel, one site. `on_contact` is called at every answer."""

    def __init__(self, address: str, site: str, *, on_contact: Callable[[], None]) -> None:
        self._site = site_name(site)
        self._on_contact = on_contact
        self._state = threading.Condition()  # of the two below; never held during a call
        self._calls = 0
        self._interrupted = False
        self._channel = open_channel(address)
        self._federation = federation_pb2_grpc.FederationStub(self._channel)
        self._sites = sites_pb2_grpc.SitesStub(self._channel)
        self._models = models_pb2_grpc.ModelsStub(self._channel)
        self._training = training_pb2_grpc.TrainingStub(self._channel)

    def interrupt(self) -> None:
        """Ends transfers at the next chunk and refuses every later call; from any thread."""
        with self._state:
            self._interrupted = True

    def close(self) -> None:
        """Closes the channel once nothing uses it.

        A call that begins on a channel while another thread closes it crashes the process inside
        gRPC (1.85), so a call that outlasts the wait keeps the channel open to the end.
        """
        self.interrupt()
        with self._state:
            if self._state.wait_for(lambda: self._calls == 0, _HEARTBEAT_DEADLINE_S + 1.0):
                self._channel.close()

    def plan(self) -> Plan:
        """The plan of the federation. Raises BadConfig if it cannot be read."""
        with self._call():
            message = self._federation.GetPlan(federation_pb2.GetPlanRequest())
        return Plan.from_canonical(message.canonical_json)

    def register(self, *, display_name: str, holdings: Holdings, plan_digest: str) -> Standing:
        """Enrols the site, or says again who it is and what it brings: counts, no records."""
        request = sites_pb2.RegisterSiteRequest(
            name=self._site,
            display_name=display_name,
            record_count=holdings.train_records,
            plan_digest=plan_digest,
            control_records=holdings.control_records,
            class_counts=holdings.class_counts,
        )
        with self._call():
            return convert.standing(self._sites.RegisterSite(request))

    def next_task(self, abandoned_task: str) -> Assignment:
        """The next task, or how long to wait."""
        request = training_pb2.NextTaskRequest(site=self._site, abandoned_task=abandoned_task)
        with self._call():
            return convert.assignment(self._training.NextTask(request))

    def heartbeat(self, task: str) -> Pulse:
        """A sign of life; the answer says whether the task is still of use."""
        request = training_pb2.HeartbeatRequest(site=self._site, task=task)
        with self._call():
            response = self._training.Heartbeat(request, timeout=_HEARTBEAT_DEADLINE_S)
        return Pulse(response.epoch, response.abandon)

    def download(self, version: int | None, path: Path) -> ModelFile:
        """Writes a version (None: the head) to `path`, resuming what is there."""
        name = HEAD if version is None else model_name(version)
        with self._call():
            arrived = transfer.download(
                self._models.DownloadModel,
                path,
                name=name,
                reader=self._site,
                on_progress=self._check_interrupted,
            )
        return ModelFile(arrived.version, arrived.epoch, arrived.path)

    def receipt_of(self, upload: Upload) -> Receipt | None:
        """The receipt if the coordinator accepted the payload; nothing is sent."""
        question = training_pb2.QueryUploadRequest(update_id=upload.update_id, site=self._site)
        with self._call():
            state = self._training.QueryUpload(question)
        found = state.WhichOneof("outcome") == "receipt"
        return convert.receipt(state.receipt) if found else None

    def push(self, upload: Upload, layout: Layout) -> Receipt:
        """Sends a payload, resuming at what the coordinator holds. Idempotent by update_id.

        Raises PayloadDamaged, before a byte leaves, if the file is not what was written.
        """
        header = convert.upload_header(upload, self._site, layout)
        with self._call():
            receipt = transfer.push(
                self._push_segment,
                header,
                upload.payload.path,
                query=self._training.QueryUpload,
                inspect=partial(_inspect, upload),
                on_progress=self._check_interrupted,
            )
        return convert.receipt(receipt)

    def submit(self, task: str, answer: Answer) -> None:
        """Answers an evaluate, audit or erase task. Idempotent."""
        with self._call():
            self._training.SubmitAnswer(convert.answer_request(self._site, task, answer))
        reach("agent.answer_submitted")

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Keeps the channel open during the call and counts any answer as contact."""
        with self._state:
            self._check_interrupted(0, 1)
            self._calls += 1
        try:
            yield
        except CoordinatorUnreachable:
            raise
        except LetheonError:
            self._on_contact()
            raise
        finally:
            with self._state:
                self._calls -= 1
                self._state.notify_all()
        self._on_contact()

    def _check_interrupted(self, done_bytes: int, all_bytes: int) -> None:
        if self._interrupted and done_bytes < all_bytes:
            raise CoordinatorUnreachable("the agent stops")

    def _push_segment(
        self, requests: Iterator[training_pb2.PushDeltaRequest], *, timeout: float
    ) -> training_pb2.PushDeltaResponse:
        """One stream; interrupted, it ends early and the coordinator keeps what it got."""
        sending = itertools.takewhile(lambda _: not self._interrupted, requests)
        answer = self._training.PushDelta(sending, timeout=timeout)
        reach("agent.segment_sent")
        return answer


def _inspect(upload: Upload) -> None:
    """Raises PayloadDamaged unless size and SHA-256 of the file are those that were noted."""
    payload = upload.payload
    try:
        with payload.path.open("rb") as file:
            size, digest = os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256")
    except FileNotFoundError:
        raise PayloadDamaged("the payload is no longer in the outbox") from None
    if (size, digest.hexdigest()) != (payload.size_bytes, payload.sha256):
        raise PayloadDamaged(
            f"the payload in the outbox is not the one that was written: {size} bytes on disk,"
            f" {payload.size_bytes} noted"
        )
