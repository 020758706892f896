"""Training again without the subject: the yardstick of every other method.

    w <- Train(w_0', all sites but the subject)      w_0': new initial weights

The one way to assurance level L3. Needs the retained sites and all of their time again; the cost
is that of the whole training. It fails by no test, only by what it costs, and two retrainings with
different seeds differ as well: their distance is the noise floor of a comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from letheon.unlearning import script
from letheon.unlearning.method import Case, Offer, Outcome, Retrain, State, Step


@dataclass(frozen=True)
class Retraining:
    """One step that only the simulator carries out; it decides how long to train."""

    offer: ClassVar[Offer] = Offer(
        name="retrain",
        levels=frozenset({"L3"}),
        subtracts=False,
        suppresses=False,
        services=False,
        why_not_services=(
            "retrain takes the retained sites through the whole training again, and the services "
            "cannot do that beside the ordinary training yet; ask for removal"
        ),
    )

    def begin(self, case: Case) -> State:
        """State before the only step."""
        return script.begin(self.offer, case)

    def next_step(self, state: State) -> Step:
        """Retrain, then finished."""
        return script.next_step(script.read(state), (Retrain({}),))

    def fold(self, state: State, outcome: Outcome) -> State:
        """One step further."""
        return script.fold(state, outcome)
