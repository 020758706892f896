"""Which of a site's records may be used, and whose they are, by pseudonym."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from client_agent.domain.subjects import IndexedRecord, SiteKey, is_excluded
from client_agent.training_child.fixed_split import SplitRecords, write_durably
from letheon.errors import BadData, Refused
from letheon.imaging.records import Indices, Records

INDEX = "record_index.json"
#: Fewer of a subject tell too much of each of them, and no test could conclude from them.
FEWEST_TO_TELL = 8


def indexed(records: Records, key: SiteKey) -> list[IndexedRecord]:
    """Each record with its patient's pseudonym. [n]"""
    patients = records.patients or (None,) * len(records)
    return [
        IndexedRecord(one, None if patient is None else key.of_patient(patient))
        for one, patient in zip(records.record_ids, patients, strict=True)
    ]


def write_index(folder: Path, records: Records, key: SiteKey) -> Path:
    """The index of all records as JSON, for the daemon to take in."""
    path = folder / INDEX
    rows = [[one.record, one.patient] for one in indexed(records, key)]
    write_durably(path, json.dumps(rows).encode())
    return path


def without_excluded(parts: SplitRecords, key: SiteKey, excluded: frozenset[str]) -> SplitRecords:
    """Every part without the excluded records. Raises BadData if none is left to train on."""
    if not excluded:
        return parts
    left = SplitRecords(
        train=_kept(parts.train, key, excluded),
        control=_kept(parts.control, key, excluded),
        validation=_kept(parts.validation, key, excluded),
    )
    if len(left.train) == 0:
        raise BadData(
            "every record to train on was excluded by an erasure: this site has none left"
        )
    return left


def _kept(records: Records, key: SiteKey, excluded: frozenset[str]) -> Records:
    rows = [not is_excluded(one, key, excluded) for one in indexed(records, key)]
    return records.select(np.array(rows, dtype=np.bool_))


def of_subject(records: Records, key: SiteKey, tokens: Collection[str]) -> Records:
    """The subject's records. Raises Refused for fewer than may be told of."""
    wanted = frozenset(tokens)
    rows = [is_excluded(one, key, wanted) for one in indexed(records, key)]
    found = records.select(np.array(rows, dtype=np.bool_))
    if len(found) < FEWEST_TO_TELL:
        raise Refused(
            f"the subject has fewer than {FEWEST_TO_TELL} training records here: no statistic of "
            "so few leaves the site"
        )
    return found


def matched_controls(control: Records, subject: Records) -> Records:
    """Control records of the subject's classes, or all where there are none of them."""
    same = np.isin(control.labels, np.unique(subject.labels))
    return control.select(same) if same.any() else control


def named(records: Records, record_ids: Sequence[str | None]) -> tuple[Records, Indices]:
    """These records in this order, and the row of each place among them: -1 where None stands.

    Raises BadData if one is not in the source any more.
    """
    rows = {one: row for row, one in enumerate(records.record_ids)}
    try:
        chosen = [rows[one] for one in record_ids if one is not None]
    except KeyError:
        raise BadData(
            "records that an earlier delta was trained on are not in the data source any more"
        ) from None
    there = np.array([one is not None for one in record_ids], dtype=np.bool_)
    places = np.where(there, np.cumsum(there) - 1, -1).astype(np.int64)
    return records.select(np.array(chosen, dtype=np.int64)), places
