"""Brings a restored database up to the tombstone log, so that a restore brings nothing back."""

from __future__ import annotations

import logging

from coordinator.domain.erasure import Erasure
from coordinator.domain.site import Site, SiteState
from coordinator.domain.tombstones import Missing, Step
from coordinator.services.cancel_erasure import cancel_erasure
from coordinator.services.destroy_subject import finish_destructions
from coordinator.services.erasure_context import ErasureContext
from coordinator.services.request_erasure import file_again

_log = logging.getLogger(__name__)


def apply_tombstones(context: ErasureContext) -> list[Missing]:
    """Files, cancels or reopens each erasure the database lacks; answers what was done.

    A crash in between leaves the rest for the next call. What an erasure had destroyed is in the
    restored files again; the erasure filed again removes and destroys it anew.
    """
    done = context.tombstones.missing()
    for each in done:
        _apply(each, context)
        _log.warning(
            "tombstone_applied",
            extra={"erasure": each.erasure.id, "site": each.erasure.site, "step": each.step.value},
        )
    # What a start does that is not held.
    context.tombstones.catch_up()
    finish_destructions(context)
    return done


def _apply(each: Missing, context: ErasureContext) -> None:
    match each.step:
        case Step.CANCEL:
            cancel_erasure(each.erasure.id, context)
        case Step.GO_ON:
            context.tombstones.record_restored(each.erasure)
        case Step.FILE:
            _enrol(each.erasure, context)
            file_again(each.erasure, context)
            context.tombstones.record_restored(each.erasure)


def _enrol(erasure: Erasure, context: ErasureContext) -> None:
    """A site that joined after the backup is fenced before its agent is heard of again."""
    now = context.clock.now()
    with context.store.write() as uow:
        if uow.sites.find(erasure.site) is None:
            uow.sites.add(Site(erasure.site, SiteState.ACTIVE, "", 0, now, now))
            uow.commit()
