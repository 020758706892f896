"""The subject just leaves: nothing of it is used any more, and nothing is undone.

    w <- w

Its contribution stays in the head, and what later training does to it is left to chance: the lower
end of every comparison (Mora and Bellavista 2025 found the trace of a site that left still visible
after 50 rounds). Needs nothing and costs nothing. It fails at what an erasure is for: in the
prototype the planted backdoor and the membership of the records were both still there 28 virtual
seconds, some 58 deltas, later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from letheon.unlearning import script
from letheon.unlearning.method import Case, Offer, Outcome, State, Step


@dataclass(frozen=True)
class Leave:
    """Assurance level L0: stop using. The fence does all of it, and there are no steps."""

    offer: ClassVar[Offer] = Offer(
        name="leave",
        levels=frozenset({"L0"}),
        subtracts=False,
        suppresses=True,
        services=False,
        why_not_services=(
            "leave only stops using the site: its contribution stays in the head, which no gate "
            "certifies; ask for removal, which fences the site just as soon"
        ),
    )

    def begin(self, case: Case) -> State:
        """State before the end."""
        return script.begin(self.offer, case)

    def next_step(self, state: State) -> Step:
        """Finished."""
        return script.next_step(script.read(state), ())

    def fold(self, state: State, outcome: Outcome) -> State:
        """Never called: no step has an outcome."""
        return script.fold(state, outcome)
