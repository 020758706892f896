"""Enrols a site, or says again who it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coordinator.domain.site import Site, SiteState
from coordinator.ports import Store
from letheon.errors import MalformedRequest, SiteFenced, WrongPlan
from letheon.servicekit.clock import Clock

_LONGEST_DISPLAY_NAME = 200


@dataclass(frozen=True)
class RegisterSite:
    """The use case of RegisterSite."""

    store: Store
    clock: Clock
    plan_digest: str

    def __call__(
        self, site: str, *, display_name: str, record_count: int, plan_digest: str
    ) -> Site:
        """The site. Raises MalformedRequest, WrongPlan, or SiteFenced for an erased name."""
        if record_count < 0:
            raise MalformedRequest("record_count is negative", field="record_count")
        if len(display_name) > _LONGEST_DISPLAY_NAME:
            raise MalformedRequest(
                f"display_name is longer than {_LONGEST_DISPLAY_NAME}", field="display_name"
            )
        if plan_digest and plan_digest != self.plan_digest:
            raise WrongPlan(
                f"the agent was built for plan {plan_digest[:12]}, "
                f"the federation trains plan {self.plan_digest[:12]}",
                plan=self.plan_digest,
            )
        now = self.clock.now()
        with self.store.write() as uow:
            known = uow.sites.find(site)
            if known is None:
                made = Site(site, SiteState.ACTIVE, display_name, record_count, now, now)
                uow.sites.add(made)
            elif known.state is SiteState.ERASED:
                raise SiteFenced(
                    f"sites/{site} was erased; its name is never used again",
                    site=site,
                    erasure=known.erasure,
                )
            else:
                made = replace(
                    known, display_name=display_name, record_count=record_count, last_seen_at=now
                )
                uow.sites.save(made)
            uow.commit()
        return made
