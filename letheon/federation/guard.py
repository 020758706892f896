"""The guard: what keeps later deltas from re-learning an erased subject.

Rank 1: `D' = D - g * max(0, <D, u>) * u` with u = C_T / |C_T|; rank k takes the same off along k
orthogonal directions at once. Soft (g = 0.25, then 0.5), engaged on alarm only and limited in
time: a hard or permanent guard over-forgets, which leaves a trace of its own.
Source: the project's study of unlearning, "Guard against relearning".

    ARMED --two statistics in a row outside the null band--> ENGAGED --time to live--> EXPIRED

No service runs a guard: its effect was within noise, so it stays off until a study proves it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from letheon.errors import BadConfig, BadData, MalformedRequest
from letheon.federation.arithmetic import accumulate, as_coefficient
from letheon.federation.directions import Direction, directions, inner
from letheon.federation.parameters import Vector

__all__ = [
    "Direction",
    "Guard",
    "GuardSettings",
    "GuardState",
    "Phase",
    "directions",
    "guard_delta",
    "time_to_live",
]

_SHORTEST_LIFE = 10
_LIFE_PER_SITE = 2.5


def guard_delta(delta: Vector, against: Sequence[Direction], strength: float) -> Vector:
    """A new [d] vector: the delta with `strength` of its pull along each direction taken off.

    Bit for bit the delta if it points away from every direction or the strength is 0. Of one
    direction the component never grows, not even by rounding: each element only moves against
    that of the direction. Raises BadConfig for a strength outside [0, 1], BadData for a delta
    that is not finite, ValueError for another shape.
    """
    check_strength(strength)
    # All pulls are measured on the delta as it came: the order of the directions does not matter.
    pulls = [inner(delta, direction.unit) for direction in against] if strength else []
    if not all(math.isfinite(pull) for pull in pulls):
        raise BadData("the delta is not finite: it has no component to guard")
    guarded = delta.copy()
    for pull, direction in zip(pulls, against, strict=False):
        taken = as_coefficient(strength * max(0.0, pull))
        if taken:  # adding a product with zero could still turn -0.0 into 0.0
            accumulate(guarded, -taken, direction.unit)
    return guarded


def check_strength(strength: float) -> None:
    """Raises BadConfig unless the strength is in [0, 1]."""
    if not 0.0 <= strength <= 1.0:
        raise BadConfig(f"the strength of a guard is 0 to 1, not {strength}")


def time_to_live(active_sites: int) -> int:
    """Versions that an engaged guard lives: `max(10, 2.5 * active_sites)`, rounded up.

    Raises BadConfig without a site.
    """
    if active_sites < 1:
        raise BadConfig("a guard acts on the deltas of sites: at least one must be active")
    return max(_SHORTEST_LIFE, math.ceil(_LIFE_PER_SITE * active_sites))


class Phase(StrEnum):
    """Where a guard stands."""

    ARMED = "armed"  # watches; changes nothing
    ENGAGED = "engaged"
    EXPIRED = "expired"  # for ever


@dataclass(frozen=True)
class GuardSettings:
    """When a guard engages, how hard, and for how long. Raises BadConfig out of range."""

    strengths: tuple[float, ...] = (0.25, 0.5)  # after the first alarm, the second, ...
    alarm_after: int = 2  # statistics in a row outside the null band
    time_to_live_versions: int = _SHORTEST_LIFE  # counted from the first alarm

    def __post_init__(self) -> None:
        for strength in self.strengths:
            check_strength(strength)
        if not self.strengths or list(self.strengths) != sorted(self.strengths):
            raise BadConfig("the strengths of a guard are at least one, and do not decrease")
        if self.alarm_after < 1 or self.time_to_live_versions < 1:
            raise BadConfig("alarm_after and time_to_live_versions of a guard are at least 1")


@dataclass(frozen=True)
class GuardState:
    """What a guard has seen. `dataclasses.asdict` of it is JSON."""

    alarms: tuple[int, ...] = ()  # versions whose statistic raised an alarm
    outside_in_a_row: int = 0
    last_version: int = -1  # of the newest statistic
    ended_at: int | None = None  # version from which on it is off whatever it saw


@dataclass(frozen=True)
class Guard:
    """The state machine; pure: every move gives a new guard."""

    settings: GuardSettings = field(default_factory=GuardSettings)
    state: GuardState = field(default_factory=GuardState)

    def observe(self, statistic: float, *, null_high: float, version: int) -> Guard:
        """The guard after a forget statistic of `version`, larger meaning more like a member.

        Outside the null band is above `null_high`; below the band is no re-learning. Every
        `alarm_after` such statistics in a row are one alarm. Raises MalformedRequest for a number
        that is not finite, or a version that is not newer than the last one.
        """
        if not (math.isfinite(statistic) and math.isfinite(null_high)):
            raise MalformedRequest("a forget statistic is a finite number", field="statistic")
        if version <= self.state.last_version:
            raise MalformedRequest(
                f"version {version} was judged already: the newest is {self.state.last_version}",
                field="version",
            )
        if self.phase_at(version) is Phase.EXPIRED:
            return replace(self, state=replace(self.state, last_version=version))
        row = self.state.outside_in_a_row + 1 if statistic > null_high else 0
        alarms = self.state.alarms
        if row == self.settings.alarm_after:
            row, alarms = 0, (*alarms, version)
        seen = replace(self.state, alarms=alarms, outside_in_a_row=row, last_version=version)
        return replace(self, state=seen)

    def end(self, version: int) -> Guard:
        """The guard once its erasure is certified at `version`: no guard outlives that."""
        ended = self.state.ended_at
        at = version if ended is None else min(ended, version)
        return replace(self, state=replace(self.state, ended_at=at))

    def phase_at(self, version: int) -> Phase:
        """The phase that decides about a delta merged into `version`."""
        ended = self.state.ended_at
        if ended is not None and version > ended:
            return Phase.EXPIRED
        if not self.state.alarms or version <= self.state.alarms[0]:
            return Phase.ARMED
        # Later alarms raise the strength and prolong nothing: the time engaged stays bounded.
        past = version - self.state.alarms[0] > self.settings.time_to_live_versions
        return Phase.EXPIRED if past else Phase.ENGAGED

    def strength_at(self, version: int) -> float:
        """Strength for a delta merged into `version`; 0 unless engaged."""
        if self.phase_at(version) is not Phase.ENGAGED:
            return 0.0
        raised = sum(alarm < version for alarm in self.state.alarms)
        return self.settings.strengths[min(raised, len(self.settings.strengths)) - 1]

    def guarded(self, delta: Vector, against: Sequence[Direction], version: int) -> Vector:
        """`guard_delta` at the strength of `version`. Raises as that does."""
        return guard_delta(delta, against, self.strength_at(version))
