"""The paces of a unit's sites, and who is cut off around its request."""

from __future__ import annotations

import numpy as np

from letheon.simulation.config import StudyConfig, TimesConfig
from letheon.simulation.federation import Federation
from letheon.simulation.hospitals import Hospitals
from letheon.simulation.running import wait_until
from letheon.simulation.virtual_time import Partition, TrainingTimes, derived_seed


def times_of(told: TimesConfig, hospitals: Hospitals, seed: int, drawn: int) -> TrainingTimes:
    """Paces by the unit's seed; `drawn` decides the single durations."""
    others = tuple(site for site in hospitals.sites if site != hospitals.target)
    order = np.random.default_rng(derived_seed(seed, "paces")).permutation(len(others))
    paces = {
        site: told.others[place % len(told.others)]
        for site, place in zip(others, order, strict=True)
    }
    return TrainingTimes(
        paces={**paces, hospitals.target: told.target},
        seed=derived_seed(drawn, "times"),
        distribution=told.distribution,
        spread=told.spread,
        shape=told.shape,
        drop_out=told.drop_out,
    )


def partition_of(
    study: StudyConfig, hospitals: Hospitals, seed: int, request: float
) -> Partition | None:
    """The study's partition around a request at that virtual second."""
    told = study.partition
    if told is None:
        return None
    order = np.random.default_rng(derived_seed(seed, "partition"))
    cut = order.permutation(np.array(hospitals.retained()))[: told.sites]
    return Partition(frozenset(map(str, cut)), request + told.start, request + told.end)


def wait_cut_off(
    federation: Federation, study: StudyConfig, hospitals: Hospitals, seed: int
) -> None:
    """The partition begins now, or is still to come; trains on until the request."""
    if study.partition is None:
        return
    request = federation.now - min(0.0, study.partition.start)
    partition = partition_of(study, hospitals, seed, request)
    if partition is not None:
        federation.cut(partition)
        wait_until(federation, request)
