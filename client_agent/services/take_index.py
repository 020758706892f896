"""Takes in which record is whose, as the training process found it in the source."""

from __future__ import annotations

import json

from client_agent.domain.subjects import IndexedRecord, SiteKey, is_excluded
from client_agent.ports import Holdings, RecordIndex, Subjects


def take_index(holdings: Holdings, *, index: RecordIndex, subjects: Subjects, key: SiteKey) -> None:
    """Replaces the index, without those whose erasure is certified: they are forgotten here."""
    if holdings.index_file is None:
        return
    rows = json.loads(holdings.index_file.read_text(encoding="utf-8"))
    records = [IndexedRecord(record, patient) for record, patient in rows]
    erased = subjects.erased()
    index.replace([one for one in records if not is_excluded(one, key, erased)])
