"""The `Coordinator` port over gRPC: the only file that sees a stub."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from client_agent.adapters import convert
from client_agent.adapters.update_keys import UpdateKeys
from client_agent.domain.answers import Answer
from client_agent.domain.privacy import PrivacyLoss
from client_agent.domain.tasks import Assignment, ModelFile, Pulse, Standing
from client_agent.domain.upload import PayloadDamaged, Receipt, Upload
from client_agent.ports import Holdings
from client_agent.services.coordinator_trust import CoordinatorTrust
from letheon.errors import CoordinatorUnreachable, LetheonError, WrongPlan
from letheon.federation.parameters import Layout
from letheon.federation.plan import Plan
from letheon.names import HEAD, model_name, site_id, site_name
from letheon.proof.update_signature import sign_update
from letheon.servicekit import transfer
from letheon.servicekit.channel import open_channel
from letheon.servicekit.faults import reach
from letheon.servicekit.rate import RateLimit
from letheon.servicekit.route import Route
from letheon.v1 import (
    enrolment_pb2,
    enrolment_pb2_grpc,
    erasures_pb2,
    erasures_pb2_grpc,
    federation_pb2,
    federation_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    sites_pb2,
    sites_pb2_grpc,
    training_pb2,
    training_pb2_grpc,
    transparency_pb2,
    transparency_pb2_grpc,
)

_HEARTBEAT_DEADLINE_S = 5.0


_SEGMENT_S = 60.0  # of a limited upload: what a broken connection costs at most
_CHUNK_S = 0.25
_SMALLEST_CHUNK_BYTES = 4096


class CoordinatorClient:
    """One channel, one site. `on_contact` is called at every answer, `on_progress` whenever
    something of a transfer has moved.
    """

    def __init__(
        self,
        address: str,
        site: str,
        *,
        on_contact: Callable[[], None],
        on_progress: Callable[[], None] = lambda: None,
        route: Route | None = None,
        upload_limit: RateLimit | None = None,
        download_limit: RateLimit | None = None,
    ) -> None:
        self._keys: UpdateKeys | None = None
        self._trust: CoordinatorTrust | None = None
        self._privacy: Callable[[], PrivacyLoss | None] = lambda: None
        self._plan_digest = ""
        self._site = site_name(site)
        self._on_contact = on_contact
        self._on_progress = on_progress
        self._upload_limit = upload_limit
        self._download_limit = download_limit
        self._state = threading.Condition()  # of the count below; never held during a call
        self._calls = 0
        self._interrupted = threading.Event()
        self._channel = open_channel(address, route=route)
        self._federation = federation_pb2_grpc.FederationStub(self._channel)
        self._sites = sites_pb2_grpc.SitesStub(self._channel)
        self._models = models_pb2_grpc.ModelsStub(self._channel)
        self._training = training_pb2_grpc.TrainingStub(self._channel)
        self._enrolment = enrolment_pb2_grpc.EnrolmentStub(self._channel)
        self._erasures = erasures_pb2_grpc.ErasuresStub(self._channel)
        self._log = transparency_pb2_grpc.TransparencyStub(self._channel)

    def trust_only(self, trust: CoordinatorTrust) -> None:
        """From now on a model without the coordinator's signature is refused."""
        self._trust = trust

    def sign_with(self, keys: UpdateKeys) -> None:
        """From now on what the site sends is signed."""
        self._keys = keys

    def tell_of_privacy(self, loss: Callable[[], PrivacyLoss | None]) -> None:
        """From now on every poll says how much of the site's privacy budget is spent."""
        self._privacy = loss

    def interrupt(self) -> None:
        """Ends transfers at the next chunk and refuses every later call; from any thread."""
        with self._state:
            self._interrupted.set()

    def close(self) -> None:
        """Closes the channel once nothing uses it.

        A call that begins on a channel while another thread closes it crashes the process inside
        gRPC (1.85), so a call that outlasts the wait keeps the channel open to the end.
        """
        self.interrupt()
        with self._state:
            if self._state.wait_for(lambda: self._calls == 0, _HEARTBEAT_DEADLINE_S + 1.0):
                self._channel.close()

    def renew_certificate(self, csr: bytes) -> bytes:
        """The next certificate of the site, for a signing request; both PEM."""
        with self._call():
            return self._enrolment.Renew(enrolment_pb2.RenewRequest(csr=csr)).certificate

    def plan(self) -> Plan:
        """The plan of the federation. Raises BadConfig if it cannot be read."""
        with self._call():
            message = self._federation.GetPlan(federation_pb2.GetPlanRequest())
        plan = Plan.from_canonical(message.canonical_json)
        self._plan_digest = plan.digest
        return plan

    def register(self, *, display_name: str, holdings: Holdings, plan_digest: str) -> Standing:
        """Enrols the site, or says again who it is and what it brings: counts, no records."""
        pem, proof = ("", b"") if self._keys is None else self._keys.announced(site_id(self._site))
        request = sites_pb2.RegisterSiteRequest(
            name=self._site,
            display_name=display_name,
            record_count=holdings.train_records,
            plan_digest=plan_digest,
            control_records=holdings.control_records,
            class_counts=holdings.class_counts,
            update_key_pem=pem,
            update_key_proof=proof,
        )
        with self._call():
            standing = convert.standing(self._sites.RegisterSite(request))
        if self._keys is not None:
            self._keys.registered()
        return standing

    def next_task(self, abandoned_task: str) -> Assignment:
        """The next task, or how long to wait."""
        request = training_pb2.NextTaskRequest(
            site=self._site,
            abandoned_task=abandoned_task,
            knows_invalidate=True,
            privacy=convert.privacy_loss(self._privacy()),
        )
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
                on_progress=self._downloaded(),
                on_header=partial(self._check_model, name),
            )
        return ModelFile(arrived.version, arrived.epoch, arrived.path)

    def download_named(self, name: str, path: Path) -> ModelFile:
        """Writes what an exchange needs (`erasures/{erasure}/...`) to `path`, resuming it."""
        with self._call():
            arrived = transfer.download(
                self._models.DownloadModel,
                path,
                name=name,
                reader=self._site,
                on_progress=self._check_interrupted,
                on_header=partial(self._check_model, name),
            )
        return ModelFile(arrived.version, arrived.epoch, arrived.path)

    def checkpoint(self) -> str:
        """The newest checkpoint of the transparency log, a signed note."""
        with self._call():
            return self._log.GetCheckpoint(transparency_pb2.GetCheckpointRequest()).note

    def consistency(self, first: int, second: int) -> tuple[bytes, ...]:
        """The proof that the log of `second` entries begins with that of `first`."""
        request = transparency_pb2.GetConsistencyRequest(first=first, second=second)
        with self._call():
            return tuple(self._log.GetConsistency(request).proof)

    def coordinator_keys(self) -> bytes:
        """The coordinator's list of keys, unchecked."""
        with self._call():
            return self._log.GetKeys(transparency_pb2.GetKeysRequest()).key_list

    def request_erasure(self, request_id: str, records: str, basis: str) -> str:
        """Files a request for records of this site; the erasure's name. Idempotent."""
        request = erasures_pb2.RequestErasureRequest(
            request_id=request_id,
            site=self._site,
            legal_basis=basis,
            requester=self._site,
            records=records,
        )
        with self._call():
            return self._erasures.RequestErasure(request).name

    def erasure_state(self, erasure: str) -> str:
        """The state of an erasure, lower case, such as `certified`."""
        with self._call():
            found = self._erasures.GetErasure(erasures_pb2.GetErasureRequest(name=erasure))
        return erasures_pb2.Erasure.State.Name(found.state).lower()

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
        if self._keys is not None:
            signed = sign_update(convert.signed_update(header), self._keys.present)
            header.signature, header.signature_key = signed.signature, signed.key_id
        with self._call():
            receipt = transfer.push(
                self._push_segment,
                header,
                upload.payload.path,
                query=self._training.QueryUpload,
                inspect=partial(_inspect, upload),
                on_progress=self._check_interrupted,
                **_pieces(self._upload_limit),
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

    def _check_model(self, wanted: str, header: models_pb2.Model) -> None:
        if self._trust is None:
            return
        manifest = convert.manifest(header)
        self._trust.check_model(manifest, header.signature, header.signature_key, wanted)
        if self._plan_digest and manifest.plan_digest != self._plan_digest:
            raise WrongPlan(
                f"{manifest.name} is of plan {manifest.plan_digest[:12]}, the agent works on "
                f"{self._plan_digest[:12]}",
                plan=manifest.plan_digest,
            )

    def _check_interrupted(self, done_bytes: int, all_bytes: int) -> None:
        if self._interrupted.is_set() and done_bytes < all_bytes:
            raise CoordinatorUnreachable("the agent stops")

    def _downloaded(self) -> transfer.OnProgress:
        """What is called at each chunk: gRPC fetches little more while it waits for the rate."""
        seen = 0

        def on_progress(done_bytes: int, all_bytes: int) -> None:
            nonlocal seen
            self._on_progress()
            if self._download_limit is not None:
                # What an earlier call left is no traffic of this one.
                piece = min(done_bytes - seen, transfer.CHUNK_BYTES)
                self._download_limit.take(piece, self._interrupted)
            seen = done_bytes
            self._check_interrupted(done_bytes, all_bytes)

        return on_progress

    def _push_segment(
        self, requests: Iterator[training_pb2.PushDeltaRequest], *, timeout: float
    ) -> training_pb2.PushDeltaResponse:
        """One stream; interrupted, it ends early and the coordinator keeps what it got."""
        answer = self._training.PushDelta(self._at_rate(requests), timeout=timeout)
        reach("agent.segment_sent")
        return answer

    def _at_rate(
        self, requests: Iterator[training_pb2.PushDeltaRequest]
    ) -> Iterator[training_pb2.PushDeltaRequest]:
        for request in requests:
            if self._upload_limit is not None:
                self._upload_limit.take(len(request.chunk.data), self._interrupted)
            if self._interrupted.is_set():
                return
            self._on_progress()
            yield request


def _pieces(limit: RateLimit | None) -> dict[str, int]:
    """Sizes of segment and chunk for a limited rate: a slow link gets small ones."""
    if limit is None:
        return {}
    chunk = int(limit.bytes_per_s * _CHUNK_S)
    chunk = min(max(chunk, _SMALLEST_CHUNK_BYTES), transfer.CHUNK_BYTES)
    segment = min(max(int(limit.bytes_per_s * _SEGMENT_S), chunk), transfer.SEGMENT_BYTES)
    return {"chunk_bytes": chunk, "segment_bytes": segment}


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
