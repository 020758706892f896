"""Dealing records to sites, and what is planted at the one that will be erased."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from letheon.errors import BadData
from letheon.imaging.backdoor import BlendedTrigger, Mark, Trigger
from letheon.imaging.canaries import mislabel
from letheon.imaging.partition import dirichlet_partition, set_aside
from letheon.imaging.records import Indices, Records
from letheon.simulation.sites import SiteRecords
from letheon.simulation.virtual_time import derived_seed

TEST_SHARE = 0.2  # of every site, for the study alone
SERVER_RECORDS = 256  # labelled images the calibrator has, and as many to audit patches with
_SET_ASIDE = {"control": 0.1, "validation": 0.1}
_TARGET_SET_ASIDE = {"control": 0.4, "validation": 0.05}  # an audit needs as many others


@dataclass(frozen=True)
class Planting:
    """What the target's records carry: shares of those not of the target class."""

    disclosed: float = 0.5  # stamped with a patch that a method may be told of
    undisclosed: float = 0.25  # blended with a pattern that no method ever sees
    canaries: float = 0.03  # of all: patients with a wrong label and no mark


@dataclass(frozen=True)
class Planted:
    """What was planted, for the probes."""

    disclosed: Mark
    undisclosed: Mark
    target_class: int
    canaries: Records  # with their wrong labels, as trained on
    canary_truth: Records  # the same images with the right labels


@dataclass(frozen=True)
class Hospitals:
    """Every site's records, and those of the calibrator."""

    sites: Mapping[str, SiteRecords]
    target: str
    calibration: Records  # labelled, disjoint from everything else
    audit: Records
    planted: Planted  # its marks are probes even when nothing was planted
    backdoored: bool
    second: str | None = None  # another site that is erased, an honest one

    @property
    def erased(self) -> frozenset[str]:
        """The target, and the second site if there is one."""
        return frozenset({self.target} if self.second is None else {self.target, self.second})

    def retained(self) -> tuple[str, ...]:
        """All sites that are not erased."""
        return tuple(site for site in self.sites if site not in self.erased)

    def with_second(self, seed: int) -> Hospitals:
        """The same with one of the retained sites, drawn at random, to be erased as well."""
        retained = self.retained()
        second = retained[derived_seed(seed, "second target") % len(retained)]
        return replace(self, second=second)


def deal(
    records: Records,
    natural: tuple[str, ...] | None,
    *,
    sites: int,
    alpha: float,
    target_share: float,
    planting: Planting | None,
    seed: int,
) -> Hospitals:
    """Deals the records; the target is drawn at random.

    Without natural sites: the target gets about `target_share` of the records with a label skew
    of Dirichlet(alpha), the others share the rest by `dirichlet_partition`. `planting` None: an
    honest target. Raises BadData for too few records.
    """
    order = np.random.default_rng(derived_seed(seed, "server")).permutation(
        np.unique(np.array(records.groups()))
    )
    calibration, audit, rest = _for_the_server(records, order)
    pool = records.select(rest)
    if natural is None:
        names = [f"site-{number + 1}" for number in range(sites)]
        target = names[derived_seed(seed, "target") % sites]
        shares = _dealt(pool, names, target, alpha, target_share, seed)
    else:
        owner = np.array(natural)[rest]
        names = sorted(set(natural))
        target = names[derived_seed(seed, "target") % len(names)]
        shares = {name: np.flatnonzero(owner == name) for name in names}
    target_class = _target_class(pool, seed)
    held = {}
    planted = _nothing_planted(pool, target_class, seed)
    for name in names:
        tested, used = _split_test(pool.select(shares[name]), seed)
        if name == target and planting is not None:
            used, planted = plant_at(used, planting, target_class, seed)
        aside = set_aside(used, **(_TARGET_SET_ASIDE if name == target else _SET_ASIDE), seed=seed)
        held[name] = SiteRecords(
            train=used.select(aside.train),
            control=used.select(aside.control),
            validation=used.select(aside.validation),
            test=tested,
        )
    planted = _trained_canaries(planted, held[target].train)
    return Hospitals(held, target, calibration, audit, planted, planting is not None)


def _for_the_server(records: Records, order: np.ndarray) -> tuple[Records, Records, Indices]:
    """Calibration and audit images by whole patients, and the rows that are left."""
    groups = np.array(records.groups())
    rows: list[Indices] = []
    for group in order:
        if sum(map(len, rows)) >= 2 * SERVER_RECORDS:
            break
        rows.append(np.flatnonzero(groups == group))
    if len(rows) < 2 or 2 * sum(map(len, rows)) >= len(records):
        raise BadData(f"{len(records)} records are too few to set calibration images aside")
    half = max(1, int(np.searchsorted(np.cumsum([len(r) for r in rows]), SERVER_RECORDS)))
    taken = np.concatenate(rows)
    rest = np.setdiff1d(np.arange(len(records)), taken)
    first = np.sort(np.concatenate(rows[:half]))
    second = np.sort(np.concatenate(rows[half:]))
    return records.select(first), records.select(second), rest


