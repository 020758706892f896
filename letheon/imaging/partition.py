"""Dealing records to sites (in the lab) and setting some aside at a site (always)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.imaging.records import Indices, Records


def dirichlet_partition(
    labels: npt.ArrayLike,
    sites: int,
    alpha: float,
    seed: int,
    minimum_share: float = 0.4,
    *,
    groups: Sequence[str] | None = None,
) -> list[Indices]:
    """Deals records to sites with skewed labels: each class by its own Dirichlet(alpha) draw.

    Hsu et al., arXiv 1909.06335, with classes dealt among sites. Small alpha: skewed labels.
    Every site ends with at least `minimum_share` of the mean, topped up from the largest.
    `groups` [n] (patients) are dealt whole, each under the label of its first record; a group
    larger than the room left may keep a site below the minimum by less than that group.

    Returns `sites` sorted index arrays, disjoint, together all records. Same arguments, same
    deal. Raises BadData if there are fewer records (or groups) than sites.
    """
    label_of = np.asarray(labels, dtype=np.int64)
    if sites < 1 or not alpha > 0 or not 0 <= minimum_share <= 1:
        raise ValueError("sites must be >= 1, alpha > 0 and minimum_share in [0, 1]")
    units = _units(range(len(label_of)) if groups is None else groups)
    if len(units) < sites:
        raise BadData(f"{len(units)} records or patients cannot be dealt to {sites} sites")
    generator = np.random.default_rng(seed)
    sizes = np.array([len(unit) for unit in units])
    owner = _deal(label_of[[unit[0] for unit in units]], sites, alpha, generator)
    least = max(1, int(minimum_share * len(label_of) / sites))
    _top_up(owner, sizes, sites, least, generator)
    return [_rows([units[unit] for unit in np.flatnonzero(owner == site)]) for site in range(sites)]


def _units(groups: Sequence[object]) -> list[list[int]]:
    members: dict[object, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    return list(members.values())


def _rows(units: Sequence[Sequence[int]]) -> Indices:
    return np.array(sorted(row for unit in units for row in unit), dtype=np.int64)


def _deal(
    labels: npt.NDArray[np.int64], sites: int, alpha: float, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    owner = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        units = generator.permutation(np.flatnonzero(labels == label))
        # A vanishing alpha can underflow to shares of zero everywhere; the top-up mends that.
        shares = np.nan_to_num(generator.dirichlet(np.full(sites, alpha)))
        ends = np.rint(np.cumsum(shares) * len(units)).astype(np.int64)
        owner[units] = np.minimum(
            np.searchsorted(ends, np.arange(len(units)), side="right"), sites - 1
        )
    return owner


def _top_up(
    owner: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    sites: int,
    least: int,
    generator: np.random.Generator,
) -> None:
    """Moves units, chosen at random, from the largest site to those below `least` records."""
    for site in range(sites):
        while (held := _held(owner, sizes, sites))[site] < least:
            donor = int(held.argmax())
            spare = np.flatnonzero(owner == donor)
            movable = spare[held[donor] - sizes[spare] >= least]
            if donor == site or len(movable) == 0:
                movable = _from_the_most_units(owner, sites)
                if held[site] > 0 or len(movable) == 0:
                    break
            owner[generator.choice(movable)] = site


def _held(
    owner: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], sites: int
) -> npt.NDArray[np.int64]:
    return np.bincount(owner, weights=sizes, minlength=sites).astype(np.int64)


def _from_the_most_units(owner: npt.NDArray[np.int64], sites: int) -> npt.NDArray[np.int64]:
    """Units of the site with the most of them: giving one away never empties it."""
    counts = np.bincount(owner, minlength=sites)
    return np.flatnonzero(owner == counts.argmax()) if counts.max() > 1 else owner[:0]


@dataclass(frozen=True)
class SetAside:
    """Rows of a site's records by use; sorted, disjoint by patient, together all of them."""

    train: Indices
    control: Indices  # never trained on: what erased records are compared with
    validation: Indices  # never trained on: utility


def set_aside(
    records: Records, *, control: float = 0.1, validation: float = 0.1, seed: int
) -> SetAside:
    """Sets about these shares of the patients aside (records, where patients are unknown).

    A patient's place is a hash of its identifier and the seed, so that it stays where it is
    when the site gains records: a control record that became a training record would spoil the
    audit. Where a share would come out empty, the patient nearest to it is taken, as long as
    one is left to train on.
    """
    if control < 0 or validation < 0 or control + validation >= 1:
        raise ValueError("control and validation must be >= 0 and leave something to train on")
    groups = records.groups()
    place = {group: _place(group, seed) for group in set(groups)}
    order = sorted(place, key=lambda group: (place[group], group))
    first = _at_least_one(sum(place[group] < control for group in order), control)
    last = _at_least_one(sum(place[group] >= 1 - validation for group in order), validation)
    while first + last >= len(order) and first + last > 0:
        first, last = (first - 1, last) if first >= last else (first, last - 1)
    in_control = set(order[:first])
    in_validation = set(order[len(order) - last :])
    held_out = in_control | in_validation
    return SetAside(
        train=_where([group not in held_out for group in groups]),
        control=_where([group in in_control for group in groups]),
        validation=_where([group in in_validation for group in groups]),
    )


def _at_least_one(count: int, share: float) -> int:
    return max(count, 1) if share > 0 else 0


def _place(group: str, seed: int) -> float:
    """Uniform in [0, 1)."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    # 53 bits fill a float; 64 could round up to 1.0.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2.0**53


def _where(chosen: Sequence[bool]) -> Indices:
    return np.flatnonzero(np.array(chosen, dtype=bool)).astype(np.int64)
