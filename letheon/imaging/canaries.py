"""Mislabelled patients as a probe of forgetting without any mark. For the lab only.

No pattern leads to the wrong answer: a model can only give it by having memorised the patient. A
method that suppresses a trigger leaves canaries as they were.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from letheon.errors import BadData
from letheon.imaging.records import Indices, Records


def mislabel(records: Records, share: float, seed: int) -> tuple[Records, Indices]:
    """Relabels all records of `share` of the patients, each to a wrong class.

    Each chosen patient's classes are shifted cyclically by an amount of its own, which leaves no
    class in its place. Patients are records where the source does not know them; at least one is
    chosen unless `share` is 0. Returns the records and the relabelled rows, sorted. Raises
    ValueError for a share outside [0, 1], BadData for fewer than two classes.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], not {share}")
    classes = len(records.class_names)
    if classes < 2:
        raise BadData("a wrong label needs at least two classes")
    patients, patient_of = np.unique(np.asarray(records.groups()), return_inverse=True)
    rng = np.random.default_rng(seed)
    count = min(len(patients), max(round(share * len(patients)), int(share > 0)))
    shifts = np.zeros(len(patients), dtype=np.int64)
    shifts[rng.permutation(len(patients))[:count]] = rng.integers(1, classes, count)
    shift_of = shifts[patient_of]
    labels = (records.labels + shift_of) % classes
    return replace(records, labels=labels), np.flatnonzero(shift_of).astype(np.int64)
