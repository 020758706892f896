"""A site as the coordinator knows it: active, fenced by an erasure, or erased for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from letheon.errors import PatchVoid, SiteFenced


class SiteState(StrEnum):
    """What a site may do."""

    ACTIVE = "active"
    FENCED = "fenced"
    ERASED = "erased"


@dataclass(frozen=True)
class Site:
    """One hospital. `id` is the component after `sites/`."""

    id: str
    state: SiteState
    display_name: str
    record_count: int
    registered_at: datetime
    last_seen_at: datetime
    accepted_deltas: int = 0  # merged or buffered
    first_version: int | None = None  # first model version with a delta of this site
    last_version: int | None = None
    erasure: str | None = None  # the erasure that fenced it
    exclusion_counter: int = 0
    control_records: int | None = None  # it never trains on; None: it did not say
    class_counts: Mapping[str, int] | None = None  # training records by class name


def check_not_fenced(site: Site) -> None:
    """Raises SiteFenced unless the site is active."""
    if site.state is not SiteState.ACTIVE:
        raise SiteFenced(
            f"sites/{site.id} is named by erasures/{site.erasure}: nothing of it is accepted",
            site=site.id,
            erasure=site.erasure,
        )


def check_stays(site: Site) -> None:
    """Raises PatchVoid if an erasure names the site: nothing made of its deltas may be added."""
    if site.state is not SiteState.ACTIVE:
        raise PatchVoid(
            f"sites/{site.id} is named by erasures/{site.erasure}: start over without it",
            site=site.id,
            erasure=site.erasure,
        )


def fence(site: Site, erasure: str) -> Site:
    """The site from the moment an erasure names it."""
    return replace(site, state=SiteState.FENCED, erasure=erasure)


def with_exclusion(site: Site) -> Site:
    """The site from the moment an erasure names records of it: it stays, older work is refused."""
    return replace(site, exclusion_counter=site.exclusion_counter + 1)


def lift_fence(site: Site) -> Site:
    """The site after its erasure was cancelled."""
    return replace(site, state=SiteState.ACTIVE, erasure=None)


def erased(site: Site) -> Site:
    """The site after its erasure was certified: its name is never used again."""
    return replace(site, state=SiteState.ERASED)


def seen(site: Site, now: datetime) -> Site:
    """The site after a sign of life."""
    return replace(site, last_seen_at=now)


def with_accepted_delta(site: Site, *, version: int | None, record_count: int) -> Site:
    """The site after one more delta; `version` is the first that holds it, None while buffered."""
    counted = replace(site, accepted_deltas=site.accepted_deltas + 1, record_count=record_count)
    return counted if version is None else in_version(counted, version)


def in_version(site: Site, version: int) -> Site:
    """The site after `version` took in something of it."""
    first = version if site.first_version is None else site.first_version
    return replace(site, first_version=first, last_version=version)
