"""Repositories of training: sites, the ledger, buffers, uploads, receipts and tasks."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, func, or_, select, union_all

from coordinator.adapters import tables
from coordinator.adapters.rows import Condition, Rows, insert_into
from coordinator.domain.model import BufferedDelta, Term
from coordinator.domain.quarantine import QuarantinedDelta, QuarantineState
from coordinator.domain.site import Site
from coordinator.domain.task import Task
from coordinator.domain.upload import Outcome, Receipt, Upload
from letheon.errors import LedgerBroken, UnknownSite, UnknownTask, UnknownUpdate
from letheon.federation.ledger import Entry, EntryKind

_ADDS_DIRECTLY = (EntryKind.DELTA, EntryKind.PATCH, EntryKind.CALIBRATION)


class SqlSites:
    """Sites, oldest first."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.sites, Site)
        # Of this transaction, which sees no change but its own: a delta asks for its site again
        # and again.
        self._found: dict[str, Site] = {}

    def find(self, site: str) -> Site | None:
        """The site, or None."""
        found = self._found.get(site) or self._rows.find(site)
        if found is not None:
            self._found[site] = found
        return found

    def get(self, site: str) -> Site:
        """The site. Raises UnknownSite."""
        found = self.find(site)
        if found is None:
            raise UnknownSite(f"sites/{site} is not registered", site=site)
        return found

    def add(self, site: Site) -> None:
        """A new site."""
        self._rows.add(site)

    def save(self, site: Site) -> None:
        """A changed site."""
        self._rows.save(site)
        self._found[site.id] = site

    def all(self) -> list[Site]:
        """Every site."""
        columns = tables.sites.c
        return self._rows.all(self._rows.select().order_by(columns.registered_at, columns.id))


class SqlEntries:
    """The ledger."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows = Rows(connection, tables.entries, Entry)

    def add(self, entry: Entry) -> None:
        """The next row. The primary key refuses a number that is taken."""
        values = {column.name: getattr(entry, column.name) for column in tables.entries.columns}
        values["details"] = dict(entry.details)
        self._connection.execute(insert_into(tables.entries), values)

    def get(self, entry: int) -> Entry:
        """One row. Raises LedgerBroken: entries are gap-free, so a missing one is damage."""
        found = self._rows.find(entry)
        if found is None:
            raise LedgerBroken(f"entry {entry} is not in the ledger", entry=entry)
        return found

    def newest(self, kind: EntryKind | None = None) -> Entry | None:
        """The newest row, or the newest of a kind."""
        query = self._rows.select().order_by(tables.entries.c.entry.desc())
        if kind is not None:
            query = query.where(tables.entries.c.kind == kind)
        return self._rows.first(query)

    def page(self, first: int, limit: int) -> list[Entry]:
        """Rows from `first`, in order, at most `limit`."""
        column = tables.entries.c.entry
        return self._rows.all(self._rows.select(column >= first).order_by(column).limit(limit))

    def terms(self, site: str, *, after: int, limit: int | None = None) -> list[Term]:
        """What entries > `after` added to the weights for a site, in replay order."""
        e, b = tables.entries.c, tables.buffered.c
        direct = select(
            e.entry.label("entry"),
            e.entry.label("of_entry"),
            e.coefficient.label("coefficient"),
            e.payload_sha256.label("payload_sha256"),
            e.encoding.label("encoding"),
        ).where(e.site == site, e.entry > after, e.kind.in_(_ADDS_DIRECTLY))
        flushed = select(b.flushed_by, b.entry, b.coefficient, b.payload_sha256, b.encoding).where(
            b.site == site, b.flushed_by > after
        )
        both = union_all(direct, flushed).subquery()
        query = select(both).order_by(both.c.entry, both.c.of_entry).limit(limit)
        return [Term(**row._mapping) for row in self._connection.execute(query)]

    def payloads(self, *, through: int, site: str | None = None) -> Iterator[str]:
        """Digests of the payloads of entries <= `through`."""
        e = tables.entries.c
        query = select(e.payload_sha256).where(e.entry <= through, e.payload_sha256.is_not(None))
        if site is not None:
            query = query.where(e.site == site)
        yield from self._connection.execute(query.distinct()).scalars()

    def names_payload(self, sha256: str, *, after: int = -1) -> bool:
        """Whether any row > `after` names the payload."""
        e = tables.entries.c
        query = select(e.entry).where(e.payload_sha256 == sha256, e.entry > after)
        return self._connection.execute(query.limit(1)).first() is not None

    def merged_weights(self) -> dict[str, float]:
        """Of each site the sum of the coefficients its deltas were merged with."""
        e, b = tables.entries.c, tables.buffered.c
        direct = select(e.site, e.coefficient).where(e.kind == EntryKind.DELTA)
        flushed = select(b.site, b.coefficient).where(b.flushed_by.is_not(None))
        both = union_all(direct, flushed).subquery()
        query = select(both.c.site, func.sum(func.abs(both.c.coefficient))).group_by(both.c.site)
        return {site: float(weight or 0.0) for site, weight in self._connection.execute(query)}

    def accepted_between(self, first: int, last: int, *, without: str | None = None) -> int:
        """Number of delta and buffered entries in first..last, not counting one site's."""
        e = tables.entries.c
        query = select(func.count()).where(
            e.entry >= first, e.entry <= last, e.kind.in_((EntryKind.DELTA, EntryKind.BUFFERED))
        )
        if without is not None:
            query = query.where(or_(e.site.is_(None), e.site != without))
        return int(self._connection.execute(query).scalar_one())


