"""letheon.v1.Certificates."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

from dataclasses import dataclass

import grpc

from coordinator.ports import Store
from coordinator.rpc import convert_erasures as convert
from letheon.names import certificate_id
from letheon.v1 import certificates_pb2, certificates_pb2_grpc


@dataclass(frozen=True)
class CertificatesServicer(certificates_pb2_grpc.CertificatesServicer):
    """Reading certificates."""

    store: Store

    def GetCertificate(
        self, request: certificates_pb2.GetCertificateRequest, context: grpc.ServicerContext
    ) -> certificates_pb2.Certificate:
        """One certificate."""
        with self.store.read() as uow:
            return convert.certificate(uow.certificates.get(certificate_id(request.name)))

    def ListCertificates(
        self, request: certificates_pb2.ListCertificatesRequest, context: grpc.ServicerContext
    ) -> certificates_pb2.ListCertificatesResponse:
        """Newest first."""
        with self.store.read() as uow:
            found = uow.certificates.all()
        return certificates_pb2.ListCertificatesResponse(
            certificates=[convert.certificate(one) for one in found]
        )
