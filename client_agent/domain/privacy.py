"""What the site's updates have told so far of one unit at most: a record, or a patient."""

from __future__ import annotations

from dataclasses import dataclass

from letheon.errors import Refused

NOT_MADE_AGAIN = (
    "this site trains under differential privacy: with the same noise the difference of two "
    "trainings would give the erased records away, so its deltas are not made again"
)


@dataclass(frozen=True)
class Charge:
    """The mechanism of one training: what the accountant must know of it."""

    noise_multiplier: float  # standard deviation of the noise, in units of the clip norm
    sampling_rate: float  # with which each unit took part in a step
    steps: int
    unit: str  # record or patient


@dataclass(frozen=True)
class PrivacyStanding:
    """Epsilon at the configured delta."""

    epsilon: float  # of everything charged
    epsilon_next: float  # of that and one more training as configured


@dataclass(frozen=True)
class Quote:
    """What the next private training costs, and where the site stands once it is charged."""

    charge: Charge
    standing: PrivacyStanding


@dataclass(frozen=True)
class PrivacyLoss:
    """What the coordinator is told."""

    epsilon: float
    delta: float
    budget: float  # epsilon
    unit: str  # record or patient
    is_spent: bool  # one more update would pass the budget: the site trains no more


class PrivacyBudgetSpent(Refused):
    """One more update would pass the site's budget; facts: epsilon, budget."""
