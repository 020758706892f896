"""A mark beside the files: how far the ledger had come when they were last in step with it.

A database that was restored alone is older than the files. Every payload after its newest row
would look like nobody's, and be swept; the mark tells before anything is swept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from coordinator.ports import Marker, Store
from coordinator.services.live_model import Position
from letheon.errors import BadConfig


@dataclass(frozen=True)
class LedgerMark:
    """Written with every checkpoint, checked at every start."""

    marker: Marker
    store: Store

    @property
    def _file(self) -> str:
        return f"{self.marker.place}/{self.marker.name}"

    def note(self, position: Position) -> None:
        """The rows up to here are durable in the database."""
        seen = {"entry": position.entry, "hash": position.ledger_hash}
        self.marker.write(json.dumps(seen).encode())

    def check(self) -> None:
        """Raises BadConfig if the database lacks the marked row, or has another in its place."""
        content = self.marker.read()
        if content is None:
            return
        try:
            seen = json.loads(content)
            entry, due = int(seen["entry"]), str(seen["hash"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadConfig(
                f"{self._file} cannot be read: it says how far the ledger had come; put it "
                "back from a backup, or remove it if you know that database and files belong "
                "together"
            ) from error
        with self.store.read() as uow:
            newest = uow.entries.newest()
            rows = uow.entries.page(entry, 1)
        if rows and (rows[0].entry, rows[0].hash) == (entry, due):
            return
        ends = "is empty" if newest is None else f"ends at row {newest.entry}"
        what = "has another row there" if newest and newest.entry >= entry else ends
        raise BadConfig(
            f"the files have seen row {entry} of the ledger, the database {what}: it is older than "
            "the files, or of another history. Put back the database that belongs to them, or the "
            f"files of the same backup. To go on from this database all the same, remove "
            f"{self._file}: payloads that it does not name are then removed for good"
        )
