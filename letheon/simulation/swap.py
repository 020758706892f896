"""A patient at a site that stays: the site's past deltas, recomputed without some records.

The project's own method (`letheon.unlearning.patient_swap`): from the same bases, with the same
seeds and rates, so that nothing differs but the records.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

import numpy as np

from letheon.errors import BadData
from letheon.federation.encoding import decode, encode, needs_feedback
from letheon.federation.ledger import Entry, EntryKind
from letheon.federation.parameters import Vector
from letheon.federation.replay import ReplayState, apply
from letheon.simulation.central import Central
from letheon.simulation.federation import training_seed
from letheon.simulation.history import merged_terms
from letheon.unlearning.patient_swap import swap_patch

#: (base [d], learning rate, seed) -> delta [d] of the site without the records.
Recompute: TypeAlias = Callable[[Vector, float, int], Vector]


def swapped(central: Central, site: str, recompute: Recompute, *, seed: int) -> Vector:
    """The patch [d] that exchanges every merged delta of the site for a recomputed one.

    `seed` is that of the federation's setting. Exactly zero where the records never mattered, but
    with error feedback: there the new deltas travel as they are, like those of a real site, since
    a residual was made with the records; what encodings took from the old ones remains.
    Raises BadData if the site has merged no delta, or if a row does not say how it was trained.
    """
    terms = _terms(central, site)
    bases = rebuilt_bases(central, {row.base_version for row, _ in terms})
    plan = central.rules.plan
    encoding = plan.patch_encoding if needs_feedback(plan.encoding) else plan.encoding
    new_deltas = []
    for row, _ in terms:
        number, rate = _task_of(row)
        delta = recompute(bases[row.base_version], rate, training_seed(seed, site, number))
        new_deltas.append(decode(encode(delta, encoding), encoding))
    return swap_patch(
        [coefficient for _, coefficient in terms],
        [central.payloads[row.entry] for row, _ in terms],
        new_deltas,
    )


def trainings_of(central: Central, site: str) -> list[int]:
    """Numbers of the tasks that a swap of this moment trains again. Raises as `swapped`."""
    return [_task_of(row)[0] for row, _ in _terms(central, site)]


def rebuilt_bases(central: Central, versions: Collection[int | None]) -> dict[int | None, Vector]:
    """The weights [d] of those versions, by one replay of the ledger."""
    state = ReplayState.before_first(central.rules.layout.size)
    bases: dict[int | None, Vector] = {}
    for row in central.entries:
        apply(state, row, lambda entry: central.payloads[entry.entry])
        if row.version in versions and row.version not in bases:
            bases[row.version] = np.array(state.head)
    return bases


def _terms(central: Central, site: str) -> list[tuple[Entry, float]]:
    last = _last_subtraction(central.entries, site)
    return [
        (row, coefficient)
        for row, coefficient in merged_terms(central.entries)
        if row.site == site and row.entry > last
    ]


def _last_subtraction(entries: Sequence[Entry], site: str) -> int:
    rows = (
        row.entry
        for row in entries
        if row.kind is EntryKind.REMOVAL and row.site == site and row.details["subtracted"]
    )
    return max(rows, default=-1)


def _task_of(row: Entry) -> tuple[int, float]:
    """Number of the task and its learning rate, as the row records them."""
    try:
        return int(row.details["task"]), float.fromhex(row.details["learning_rate"])
    except KeyError as error:
        raise BadData(f"row {row.entry} does not say how its delta was trained") from error
