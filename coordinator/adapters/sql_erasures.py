"""Repositories of erasures: the erasures, their claims, attempts, outbox and certificates."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, update

from coordinator.adapters import tables
from coordinator.adapters.rows import Condition, Rows
from coordinator.domain.claim import Claim
from coordinator.domain.erasure import OPEN, Announcement, Attempt, Certificate, Erasure
from letheon.errors import UnknownCertificate, UnknownErasure


class SqlErasures:
    """Erasures, newest first."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.erasures, Erasure)

    def get(self, erasure: str) -> Erasure:
        """The erasure. Raises UnknownErasure."""
        found = self._rows.find(erasure)
        if found is None:
            raise UnknownErasure(f"erasures/{erasure} does not exist", erasure=erasure)
        return found

    def by_request(self, request_id: str) -> Erasure | None:
        """The erasure a request id made, or None."""
        return self._rows.first(self._rows.select(tables.erasures.c.request_id == request_id))

    def of_site(self, site: str) -> list[Erasure]:
        """Every erasure of a subject."""
        return self._found(tables.erasures.c.site == site)

    def add(self, erasure: Erasure) -> None:
        """A new erasure."""
        self._rows.add(erasure)

    def save(self, erasure: Erasure) -> None:
        """A changed erasure."""
        self._rows.save(erasure)

    def open(self) -> list[Erasure]:
        """Those not certified, failed or cancelled."""
        return self._found(tables.erasures.c.state.in_(sorted(OPEN)))

    def all(self) -> list[Erasure]:
        """Every erasure."""
        return self._found()

    def _found(self, *conditions: Condition) -> list[Erasure]:
        e = tables.erasures.c
        return self._rows.all(
            self._rows.select(*conditions).order_by(e.requested_at.desc(), e.id.desc())
        )


class SqlClaims:
    """The newest claim of each erasure."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.claims, Claim)

    def find(self, erasure: str) -> Claim | None:
        """The newest claim, or None if nobody ever claimed."""
        return self._rows.find(erasure)

    def save(self, claim: Claim) -> None:
        """A new or renewed claim."""
        self._rows.save(claim)


class SqlAttempts:
    """Runs of the gate."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.attempts, Attempt)

    def of(self, erasure: str) -> list[Attempt]:
        """The attempts of an erasure, by number."""
        a = tables.attempts.c
        return self._rows.all(self._rows.select(a.erasure == erasure).order_by(a.number))

    def save(self, attempt: Attempt) -> None:
        """A new attempt; repeating a number writes it again."""
        self._rows.save(attempt)


class SqlOutbox:
    """Erasures whose id must reach the stream."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows = Rows(connection, tables.outbox, Announcement)

    def add(self, erasure: str, now: datetime) -> None:
        """One more to announce."""
        self._connection.execute(insert(tables.outbox).values(erasure=erasure, created_at=now))

    def due(self, limit: int = 100) -> list[Announcement]:
        """Those not announced yet, oldest first."""
        o = tables.outbox.c
        query = self._rows.select(o.announced_at.is_(None)).order_by(o.id).limit(limit)
        return self._rows.all(query)

    def mark_announced(self, announcement: int, now: datetime) -> None:
        """It reached the stream."""
        o = tables.outbox
        self._connection.execute(update(o).where(o.c.id == announcement).values(announced_at=now))


class SqlCertificates:
    """Certificates, newest first."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.certificates, Certificate)

    def get(self, erasure: str) -> Certificate:
        """The certificate. Raises UnknownCertificate."""
        found = self._rows.find(erasure)
        if found is None:
            raise UnknownCertificate(f"erasures/{erasure} is not certified", erasure=erasure)
        return found

    def add(self, certificate: Certificate) -> None:
        """A new certificate."""
        self._rows.add(certificate)

    def all(self) -> list[Certificate]:
        """Every certificate."""
        return self._rows.all(self._rows.select().order_by(tables.certificates.c.signed_at.desc()))
