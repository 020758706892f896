"""What the site's updates have told so far, and whether they may tell more."""

from __future__ import annotations

import logging
from collections.abc import Callable

from client_agent.domain.privacy import (
    PrivacyBudgetSpent,
    PrivacyLoss,
    PrivacyStanding,
    Quote,
)
from client_agent.ports import PrivacyLedger
from client_agent.privacy_config import PrivacyConfig
from letheon.errors import InternalFault
from letheon.servicekit.faults import reach

log = logging.getLogger(__name__)


class PrivacyAccount:
    """Every training is charged before it begins, and no charge is taken back.

    What a training does is seen from outside before its delta is sent: that it failed, or that the
    delta was too long for the plan. And a crash can only overcharge.
    """

    def __init__(
        self,
        config: PrivacyConfig,
        ledger: PrivacyLedger,
        report: Callable[[PrivacyLoss], None] = lambda _: None,
    ) -> None:
        """`report` is told whenever the standing changes."""
        self._config = config
        self._ledger = ledger
        self._report = report
        self._loss: PrivacyLoss | None = None

    @property
    def loss(self) -> PrivacyLoss | None:
        """Where the site stands; None until it was counted."""
        return self._loss

    @property
    def is_spent(self) -> bool:
        """Whether the site trains no more."""
        return self._loss is not None and self._loss.is_spent

    def learn(self, standing: PrivacyStanding | None) -> None:
        """Takes what the training process has counted from the ledger.

        Raises InternalFault if it counted nothing: it would then train without noise.
        """
        if standing is None:
            raise InternalFault("[privacy] is configured, and the training process knows nothing")
        budget = self._config.epsilon_budget
        was_spent = self.is_spent
        self._loss = PrivacyLoss(
            epsilon=standing.epsilon,
            delta=self._config.delta,
            budget=budget,
            unit=self._config.unit,
            is_spent=standing.epsilon_next > budget,
        )
        self._report(self._loss)
        if self._loss.is_spent and not was_spent:
            log.error(
                "privacy_budget_spent",
                extra={
                    "epsilon": round(standing.epsilon, 4),
                    "epsilon_next": round(standing.epsilon_next, 4),
                    "epsilon_budget": budget,
                },
            )

    def charge(self, update_id: str, quote: Quote) -> None:
        """Writes down what a training costs; repeating it is harmless.

        Raises PrivacyBudgetSpent if it would pass the budget, InternalFault for a quote of
        something else. StorageUnavailable: it is not charged, and must not be trained.
        """
        if quote.charge.unit != self._config.unit:
            raise InternalFault("the training process protects something else than [privacy] says")
        epsilon, budget = quote.standing.epsilon, self._config.epsilon_budget
        if epsilon > budget:
            raise PrivacyBudgetSpent(
                f"one more training would spend epsilon {epsilon:.3f} of {budget:g}",
                epsilon=epsilon,
                budget=budget,
            )
        self._ledger.charge(update_id, quote.charge, quote.standing, self._config.delta)
        reach("agent.charged")
        self.learn(quote.standing)
