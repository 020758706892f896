"""Whether a request needs a second operator: who asks, and for how much of the model."""

from __future__ import annotations

from datetime import datetime

from coordinator.domain.erasure import ErasureState
from coordinator.domain.site import Site, SiteState
from coordinator.ports import UnitOfWork
from letheon.servicekit.caller import Caller, Role

_DID_NOTHING = frozenset({ErasureState.AWAITING_APPROVAL, ErasureState.CANCELLED})


def may_need_approval(caller: Caller) -> bool:
    """A site withdraws what is its own; whoever has this machine has the database, too."""
    return caller.role not in (Role.SITE, Role.LOCAL)


def share_asked_for(uow: UnitOfWork, site: Site, since: datetime) -> float:
    """Of the merged weight the share of the site and of what others than the sites themselves
    have asked to erase since then, in [0, 1].

    The merged weight of a site is the sum of the coefficients its deltas were merged with. For
    some records of a site that of the whole site is taken, which they cannot exceed.
    """
    together = {site.id} | {
        erasure.site
        for erasure in uow.erasures.all()
        if erasure.requested_at >= since
        and erasure.state not in _DID_NOTHING
        and not erasure.requested_by.startswith((f"{Role.SITE}/", f"{Role.LOCAL}"))
        and erasure.requested_by
    }
    gone = {each.id for each in uow.sites.all() if each.state is SiteState.ERASED}
    weights = {
        name: weight
        for name, weight in uow.entries.merged_weights().items()
        if name not in gone - together
    }
    whole = sum(weights.values())
    return sum(weights.get(name, 0.0) for name in together) / whole if whole > 0.0 else 0.0
