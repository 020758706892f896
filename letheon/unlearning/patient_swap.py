"""One patient, or a few records, at a site that stays: its past deltas are exchanged.

The site recomputes each of its accepted deltas without the records, from the same base and with
the same seed, and sends what that changes:

    D'_j = Train(w_b(j), records without the patient, seed_j)
    q    = sum_j c_j (D'_j - D_j),     w <- w + q,     C_k <- C_k + q            (`swap_patch`)

The project's own method (its prototype on digits: all deltas exchanged, the planted backdoor fell
from 76 % with the records only no longer used to 0.7 %, as after retraining; the last three deltas
exchanged, 71 %). Needs the target, its bases and seeds since its first delta, and the coefficients
as recorded. Costs the site its own past training once more, and nobody else anything.

Where a base or a seed is gone, or the difference may not be added (`letheon.federation.exchange`),
the whole site's contribution is removed and the site admitted again. In the services the one or the
other is the removal itself, and comes before the method's steps
(`calibrator.services.exchange_records`); in the simulator both are steps, and without `readmits`
the method gives up instead: an ablation. It is never scaled down, since part of a swap leaves
influence.
Like a removal it takes out the direct influence; what others learned from it meanwhile is indirect
and stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from letheon.errors import BadData
from letheon.federation.arithmetic import accumulate, subtract
from letheon.federation.exchange import ALLOWED_DROP
from letheon.federation.parameters import Vector
from letheon.unlearning import script
from letheon.unlearning.method import (
    TARGET,
    AskTarget,
    Case,
    Finished,
    LabStepDone,
    Offer,
    Outcome,
    PushPatch,
    Readmit,
    State,
    Step,
)


@dataclass(frozen=True)
class PatientSwap:
    """The site recomputes its deltas, the difference is added whole or not at all."""

    offer: ClassVar[Offer] = Offer(
        name="patient_swap",
        levels=frozenset({"L1"}),
        subtracts=False,
        suppresses=False,
        needs=frozenset({TARGET}),
        exchanges=True,
    )

    target_timeout_seconds: float = 3600.0
    allowed_drop: float = ALLOWED_DROP  # of accuracy, by the patch
    readmits: bool = True  # false: an ablation, the simulator's alone

    def begin(self, case: Case) -> State:
        """State before the first step."""
        return script.begin(self.offer, case)

    def next_step(self, state: State) -> Step:
        """Ask the site for the difference, then add it."""
        now = script.read(state)
        if not now.case.laboratory:
            return Finished()  # the services exchange, or readmit, in place of the removal
        version, timeout = now.case.version_after, self.target_timeout_seconds
        ask = AskTarget("swap", {}, version, timeout, rule="swap")
        push = PushPatch("swap", now.upload, (1.0,), self.allowed_drop)
        if now.gave_up and self.readmits:
            return Readmit(now.gave_up)
        return script.next_step(now, (ask, push))

    def fold(self, state: State, outcome: Outcome) -> State:
        """One step further; a readmission is the last one."""
        if isinstance(outcome, LabStepDone):
            through = script.read(state).model_copy(update={"gave_up": "", "done": 2})
            return through.model_dump(mode="json")
        return script.fold(state, outcome)


def swap_patch(
    coefficients: Sequence[float], old_deltas: Sequence[Vector], new_deltas: Sequence[Vector]
) -> Vector:
    """The patch [d]: the contribution of the new deltas minus that of the old ones.

    All in entry order, one coefficient as applied for each pair of deltas [d]. Both contributions
    are summed as the ledger sums them, elementwise in float32. Raises BadData for counts or shapes
    that differ, or without a delta.
    """
    counts = {len(coefficients), len(old_deltas), len(new_deltas)}
    if len(counts) != 1 or 0 in counts:
        raise BadData(
            f"{len(coefficients)} coefficients, {len(old_deltas)} old and {len(new_deltas)} new "
            "deltas: as many of each are due, at least one"
        )
    patch = _contribution(coefficients, new_deltas)
    old = _contribution(coefficients, old_deltas)
    if patch.shape != old.shape:
        raise BadData(f"new deltas have shape {patch.shape}, old ones {old.shape}")
    subtract(patch, old)
    return patch


def _contribution(coefficients: Sequence[float], deltas: Sequence[Vector]) -> Vector:
    total = np.zeros(deltas[0].shape, dtype=np.float32)
    for coefficient, delta in zip(coefficients, deltas, strict=True):
        try:
            accumulate(total, coefficient, delta)
        except ValueError as error:
            raise BadData(f"a delta does not fit the others: {error}") from error
    return total
