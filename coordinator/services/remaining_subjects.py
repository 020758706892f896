"""Whose influence is still in the head although it must go."""

from __future__ import annotations

from coordinator.domain.erasure import Erasure
from coordinator.domain.site import Site, SiteState
from coordinator.ports import UnitOfWork


def remaining_subjects(uow: UnitOfWork) -> list[str]:
    """Fenced sites with a contribution that no removal has subtracted.

    An erasure that failed keeps its site here: what it left in the head is not served until a
    later erasure of the site is done. A suppressing method's subject leaves with its promotion.
    """
    return [site.id for site in uow.sites.all() if _remains(site, uow)]


def _remains(site: Site, uow: UnitOfWork) -> bool:
    if site.state is not SiteState.FENCED or site.first_version is None:
        return False
    return not any(_ends_it(erasure) for erasure in uow.erasures.of_site(site.id))


def _ends_it(erasure: Erasure) -> bool:
    subtracted = erasure.removal is not None and erasure.removal.subtracted
    return subtracted or (erasure.is_open and erasure.promoted_at is not None)
