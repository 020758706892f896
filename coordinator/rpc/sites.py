"""letheon.v1.Sites."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

from dataclasses import dataclass

import grpc

from coordinator.ports import Store
from coordinator.rpc import convert
from coordinator.services.presence import Presence
from coordinator.services.register_site import RegisterSite
from letheon.names import site_id
from letheon.v1 import sites_pb2, sites_pb2_grpc


@dataclass(frozen=True)
class SitesServicer(sites_pb2_grpc.SitesServicer):
    """Enrolment and listing."""

    store: Store
    presence: Presence
    register_site: RegisterSite

    def RegisterSite(
        self, request: sites_pb2.RegisterSiteRequest, context: grpc.ServicerContext
    ) -> sites_pb2.Site:
        """Enrols a site."""
        made = self.register_site(
            site_id(request.name),
            display_name=request.display_name,
            record_count=request.record_count,
            plan_digest=request.plan_digest,
            control_records=(
                request.control_records if request.HasField("control_records") else None
            ),
            class_counts=dict(request.class_counts),
        )
        return convert.site(made)

    def GetSite(
        self, request: sites_pb2.GetSiteRequest, context: grpc.ServicerContext
    ) -> sites_pb2.Site:
        """One site."""
        with self.store.read() as uow:
            found = uow.sites.get(site_id(request.name))
        return convert.site(self.presence.on(found))

    def ListSites(
        self, request: sites_pb2.ListSitesRequest, context: grpc.ServicerContext
    ) -> sites_pb2.ListSitesResponse:
        """All sites, oldest first."""
        with self.store.read() as uow:
            found = uow.sites.all()
        return sites_pb2.ListSitesResponse(sites=[convert.site(self.presence.on(s)) for s in found])