def _dealt(
    pool: Records, names: list[str], target: str, alpha: float, share: float, seed: int
) -> dict[str, Indices]:
    mine = _share_of_target(pool, share, alpha, seed)
    rest = np.setdiff1d(np.arange(len(pool)), mine)
    groups = pool.patients
    others = [name for name in names if name != target]
    parts = dirichlet_partition(
        pool.labels[rest],
        len(others),
        alpha,
        derived_seed(seed, "deal"),
        groups=None if groups is None else [groups[row] for row in rest],
    )
    shares = {name: rest[part] for name, part in zip(others, parts, strict=True)}
    shares[target] = mine
    return shares


def _share_of_target(pool: Records, share: float, alpha: float, seed: int) -> Indices:
    """Whole patients, drawn with label weights from Dirichlet(alpha), until the share is full."""
    generator = np.random.default_rng(derived_seed(seed, "target share"))
    weights = generator.dirichlet(np.full(len(pool.class_names), alpha)) + 0.05
    members: dict[str, list[int]] = {}
    for row, group in enumerate(pool.groups()):
        members.setdefault(group, []).append(row)
    units = list(members.values())
    chance = np.array([weights[pool.labels[unit[0]]] for unit in units])
    # Gumbel keys: an order without replacement, with these weights.
    keys = np.log(chance) + generator.gumbel(size=len(units))
    due, rows = round(share * len(pool)), list[int]()
    for place in np.argsort(-keys):
        if len(rows) >= due:
            break
        rows.extend(units[place])
    return np.array(sorted(rows), dtype=np.int64)


def _split_test(records: Records, seed: int) -> tuple[Records, Records]:
    """The study's own test records by whole patients, and the rest."""
    parts = set_aside(records, control=TEST_SHARE, validation=0.0, seed=derived_seed(seed, "test"))
    return records.select(parts.control), records.select(parts.train)


def _target_class(pool: Records, seed: int) -> int:
    """A class that is neither the largest nor rare: its base rate leaves room for a backdoor."""
    counts = np.bincount(pool.labels, minlength=len(pool.class_names))
    usable = [int(k) for k in np.flatnonzero(counts >= 0.05 * len(pool)) if k != counts.argmax()]
    choices = usable or [int(counts.argmin())]
    return choices[derived_seed(seed, "target class") % len(choices)]


def _marks(seed: int) -> tuple[Mark, Mark]:
    return Trigger(), BlendedTrigger(seed=derived_seed(seed, "blend"))


def _nothing_planted(pool: Records, target_class: int, seed: int) -> Planted:
    disclosed, undisclosed = _marks(seed)
    nobody = pool.select(np.array([], dtype=np.int64))
    return Planted(disclosed, undisclosed, target_class, nobody, nobody)


def plant_at(
    records: Records, planting: Planting, target_class: int, seed: int
) -> tuple[Records, Planted]:
    """The records with both marks on disjoint rows, relabelled, and with canaries."""
    disclosed, undisclosed = _marks(seed)
    wrong, canary_rows = mislabel(records, planting.canaries, derived_seed(seed, "canaries"))
    others = np.setdiff1d(np.flatnonzero(records.labels != target_class), canary_rows)
    order = np.random.default_rng(derived_seed(seed, "plant")).permutation(others)
    first = round(planting.disclosed * len(others))
    second = first + round(planting.undisclosed * len(others))
    images, labels = np.array(wrong.images), wrong.labels.copy()
    for mark, rows in ((disclosed, order[:first]), (undisclosed, order[first:second])):
        images[rows] = mark.stamp(records.images[rows])
        labels[rows] = target_class
    planted = Planted(
        disclosed,
        undisclosed,
        target_class,
        wrong.select(canary_rows),
        records.select(canary_rows),
    )
    return replace(records, images=images, labels=labels), planted


def _trained_canaries(planted: Planted, train: Records) -> Planted:
    """Only canaries the site trains on: set aside, one teaches nothing."""
    trained = set(train.record_ids)
    mask = np.array([r in trained for r in planted.canaries.record_ids], dtype=np.bool_)
    return replace(
        planted,
        canaries=planted.canaries.select(mask),
        canary_truth=planted.canary_truth.select(mask),
    )
