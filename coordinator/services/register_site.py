"""Enrols a site, or says again who it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from coordinator.domain.site import Site, SiteState
from coordinator.ports import Store
from coordinator.services import audit
from coordinator.services.site_signatures import register_key
from letheon.errors import MalformedRequest, SiteFenced, WrongPlan
from letheon.names import site_name
from letheon.servicekit.clock import Clock

_LONGEST_DISPLAY_NAME = 200
_LONGEST_CLASS_NAME = 200
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class RegisterSite:
    """The use case of RegisterSite."""

    store: Store
    clock: Clock
    plan_digest: str

    def __call__(
        self,
        site: str,
        *,
        display_name: str,
        record_count: int,
        plan_digest: str,
        control_records: int | None = None,
        class_counts: Mapping[str, int] | None = None,
        update_key_pem: str = "",
        update_key_proof: bytes = b"",
    ) -> Site:
        """The site. The counts are those it trains on, but for `control_records`; None: not told.

        `update_key_pem` is the key with which it signs its updates from now on, empty for an agent
        that does not sign. Raises MalformedRequest, WrongPlan, SiteKeyChanged, or SiteFenced for
        an erased name.
        """
        _check_counts(record_count, control_records, class_counts or {})
        if len(display_name) > _LONGEST_DISPLAY_NAME:
            raise MalformedRequest(
                f"display_name is longer than {_LONGEST_DISPLAY_NAME}", field="display_name"
            )
        self._check_plan(plan_digest)
        now = self.clock.now()
        with self.store.write() as uow:
            known = uow.sites.find(site)
            if known is not None and known.state is SiteState.ERASED:
                raise SiteFenced(
                    f"sites/{site} was erased; its name is never used again",
                    site=site,
                    erasure=known.erasure,
                )
            made = replace(
                known or Site(site, SiteState.ACTIVE, display_name, record_count, now, now),
                display_name=display_name,
                record_count=record_count,
                last_seen_at=now,
                control_records=control_records,
                class_counts=dict(class_counts) if class_counts else None,
            )
            uow.sites.save(made)
            if known is None:
                audit.record(uow, now, "site.registered", site_name(site))
            if update_key_pem:
                register_key(uow, site, update_key_pem, update_key_proof, now)
            uow.commit()
        return made

    def _check_plan(self, plan_digest: str) -> None:
        if plan_digest and plan_digest != self.plan_digest:
            raise WrongPlan(
                f"the agent was built for plan {plan_digest[:12]}, "
                f"the federation trains plan {self.plan_digest[:12]}",
                plan=self.plan_digest,
            )


def _check_counts(
    record_count: int, control_records: int | None, class_counts: Mapping[str, int]
) -> None:
    if record_count < 0:
        raise MalformedRequest("record_count is negative", field="record_count")
    if control_records is not None and control_records < 0:
        raise MalformedRequest("control_records is negative", field="control_records")
    if len(class_counts) > _MOST_CLASSES:
        raise MalformedRequest(
            f"class_counts names more than {_MOST_CLASSES} classes", field="class_counts"
        )
    for name, count in class_counts.items():
        if not name or len(name) > _LONGEST_CLASS_NAME or count < 0:
            raise MalformedRequest(
                f"class_counts holds names of 1 to {_LONGEST_CLASS_NAME} characters and counts "
                "that are not negative",
                field="class_counts",
            )
