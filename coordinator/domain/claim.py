"""Who may work on an erasure: a lease, and a fencing token that grows with every claim.

The lease decides when another calibrator may take over; the token alone decides whether a call
counts. A holder whose lease ran out while nobody took over goes on undisturbed; one that was
replaced is told so at its next call, however late it wakes up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from letheon.errors import ClaimHeld, ClaimLost


@dataclass(frozen=True)
class Claim:
    """The newest claim of an erasure."""

    erasure: str
    holder: str
    token: int
    lease_until: datetime
    progress_json: str = ""


def is_held(claim: Claim | None, *, now: datetime, lease: timedelta) -> bool:
    """Whether a lease lasts.

    One that ends later than a lease granted now would, was granted by a clock that ran ahead: it
    holds nobody up, else a jump of the clock could keep an erasure waiting for a day.
    """
    return claim is not None and now < claim.lease_until <= now + lease


def take(
    current: Claim | None, *, erasure: str, holder: str, now: datetime, lease: timedelta
) -> Claim:
    """The claim of `holder`, with the progress of the one before it.

    A holder that claims again (its process restarted) gets a new token at once.
    Raises ClaimHeld while the lease of another holder lasts.
    """
    if current is not None and current.holder != holder and is_held(current, now=now, lease=lease):
        raise ClaimHeld(
            f"erasures/{erasure} is claimed by {current.holder}",
            retry_after_s=(current.lease_until - now).total_seconds(),
            erasure=erasure,
        )
    if current is None:
        return Claim(erasure=erasure, holder=holder, token=1, lease_until=now + lease)
    return replace(current, holder=holder, token=current.token + 1, lease_until=now + lease)


def check_token(claim: Claim | None, *, erasure: str, token: int) -> Claim:
    """The claim, if `token` is its token. Raises ClaimLost otherwise."""
    if claim is None or claim.token != token:
        raise ClaimLost(
            f"the claim on erasures/{erasure} with token {token} is not the newest",
            erasure=erasure,
        )
    return claim


def renew(
    claim: Claim, *, now: datetime, lease: timedelta, progress_json: str | None = None
) -> Claim:
    """The claim with a fresh lease, and the new progress if there is one."""
    progress = claim.progress_json if progress_json is None else progress_json
    return replace(claim, lease_until=now + lease, progress_json=progress)


def release(claim: Claim, now: datetime) -> Claim:
    """The claim with its lease over; the token stays the newest."""
    return replace(claim, lease_until=now)
