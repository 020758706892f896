"""Somebody inside of a hospital: with its certificate, its update key, and bad intentions."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

import google_crc32c
import numpy as np

from client_agent.adapters import convert
from client_agent.config import AgentConfig
from letheon.federation.encoding import encode
from letheon.federation.parameters import Vector
from letheon.federation.plan import Plan
from letheon.proof.update_signature import sign_update
from letheon.servicekit.channel import open_channel
from letheon.servicekit.route import Route, TlsFiles
from letheon.servicekit.signing import SigningKey
from letheon.v1 import erasures_pb2, models_pb2, sites_pb2, training_pb2
from letheon.v1.erasures_pb2_grpc import ErasuresStub
from letheon.v1.models_pb2 import Chunk
from letheon.v1.models_pb2_grpc import ModelsStub
from letheon.v1.sites_pb2_grpc import SitesStub
from letheon.v1.training_pb2_grpc import TrainingStub

_STEP = 0.2


class Insider:
    """Sends what an agent sends, and anything else."""

    def __init__(
        self, site: str, config: AgentConfig, plan: Plan, address: str, weight: float
    ) -> None:
        """`weight`: how large its honest deltas are."""
        self.site, self.config, self.plan, self._weight = site, config, plan, weight
        self.token = ""
        tls = config.tls
        assert tls is not None
        self.files = TlsFiles(ca=tls.ca, certificate=tls.certificate, key=tls.key)
        config.state_dir.mkdir(parents=True, exist_ok=True)
        self.key = SigningKey.load_or_create(config.state_dir / "update_key.pem")
        self.channel = open_channel(address, route=Route(tls=self.files), deadline_s=20.0)
        self.training, self.sites = TrainingStub(self.channel), SitesStub(self.channel)
        self.models, self.erasures = ModelsStub(self.channel), ErasuresStub(self.channel)
        # Each site has a direction of its own, as hospitals with other patients have.
        seed = int.from_bytes(site.encode()[:4], "big")
        self._direction = np.random.default_rng(seed).normal(size=plan.parameters.size)

    def register(self) -> None:
        """As the agent does at its start."""
        self.sites.RegisterSite(
            sites_pb2.RegisterSiteRequest(
                name=f"sites/{self.site}",
                display_name=self.site,
                record_count=100,
                plan_digest=self.plan.digest,
                control_records=40,
                update_key_pem=self.key.public_pem,
            )
        )

    def honest(self, seed: int) -> Vector:
        """A delta like its others, [d]."""
        noise = np.random.default_rng(seed).normal(scale=0.1, size=self._direction.size)
        return (self._weight * _STEP * (self._direction + noise)).astype(np.float32)

    def head(self) -> models_pb2.Model:
        """The newest model's version and epoch."""
        return self.models.GetModel(models_pb2.GetModelRequest(name="models/head"))

    def header(self, payload: bytes, **change: Any) -> training_pb2.UploadHeader:
        """Of a delta, signed. `change`: base_version, epoch, update_id, site, encoding, layout,
        key, size_bytes, sha256; what is changed is signed as changed.
        """
        head = self.head()
        encoding = change.get("encoding", self.plan.encoding)
        tensors = change.get("layout", [(t.name, t.shape) for t in self.plan.parameters.tensors])
        header = training_pb2.UploadHeader(
            update_id=change.get("update_id") or str(uuid.uuid4()),
            size_bytes=change.get("size_bytes", len(payload)),
            sha256=change.get("sha256", hashlib.sha256(payload).digest()),
            offset=0,
            layout=[
                training_pb2.TensorSpec(name=name, shape=shape, dtype=encoding)
                for name, shape in tensors
            ],
            delta=training_pb2.DeltaPurpose(
                site=f"sites/{change.get('site', self.site)}",
                task=f"tasks/train-{head.epoch}-0-0",
                base_version=change.get("base_version", head.version),
                epoch=change.get("epoch", head.epoch),
                record_count=change.get("record_count", 100),
                train_loss=0.5,
            ),
        )
        signed = sign_update(convert.signed_update(header), change.get("key", self.key))
        header.signature, header.signature_key = signed.signature, signed.key_id
        return header

    def push(self, delta: Vector, **change: Any) -> training_pb2.Receipt:
        """One delta in one stream."""
        payload = encode(delta, change.get("encoding", self.plan.encoding))
        return self.send(self.header(payload, **change), payload)

    def send(self, header: training_pb2.UploadHeader, payload: bytes) -> training_pb2.Receipt:
        """The bytes behind a header."""
        return self.training.PushDelta(messages(header, payload), timeout=20.0).receipt

    def close(self) -> None:
        """Closes the channel."""
        self.channel.close()


def messages(
    header: training_pb2.UploadHeader, payload: bytes, chunk_bytes: int = 1 << 20
) -> Iterator[training_pb2.PushDeltaRequest]:
    """One stream."""
    yield training_pb2.PushDeltaRequest(header=header)
    for offset in range(0, len(payload), chunk_bytes):
        yield chunk(payload[offset : offset + chunk_bytes], offset)


def chunk(data: bytes, offset: int) -> training_pb2.PushDeltaRequest:
    """One chunk with the checksum that its data has."""
    checksum = google_crc32c.value(data)
    return training_pb2.PushDeltaRequest(chunk=Chunk(offset=offset, data=data, crc32c=checksum))


def asked(site: str, request_id: str) -> erasures_pb2.RequestErasureRequest:
    """A plain request."""
    return erasures_pb2.RequestErasureRequest(
        request_id=request_id, site=f"sites/{site}", legal_basis="GDPR-17-1-b", method="removal"
    )


def erasure_of(insider: Insider) -> str:
    """The identifier of the erasure that the site itself asked for; asks if it has not."""
    filed = insider.erasures.RequestErasure(asked(insider.site, f"own-{insider.site}"))
    return str(filed.name).rpartition("/")[2]
