"""Which record is whose, by pseudonym, and the record sets that deltas were trained on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from client_agent.adapters.local_tables import LocalTables
from client_agent.domain.subjects import IndexedRecord, SiteKey, without


class RecordIndex:
    """The `RecordIndex` port."""

    def __init__(self, tables: LocalTables) -> None:
        self._tables = tables

    def replace(self, records: Sequence[IndexedRecord]) -> None:
        """Makes the index what the source holds now."""
        with self._tables.transaction():
            self._tables.do("DELETE FROM record_index")
            rows = [(one.record, one.patient) for one in records]
            self._tables.do_many("INSERT INTO record_index VALUES (?, ?)", rows)

    def of(self, record_ids: Iterable[str]) -> list[IndexedRecord]:
        """These records with their patients, in this order; one that is not indexed has none."""
        rows = self._tables.do("SELECT record, patient FROM record_index")
        patients = {row["record"]: row["patient"] for row in rows}
        return [IndexedRecord(one, patients.get(one)) for one in record_ids]

    def knows_patients(self) -> bool:
        """Whether any record has a patient."""
        query = "SELECT 1 FROM record_index WHERE patient IS NOT NULL LIMIT 1"
        return self._tables.one(query) is not None

    def has_patient(self, token: str) -> bool:
        """Whether a record is of this patient."""
        query = "SELECT 1 FROM record_index WHERE patient = ? LIMIT 1"
        return self._tables.one(query, token) is not None

    def has_record(self, record: str) -> bool:
        """Whether the source holds this record."""
        return self._tables.one("SELECT 1 FROM record_index WHERE record = ?", record) is not None

    def record_set(self, fingerprint: str) -> list[str | None] | None:
        """The records a delta was trained on, or None if that is not known any more.

        None stands in the place of a record that is forgotten.
        """
        query = "SELECT record_ids FROM record_sets WHERE fingerprint = ?"
        row = self._tables.one(query, fingerprint)
        return None if row is None else list(json.loads(row["record_ids"]))

    def forget(self, tokens: frozenset[str], key: SiteKey) -> None:
        """Takes these records out of the index and out of every record set.

        Inside the caller's transaction. Record sets first: the index says whose they are.
        """
        for row in self._tables.do("SELECT fingerprint, record_ids FROM record_sets").fetchall():
            ids = json.loads(row["record_ids"])
            left = set(without(self.of(one for one in ids if one is not None), key, tokens))
            kept = [one if one in left else None for one in ids]
            if kept != ids:
                query = "UPDATE record_sets SET record_ids = ? WHERE fingerprint = ?"
                self._tables.do(query, json.dumps(kept), row["fingerprint"])
        held = [row["record"] for row in self._tables.do("SELECT record FROM record_index")]
        gone = set(held) - set(without(self.of(held), key, tokens))
        self._tables.do_many("DELETE FROM record_index WHERE record = ?", [(one,) for one in gone])
