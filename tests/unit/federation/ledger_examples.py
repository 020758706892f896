"""One row of every kind with fixed values: what docs/ledger.md shows and the golden test pins."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from letheon.federation.encoding import encode
from letheon.federation.ledger import Entry, EntryKind, merges, seal
from letheon.federation.parameters import Vector, digest

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
# Two weights, and what changed them: small enough to add by hand.
PAYLOADS = {
    0: [1.0, 2.0],
    1: [0.5, -1.0],
    2: [2.0, 2.0],
    3: [4.0, 0.0],
    5: [1.0, 1.0],
    7: [0.25, 0.25],
    8: [-0.5, 0.5],
    9: [0.0, 1.0],
}


def a_payload(entry: int) -> Vector:
    """The payload of a row [2]."""
    return np.array(PAYLOADS[entry], dtype=np.float32)


def a_row_of_every_kind() -> list[Entry]:
    """Rows of all ten kinds; north and south train, south is removed."""
    rows: list[Entry] = []

    def add(kind: EntryKind, version: int, epoch: int, **fields: Any) -> None:
        number = len(rows)
        if number in PAYLOADS:
            payload = encode(a_payload(number), "float32")
            fields |= {
                "payload_sha256": digest(a_payload(number)),
                "payload_bytes": len(payload),
                "encoding": "float32",
            }
        at = NOON + timedelta(minutes=number)
        previous = rows[-1] if rows else None
        rows.append(seal(previous, kind=kind, version=version, epoch=epoch, at=at, **fields))

    def sent(site: str, number: int, base: int) -> dict[str, Any]:
        return {"site": site, "update_id": f"update-{number}", "base_version": base}

    add(EntryKind.INITIAL, 0, 0)
    add(EntryKind.DELTA, 1, 0, coefficient=0.5, staleness=0, **sent("north", 1, 0))
    add(EntryKind.BUFFERED, 1, 0, staleness=0, **sent("north", 2, 1))
    add(EntryKind.BUFFERED, 1, 0, staleness=0, **sent("south", 3, 1))
    add(EntryKind.FLUSH, 2, 0, details={"merged": merges([(2, 0.25), (3, 0.25)])})
    add(EntryKind.BUFFERED, 2, 0, staleness=1, **sent("south", 5, 1))
    add(EntryKind.VOID, 2, 0, site="south", details={"entries": [5], "erasure": "e1"})
    add(EntryKind.BUFFERED, 2, 0, staleness=0, **sent("north", 7, 2))
    add(EntryKind.PATCH, 3, 0, site="north", details={"erasure": "e1"})
    add(EntryKind.CALIBRATION, 4, 0, details={"erasure": "e1"})
    south = np.float32(0.25) * a_payload(3)
    removal = {
        "erasure": "e1",
        "subtracted": True,
        "contribution_sha256": digest(south),
        "flushed": merges([(7, 0.5)]),
    }
    add(EntryKind.REMOVAL, 5, 1, site="south", details=removal)
    add(EntryKind.PROMOTION, 5, 1, details={"version": 5, "erasure": "e1"})
    anchor = {"checkpoint_sha256": "a" * 64, "contributions": {"north": "b" * 64}}
    add(EntryKind.ANCHOR, 5, 1, details={**anchor, "erasure": "e1"})
    return rows
