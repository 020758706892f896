"""What the demo learns from the ledger: counts, throughput, and whether anything was lost."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from letheon.cli.documents import instant
from letheon.cli.remote import Remote
from letheon.v1 import ledger_pb2

# Kinds that carry a site's training delta.
DELTA_KINDS = frozenset({"delta", "buffered"})
_PAGE = 1000


@dataclass(frozen=True)
class Row:
    """What the demo needs of a ledger entry."""

    entry: int
    kind: str
    version: int
    epoch: int
    site: str  # sites/{site}, or empty
    at: float  # seconds since 1970
    hash: str
    update_id: str | None

    @property
    def is_delta(self) -> bool:
        """Whether a site's training delta arrived with this row."""
        return self.kind in DELTA_KINDS


@dataclass(frozen=True)
class AgentReceipt:
    """A receipt as an agent holds it."""

    site: str
    update_id: str
    entry: int
    ledger_hash: str


class LedgerLog:
    """The ledger as read so far; `refresh` reads what is new."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self.rows: list[Row] = []

    def refresh(self) -> None:
        """Reads on from the last row known."""
        while True:
            first = self.rows[-1].entry + 1 if self.rows else 0
            request = ledger_pb2.ListEntriesRequest(first=first, page_size=_PAGE)
            page = self._remote.ledger.ListEntries(request).entries
            self.rows.extend(_row(entry) for entry in page)
            if len(page) < _PAGE:
                return

    def deltas(self, *, since: int = 0, without: str = "") -> list[Row]:
        """Rows that brought a delta, after entry `since`, of any site but one."""
        return [row for row in self.rows if row.is_delta and row.entry > since
                and row.site != without]  # fmt: skip

    def removal(self) -> Row | None:
        """The removal, if it has happened."""
        return next((row for row in self.rows if row.kind == "removal"), None)


def _row(entry: ledger_pb2.Entry) -> Row:
    content = json.loads(entry.canonical_json)
    at = instant(entry.at)
    return Row(
        entry=entry.entry,
        kind=entry.kind,
        version=entry.version,
        epoch=entry.epoch,
        site=entry.site,
        at=at.timestamp() if at else 0.0,
        hash=entry.hash,
        update_id=content.get("update_id"),
    )


def lost_updates(receipts: Iterable[AgentReceipt], rows: Sequence[Row]) -> list[AgentReceipt]:
    """Receipts whose row is not in the ledger with the same update and the same hash."""
    by_entry = {row.entry: row for row in rows}
    return [
        receipt
        for receipt in receipts
        if (row := by_entry.get(receipt.entry)) is None
        or row.update_id != receipt.update_id
        or row.hash != receipt.ledger_hash
    ]


def crossed_fence(rows: Sequence[Row], site: str, fenced_at: datetime) -> list[Row]:
    """Deltas of a site that entered the ledger after it was fenced."""
    limit = fenced_at.timestamp()
    return [row for row in rows if row.is_delta and row.site == site and row.at > limit]


def read_receipts(database: Path, site: str) -> list[AgentReceipt]:
    """Receipts of training deltas in the log of an agent that has stopped."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        found = connection.execute(
            "SELECT update_id, entry, ledger_hash FROM uploads"
            " WHERE entry IS NOT NULL AND erase_answer IS NULL ORDER BY number"
        ).fetchall()
    return [AgentReceipt(site, str(u), int(e), str(h)) for u, e, h in found]


@dataclass(frozen=True)
class Throughput:
    """Accepted deltas of the retained sites in two windows of the same length."""

    window_s: float
    before: float  # deltas, fractions at the edges
    during: float

    @property
    def ratio(self) -> float:
        """During against before; 1 means that nobody waited."""
        return self.during / self.before if self.before else 0.0


def throughput(
    rows: Sequence[Row], withdrawn: str, *, requested: float, begin: float, end: float
) -> Throughput:
    """Deltas accepted from the first dispatch of the new epoch to `end` (the gate), against an
    equal window that ends at the request. `begin` is the removal.

    A site may lose the one task that was in flight at the removal: its window begins one of its
    own intervals before its first delta of the new epoch, at most one interval after the removal,
    so that a longer stall is counted. Between two arrivals the count grows in proportion to
    time: a window neither gains nor loses a whole delta by where its edge falls.
    """
    before = during = 0.0
    for site in sorted({row.site for row in rows if row.is_delta and row.site != withdrawn}):
        arrivals = np.array([row.at for row in rows if row.is_delta and row.site == site])
        if len(arrivals) < 2:
            continue
        interval = float(np.median(np.diff(arrivals)))
        later = arrivals[arrivals > begin]
        first = float(later[0]) if len(later) else begin + 2 * interval
        start = min(max(first - interval, begin), begin + interval)
        # The next delta had not come when the ledger was last read.
        expected = np.append(arrivals, max(arrivals[-1] + interval, rows[-1].at))
        # A window that reaches back to before the site's first delta is scaled up from there.
        since = max(requested - (end - start), float(arrivals[0]))
        if since >= requested:
            continue
        before += _count(expected, since, requested) * (end - start) / (requested - since)
        during += _count(expected, start, end)
    return Throughput(end - begin, before, during)


def _count(arrivals: np.ndarray, begin: float, end: float) -> float:
    """Arrivals in a window, interpolated between neighbours."""
    counted = np.interp([begin, end], arrivals, np.arange(1, len(arrivals) + 1))
    return float(counted[1] - counted[0])
