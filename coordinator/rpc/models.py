"""letheon.v1.Models."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from coordinator.domain.model import ModelFile
from coordinator.ports import Blobs, Store
from coordinator.rpc import convert
from coordinator.services.export_model import ExportModel
from coordinator.services.keep_derived import vector_bytes
from coordinator.services.live_model import LiveModel
from coordinator.services.model_files import ModelFiles
from coordinator.services.rebuild_model import Rebuild, RebuildModel, RebuildProgress, Rebuilt
from coordinator.services.transfer_slots import TransferSlots
from letheon.errors import MalformedName, MalformedRequest
from letheon.names import HEAD, SERVING, export_name, model_version, site_id
from letheon.servicekit.transfer import read_chunks
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
        with self.slots.take(_site_of(request.reader)):
            file = self._named(request.name)
            with (
                self.files.reading(file, request.offset),
                self.blobs.models.open(file.sha256) as opened,
            ):
                yield models_pb2.DownloadModelResponse(header=self._message(file))
                for chunk in read_chunks(opened, request.offset, file.size_bytes):
                    yield models_pb2.DownloadModelResponse(chunk=chunk)

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

    def _named(self, name: str) -> ModelFile:
        if name == HEAD:
            return self.files.head()
        if name == SERVING:
            return self.files.serving()
        return self.files.of(model_version(name))

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
    for chunk in read_chunks(io.BytesIO(data), 0, len(data)):
        yield models_pb2.RebuildModelResponse(chunk=chunk)
