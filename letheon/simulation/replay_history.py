"""FedEraser in a simulation: the history is gone through again while every site waits.

Liu et al., IWQoS 2021; the rule itself is `letheon.unlearning.federaser.calibrated_step`. What a
stored group moved the head by, coefficients included, is the length of a step; what the retained
sites learn now from the reconstruction is its direction.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from letheon.federation.parameters import Vector
from letheon.federation.replay import fold
from letheon.simulation.erasure import At, Erasure, Wait
from letheon.simulation.federation import Federation
from letheon.simulation.history import merged_terms
from letheon.unlearning.federaser import calibrated_step
from letheon.unlearning.method import LabStepDone, Outcome, Replay


def replay_history(
    step: Replay, erasure: Erasure, federation: Federation
) -> Generator[Wait, None, Outcome]:
    """Halts all sites, rebuilds the head from version 0 on, writes it over the head, resumes.

    `step.parameters`: groups, local_steps, learning_rate, as FedEraser names them. A group takes
    as long as the slowest retained site needs for its local steps. Raises KeyError for a parameter
    that is missing, PatchVoid after a later removal.
    """
    federation.synchronise()
    central = federation.central
    steps, rate = int(step.parameters["local_steps"]), float(step.parameters["learning_rate"])
    rebuilt = np.array(central.payloads[central.entries[0].entry])
    for moved in stored_groups(federation, erasure.site, int(step.parameters["groups"])):
        learned, until = _learned(federation, erasure.site, rebuilt, steps=steps, rate=rate)
        if not learned:
            break  # every other site has withdrawn meanwhile
        yield At(until)
        rebuilt += calibrated_step(moved[np.newaxis], np.stack(learned))
    erasure.check_epoch(central)
    central.patch(rebuilt - central.head, federation.now)
    central.restart_rate()
    erasure.landed_at = federation.now
    federation.resume()
    return LabStepDone(central.version)


def stored_groups(federation: Federation, without: str, groups: int) -> list[Vector]:
    """What runs of consecutive retained deltas moved the head by, oldest first.

    [at most `groups`] of [d]: the sum of coefficient times delta, of about as many deltas each.
    Deltas of sites that are fenced are no retained ones.
    """
    central = federation.central
    terms = [
        (row, coefficient)
        for row, coefficient in merged_terms(central.entries)
        if row.site != without and row.site not in central.fenced
    ]
    sums: list[Vector] = []
    for piece in np.array_split(np.arange(len(terms)), max(1, min(groups, len(terms)))):
        total: Vector | None = None
        for place in piece:
            row, coefficient = terms[int(place)]
            total = fold(total, coefficient, central.payloads[row.entry])
        if total is not None:
            sums.append(total)
    return sums


def _learned(
    federation: Federation, without: str, start: Vector, *, steps: int, rate: float
) -> tuple[list[Vector], float]:
    """A few local steps of every retained site from `start`, and when the slowest is through."""
    share = steps / federation.central.rules.plan.training.local_steps
    learned, until = [], federation.now
    for site in federation.active:
        if site == without:
            continue
        seconds, seed = federation.next_training(site)
        ready = federation.arrival(site, federation.now + share * seconds)
        until = max(until, ready)
        delta = federation.setting.trainer.delta(
            site, start, learning_rate=rate, seed=seed, steps=steps
        )
        learned.append(delta)
    return learned, until
