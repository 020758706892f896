"""Which of several coordinators may write: a lease, and a token that grows with every holder.

The lease only says when it is worth trying; the token, read inside every writing transaction,
decides. Clocks may therefore be wrong by any amount: the worst is a change of hands too many.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from coordinator.domain.model import Leadership
from letheon.errors import LeadershipHeld, LeadershipLost

COORDINATOR = "coordinator"


def take(
    current: Leadership,
    *,
    holder: str,
    now: datetime,
    lease: timedelta,
    unrenewed: timedelta = timedelta(0),
) -> Leadership:
    """The leadership of `holder`, with a higher token than every one before.

    A holder that comes again (its process restarted) takes over at once. So does anybody when
    the lease is over by the clock, or when the caller has itself seen nobody renew it for a
    whole lease (`unrenewed`): the clock it was written by may be far ahead.
    Raises LeadershipHeld otherwise.
    """
    is_over = now >= current.lease_until or unrenewed >= lease
    if current.holder != holder and not is_over:
        left = min(current.lease_until - now, lease - unrenewed)
        raise LeadershipHeld(
            f"{current.holder} is the coordinator that may write",
            retry_after_s=left.total_seconds(),
            holder=current.holder,
        )
    return replace(current, holder=holder, token=current.token + 1, lease_until=now + lease)


def check_token(current: Leadership, token: int) -> None:
    """Raises LeadershipLost unless `token` is the newest."""
    if current.token != token:
        raise LeadershipLost(
            f"{current.holder} writes to this database now; this coordinator must end",
            holder=current.holder,
        )


def renew(current: Leadership, *, now: datetime, lease: timedelta) -> Leadership:
    """The same leadership with a fresh lease."""
    return replace(current, lease_until=now + lease)


def give_up(current: Leadership, now: datetime) -> Leadership:
    """The lease is over; the token stays the newest until somebody takes a higher one."""
    return replace(current, lease_until=now)
