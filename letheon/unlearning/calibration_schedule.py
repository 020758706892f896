"""When a round of invariance calibration is due, apart from the method it goes with."""

from __future__ import annotations

from dataclasses import dataclass

from letheon.errors import BadConfig, MalformedRequest


@dataclass(frozen=True)
class CalibrationSchedule:
    """`rounds` rounds, one every so many versions after the removal, until the time to live ends.

    Round k (from 0) is due from version `(k + 1) * every_versions` after the removal on: a late
    round delays none after it. What the time to live cuts off never happens.
    Raises BadConfig for a value out of range.
    """

    every_versions: int
    rounds: int
    time_to_live_versions: int  # counted from the removal

    def __post_init__(self) -> None:
        if self.every_versions < 1:
            raise BadConfig("calibration schedule: every_versions is at least 1")
        if self.rounds < 0:
            raise BadConfig("calibration schedule: rounds is not below 0")
        if self.rounds and self.time_to_live_versions < self.every_versions:
            raise BadConfig(
                "calibration schedule: time_to_live_versions is at least every_versions, else no "
                "round is ever due"
            )

    def due(self, versions_since_removal: int, rounds_done: int) -> bool:
        """Whether the next round is to begin now. Raises MalformedRequest for a number below 0."""
        _check(versions_since_removal, rounds_done)
        if self.over(versions_since_removal, rounds_done):
            return False
        return versions_since_removal >= (rounds_done + 1) * self.every_versions

    def over(self, versions_since_removal: int, rounds_done: int) -> bool:
        """Whether no round will be due any more. Raises MalformedRequest for a number below 0."""
        _check(versions_since_removal, rounds_done)
        late = versions_since_removal > self.time_to_live_versions
        next_at = (rounds_done + 1) * self.every_versions
        return rounds_done >= self.rounds or late or next_at > self.time_to_live_versions


def _check(versions_since_removal: int, rounds_done: int) -> None:
    if versions_since_removal < 0:
        raise MalformedRequest(
            "versions_since_removal is not below 0", field="versions_since_removal"
        )
    if rounds_done < 0:
        raise MalformedRequest("rounds_done is not below 0", field="rounds_done")
