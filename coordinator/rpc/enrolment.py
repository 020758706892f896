"""letheon.v1.Enrolment."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

from dataclasses import dataclass

import grpc

from coordinator.rpc import convert
from coordinator.services.enrol_site import EnrolSite
from letheon.names import site_id
from letheon.servicekit.caller import current_caller
from letheon.v1 import enrolment_pb2, enrolment_pb2_grpc


@dataclass(frozen=True)
class EnrolmentServicer(enrolment_pb2_grpc.EnrolmentServicer):
    """Certificates of sites; `address` is where a token is good."""

    enrol_site: EnrolSite
    address: str

    def InviteSite(
        self, request: enrolment_pb2.InviteSiteRequest, context: grpc.ServicerContext
    ) -> enrolment_pb2.Invitation:
        """A token."""
        validity = request.validity.ToTimedelta() if request.HasField("validity") else None
        token, made = self.enrol_site.invite(site_id(request.site), str(current_caller()), validity)
        return enrolment_pb2.Invitation(
            site=request.site,
            token=token,
            expires_at=convert.timestamp(made.expires_at),
            enrolment_address=self.address,
        )

    def Enrol(
        self, request: enrolment_pb2.EnrolRequest, context: grpc.ServicerContext
    ) -> enrolment_pb2.IssuedCertificate:
        """The first certificate."""
        pem, ends = self.enrol_site.enrol(site_id(request.site), request.token, request.csr)
        return enrolment_pb2.IssuedCertificate(certificate=pem, expires_at=convert.timestamp(ends))

    def Renew(
        self, request: enrolment_pb2.RenewRequest, context: grpc.ServicerContext
    ) -> enrolment_pb2.IssuedCertificate:
        """The next certificate."""
        pem, ends = self.enrol_site.renew(current_caller(), request.csr)
        return enrolment_pb2.IssuedCertificate(certificate=pem, expires_at=convert.timestamp(ends))
