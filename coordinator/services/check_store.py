"""Refuses a store of blobs that belongs to another federation, or holds nothing of this one."""

from __future__ import annotations

import json

from coordinator.ports import Blobs, Marker, Store
from letheon.errors import BadConfig

_KEY = "federation"


def check_store_belongs(store: Store, blobs: Blobs, marker: Marker) -> None:
    """Before the plan is imported, so that a refusal has changed nothing. Raises BadConfig."""
    with store.read() as uow:
        row = uow.federation.find()
        needed = {checkpoint.sha256 for checkpoint in uow.checkpoints.all()}
    owner = _owner(marker)
    if owner is None:
        # New, or the process was killed between its import and its mark.
        if not needed <= set(blobs.checkpoints.all()):
            raise BadConfig(
                f"the store {marker.place} does not hold the files of this federation: set "
                "storage.url back, or copy payloads, models, checkpoints and contributions there",
                key="storage.url",
            )
        return
    if row is None or owner != row.id:
        raise BadConfig(
            f"the store {marker.place} belongs to federation {owner}, the database "
            f"{'is empty' if row is None else f'holds federation {row.id}'}: use another "
            "storage.url, or the database that belongs to it",
            key="storage.url",
        )


def mark_store(store: Store, marker: Marker) -> None:
    """After the plan was imported: from now on no other federation can use the store."""
    if _owner(marker) is None:
        with store.read() as uow:
            federation = uow.federation.get().id
        marker.write(json.dumps({_KEY: federation}).encode())


def _owner(marker: Marker) -> str | None:
    data = marker.read()
    if data is None:
        return None
    try:
        return str(json.loads(data)[_KEY])
    except (ValueError, KeyError, TypeError) as error:
        raise BadConfig(
            f"the file that says whose the store {marker.place} is cannot be read: restore it, or "
            "use another storage.url",
            key="storage.url",
        ) from error
