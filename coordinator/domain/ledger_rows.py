"""The next row of the ledger: its version and epoch follow from the row before and its kind."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from letheon.federation.ledger import Entry, EntryKind, changes_weights, seal


def follow(
    previous: Entry,
    kind: EntryKind,
    *,
    at: datetime,
    site: str | None = None,
    update_id: str | None = None,
    base_version: int | None = None,
    staleness: int | None = None,
    coefficient: float | None = None,
    payload_sha256: str | None = None,
    payload_bytes: int | None = None,
    encoding: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> Entry:
    """The sealed row after `previous`.

    The version goes up by one if the row changes weights, the epoch if it is a removal.
    """

    def sealed(version: int) -> Entry:
        return seal(
            previous,
            kind=kind,
            version=version,
            epoch=previous.epoch + (kind is EntryKind.REMOVAL),
            at=at,
            site=site,
            update_id=update_id,
            base_version=base_version,
            staleness=staleness,
            coefficient=coefficient,
            payload_sha256=payload_sha256,
            payload_bytes=payload_bytes,
            encoding=encoding,
            details=details,
        )

    draft = sealed(previous.version)
    return sealed(previous.version + 1) if changes_weights(draft) else draft
