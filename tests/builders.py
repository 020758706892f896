"""Shared builders: a plan, deltas, and a coordinator in this process."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import google_crc32c
import grpc
import numpy as np

from coordinator.bootstrap import Coordinator, build
from coordinator.config import CoordinatorConfig
from coordinator.core import Core
from coordinator.core_wiring import build_core, open_store
from coordinator.domain.erasure import Erasure, ErasureState, Level
from coordinator.domain.site import Site, SiteState
from coordinator.domain.upload import DeltaPurpose, Header, Purpose, Receipt
from coordinator.services.receive_upload import ReceiveUpload
from coordinator.training_wiring import receive_upload
from letheon.federation.encoding import encode
from letheon.federation.parameters import Layout, TensorSpec, Vector, write_safetensors
from letheon.federation.plan import Plan, PlanDraft
from letheon.servicekit.channel import open_channel
from letheon.servicekit.clock import Clock, FakeClock
from letheon.servicekit.erasure_queue import ErasureQueue, MemoryErasureQueue
from letheon.v1 import (
    federation_pb2_grpc,
    ledger_pb2_grpc,
    models_pb2_grpc,
    sites_pb2,
    sites_pb2_grpc,
    training_pb2,
    training_pb2_grpc,
)
from letheon.v1.models_pb2 import Chunk

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LAYOUT = Layout(
    (TensorSpec("first.weight", (8, 4)), TensorSpec("first.bias", (8,)), TensorSpec("out", (3, 8)))
)


def a_plan(layout: Layout = LAYOUT, **overrides: Any) -> Plan:
    """A small plan; overrides are fields of PlanDraft."""
    fields: dict[str, Any] = {
        "name": "test",
        "model": {"plugin": "small_cnn", "arguments": {}},
        "image": {"channels": 1, "height": 8, "width": 8},
        "classes": 3,
    }
    return PlanDraft.model_validate({**fields, **overrides}).with_layout(layout)


def a_vector(seed: int = 0, layout: Layout = LAYOUT, scale: float = 0.1) -> Vector:
    """A float32 vector [d] of normal noise."""
    rng = np.random.default_rng(seed)
    return (scale * rng.standard_normal(layout.size)).astype(np.float32)


def a_federation(directory: Path, plan: Plan | None = None, seed: int = 1001) -> Plan:
    """Writes plan.json and initial.safetensors."""
    plan = plan or a_plan()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "plan.json").write_bytes(plan.canonical_json())
    write_safetensors(
        directory / "initial.safetensors", a_vector(seed, plan.parameters), plan.parameters
    )
    return plan


def a_config(directory: Path, **overrides: Any) -> CoordinatorConfig:
    """A coordinator on a free port with all its files under the directory."""
    fields: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "data_dir": directory / "data",
        "federation_dir": directory / "federation",
        "redis_url": "redis://127.0.0.1:1/0",
        "stop_seconds": 0.2,
        "limits": {"reserve_bytes": 0, "transfers_per_site": 16},
    }
    return CoordinatorConfig.model_validate({**fields, **overrides})


class Client:
    """Stubs of every service of the coordinator, and the steps of an agent."""

    def __init__(self, address: str, plan: Plan) -> None:
        self.plan = plan
        self.channel: grpc.Channel = open_channel(address)
        self.training = training_pb2_grpc.TrainingStub(self.channel)
        self.sites = sites_pb2_grpc.SitesStub(self.channel)
        self.models = models_pb2_grpc.ModelsStub(self.channel)
        self.ledger = ledger_pb2_grpc.LedgerStub(self.channel)
        self.federation = federation_pb2_grpc.FederationStub(self.channel)

    def register(self, *sites: str, record_count: int = 100) -> None:
        """Enrols sites."""
        for site in sites:
            self.sites.RegisterSite(
                sites_pb2.RegisterSiteRequest(
                    name=f"sites/{site}", display_name=site, record_count=record_count
                )
            )

    def header(
        self,
        site: str,
        payload: bytes,
        *,
        base_version: int = 0,
        epoch: int = 0,
        update_id: str | None = None,
        offset: int = 0,
        record_count: int = 100,
        exclusion_counter: int = 0,
    ) -> training_pb2.UploadHeader:
        """The header of a training delta."""
        return training_pb2.UploadHeader(
            update_id=update_id or str(uuid.uuid4()),
            size_bytes=len(payload),
            sha256=hashlib.sha256(payload).digest(),
            offset=offset,
            layout=a_wire_layout(self.plan),
            delta=training_pb2.DeltaPurpose(
                site=f"sites/{site}",
                task=f"tasks/train-{epoch}-0-0",
                base_version=base_version,
                epoch=epoch,
                record_count=record_count,
                train_loss=0.5,
                exclusion_counter=exclusion_counter,
            ),
        )

    def push(
        self, site: str, delta: Vector, *, base_version: int = 0, epoch: int = 0, **more: Any
    ) -> training_pb2.Receipt:
        """Sends a delta in one stream."""
        payload = encode(delta, self.plan.encoding)
        header = self.header(site, payload, base_version=base_version, epoch=epoch, **more)
        return self.send(header, payload).receipt

    def send(
        self, header: training_pb2.UploadHeader, payload: bytes, *, chunk_bytes: int = 1 << 20
    ) -> training_pb2.PushDeltaResponse:
        """One stream: the header, then the payload from the header's offset on."""
        return self.training.PushDelta(
            messages(header, payload, chunk_bytes=chunk_bytes), timeout=30.0
        )

    def close(self) -> None:
        """Closes the channel."""
        self.channel.close()


