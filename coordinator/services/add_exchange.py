"""The patch of an exchange: with it, an erasure of records has had its removal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import numpy as np

from coordinator.domain.erasure import Erasure, Exchange, Removal, with_removal
from coordinator.domain.ledger_rows import follow
from coordinator.domain.site import Site, check_not_fenced
from coordinator.domain.upload import PatchKind, PatchPurpose
from coordinator.ports import UnitOfWork
from coordinator.services import audit
from coordinator.services.erasure_context import pin_reason
from coordinator.services.live_model import Head, Position
from letheon.errors import MalformedRequest, PatchVoid
from letheon.federation.arithmetic import norm
from letheon.federation.exchange import begins_epoch
from letheon.federation.ledger import Entry, EntryKind
from letheon.federation.parameters import Vector, digest
from letheon.federation.replay import merge_delta


def check_exchange(
    erasure: Erasure, purpose: PatchPurpose, site: Site, position: Position
) -> Exchange:
    """What the site was asked for.

    Raises SiteFenced once the whole site is to go; PatchVoid if the exchange was asked for in an
    earlier epoch, is done or was replaced; MalformedRequest for a patch of another site.
    """
    check_not_fenced(site)
    if purpose.kind is not PatchKind.PATCH or purpose.site != erasure.site:
        raise MalformedRequest(
            f"the patch of an exchange is attributed to sites/{erasure.site}", field="patch.site"
        )
    exchange = erasure.exchange
    epochs = {purpose.epoch, position.epoch}
    if exchange is None or epochs != {exchange.epoch}:
        raise PatchVoid(
            f"what sites/{erasure.site} was asked to recompute is of an earlier epoch: ask again",
            epoch=position.epoch,
        )
    return exchange


def epoch_row(
    head: Head, erasure: Erasure, exchange: Exchange, length: float, share: float, at: datetime
) -> Entry | None:
    """The row that begins a new epoch, if the patch is more than that share of C_k.

    Nothing is subtracted and nothing flushed: what waits in a buffer was accepted and stays.
    """
    if not begins_epoch(length, contribution_norm=exchange.contribution_norm, share=share):
        return None
    details = {
        "erasure": erasure.id,
        "subtracted": False,
        "contribution_sha256": None,
        "flushed": [],
        "version_before": head.newest.version,
    }
    return follow(head.newest, EntryKind.REMOVAL, at=at, site=erasure.site, details=details)


def exchange_details(erasure: Erasure, exchange: Exchange) -> dict[str, object]:
    """What the row of the patch says of it."""
    return {
        "records": erasure.records,
        "exclusion_counter": erasure.exclusion_counter,
        "exchanged_deltas": exchange.deltas,
        "exchanged_through_entry": exchange.through_entry,
        "contribution_sha256": exchange.contribution_sha256,
    }


def exchanged(
    uow: UnitOfWork, erasure: Erasure, exchange: Exchange, head: Head, entry: Entry, patch: Vector
) -> Erasure:
    """The erasure after its removal by the patch [d] of `entry`, saved with its pins."""
    before, after = np.array(head.weights), np.array(head.weights)
    merge_delta(after, 1.0, patch)
    with ThreadPoolExecutor(2) as pool:
        sha256_before, sha256_after = pool.map(digest, (before, after))
    removal = Removal(
        epoch=entry.epoch,
        version_before=entry.version - 1,
        version_after=entry.version,
        sha256_before=sha256_before,
        sha256_after=sha256_after,
        contribution_norm=exchange.contribution_norm,
        head_norm_before=norm(before),
        removed_entries=exchange.deltas,
        voided_entries=len(uow.buffered.voided(erasure.site)),
        subtracted=False,
        entry=entry.entry,
        exchanged=True,
    )
    for version in (removal.version_before, removal.version_after):
        uow.models.pin(version, pin_reason(erasure.id))
    done = with_removal(erasure, removal, entry.at)
    uow.erasures.save(done)
    audit.record_removal(uow, done, removal, entry.at)
    return done
