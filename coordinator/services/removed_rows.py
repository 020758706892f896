"""The ledger rows of a subject, with the proof that they stand in the ledger.

The tree is that of RFC 6962 over the hashes of the rows 0 to the removal, each as 32 bytes.
"""

from __future__ import annotations

from coordinator.domain.erasure import Erasure, Removal
from coordinator.ports import Store
from coordinator.services.replay_start import BEFORE_FIRST, entries_after
from letheon.federation.ledger import Entry, EntryKind
from letheon.proof import merkle

# Beyond so many the certificate lists the first and the last half; all of them would not fit it.
MOST_ROWS = 3000
_ADDS = frozenset({EntryKind.DELTA, EntryKind.BUFFERED, EntryKind.PATCH, EntryKind.CALIBRATION})


def removed_rows(store: Store, erasure: Erasure, removal: Removal) -> dict[str, object]:
    """The `ledger` section of a certificate: root, rows [number, hash], and one proof of all.

    The last row is the removal itself. Without a row of its subject that is the only one.
    """
    last = removal.entry
    if removal.exchanged and erasure.exchange is not None:
        last = erasure.exchange.through_entry
    leaves: list[bytes] = []
    rows: list[tuple[int, str]] = []
    for row in entries_after(store, BEFORE_FIRST, through=removal.entry):
        leaves.append(merkle.leaf_hash(bytes.fromhex(row.hash)))
        if row.entry == removal.entry or (row.entry <= last and _is_of(row, erasure.site)):
            rows.append((row.entry, row.hash))
    listed = rows
    if len(rows) > MOST_ROWS:
        listed = [*rows[: MOST_ROWS // 2], *rows[-MOST_ROWS // 2 :]]
    proof = merkle.batch_proof(leaves, [number for number, _ in listed])
    return {
        "size": len(leaves),
        "root": merkle.root(leaves).hex(),
        "rows": [[number, row_hash] for number, row_hash in listed],
        "rows_in_all": len(rows),
        "proof": [node.hex() for node in proof],
    }


def _is_of(row: Entry, site: str) -> bool:
    return row.site == site and row.kind in _ADDS
