"""letheon.v1.Certificates."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

from dataclasses import dataclass, replace

import grpc

from coordinator.domain.erasure import Certificate
from coordinator.ports import Store, UnitOfWork
from coordinator.rpc import convert_erasures as convert
from coordinator.services.notify_recipients import Amend
from coordinator.services.transparency import Transparency
from letheon.names import certificate_id
from letheon.v1 import certificates_pb2, certificates_pb2_grpc


@dataclass(frozen=True)
class CertificatesServicer(certificates_pb2_grpc.CertificatesServicer):
    """Reading certificates, and stating who acknowledged."""

    store: Store
    log: Transparency
    amend: Amend

    def GetCertificate(
        self, request: certificates_pb2.GetCertificateRequest, context: grpc.ServicerContext
    ) -> certificates_pb2.Certificate:
        """One certificate."""
        with self.store.read() as uow:
            return self._whole(uow, uow.certificates.get(certificate_id(request.name)))

    def ListCertificates(
        self, request: certificates_pb2.ListCertificatesRequest, context: grpc.ServicerContext
    ) -> certificates_pb2.ListCertificatesResponse:
        """Newest first."""
        with self.store.read() as uow:
            found = [self._whole(uow, one) for one in uow.certificates.all()]
        return certificates_pb2.ListCertificatesResponse(certificates=found)

    def SupersedeCertificate(
        self, request: certificates_pb2.SupersedeCertificateRequest, context: grpc.ServicerContext
    ) -> certificates_pb2.Certificate:
        """The file with what was answered so far."""
        erasure = certificate_id(request.name)
        content = self.amend(erasure)
        with self.store.read() as uow:
            known = uow.certificates.get(erasure)
        return convert.certificate(replace(known, content=content))

    def _whole(self, uow: UnitOfWork, found: Certificate) -> certificates_pb2.Certificate:
        """The file with its proofs; one from before there was a log is handed out as it is."""
        content = self.log.file_of(uow, found.erasure) or found.content
        return convert.certificate(replace(found, content=content))
