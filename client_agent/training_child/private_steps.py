"""Local training under differential privacy, and what it costs. Imports torch when it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from client_agent.domain.privacy import PrivacyBudgetSpent, PrivacyStanding
from client_agent.domain.tasks import TaskAbandoned
from client_agent.privacy_config import PrivacyConfig
from client_agent.training_child.local_steps import Trained
from letheon.errors import BadConfig
from letheon.federation.plan import Plan
from letheon.imaging.privacy_accounting import NoisySteps, epsilon_of
from letheon.imaging.records import Records
from letheon.imaging.tasks.task import Task

if TYPE_CHECKING:
    from torch import nn

Spent = Sequence[Sequence[float]]  # noise multiplier, sampling rate, steps of what was charged


@dataclass(frozen=True)
class PrivateSteps:
    """Trains the network of a plan as the site's `[privacy]` says."""

    config: PrivacyConfig
    plan: Plan
    task: Task

    def check(self, module: nn.Module, records: Records) -> None:
        """Raises BadConfig or BadData if nothing private can be trained from these."""
        from letheon.imaging.private_training import check_private, units_of

        check_private(module)
        units_of(records, self.config.unit)
        if self.config.delta >= 1.0 / len(records):
            raise BadConfig(
                f"privacy.delta = {self.config.delta:g} is not below 1 / {len(records)} training "
                "records: it would allow to give whole records away",
                key="privacy.delta",
            )

    def standing(self, records: Records, spent: Spent) -> PrivacyStanding:
        """Where the site stands, and would stand after one more training on these."""
        mechanism = self.mechanism(records)
        before = [NoisySteps(noise, rate, int(steps)) for noise, rate, steps in spent]
        delta = self.config.delta
        return PrivacyStanding(epsilon_of(before, delta), epsilon_of([*before, mechanism], delta))

    def mechanism(self, records: Records) -> NoisySteps:
        """What one training on these records is to the accountant."""
        from letheon.imaging.private_training import sampling_rate

        return NoisySteps(
            self.config.noise_multiplier,
            sampling_rate(self._batch_size, len(records)),
            self.plan.training.local_steps,
        )

    def quote(self, records: Records, spent: Spent) -> dict[str, Any]:
        """What the next training costs, and where the site stands with it, as JSON."""
        mechanism = self.mechanism(records)
        return {
            "charge": {**mechanism._asdict(), "unit": self.config.unit},
            "standing": as_json(self.standing(records, [*spent, mechanism])),
        }

    def check_charged(
        self, records: Records, spent: Spent, charged: Mapping[str, Any] | None
    ) -> None:
        """The last look before anything is computed: `spent` has this training in it already.

        Raises TaskAbandoned if other records are trained on than were when it was charged,
        PrivacyBudgetSpent.
        """
        if charged != self.quote(records, spent)["charge"]:
            raise TaskAbandoned("what was charged is not what would be trained")
        epsilon, budget = self.standing(records, spent).epsilon, self.config.epsilon_budget
        if epsilon > budget:
            raise PrivacyBudgetSpent(
                f"one more training would spend epsilon {epsilon:.3f} of {budget:g}",
                epsilon=epsilon,
                budget=budget,
            )

    def train(
        self,
        module: nn.Module,
        records: Records,
        *,
        learning_rate: float,
        seed: int,
        should_abandon: Callable[[], bool],
    ) -> Trained:
        """Trains in place. Raises TaskAbandoned."""
        from letheon.imaging.private_training import PrivateTraining, train_privately, units_of

        told = self.plan.training
        settings = PrivateTraining(
            steps=told.local_steps,
            batch_size=self._batch_size,
            learning_rate=learning_rate,
            momentum=told.momentum,
            weight_decay=told.weight_decay,
            clip_norm=self.config.clip_norm,
            noise_multiplier=self.config.noise_multiplier,
        )
        outcome = train_privately(
            module,
            records,
            settings,
            seed,
            should_abandon,
            loss_of=self.task.loss,
            units=units_of(records, self.config.unit),
        )
        if outcome.abandoned:
            raise TaskAbandoned
        return Trained(outcome.mean_loss, outcome.steps, None)

    @property
    def _batch_size(self) -> int:
        return self.config.batch_size or self.plan.training.batch_size


def as_json(standing: PrivacyStanding) -> dict[str, float]:
    """For the daemon."""
    return {"epsilon": standing.epsilon, "epsilon_next": standing.epsilon_next}
