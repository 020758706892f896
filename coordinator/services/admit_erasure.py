"""Admits an erasure: what the rules say of it, from what the coordinator knows of its sites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from coordinator.domain.erasure import Erasure, Level
from coordinator.domain.site import Site, SiteState
from coordinator.ports import UnitOfWork
from coordinator.services.erasure_context import ErasureContext, offer_of, offered_methods
from letheon.federation.admission import Admission, Facts, SiteFacts, admit, appraise

Admitting = Callable[[Erasure, UnitOfWork, ErasureContext], Erasure]


def admitted(draft: Erasure, uow: UnitOfWork, context: ErasureContext) -> Erasure:
    """The erasure with what may be claimed of it.

    Raises UnknownSite, LevelRefused, MethodRefused or ContributionNotSubtractable.
    """
    offers = [offer_of(name) for name in offered_methods()]
    facts = _facts(draft, uow, context)
    return _with(draft, admit(draft.level.value, offer_of(draft.method), facts, offers))


def admitted_again(draft: Erasure, uow: UnitOfWork, context: ErasureContext) -> Erasure:
    """The same for an erasure that was admitted before its database was lost: never refused."""
    return _with(draft, appraise(draft.level.value, _facts(draft, uow, context)))


def _with(draft: Erasure, admission: Admission) -> Erasure:
    return replace(
        draft,
        level_admitted=Level(admission.level),
        caveats=list(admission.caveats),
        uncertifiable=admission.uncertifiable,
    )


def _facts(draft: Erasure, uow: UnitOfWork, context: ErasureContext) -> Facts:
    subject = context.presence.on(uow.sites.get(draft.site))
    active = [site for site in uow.sites.all() if site.state is SiteState.ACTIVE]
    return Facts(
        subject=_described(subject),
        retained=[_described(site) for site in active if site.id != subject.id],
        strategy=context.plan.strategy.plugin,
        linear=context.strategy.linear,
        silent_s=_silence(subject, draft.requested_at),
        offline_limit_s=context.limits.subject_seen_within.total_seconds(),
        of_records=not draft.names_site,
    )


def _described(site: Site) -> SiteFacts:
    return SiteFacts(site.id, site.record_count, site.class_counts, site.control_records)


def _silence(site: Site, at: datetime) -> float:
    """Seconds; its agent may have been heard of while the request was being filed."""
    return max(0.0, (at - site.last_seen_at).total_seconds())
