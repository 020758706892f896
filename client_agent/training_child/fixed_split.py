"""The split of a site's records, fixed at enrolment.

A forgetting test compares records that were trained on with control records that never were. A
split drawn anew after a restart would mix the two, so the ids of control and validation records
are stored and every later start reads them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from letheon.errors import BadData
from letheon.imaging.partition import set_aside
from letheon.imaging.records import Records

FILE = "split.json"


@dataclass(frozen=True)
class SplitRecords:
    """Disjoint by patient."""

    train: Records
    control: Records
    validation: Records


def split_records(
    records: Records, folder: Path, *, control: float, validation: float, seed: int
) -> SplitRecords:
    """Splits as stored in `folder`, or draws the split and stores it.

    A record that arrived after enrolment joins its patient's part, or the training records.
    Raises BadData if record ids repeat, a part is empty or the stored split fits none of them.
    """
    if len(set(records.record_ids)) != len(records):
        raise BadData("record ids of the data source repeat: each record needs its own")
    stored = folder / FILE
    if not stored.exists():
        drawn = set_aside(records, control=control, validation=validation, seed=seed)
        parts = {
            "control": [records.record_ids[i] for i in drawn.control],
            "validation": [records.record_ids[i] for i in drawn.validation],
        }
        write_durably(stored, json.dumps({"schema": 1, "seed": seed, **parts}).encode())
    document = json.loads(stored.read_text(encoding="utf-8"))
    return _apply(records, document)


def write_durably(path: Path, content: bytes) -> None:
    """Writes a file, readable by its owner only, that is there whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _apply(records: Records, document: dict[str, Any]) -> SplitRecords:
    control = _members(records, document["control"])
    validation = _members(records, document["validation"]) & ~control
    train = ~(control | validation)
    _check("control", control, document["control"])
    _check("validation", validation, document["validation"])
    if not train.any():
        raise BadData("no record is left to train on: lower control_share and validation_share")
    return SplitRecords(
        train=records.select(np.flatnonzero(train)),
        control=records.select(np.flatnonzero(control)),
        validation=records.select(np.flatnonzero(validation)),
    )


def _members(records: Records, record_ids: Sequence[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Mask [n] of these records and all others of their patients."""
    wanted = set(record_ids)
    mask = np.fromiter((one in wanted for one in records.record_ids), bool, len(records))
    if records.patients is None:
        return mask
    patients = {records.patients[i] for i in np.flatnonzero(mask)}
    return np.fromiter((one in patients for one in records.patients), bool, len(records))


def _check(part: str, mask: np.ndarray[Any, np.dtype[np.bool_]], stored: Sequence[str]) -> None:
    if stored and not mask.any():
        raise BadData(
            f"none of the {part} records fixed at enrolment is in the data source any more:"
            " point the agent at the data it enrolled with, or enrol a new site"
        )
