"""Every private training that may have left the site. Durable; nothing is ever taken out."""

from __future__ import annotations

from collections.abc import Iterable

from client_agent.adapters.local_tables import LocalTables
from client_agent.domain.privacy import Charge, PrivacyStanding
from letheon.errors import BadConfig
from letheon.servicekit.clock import Clock


class PrivacyLedger:
    """The `PrivacyLedger` port."""

    def __init__(self, tables: LocalTables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def charge(
        self, update_id: str, charge: Charge, standing: PrivacyStanding, delta: float
    ) -> None:
        """Writes down what an update costs and where the site stands with it; once an update."""
        self._tables.do(
            "INSERT OR IGNORE INTO privacy_charges"
            " (update_id, noise_multiplier, sampling_rate, steps, unit, epsilon, epsilon_next,"
            " delta, charged_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            update_id,
            charge.noise_multiplier,
            charge.sampling_rate,
            charge.steps,
            charge.unit,
            standing.epsilon,
            standing.epsilon_next,
            delta,
            self._clock.now().isoformat(),
        )

    def spent(self) -> list[Charge]:
        """Everything charged; trainings of one kind are one charge with the sum of their steps."""
        rows = self._tables.do(
            "SELECT noise_multiplier, sampling_rate, SUM(steps) AS steps, unit"
            " FROM privacy_charges GROUP BY noise_multiplier, sampling_rate, unit"
        )
        return [Charge(**dict(row)) for row in rows]

    def updates(self) -> int:
        """How many updates were charged."""
        row = self._tables.one("SELECT COUNT(*) AS count FROM privacy_charges")
        return 0 if row is None else int(row["count"])

    def uncharged_updates(self) -> int:
        """How many deltas the outbox has held that were not trained privately."""
        row = self._tables.one(
            "SELECT COUNT(*) AS count FROM uploads WHERE erase_answer IS NULL"
            " AND update_id NOT IN (SELECT update_id FROM privacy_charges)"
        )
        return 0 if row is None else int(row["count"])

    def last(self) -> tuple[PrivacyStanding, float] | None:
        """Where the site stood with the newest update, and the delta that was counted with."""
        query = "SELECT * FROM privacy_charges ORDER BY number DESC LIMIT 1"
        row = self._tables.one(query)
        if row is None:
            return None
        return PrivacyStanding(row["epsilon"], row["epsilon_next"]), float(row["delta"])

    def holds_any(self, update_ids: Iterable[str]) -> bool:
        """Whether any of these updates was trained privately."""
        query = "SELECT 1 FROM privacy_charges WHERE update_id = ?"
        return any(self._tables.one(query, one) is not None for one in update_ids)

    def check_unit(self, unit: str) -> None:
        """Raises BadConfig if what is charged was counted for another unit."""
        row = self._tables.one("SELECT unit FROM privacy_charges WHERE unit <> ? LIMIT 1", unit)
        if row is not None:
            raise BadConfig(
                f'privacy.unit = "{unit}", and updates of this site were counted for each '
                f"{row['unit']}: one number cannot stand for both. Leave it as it was",
                key="privacy.unit",
            )
