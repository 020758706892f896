"""Takes an erasure under a lease, keeps it, and gives it back."""

from __future__ import annotations

from coordinator.domain.claim import Claim, check_token, release, renew, take
from coordinator.domain.erasure import Erasure, ErasureState, check_open, move
from coordinator.services import audit
from coordinator.services.erasure_context import ErasureContext
from letheon.errors import ErasureNotApproved, MalformedRequest
from letheon.names import erasure_name
from letheon.servicekit.faults import reach

PROGRESS_LIMIT_BYTES = 256 * 1024
_HOLDER_LIMIT = 200
_MAY_BE_TOLD = frozenset({ErasureState.CALIBRATING, ErasureState.VERIFYING})


def claim_erasure(erasure_id: str, holder: str, context: ErasureContext) -> tuple[Erasure, Claim]:
    """The job and its new claim, whose token is higher than every one before it.

    Raises UnknownErasure; ErasureConcluded if nothing is left to do; ErasureNotApproved while
    nobody has consented to it; ClaimHeld while the lease of another holder lasts; MalformedRequest
    without a holder.
    """
    if not holder or len(holder) > _HOLDER_LIMIT:
        raise MalformedRequest("holder is due: the calibrator's instance name", field="holder")
    now = context.clock.now()
    with context.store.write() as uow:
        erasure = uow.erasures.get(erasure_id)
        check_open(erasure)
        if erasure.state is ErasureState.AWAITING_APPROVAL:
            raise ErasureNotApproved(
                f"erasures/{erasure_id} waits for the approval of an operator", erasure=erasure_id
            )
        claim = take(
            uow.claims.find(erasure_id),
            erasure=erasure_id,
            holder=holder,
            now=now,
            lease=context.limits.claim_lease,
        )
        is_first = erasure.state is ErasureState.RECEIVED
        if is_first:
            erasure = move(erasure, ErasureState.CLAIMED, now)
            uow.erasures.save(erasure)
        uow.claims.save(claim)
        audit.record(
            uow, now, "erasure.claimed", erasure_name(erasure_id), holder=holder, token=claim.token
        )
        uow.commit()
    reach("claim.committed")
    if is_first:
        context.observe_stage("claim", (now - erasure.fenced_at).total_seconds())
    return erasure, claim


def renew_claim(
    erasure_id: str,
    token: int,
    context: ErasureContext,
    *,
    progress_json: str | None = None,
    state: ErasureState | None = None,
) -> tuple[Erasure, Claim]:
    """The claim with a fresh lease; stores the method's progress and the state if given.

    Raises UnknownErasure, ClaimLost, ErasureConcluded, Refused (a move that does not exist) or
    MalformedRequest.
    """
    if progress_json is not None and len(progress_json.encode()) > PROGRESS_LIMIT_BYTES:
        raise MalformedRequest(
            f"progress_json has more than {PROGRESS_LIMIT_BYTES} bytes", field="progress_json"
        )
    if state is not None and state not in _MAY_BE_TOLD:
        raise MalformedRequest("state may only become CALIBRATING or VERIFYING", field="state")
    now = context.clock.now()
    with context.store.write() as uow:
        erasure = uow.erasures.get(erasure_id)
        claim = check_token(uow.claims.find(erasure_id), erasure=erasure_id, token=token)
        check_open(erasure)
        claim = renew(claim, now=now, lease=context.limits.claim_lease, progress_json=progress_json)
        left, since = erasure.state, erasure.state_since
        if state is not None and state is not left:
            erasure = move(erasure, state, now)
            uow.erasures.save(erasure)
        uow.claims.save(claim)
        uow.commit()
    if erasure.state is not left and left is ErasureState.CALIBRATING:
        context.observe_stage("calibrate", (now - since).total_seconds())
    return erasure, claim


def release_claim(erasure_id: str, token: int, context: ErasureContext) -> None:
    """Ends the lease now, so that another calibrator need not wait for its end.

    Raises UnknownErasure, or ClaimLost if another calibrator holds the erasure.
    """
    with context.store.write() as uow:
        uow.erasures.get(erasure_id)
        claim = check_token(uow.claims.find(erasure_id), erasure=erasure_id, token=token)
        uow.claims.save(release(claim, context.clock.now()))
        uow.commit()
