"""FedEraser: the history is replayed without the subject, each stored step turned anew.

Liu et al., IWQoS 2021:

    w <- w_0;   for each stored group of retained updates U, in order:
        V = what the same sites learn now from w, in a few local steps
        w <- w + |mean U| * mean V / |mean V|          (`calibrated_step`)

The length of a step comes from the history, its direction from new training at weights that never
saw the subject. The paper scales each parameter tensor for itself and stores every so many rounds;
here the whole model is one vector, and a group is a run of consecutive accepted deltas.

Needs every retained delta, or groups of them, from the first version on, and all retained sites
during the replay; neither target nor proxy data. Costs `local_steps` at each site for every group,
about the share local_steps / (steps a group took) of retraining, and everybody waits meanwhile.

It fails by its cost (in the project's prototype the replay of 184 merges halted training for 48 of
100 virtual seconds), where few local steps point nowhere in particular, and in a detail: the stored
lengths were learned beside the subject and carry a trace of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from letheon.errors import BadConfig, BadData
from letheon.federation.parameters import Vector
from letheon.unlearning import script
from letheon.unlearning.method import Case, Offer, Outcome, Replay, State, Step

Updates = npt.NDArray[np.float32]  # [k, d], one row an update


@dataclass(frozen=True)
class FedEraser:
    """One step that only the simulator carries out. Raises BadConfig for a value out of range."""

    offer: ClassVar[Offer] = Offer(
        name="federaser",
        levels=frozenset({"L1"}),
        subtracts=False,
        suppresses=False,
        services=False,
        why_not_services=(
            "federaser has every retained site wait while the history is replayed, and the "
            "services never halt a site; ask for removal, which needs no replay"
        ),
    )

    groups: int = 20  # that the retained history is cut into
    local_steps: int = 8  # of each site, for each group
    learning_rate: float = 0.05

    def __post_init__(self) -> None:
        """Raises BadConfig for a value out of range."""
        if min(self.groups, self.local_steps) < 1 or self.learning_rate <= 0:
            raise BadConfig("federaser: groups and local steps are at least 1, the rate above 0")

    def begin(self, case: Case) -> State:
        """State before the only step."""
        return script.begin(self.offer, case)

    def next_step(self, state: State) -> Step:
        """Replay, then finished."""
        parameters = {
            "groups": self.groups,
            "local_steps": self.local_steps,
            "learning_rate": self.learning_rate,
        }
        return script.next_step(script.read(state), (Replay(parameters),))

    def fold(self, state: State, outcome: Outcome) -> State:
        """One step further."""
        return script.fold(state, outcome)


def calibrated_step(old_updates: Updates, new_updates: Updates) -> Vector:
    """Step [d] with the length of the mean old update and the direction of the mean new one.

    `old_updates` [k, d] as stored, `new_updates` [m, d] as computed now; k and m may differ. Zero
    if the new updates cancel out. Sums in float64. Raises BadData without updates on either side,
    for widths that differ, or for a number that is not finite.
    """
    for what, updates in (("stored", old_updates), ("new", new_updates)):
        if updates.ndim != 2 or len(updates) == 0:
            raise BadData(f"{what} updates have shape {list(updates.shape)}, not [at least 1, d]")
        if not np.isfinite(updates).all():
            raise BadData(f"one of the {what} updates is not finite")
    if old_updates.shape[1] != new_updates.shape[1]:
        raise BadData(
            f"stored updates have {old_updates.shape[1]} elements, new ones {new_updates.shape[1]}"
        )
    length = np.linalg.norm(old_updates.mean(axis=0, dtype=np.float64))
    direction = new_updates.mean(axis=0, dtype=np.float64)
    size = np.linalg.norm(direction)
    step: Vector = (direction * (length / size if size > 0 else 0.0)).astype(np.float32)
    return step