def a_wire_layout(plan: Plan) -> list[training_pb2.TensorSpec]:
    """The layout an upload of the plan names."""
    return [
        training_pb2.TensorSpec(name=t.name, shape=t.shape, dtype=plan.encoding)
        for t in plan.parameters.tensors
    ]


def messages(
    header: training_pb2.UploadHeader, payload: bytes, *, chunk_bytes: int = 1 << 20
) -> Iterator[training_pb2.PushDeltaRequest]:
    """The messages of one stream."""
    yield training_pb2.PushDeltaRequest(header=header)
    for offset in range(header.offset, len(payload), chunk_bytes):
        data = payload[offset : offset + chunk_bytes]
        chunk = Chunk(offset=offset, data=data, crc32c=google_crc32c.value(data))
        yield training_pb2.PushDeltaRequest(chunk=chunk)


@contextmanager
def a_coordinator(
    directory: Path,
    *,
    plan: Plan | None = None,
    clock: Clock | None = None,
    config: Mapping[str, Any] | None = None,
    queue: ErasureQueue | None = None,
    database_url: str | None = None,
) -> Iterator[tuple[Coordinator, Client]]:
    """A coordinator that serves, and a client of it. Entering it again restarts it."""
    known = directory / "federation" / "plan.json"
    if known.exists():
        plan = Plan.from_canonical(known.read_bytes())
    else:
        plan = a_federation(directory / "federation", plan)
    coordinator = build(
        a_config(directory, **{**on_database(database_url), **(config or {})}),
        clock=clock,
        queue=queue or MemoryErasureQueue(),
    )
    client = Client(coordinator.start(), plan)
    try:
        yield coordinator, client
    finally:
        client.close()
        coordinator.stop()


def a_core(
    directory: Path,
    *,
    plan: Plan | None = None,
    clock: Clock | None = None,
    config: Mapping[str, Any] | None = None,
    database_url: str | None = None,
) -> Core:
    """The stores, plan and head of a coordinator, without a server. Building it again recovers."""
    if not (directory / "federation" / "plan.json").exists():
        a_federation(directory / "federation", plan)
    settings = a_config(directory, **{**on_database(database_url), **(config or {})})
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return build_core(settings, open_store(settings), clock or FakeClock())


def on_database(url: str | None) -> dict[str, Any]:
    """The part of a configuration that names a database; None: SQLite in data_dir."""
    return {"database": {} if url is None else {"url": url}}


def a_site(name: str = "north", **overrides: Any) -> Site:
    """An active site."""
    fields: dict[str, Any] = {
        "id": name,
        "state": SiteState.ACTIVE,
        "display_name": name,
        "record_count": 100,
        "registered_at": NOON,
        "last_seen_at": NOON,
    }
    return Site(**{**fields, **overrides})


def an_erasure(name: str = "e1", site: str = "north", **overrides: Any) -> Erasure:
    """A received erasure."""
    fields: dict[str, Any] = {
        "id": name,
        "request_id": f"request-{name}",
        "site": site,
        "legal_basis": "GDPR-17-1-b",
        "level": Level.L1,
        "method": "removal",
        "calibrate": False,
        "requester": "dpo",
        "state": ErasureState.RECEIVED,
        "requested_at": NOON,
        "fenced_at": NOON,
        "deadline": NOON + timedelta(days=30),
        "state_since": NOON,
    }
    return Erasure(**{**fields, **overrides})


def take(
    core: Core,
    purpose: Purpose,
    vector: Vector,
    *,
    update_id: str = "",
    size_limit: int = 0,
    through: ReceiveUpload | None = None,
) -> Receipt | int:
    """One stream of an upload without a wire: the same use case, fed from memory.

    With a limit only the bytes up to it are sent.
    """
    payload = encode(vector, core.plan.encoding)
    update_id = update_id or str(uuid.uuid4())
    header = Header(
        update_id=update_id,
        size_bytes=len(payload),
        sha256=hashlib.sha256(payload).hexdigest(),
        offset=core.staging.committed_bytes(update_id),
        layout=tuple((t.name, t.shape, core.plan.encoding) for t in core.plan.parameters.tensors),
        purpose=purpose,
    )
    sent = payload[: size_limit or len(payload)]
    uploads = through or receive_upload(core)
    return uploads.receive(header, lambda offset: iter([sent[offset:]]))


def take_delta(
    core: Core,
    site: str,
    delta: Vector,
    *,
    base_version: int | None = None,
    update_id: str = "",
    through: ReceiveUpload | None = None,
) -> Receipt:
    """Accepts a training delta without a wire."""
    position = core.live.position
    purpose = DeltaPurpose(
        site=site,
        task=f"train-{position.epoch}-0-0",
        base_version=position.version if base_version is None else base_version,
        epoch=position.epoch,
        exclusion_counter=0,
        record_count=100,
        train_loss=0.5,
    )
    receipt = take(core, purpose, delta, update_id=update_id, through=through)
    assert isinstance(receipt, Receipt)
    return receipt


def enrol(core: Core, *sites: str) -> None:
    """Adds active sites."""
    with core.store.write() as uow:
        for site in sites:
            uow.sites.add(a_site(site))
        uow.commit()
