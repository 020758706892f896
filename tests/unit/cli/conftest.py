"""A coordinator that answers from memory, behind a real server: what the commands talk to."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from cli_builders import a_plan, an_erasure
from typer.testing import CliRunner, Result

from letheon.cli.main import app
from letheon.errors import ModelDestroyed, UnknownCertificate, UnknownErasure, UnknownSite
from letheon.servicekit.server import Server
from letheon.servicekit.transfer import read_chunks
from letheon.v1 import (
    certificates_pb2,
    certificates_pb2_grpc,
    erasures_pb2,
    erasures_pb2_grpc,
    federation_pb2,
    federation_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    sites_pb2,
    sites_pb2_grpc,
)

Erasure = erasures_pb2.Erasure


@dataclass
class Coordinator:
    """What the fake knows. `stages` are given out one a reading, the last one for ever."""

    stages: list[Erasure] = field(default_factory=list)
    certificate: bytes | None = None
    verdict: ledger_pb2.LedgerVerdict = field(
        default_factory=lambda: ledger_pb2.LedgerVerdict(holds=True, entries=7, version=6)
    )
    requests: list[erasures_pb2.RequestErasureRequest] = field(default_factory=list)
    address: str = ""
    weights: bytes = np.arange(6, dtype="<f4").tobytes()
    promised: str = ""  # digest, if it is to differ from that of the weights

    def reading(self) -> Erasure:
        if not self.stages:
            raise UnknownErasure("no such erasure")
        return self.stages.pop(0) if len(self.stages) > 1 else self.stages[0]


class _Federation(federation_pb2_grpc.FederationServicer):
    def GetFederation(self, request: Any, context: Any) -> Any:  # noqa: N802
        return federation_pb2.FederationStatus(
            plan_digest="d" * 64, epoch=1, head_version=41, entries=44, ledger_hash="a" * 64,
            model_size_bytes=240_000, updates={"accepted": 40, "superseded": 2}, open_erasures=1,
            disk_bytes_by_area={"payloads": 480_000, "uploads": 0}, payloads_kept=2,
            oldest_rebuildable_entry=12, oldest_rebuildable_version=11, entries_since_checkpoint=3,
        )  # fmt: skip

    def GetPlan(self, request: Any, context: Any) -> Any:  # noqa: N802
        plan = a_plan()
        return federation_pb2.Plan(canonical_json=plan.canonical_json(), digest=plan.digest)


class _Models(models_pb2_grpc.ModelsServicer):
    def __init__(self, known: Coordinator) -> None:
        self._known = known

    def _model(self) -> models_pb2.Model:
        promised = hashlib.sha256(self._known.weights).hexdigest()
        return models_pb2.Model(
            name="models/41", version=41, epoch=1, state=models_pb2.Model.AVAILABLE, serving=True,
            size_bytes=len(self._known.weights), sha256=self._known.promised or promised,
        )  # fmt: skip

    def GetModel(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.name == "models/1":
            raise ModelDestroyed("version 1 was destroyed by erasures/e1", erasure="erasures/e1")
        return self._model()

    def ListModels(self, request: Any, context: Any) -> Any:  # noqa: N802
        return models_pb2.ListModelsResponse(models=[self._model()])

    def ExportModel(self, request: Any, context: Any) -> Any:  # noqa: N802
        return models_pb2.Export(
            name="exports/x", model="models/41", recipient=request.recipient,
            purpose=request.purpose,
        )  # fmt: skip

    def ListExports(self, request: Any, context: Any) -> Any:  # noqa: N802
        export = models_pb2.Export(name="exports/x", model="models/41", recipient="north")
        return models_pb2.ListExportsResponse(exports=[export])

    def DownloadModel(self, request: Any, context: Any) -> Any:  # noqa: N802
        yield models_pb2.DownloadModelResponse(header=self._model())
        for chunk in read_chunks(io.BytesIO(self._known.weights), 0, len(self._known.weights)):
            yield models_pb2.DownloadModelResponse(chunk=chunk)


class _Sites(sites_pb2_grpc.SitesServicer):
    def ListSites(self, request: Any, context: Any) -> Any:  # noqa: N802
        return sites_pb2.ListSitesResponse(sites=[self._site("sites/site-1")])

    def GetSite(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.name != "sites/site-1":
            raise UnknownSite(f"no site {request.name}")
        return self._site(request.name)

    def _site(self, name: str) -> sites_pb2.Site:
        return sites_pb2.Site(
            name=name, state=sites_pb2.Site.ACTIVE, record_count=812, accepted_deltas=9
        )


class _Erasures(erasures_pb2_grpc.ErasuresServicer):
    def __init__(self, known: Coordinator) -> None:
        self._known = known

    def RequestErasure(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._known.requests.append(request)
        return self._known.stages[0]

    def GetErasure(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._known.reading()

    def ListErasures(self, request: Any, context: Any) -> Any:  # noqa: N802
        return erasures_pb2.ListErasuresResponse(erasures=self._known.stages[:1])

    def CancelErasure(self, request: Any, context: Any) -> Any:  # noqa: N802
        return an_erasure(Erasure.CANCELLED)


class _Certificates(certificates_pb2_grpc.CertificatesServicer):
    def __init__(self, known: Coordinator) -> None:
        self._known = known

    def GetCertificate(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self._known.certificate is None:
            raise UnknownCertificate(f"{request.name} does not exist")
        return certificates_pb2.Certificate(name=request.name, content=self._known.certificate)


class _Ledger(ledger_pb2_grpc.LedgerServicer):
    def __init__(self, known: Coordinator) -> None:
        self._known = known

    def VerifyLedger(self, request: Any, context: Any) -> Any:  # noqa: N802
        progress = ledger_pb2.VerifyProgress(done=3, total=7)
        yield ledger_pb2.VerifyLedgerResponse(progress=progress)
        yield ledger_pb2.VerifyLedgerResponse(verdict=self._known.verdict)

    def ListEntries(self, request: Any, context: Any) -> Any:  # noqa: N802
        entry = ledger_pb2.Entry(entry=1, kind="initial", canonical_json='{"entry":1}', hash="f")
        return ledger_pb2.ListEntriesResponse(entries=[entry])


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    known = Coordinator()
    server = Server(
        [
            (federation_pb2_grpc.add_FederationServicer_to_server, _Federation()),
            (models_pb2_grpc.add_ModelsServicer_to_server, _Models(known)),
            (sites_pb2_grpc.add_SitesServicer_to_server, _Sites()),
            (erasures_pb2_grpc.add_ErasuresServicer_to_server, _Erasures(known)),
            (certificates_pb2_grpc.add_CertificatesServicer_to_server, _Certificates(known)),
            (ledger_pb2_grpc.add_LedgerServicer_to_server, _Ledger(known)),
        ]
    )
    known.address = server.start()
    yield known
    server.stop(grace_s=0)


class Letheon:
    """The command, run in this process."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(app, ["--coordinator", self._address, *words])


@pytest.fixture
def letheon(coordinator: Coordinator) -> Letheon:
    return Letheon(coordinator.address)
