"""letheon.v1.Sites."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

from dataclasses import dataclass

import grpc

from coordinator.domain.site import Site
from coordinator.ports import Store
from coordinator.rpc import convert
from coordinator.services.presence import Presence
from coordinator.services.register_site import RegisterSite
from coordinator.services.site_signatures import forget_key, present_key
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
            update_key_pem=request.update_key_pem,
            update_key_proof=request.update_key_proof,
        )
        return self._message(made)

    def ForgetUpdateKey(
        self, request: sites_pb2.ForgetUpdateKeyRequest, context: grpc.ServicerContext
    ) -> sites_pb2.Site:
        """Lets the site register another key."""
        site = site_id(request.name)
        with self.store.write() as uow:
            forget_key(uow, site, self.register_site.clock.now())
            uow.commit()
        with self.store.read() as uow:
            return self._message(uow.sites.get(site))

    def GetSite(
        self, request: sites_pb2.GetSiteRequest, context: grpc.ServicerContext
    ) -> sites_pb2.Site:
        """One site."""
        with self.store.read() as uow:
            found = uow.sites.get(site_id(request.name))
        return self._message(self.presence.on(found))

    def ListSites(
        self, request: sites_pb2.ListSitesRequest, context: grpc.ServicerContext
    ) -> sites_pb2.ListSitesResponse:
        """All sites, oldest first."""
        with self.store.read() as uow:
            found = uow.sites.all()
            keys = {key.site: key for key in uow.site_keys.all() if key.until_entry is None}
        return sites_pb2.ListSitesResponse(
            sites=[
                convert.site(
                    self.presence.on(one), keys.get(one.id), self.presence.privacy_of(one.id)
                )
                for one in found
            ]
        )

    def _message(self, site: Site) -> sites_pb2.Site:
        with self.store.read() as uow:
            key = present_key(uow.site_keys.of(site.id))
        return convert.site(site, key, self.presence.privacy_of(site.id))