class SqlBuffered:
    """Deltas that wait for their buffer to fill."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.buffered, BufferedDelta)

    def add(self, delta: BufferedDelta) -> None:
        """One more that waits."""
        self._rows.add(delta)

    def save(self, delta: BufferedDelta) -> None:
        """One that was flushed or voided."""
        self._rows.save(delta)

    def waiting(self, at_entry: int | None = None) -> list[BufferedDelta]:
        """Those that wait now, or waited after row `at_entry`, in entry order."""
        b = tables.buffered.c
        if at_entry is None:
            query = self._rows.select(b.flushed_by.is_(None), b.voided_by.is_(None))
        else:
            query = self._rows.select(
                b.entry <= at_entry,
                or_(b.flushed_by.is_(None), b.flushed_by > at_entry),
                or_(b.voided_by.is_(None), b.voided_by > at_entry),
            )
        return self._rows.all(query.order_by(b.entry))

    def voided(self, site: str) -> list[BufferedDelta]:
        """Those of a site that were voided, in entry order."""
        b = tables.buffered.c
        query = self._rows.select(b.site == site, b.voided_by.is_not(None))
        return self._rows.all(query.order_by(b.entry))


class SqlQuarantined:
    """Deltas that screening set aside."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.quarantined, QuarantinedDelta)

    def get(self, update_id: str) -> QuarantinedDelta:
        """The delta. Raises UnknownUpdate."""
        found = self._rows.find(update_id)
        if found is None:
            raise UnknownUpdate(f"no update {update_id} was quarantined", update_id=update_id)
        return found

    def add(self, delta: QuarantinedDelta) -> None:
        """A new one."""
        self._rows.add(delta)

    def save(self, delta: QuarantinedDelta) -> None:
        """A decided one."""
        self._rows.save(delta)

    def all(self, *, waiting: bool = False, site: str | None = None) -> list[QuarantinedDelta]:
        """Oldest first."""
        q = tables.quarantined.c
        conditions = [q.state == QuarantineState.WAITING] if waiting else []
        conditions += [] if site is None else [q.site == site]
        return self._rows.all(self._rows.select(*conditions).order_by(q.arrived_at, q.update_id))

    def keeps(self, sha256: str) -> bool:
        """Whether a waiting delta has this payload."""
        q = tables.quarantined.c
        query = self._rows.select(q.payload_sha256 == sha256, q.state == QuarantineState.WAITING)
        return self._rows.first(query) is not None


class SqlUploads:
    """Uploads under way."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.uploads, Upload)

    def find(self, update_id: str) -> Upload | None:
        """The upload, or None."""
        return self._rows.find(update_id)

    def add(self, upload: Upload) -> None:
        """A new upload."""
        self._rows.add(upload)

    def remove(self, update_id: str) -> None:
        """Forgets an upload; harmless if there is none."""
        self._rows.remove_one(update_id)

    def all(self) -> list[Upload]:
        """Oldest first."""
        return self._rows.all(self._rows.select().order_by(tables.uploads.c.started_at))


class SqlReceipts:
    """Receipts, kept for ever."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.receipts, Receipt)

    def find(self, update_id: str) -> Receipt | None:
        """The receipt of an update, or None."""
        return self._rows.find(update_id)

    def add(self, receipt: Receipt) -> None:
        """A new receipt."""
        self._rows.add(receipt)

    def replace(self, receipt: Receipt) -> None:
        """Writes it over the one of the same update."""
        self._rows.save(receipt)

    def stored(self, *, site: str) -> list[Receipt]:
        """Receipts of answer payloads of a site, oldest first."""
        r = tables.receipts.c
        query = self._rows.select(r.site == site, r.outcome == Outcome.STORED)
        return self._rows.all(query.order_by(r.accepted_at))

    def stored_digests(self) -> set[str]:
        """Digests of all answer payloads."""
        r = tables.receipts.c
        query = select(r.sha256).where(r.outcome == Outcome.STORED)
        return set(self._rows.connection.execute(query).scalars())

    def stores(self, sha256: str) -> bool:
        """Whether an answer has this payload."""
        r = tables.receipts.c
        query = select(r.update_id).where(r.outcome == Outcome.STORED, r.sha256 == sha256)
        return self._rows.connection.execute(query.limit(1)).first() is not None


class SqlTasks:
    """Evaluate, audit and erase tasks, oldest first."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.tasks, Task)

    def get(self, task: str) -> Task:
        """The task. Raises UnknownTask."""
        found = self._rows.find(task)
        if found is None:
            raise UnknownTask(f"tasks/{task} does not exist", task=task)
        return found

    def add(self, task: Task) -> None:
        """A new task."""
        self._rows.add(task)

    def save(self, task: Task) -> None:
        """An answered or withdrawn task."""
        self._rows.save(task)

    def waiting(self, site: str) -> list[Task]:
        """What a site should still answer."""
        t = tables.tasks.c
        return self._found(t.site == site, t.answered_at.is_(None), t.withdrawn_at.is_(None))

    def of_request(self, request_id: str, erasure: str | None) -> list[Task]:
        """The tasks one question to the sites created."""
        t = tables.tasks.c
        owner = t.erasure.is_(None) if erasure is None else t.erasure == erasure
        return self._found(t.request_id == request_id, owner)

    def of_erasure(self, erasure: str) -> list[Task]:
        """All tasks of an erasure."""
        return self._found(tables.tasks.c.erasure == erasure)

    def _found(self, *conditions: Condition) -> list[Task]:
        t = tables.tasks.c
        return self._rows.all(self._rows.select(*conditions).order_by(t.created_at, t.id))
