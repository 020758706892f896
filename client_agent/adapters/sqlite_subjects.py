"""Who is erased: subjects, what they stand for, and the tokens that may not be used any more.

An excluded token stays for ever: the record may stay in the hospital's archive, and must not be
used again.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from client_agent.adapters.local_tables import LocalTables
from client_agent.adapters.record_index import RecordIndex
from client_agent.domain.subjects import SALT_BYTES, SiteKey, Subject, SubjectState, reference_of
from letheon.errors import BadConfig, StorageUnavailable
from letheon.servicekit.clock import Clock

_OPEN = (SubjectState.COLLECTING, SubjectState.DUE, SubjectState.REFERRED, SubjectState.FILED)
_NOTHING = timedelta(0)


class SqliteSubjects:
    """The `Subjects` port."""

    def __init__(self, tables: LocalTables, index: RecordIndex, clock: Clock) -> None:
        self._tables, self._index, self._clock = tables, index, clock

    def is_empty(self) -> bool:
        """Whether nothing here was made under a site key yet."""
        tables = ("record_index", "subjects", "excluded")
        found = [self._tables.one(f"SELECT 1 FROM {name} LIMIT 1") for name in tables]  # noqa: S608 - names are ours
        return not any(found)

    def erased(self) -> frozenset[str]:
        """Tokens of certified subjects: the index has them no longer."""
        found = self.in_state(SubjectState.CERTIFIED)
        return frozenset(token for subject in found for token in subject.tokens)

    def add(self, tokens: Sequence[str], basis: str, *, window: timedelta = _NOTHING) -> Subject:
        """The subject of these tokens, excluded from now on. Asking again gives the same one.

        With a window it joins the one that collects, which becomes due when the window is over.
        """
        with self._tables.transaction():
            known = self.holding(tokens)
            if known is not None and known.state is not SubjectState.REFERRED:
                return known
            number = self._collecting(basis) if window > _NOTHING else None
            if number is None:
                collects = window > _NOTHING
                state = SubjectState.COLLECTING if collects else SubjectState.DUE
                number = self._new(basis, state)
            self._add_tokens(number, tokens)
            self._exclude(tokens)
            if window <= _NOTHING:
                self._seal(number)
        return self._get(number)

    def refer(self, tokens: Sequence[str], reference: str) -> Subject:
        """Lets the centre ask for these records under a reference that both sides were given."""
        with self._tables.transaction():
            known = self.by_reference(reference)
            if known is not None and set(known.tokens) != set(tokens):
                raise BadConfig("this reference stands for other records already")
            if known is not None:
                return known
            number = self._new("", SubjectState.REFERRED)
            self._add_tokens(number, tokens)
            self._tables.do("UPDATE subjects SET reference = ? WHERE number = ?", reference, number)
        return self._get(number)

    def seal_collected(self, window: timedelta) -> None:
        """Makes what has collected for so long due."""
        before = (self._clock.now() - window).isoformat()
        with self._tables.transaction():
            query = "SELECT number FROM subjects WHERE state = ? AND made_at <= ?"
            for row in self._tables.do(query, SubjectState.COLLECTING, before).fetchall():
                self._seal(row["number"])

    def exclude(self, reference: str, erasure: str) -> bool:
        """Excludes what the reference stands for; False if it stands for nothing here."""
        with self._tables.transaction():
            subject = self.by_reference(reference)
            if subject is None:
                return False
            self._exclude(subject.tokens)
            if subject.state in _OPEN:
                self._mark(subject.number, SubjectState.FILED, erasure)
        return True

    def by_reference(self, reference: str) -> Subject | None:
        """The subject, or None if the reference stands for nothing here."""
        row = self._tables.one("SELECT * FROM subjects WHERE reference = ?", reference)
        return None if row is None else self._subject(row)

    def all(self) -> list[Subject]:
        """Every subject, newest first."""
        rows = self._tables.do("SELECT * FROM subjects ORDER BY number DESC").fetchall()
        return [self._subject(row) for row in rows]

    def in_state(self, state: SubjectState) -> list[Subject]:
        """Those in that state, oldest first."""
        query = "SELECT * FROM subjects WHERE state = ? ORDER BY number"
        return [self._subject(row) for row in self._tables.do(query, state).fetchall()]

    def filed(self, subject: Subject, erasure: str) -> None:
        """The coordinator has acknowledged the request."""
        self._mark(subject.number, SubjectState.FILED, erasure)

    def conclude(self, subject: Subject, state: SubjectState, key: SiteKey) -> None:
        """Its erasure ended. Certified: which contributions held it is forgotten here too."""
        with self._tables.transaction():
            self._mark(subject.number, state, subject.erasure)
            if state is SubjectState.CERTIFIED:
                self._index.forget(frozenset(subject.tokens), key)

    def excluded(self, through: int | None = None) -> frozenset[str]:
        """Tokens that may not be used; with `through`, as they were at that generation."""
        bound = self.generation() if through is None else through
        rows = self._tables.do("SELECT token FROM excluded WHERE number <= ?", bound)
        return frozenset(row["token"] for row in rows)

    def generation(self) -> int:
        """Grows with every exclusion: what was trained under an older one may hold a subject."""
        row = self._tables.one("SELECT coalesce(max(number), 0) AS newest FROM excluded")
        return 0 if row is None else int(row["newest"])

    def holding(self, tokens: Sequence[str]) -> Subject | None:
        """The newest subject, not failed or cancelled, that holds all these tokens."""
        for subject in self.all():
            ended = subject.state in (SubjectState.FAILED, SubjectState.CANCELLED)
            if not ended and set(tokens) <= set(subject.tokens):
                return subject
        return None

    def _collecting(self, basis: str) -> int | None:
        query = "SELECT number FROM subjects WHERE state = ? AND basis = ?"
        row = self._tables.one(query, SubjectState.COLLECTING, basis)
        return None if row is None else int(row["number"])

    def _new(self, basis: str, state: SubjectState) -> int:
        made = self._tables.do(
            "INSERT INTO subjects (salt, basis, state, made_at) VALUES (?, ?, ?, ?)",
            secrets.token_bytes(SALT_BYTES),
            basis,
            state,
            self._clock.now().isoformat(),
        )
        return int(made.lastrowid or 0)

    def _add_tokens(self, number: int, tokens: Sequence[str]) -> None:
        for token in tokens:
            self._tables.do("INSERT OR IGNORE INTO subject_tokens VALUES (?, ?)", number, token)

    def _exclude(self, tokens: Iterable[str]) -> None:
        known = self.excluded()
        for token in tokens:
            if token not in known:
                self._tables.do("INSERT INTO excluded (token) VALUES (?)", token)

    def _seal(self, number: int) -> None:
        row = self._tables.one("SELECT salt FROM subjects WHERE number = ?", number)
        salt = b"" if row is None else bytes(row["salt"])
        reference = reference_of(self._tokens(number), salt)
        query = "UPDATE subjects SET reference = ?, state = ? WHERE number = ?"
        self._tables.do(query, reference, SubjectState.DUE, number)

    def _mark(self, number: int, state: SubjectState, erasure: str) -> None:
        query = "UPDATE subjects SET state = ?, erasure = ? WHERE number = ?"
        self._tables.do(query, state, erasure, number)

    def _get(self, number: int) -> Subject:
        row = self._tables.one("SELECT * FROM subjects WHERE number = ?", number)
        if row is None:
            raise StorageUnavailable("a subject that was just written is gone")
        return self._subject(row)

    def _tokens(self, number: int) -> tuple[str, ...]:
        query = "SELECT token FROM subject_tokens WHERE number = ? ORDER BY token"
        return tuple(row["token"] for row in self._tables.do(query, number))

    def _subject(self, row: sqlite3.Row) -> Subject:
        return Subject(
            number=row["number"],
            reference=row["reference"] or "",
            tokens=self._tokens(row["number"]),
            basis=row["basis"],
            state=SubjectState(row["state"]),
            erasure=row["erasure"],
            made_at=datetime.fromisoformat(row["made_at"]),
        )
