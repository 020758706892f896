"""Whose influence is still in the head although it must go."""

from __future__ import annotations

from coordinator.domain.erasure import Erasure, ErasureState
from coordinator.domain.site import Site, SiteState
from coordinator.domain.task import AnswerKind
from coordinator.ports import UnitOfWork
from letheon.errors import PatchVoid


def remaining_subjects(uow: UnitOfWork) -> list[str]:
    """Sites of which something is in the head that an erasure failed to take out.

    Fenced ones with a contribution that no removal has subtracted, and those with records whose
    erasure failed: what it left is not served until a later erasure is done. A suppressing
    method's subject leaves with its promotion.
    """
    return [site.id for site in uow.sites.all() if _remains(site, uow)]


def _remains(site: Site, uow: UnitOfWork) -> bool:
    if site.first_version is None or site.state is SiteState.ERASED:
        return False
    erasures = uow.erasures.of_site(site.id)
    if site.state is SiteState.FENCED:
        return not any(_ends_it(erasure) for erasure in erasures if erasure.names_site)
    return any(_records_remain(erasure, erasures, uow) for erasure in erasures)


def _ends_it(erasure: Erasure) -> bool:
    subtracted = erasure.removal is not None and erasure.removal.subtracted
    return subtracted or (erasure.is_open and erasure.promoted_at is not None)


def _records_remain(erasure: Erasure, all_of_site: list[Erasure], uow: UnitOfWork) -> bool:
    """Whether it failed before its removal, and nothing since took the records out."""
    if erasure.state is not ErasureState.FAILED or erasure.removal is not None:
        return False
    if erasure.names_site or is_not_here(uow, erasure):
        return False
    return not any(_took_out(later, erasure) for later in all_of_site)


def _took_out(later: Erasure, erasure: Erasure) -> bool:
    """A removal since: of the same records, or of all that the site had contributed."""
    if later.removal is None or later.removed_at is None or later.removed_at < erasure.fenced_at:
        return False
    return later.removal.subtracted or later.records == erasure.records


def is_due(erasure: Erasure, uow: UnitOfWork) -> bool:
    """Whether its subject is still to be taken out: a removal of its whole site does it, too."""
    if erasure.removal is not None:
        return False
    if erasure.names_site:
        return True
    return not any(_took_out(later, erasure) for later in uow.erasures.of_site(erasure.site))


def sites_with_records_due(uow: UnitOfWork) -> frozenset[str]:
    """Sites that stay, of whose contribution something is to be taken out still."""
    records = [erasure for erasure in uow.erasures.open() if not erasure.names_site]
    return frozenset(erasure.site for erasure in records if is_due(erasure, uow))


def check_none_due(site: str, due: frozenset[str]) -> None:
    """Raises PatchVoid: what is made of a contribution must not outlive what leaves it."""
    if site in due:
        raise PatchVoid(
            f"records of sites/{site} are being erased: start over without it", site=site
        )


def is_not_here(uow: UnitOfWork, erasure: Erasure) -> bool:
    """Whether the site has answered that it knows no records under the reference."""
    return any(
        task.answer_kind is AnswerKind.EXCLUDE and not (task.answer or {}).get("found")
        for task in uow.tasks.of_erasure(erasure.id)
    )
