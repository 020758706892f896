"""letheon.v1.Models."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc

from coordinator.domain.model import ModelFile
from coordinator.ports import Blobs, Store
from coordinator.rpc import convert
from coordinator.services.exchange_files import ExchangeFile, ExchangeFiles
from coordinator.services.export_model import ExportModel
from coordinator.services.keep_derived import vector_bytes
from coordinator.services.live_model import LiveModel
from coordinator.services.model_files import ModelFiles
from coordinator.services.rebuild_model import Rebuild, RebuildModel, RebuildProgress, Rebuilt
from coordinator.services.record_download import RecordDownload
from coordinator.services.transfer_slots import TransferSlots
from coordinator.services.transparency import Transparency
from letheon.errors import MalformedName, MalformedRequest, OffsetMismatch
from letheon.names import (
    HEAD,
    SERVING,
    base_of,
    contribution_of,
    export_name,
    model_version,
    site_id,
)
from letheon.servicekit.chunks import chunk_messages
from letheon.v1 import models_pb2, models_pb2_grpc

_DEFAULT_PAGE, _LONGEST_PAGE = 100, 1000


@dataclass(frozen=True)
class ModelsServicer(models_pb2_grpc.ModelsServicer):
    """Reading versions, and recording exports."""

    store: Store
    blobs: Blobs
    live: LiveModel
    files: ModelFiles
    export_model: ExportModel
    rebuild_model: RebuildModel
    slots: TransferSlots
    exchange_files: ExchangeFiles
    log: Transparency
    downloaded: RecordDownload
    plan_digest: str
    sent: Callable[[int, str], None] = lambda _bytes, _site: None
    """Told the payload bytes that went to a registered site."""

    def GetModel(
        self, request: models_pb2.GetModelRequest, context: grpc.ServicerContext
    ) -> models_pb2.Model:
        """One version."""
        return self._message(self._named(request.name))

    def ListModels(
        self, request: models_pb2.ListModelsRequest, context: grpc.ServicerContext
    ) -> models_pb2.ListModelsResponse:
        """Versions with a file, newest first."""
        if not 0 <= request.page_size <= _LONGEST_PAGE:
            raise MalformedRequest(f"page_size is 1 to {_LONGEST_PAGE}", field="page_size")
        with self.store.read() as uow:
            files = uow.models.newest(request.page_size or _DEFAULT_PAGE)
        return models_pb2.ListModelsResponse(models=[self._message(file) for file in files])

    def DownloadModel(
        self, request: models_pb2.DownloadModelRequest, context: grpc.ServicerContext
    ) -> Iterator[models_pb2.DownloadModelResponse]:
        """A header, then chunks."""
        site = _site_of(request.reader)
        with self.slots.take(site):
            made = self._of_an_exchange(request.name, site)
            if made is not None:
                yield from self._made(made, request, site)
                return
            file = self._named(request.name)
            if site is not None:
                self.downloaded(site, version=file.version, epoch=file.epoch)
            with (
                self.files.reading(file, request.offset),
                self.blobs.models.open(file.sha256) as opened,
            ):
                yield models_pb2.DownloadModelResponse(header=self._signed(self._message(file)))
                chunks = chunk_messages(
                    models_pb2.DownloadModelResponse, opened, request.offset, file.size_bytes
                )
                yield from self._counted(chunks, site)

    def ExportModel(
        self, request: models_pb2.ExportModelRequest, context: grpc.ServicerContext
    ) -> models_pb2.Export:
        """Records who takes a copy."""
        export_name(request.request_id)  # it becomes a name: refuse it before it is stored
        made = self.export_model(
            request.request_id, recipient=request.recipient, purpose=request.purpose
        )
        return convert.export(made)

    def ListExports(
        self, request: models_pb2.ListExportsRequest, context: grpc.ServicerContext
    ) -> models_pb2.ListExportsResponse:
        """Recorded exports, newest first."""
        with self.store.read() as uow:
            found = uow.exports.all()
        return models_pb2.ListExportsResponse(exports=[convert.export(e) for e in found])

    def RebuildModel(
        self, request: models_pb2.RebuildModelRequest, context: grpc.ServicerContext
    ) -> Iterator[models_pb2.RebuildModelResponse]:
        """Progress, a header, then chunks."""
        export_name(request.request_id)
        asked = Rebuild(
            request_id=request.request_id,
            version=request.version,
            without=frozenset(site_id(name) for name in request.without),
            recipient=request.recipient,
            purpose=request.purpose,
        )
        with self.slots.take():
            for part in self.rebuild_model(asked):
                match part:
                    case RebuildProgress():
                        yield models_pb2.RebuildModelResponse(
                            progress=models_pb2.RebuildProgress(done=part.done, total=part.total)
                        )
                    case Rebuilt():
                        yield from _rebuilt(part)

    def _made(
        self, made: ExchangeFile, request: models_pb2.DownloadModelRequest, site: str | None
    ) -> Iterator[models_pb2.DownloadModelResponse]:
        size = len(made.content)
        if not 0 <= request.offset <= size:
            raise OffsetMismatch(
                f"{request.name} has {size} bytes, not {request.offset}", committed_bytes=0
            )
        if site is not None and base_of(request.name) is not None:
            self.downloaded(site, version=made.version, epoch=made.epoch)
        header = models_pb2.Model(
            name=request.name,
            version=made.version,
            epoch=made.epoch,
            state=models_pb2.Model.AVAILABLE,
            size_bytes=size,
            sha256=made.sha256,
        )
        yield models_pb2.DownloadModelResponse(header=self._signed(header))
        chunks = chunk_messages(
            models_pb2.DownloadModelResponse, io.BytesIO(made.content), request.offset, size
        )
        yield from self._counted(chunks, site)

    def _counted(
        self, messages: Iterator[models_pb2.DownloadModelResponse], site: str | None
    ) -> Iterator[models_pb2.DownloadModelResponse]:
        """Counts what a registered site fetched, also when it goes away in the middle."""
        sent = 0
        try:
            for message in messages:
                sent += len(message.chunk.data)
                yield message
        finally:
            if sent and site is not None and self._is_registered(site):
                self.sent(sent, site)

    def _is_registered(self, site: str) -> bool:
        with self.store.read() as uow:
            return uow.sites.find(site) is not None

    def _of_an_exchange(self, name: str, site: str | None) -> ExchangeFile | None:
        erasure = contribution_of(name)
        if erasure is not None:
            return self.exchange_files.contribution(erasure, site)
        base = base_of(name)
        return None if base is None else self.exchange_files.base(*base, site)

    def _named(self, name: str) -> ModelFile:
        if name == HEAD:
            return self.files.head()
        if name == SERVING:
            return self.files.serving()
        return self.files.of(model_version(name))

    def _signed(self, header: models_pb2.Model) -> models_pb2.Model:
        """The header, with the coordinator's word for which weights these are."""
        manifest, signature = self.log.manifest(
            name=header.name,
            version=header.version,
            epoch=header.epoch,
            size_bytes=header.size_bytes,
            sha256=header.sha256,
            plan=self.plan_digest,
        )
        header.signature, header.signature_key = signature, self.log.signer.key.key_id
        header.origin, header.plan_digest = manifest.origin, manifest.plan_digest
        return header

    def _message(self, file: ModelFile) -> models_pb2.Model:
        with self.store.read() as uow:
            serving = uow.federation.get().serving_version
        return convert.model(file, serving=serving, head=self.live.position.version)


def _site_of(reader: str) -> str | None:
    """The site that reads, or None for somebody else."""
    try:
        return site_id(reader)
    except MalformedName:
        return None


def _rebuilt(made: Rebuilt) -> Iterator[models_pb2.RebuildModelResponse]:
    data = vector_bytes(made.weights)
    header = models_pb2.RebuiltModel(
        version=made.version,
        epoch=made.epoch,
        size_bytes=len(data),
        sha256=made.sha256,
        replayed_from=made.replayed_from,
        start_held_site=made.start_held_site,
        export=convert.export(made.export),
    )
    yield models_pb2.RebuildModelResponse(header=header)
    yield from chunk_messages(models_pb2.RebuildModelResponse, io.BytesIO(data), 0, len(data))
