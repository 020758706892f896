"""Single patients, or small sets of records, as subjects of an erasure at a site that stays."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from letheon.errors import BadData
from letheon.federation.parameters import Vector
from letheon.imaging.canaries import mislabel
from letheon.imaging.records import Indices, Records
from letheon.imaging.scores import record_losses
from letheon.simulation.sites import Network
from letheon.simulation.virtual_time import derived_seed

SET_RECORDS = 12  # of a subject, where the images do not know patients
CONTROLS = 20  # matched control records for each record, at most


@dataclass(frozen=True)
class Subject:
    """One subject: rows of the target's training records, and what each is compared with."""

    rows: Indices
    controls: tuple[Records, ...]  # by row: never trained on, with its label


def choose(train: Records, count: int, share: float, seed: int) -> list[Indices]:
    """Rows [of each subject] of up to `count` subjects, drawn at random.

    Patients where the records know them, else disjoint sets of 12 records; no more than together
    hold that share of the records. Raises BadData if not even one does.
    """
    order = np.random.default_rng(derived_seed(seed, "subjects"))
    if train.patients is None:
        pieces = order.permutation(len(train))[: count * SET_RECORDS]
        starts = range(0, len(pieces), SET_RECORDS)
        chosen = [np.sort(pieces[start : start + SET_RECORDS]) for start in starts]
    else:
        groups = np.array(train.groups())
        names = order.permutation(np.unique(groups))[:count]
        chosen = [np.flatnonzero(groups == name) for name in names]
    fitting = int(np.sum(np.cumsum([len(rows) for rows in chosen]) <= share * len(train)))
    if fitting == 0:
        raise BadData(
            f"a subject of {len(chosen[0])} of the target's {len(train)} training records is more "
            f"than the share {share} (patients.most_share)"
        )
    return chosen[:fitting]


def planted(train: Records, subjects: list[Indices], seed: int) -> Records:
    """The records with every label of every subject wrong, shifted by an amount of its own."""
    labels = train.labels.copy()
    for number, rows in enumerate(subjects):
        own = replace(train.select(rows), patients=("subject",) * len(rows))
        labels[rows] = mislabel(own, 1.0, derived_seed(seed, "canary", number))[0].labels
    return replace(train, labels=labels)


def matched(
    truth: Records, train: Records, control: Records, rows: Indices, seed: int
) -> tuple[Records, ...]:
    """For each row, control records of its true class with the label it is trained with.

    A class that no control record has is compared with all of them.
    """
    order, found = np.random.default_rng(derived_seed(seed, "controls")), []
    for row in rows:
        same = np.flatnonzero(control.labels == truth.labels[row])
        places = order.permutation(same if same.size else len(control))[:CONTROLS]
        beside = control.select(np.sort(places))
        found.append(replace(beside, labels=np.full_like(beside.labels, train.labels[row])))
    return tuple(found)


def without_rows(train: Records, rows: Indices) -> tuple[Records, Indices]:
    """The records but these, and the row of each record among them, -1 for these: its place."""
    kept = np.setdiff1d(np.arange(len(train)), rows)
    places = np.full(len(train), -1, dtype=np.int64)
    places[kept] = np.arange(len(kept))
    return train.select(kept), places


def statistic(network: Network, weights: Vector, train: Records, subject: Subject) -> float:
    """The chance that a control record's loss exceeds that of the subject's, ties half.

    The mean over the subject's records, each against its own matched ones: 0.5 where the records
    look never trained on, 1 where they are known by heart.
    """
    module = network.load(weights)
    own, _ = record_losses(module, train.select(subject.rows))
    ranks = []
    for loss, controls in zip(own, subject.controls, strict=True):
        others, _ = record_losses(module, controls)
        ranks.append(float(np.mean(others > loss) + 0.5 * np.mean(others == loss)))
    return float(np.mean(ranks))
