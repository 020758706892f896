"""Records a run of the gate. A passing one is proven, promoted, anchored; then all is destroyed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from coordinator.domain.erasure import (
    Attempt,
    Erasure,
    ErasureState,
    Verdict,
    check_open,
    move,
)
from coordinator.ports import UnitOfWork
from coordinator.services import audit
from coordinator.services.destroy_subject import destroy_marked
from coordinator.services.erasure_context import ErasureContext, job
from coordinator.services.gate_attempt import (
    RunOfTheGate,
    attempt_of,
    check_evidence,
    check_removed,
)
from coordinator.services.promote_erased import promote_erased, removal_evidence
from coordinator.services.prove_ledger import measure_removal, prove_ledger
from coordinator.services.removed_rows import removed_rows
from letheon.errors import MalformedRequest, RequestAltered
from letheon.names import erasure_name
from letheon.servicekit.faults import reach
from letheon.servicekit.signing import canonical_json

_log = logging.getLogger(__name__)


def record_attempt(
    erasure_id: str, token: int, run: RunOfTheGate, context: ErasureContext
) -> Erasure:
    """The erasure after the attempt; `evidence_json` is filled once one has passed.

    Raises UnknownErasure, ClaimLost, ErasureConcluded, MalformedRequest, RequestAltered; PatchVoid
    if a later removal happened or is due; LedgerBroken or PayloadCorrupt if the proof fails:
    then nothing is destroyed.
    """
    with context.store.read() as uow:
        erasure = job(uow, erasure_id, token)
        known = _repeated(uow, erasure, run)
    if known and erasure.promoted_at is not None:
        destroy_marked(erasure, context)
        return erasure
    if known and run.verdict is not Verdict.PASS:
        return erasure
    check_open(erasure)
    removal = check_removed(erasure)
    if erasure.promoted_at is not None:
        raise RequestAltered(
            f"erasures/{erasure_id} has passed already, with models/{erasure.promoted_version}",
            erasure=erasure_id,
        )
    if run.verdict is Verdict.PASS:
        return _pass(erasure, token, run, context)
    now = context.clock.now()
    with context.store.write() as uow:
        erasure = job(uow, erasure_id, token)
        check_open(erasure)
        uow.attempts.save(attempt_of(uow, erasure, removal, run, now))
        audit.record(
            uow,
            now,
            "erasure.attempted",
            erasure_name(erasure_id),
            version=run.version,
            verdict=run.verdict.value,
        )
        erasure = move(erasure, ErasureState.VERIFYING, now)
        uow.erasures.save(erasure)
        uow.commit()
    _log.info(
        "attempt_recorded",
        extra={"erasure": erasure_id, "version": run.version, "verdict": run.verdict.value},
    )
    return erasure


def _repeated(uow: UnitOfWork, erasure: Erasure, run: RunOfTheGate) -> bool:
    """Whether this run was recorded before. Raises RequestAltered if it was another."""
    if run.number < 0:
        raise MalformedRequest("a number is not negative", field="attempt.number")
    attempts = uow.attempts.of(erasure.id)
    if run.number == 0:
        newest: Sequence[Attempt] = attempts[-1:]
        return any((a.version, a.verdict) == (run.version, run.verdict) for a in newest)
    same = [a for a in attempts if a.number == run.number]
    if not same:
        return False
    if (same[0].version, same[0].verdict) != (run.version, run.verdict):
        raise RequestAltered(
            f"attempt {run.number} of erasures/{erasure.id} was another run",
            erasure=erasure.id,
            number=run.number,
        )
    return True


def _pass(erasure: Erasure, token: int, run: RunOfTheGate, context: ErasureContext) -> Erasure:
    epoch = context.live.position.epoch
    with context.store.read() as uow:
        check_evidence(uow, erasure, run.version, epoch)
    started = context.clock.monotonic()
    _measure_others(erasure, context)
    error = measure_removal(erasure, context)
    proof = prove_ledger(erasure, context)
    rows = removed_rows(context.store, erasure, check_removed(erasure))
    with context.store.read() as uow:
        # Also the site of records that were erased: it stays.
        subject = erasure.site if erasure.names_site else None
        retained = [site.id for site in uow.sites.all() if site.id != subject]
    for site in retained:
        # So that little is left to fold while the head is held.
        context.keep.fold(site)
    with context.verify_ledger.held_off():
        promoted = promote_erased(erasure.id, token, run, proof, error, epoch, rows, context)
        reach("promotion.committed")
        destroy_marked(promoted, context)
    context.observe_stage("promote", context.clock.monotonic() - started)
    return promoted


def _measure_others(erasure: Erasure, context: ErasureContext) -> None:
    """Measures the other removals now: what their replay needs is about to be destroyed."""
    with context.store.read() as uow:
        others = [e for e in uow.erasures.open() if e.id != erasure.id and not e.evidence_json]
    for other in others:
        error = measure_removal(other, context)
        if error is None:
            continue
        with context.store.write() as uow:
            present = uow.erasures.get(other.id)
            if not present.evidence_json:
                evidence = canonical_json(removal_evidence(error)).decode()
                uow.erasures.save(replace(present, evidence_json=evidence))
                uow.commit()
