"""What the use cases of erasures share, and the checks all of them begin with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

from coordinator.domain.claim import check_token
from coordinator.domain.erasure import Erasure
from coordinator.ports import Blobs, IdMaker, StagingArea, Store, UnitOfWork
from coordinator.services.keep_derived import KeepDerived
from coordinator.services.keep_tombstones import KeepTombstones
from coordinator.services.key_ring import KeyRing
from coordinator.services.live_model import LiveModel
from coordinator.services.model_files import ModelFiles
from coordinator.services.presence import Presence
from coordinator.services.transparency import Transparency
from coordinator.services.verify_ledger import VerifyLedger
from letheon import registry
from letheon.errors import MethodRefused, UnknownPlugin
from letheon.federation.admission import MethodOffer
from letheon.federation.aggregation.strategy import Strategy
from letheon.federation.plan import Plan
from letheon.servicekit.clock import Clock


@dataclass(frozen=True)
class ErasureLimits:
    """Durations that the configuration sets."""

    claim_lease: timedelta = timedelta(seconds=60)
    # An agent polls every few seconds; one unseen for longer is taken to be away.
    subject_seen_within: timedelta = timedelta(minutes=5)
    # Longer than a lease, so that a calibrator that is merely slow is not announced over.
    reannounce_after: timedelta = timedelta(minutes=2)


@dataclass(frozen=True)
class Approvals:
    """Above which share of the merged weight a request of others needs a second operator."""

    share: float
    window: timedelta  # what was asked for within it counts together


def _observe_nothing(stage: str, seconds: float) -> None:
    """For those who do not measure."""


@dataclass(frozen=True)
class ErasureContext:
    """The surroundings of an erasure. `observe_stage` takes a stage and its seconds."""

    store: Store
    blobs: Blobs
    staging: StagingArea
    live: LiveModel
    files: ModelFiles
    keep: KeepDerived
    presence: Presence
    verify_ledger: VerifyLedger
    plan: Plan
    strategy: Strategy
    clock: Clock
    new_id: IdMaker
    tombstones: KeepTombstones
    log: Transparency
    limits: ErasureLimits = field(default_factory=ErasureLimits)
    ring: KeyRing | None = None  # of encryption at rest
    approvals: Approvals | None = None  # nobody's consent is asked for
    observe_stage: Callable[[str, float], None] = _observe_nothing


def pin_reason(erasure: str) -> str:
    """Under which an erasure pins model files."""
    return f"erasure:{erasure}"


@cache  # looking through every installed distribution takes longer than a fence may
def offer_of(method: str) -> MethodOffer:
    """What the method offers. Raises MethodRefused, naming the methods there are."""
    try:
        offer: MethodOffer = registry.find(registry.UNLEARNING, method).offer  # type: ignore[attr-defined]
    except UnknownPlugin as error:
        raise MethodRefused(
            f"there is no method {method!r}; ask for one of: {', '.join(offered_methods())}",
            method=method,
        ) from error
    return offer


@cache
def offered_methods() -> Sequence[str]:
    """The methods that the services accept."""
    return [name for name in registry.names(registry.UNLEARNING) if offer_of(name).services]


def job(uow: UnitOfWork, erasure: str, token: int) -> Erasure:
    """The erasure, for the calibrator that holds its newest claim.

    Raises UnknownErasure, or ClaimLost for any other token.
    """
    found = uow.erasures.get(erasure)
    check_token(uow.claims.find(erasure), erasure=erasure, token=token)
    return found
