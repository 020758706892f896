"""A trainer of a site that trains privately: another trainer, and an accountant that adds up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from client_agent.adapters.local_tables import LocalTables
from client_agent.adapters.privacy_ledger import PrivacyLedger
from client_agent.domain.privacy import Charge, PrivacyStanding, Quote
from client_agent.domain.tasks import ModelFile, TrainTask
from client_agent.ports import TrainedDelta
from letheon.federation.plan import Plan
from letheon.servicekit.clock import SystemClock

EPSILON = 0.5  # of each update
CHARGE = Charge(noise_multiplier=1.0, sampling_rate=0.1, steps=4, unit="record")


class PrivateTrainer:
    """Whatever it does not say itself, the inner trainer does."""

    def __init__(self, inner: Any, state: Path) -> None:
        self._inner = inner
        self._state = state

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def adopt(self, plan: Plan) -> PrivacyStanding:
        self._inner.adopt(plan)
        return self._standing(more=0)

    def quote(self) -> Quote:
        return Quote(CHARGE, self._standing(more=1))

    def train(self, base: ModelFile, task: TrainTask, target: Path) -> TrainedDelta:
        return replace(self._inner.train(base, task, target), is_private=True)

    def _standing(self, *, more: int) -> PrivacyStanding:
        tables = LocalTables(self._state / "agent.db")
        try:
            count = PrivacyLedger(tables, SystemClock()).updates() + more
        finally:
            tables.close()
        return PrivacyStanding(EPSILON * count, EPSILON * (count + 1))
