"""Removes what a crash left behind: payloads without a row, uploads nobody will finish."""

from __future__ import annotations

import logging
from datetime import timedelta

from coordinator.ports import BlobStore, StagingArea, Store
from letheon.servicekit.clock import Clock

_log = logging.getLogger(__name__)


def sweep_payloads(store: Store, payloads: BlobStore) -> int:
    """Destroys payloads that no row names; answers how many. Only before anything is accepted.

    A crash between the rename of an upload and its commit leaves one; the sender still has it.
    """
    with store.read() as uow:
        newest = uow.entries.newest()
        named = set(uow.entries.payloads(through=-1 if newest is None else newest.entry))
        named |= uow.receipts.stored_digests()
    orphans = [sha256 for sha256 in payloads.all() if sha256 not in named]
    for sha256 in orphans:
        payloads.destroy(sha256)
    if orphans:
        _log.warning("payloads_without_row_removed", extra={"count": len(orphans)})
    return len(orphans)


def sweep_uploads(
    store: Store, staging: StagingArea, clock: Clock, *, keep: timedelta
) -> list[str]:
    """Forgets uploads begun longer ago than `keep`; answers which. A resend begins anew."""
    due = clock.now() - keep
    staged = set(staging.all())  # first: an upload has its row before it has a file
    with store.read() as uow:
        known = uow.uploads.all()
    old = [upload.update_id for upload in known if upload.started_at < due]
    unknown = staged - {upload.update_id for upload in known}
    for update_id in (*old, *unknown):
        if staging.is_open(update_id):
            continue
        with store.write() as uow:
            uow.uploads.remove(update_id)
            uow.commit()
        staging.discard(update_id)
    return old
