import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from federation_builders import a_vector
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from letheon.errors import BadConfig, BadData, MalformedRequest
from letheon.federation.arithmetic import norm
from letheon.federation.guard import (
    Direction,
    Guard,
    GuardSettings,
    GuardState,
    Phase,
    directions,
    guard_delta,
    time_to_live,
)
from letheon.federation.parameters import Vector

SIZE = 24
strengths = st.floats(0, 1)
numbers = st.floats(-1e3, 1e3, width=32)
vectors = hnp.arrays(np.float32, SIZE, elements=numbers)
IN, OUT = 0.5, 0.7  # statistics against a null band that ends at 0.6


@st.composite
def a_direction(draw: st.DrawFn) -> Direction:
    vector = draw(vectors)
    assume(norm(vector) > 1e-3)
    return directions([vector])[0]


def along(delta: Vector, direction: Direction) -> float:
    """The exact inner product: products of two float32 are exact in float64, the sum is too."""
    return math.fsum(float(x) * float(y) for x, y in zip(delta, direction.unit, strict=True))


def watched(statistics: list[float], guard: Guard | None = None) -> Guard:
    """A guard after the statistics of versions 1, 2, 3, ..."""
    guard = guard or Guard()
    for version, statistic in enumerate(statistics, start=1):
        guard = guard.observe(statistic, null_high=0.6, version=version)
    return guard


@given(vectors, a_direction(), strengths)
def test_a_guarded_delta_never_has_a_larger_component_along_the_direction(
    delta: Vector, direction: Direction, strength: float
) -> None:
    guarded = guard_delta(delta, [direction], strength)
    assert along(guarded, direction) <= along(delta, direction)


@given(vectors, a_direction(), strengths)
def test_the_component_that_is_left_is_the_share_the_strength_leaves(
    delta: Vector, direction: Direction, strength: float
) -> None:
    before = max(0.0, along(delta, direction))
    after = max(0.0, along(guard_delta(delta, [direction], strength), direction))
    assert after == pytest.approx((1 - strength) * before, abs=1e-5 * norm(delta) + 1e-30)


@given(vectors, a_direction(), strengths)
def test_a_delta_that_points_away_is_unchanged_bit_for_bit(
    delta: Vector, direction: Direction, strength: float
) -> None:
    assume(along(delta, direction) <= -1e-9 * norm(delta))
    assert guard_delta(delta, [direction], strength).tobytes() == delta.tobytes()


@given(vectors, a_direction())
def test_strength_zero_changes_nothing(delta: Vector, direction: Direction) -> None:
    assert guard_delta(delta, [direction], 0.0).tobytes() == delta.tobytes()
    assert guard_delta(delta, [], 1.0).tobytes() == delta.tobytes()


@given(vectors, st.integers(1, 5), st.integers(0, 999), strengths)
def test_the_norm_of_a_delta_never_grows_beyond_rounding(
    delta: Vector, rank: int, seed: int, strength: float
) -> None:
    against = directions([a_vector(SIZE, seed + i) for i in range(5)], rank)
    assert norm(guard_delta(delta, against, strength)) <= norm(delta) * (1 + 2**-20)


@given(vectors, st.integers(1, 5), st.integers(0, 999), strengths)
def test_no_component_grows_beyond_rounding_along_any_of_several_directions(
    delta: Vector, rank: int, seed: int, strength: float
) -> None:
    against = directions([a_vector(SIZE, seed + i) for i in range(5)], rank)
    guarded = guard_delta(delta, against, strength)
    for direction in against:
        assert along(guarded, direction) <= along(delta, direction) + 1e-5 * norm(delta)


@given(vectors, a_direction(), strengths)
def test_the_delta_that_came_is_left_as_it_was(
    delta: Vector, direction: Direction, strength: float
) -> None:
    before, unit = delta.tobytes(), direction.unit.tobytes()
    guarded = guard_delta(delta, [direction], strength)
    guarded += 1
    assert (delta.tobytes(), direction.unit.tobytes()) == (before, unit)


def test_a_guarded_delta_is_a_float32_multiply_then_a_float32_add() -> None:
    delta, direction = a_vector(500, 1), directions([a_vector(500, 1) + a_vector(500, 2)])[0]
    pull = float(np.sum(delta.astype(np.float64) * direction.unit))
    expected = delta + np.float32(-0.25 * pull) * direction.unit
    assert guard_delta(delta, [direction], 0.25).tobytes() == expected.tobytes()


def test_what_cannot_be_guarded_is_refused() -> None:
    direction = directions([a_vector(3)])[0]
    for strength in (-0.1, 1.1, math.nan):
        with pytest.raises(BadConfig, match="strength"):
            guard_delta(a_vector(3), [direction], strength)
    with pytest.raises(ValueError, match="shapes"):
        guard_delta(a_vector(4), [direction], 0.5)
    with pytest.raises(BadData, match="finite"):
        guard_delta(np.full(3, np.nan, np.float32), [direction], 0.5)


def test_a_guard_stays_armed_while_no_two_statistics_in_a_row_are_outside() -> None:
    guard = watched([OUT, IN, OUT, IN, OUT])
    assert guard.phase_at(6) is Phase.ARMED
    assert guard.strength_at(6) == 0


def test_a_statistic_below_the_band_is_no_relearning() -> None:
    assert watched([0.1, 0.0, 0.2]).phase_at(4) is Phase.ARMED


def test_two_statistics_outside_in_a_row_engage_a_soft_guard_and_two_more_a_firmer_one() -> None:
    assert watched([OUT, OUT]).strength_at(3) == 0.25
    assert watched([OUT, OUT, OUT]).strength_at(4) == 0.25
    assert watched([OUT, OUT, OUT, OUT]).strength_at(5) == 0.5
    assert watched([OUT] * 8).strength_at(9) == 0.5


def test_an_alarm_acts_on_later_versions_only() -> None:
    guard = watched([IN, OUT, OUT])
    assert [guard.strength_at(version) for version in (2, 3, 4)] == [0, 0, 0.25]


def test_a_guard_expires_at_its_time_to_live_and_stays_so() -> None:
    guard = watched([OUT, OUT], Guard(GuardSettings(time_to_live_versions=3)))
    assert [guard.strength_at(version) for version in range(2, 7)] == [0, 0.25, 0.25, 0.25, 0]
    for version in (6, 7, 8, 9):
        guard = guard.observe(OUT, null_high=0.6, version=version)
    assert guard.phase_at(10) is Phase.EXPIRED
    assert guard.strength_at(10) == 0


def test_no_guard_outlives_its_certificate() -> None:
    guard = watched([OUT, OUT]).end(4)
    assert [guard.strength_at(version) for version in (3, 4, 5)] == [0.25, 0.25, 0]
    assert guard.end(9).phase_at(5) is Phase.EXPIRED
    assert guard.phase_at(5) is Phase.EXPIRED


@given(a_direction(), vectors)
def test_an_expired_guard_changes_nothing(direction: Direction, delta: Vector) -> None:
    guard = watched([OUT, OUT])
    late = 2 + guard.settings.time_to_live_versions + 1
    assert guard.guarded(delta, [direction], late).tobytes() == delta.tobytes()


@given(vectors)
def test_an_engaged_guard_takes_its_strength_off(delta: Vector) -> None:
    direction = directions([a_vector(SIZE, 1)])[0]
    expected = guard_delta(delta, [direction], 0.25)
    assert watched([OUT, OUT]).guarded(delta, [direction], 3).tobytes() == expected.tobytes()


@settings(deadline=None)
@given(st.lists(st.sampled_from([IN, OUT]), max_size=60), st.integers(1, 12), st.integers(1, 4))
def test_a_guard_is_engaged_for_one_time_to_live_at_most_and_never_weakens_in_it(
    statistics: list[float], life: int, after: int
) -> None:
    guard = watched(statistics, Guard(GuardSettings(time_to_live_versions=life, alarm_after=after)))
    course = [guard.strength_at(version) for version in range(80)]
    engaged = [strength for strength in course if strength]
    assert len(engaged) in (0, life)
    assert engaged == sorted(engaged)


@given(st.lists(st.sampled_from([IN, OUT]), max_size=20))
def test_a_guard_goes_on_from_its_stored_state(statistics: list[float]) -> None:
    guard = watched(statistics)
    stored = json.loads(json.dumps(asdict(guard.state)))
    read = GuardState(**{**stored, "alarms": tuple(stored["alarms"])})
    assert Guard(guard.settings, read) == guard


def test_the_time_to_live_grows_with_the_active_sites() -> None:
    assert [time_to_live(sites) for sites in (1, 4, 5, 7)] == [10, 10, 13, 18]
    with pytest.raises(BadConfig, match="at least one"):
        time_to_live(0)


def test_observations_that_make_no_sense_are_refused() -> None:
    guard = watched([IN, IN])
    with pytest.raises(MalformedRequest, match="judged already"):
        guard.observe(IN, null_high=0.6, version=2)
    with pytest.raises(MalformedRequest, match="finite"):
        guard.observe(math.nan, null_high=0.6, version=3)


@pytest.mark.parametrize(
    "arguments",
    [
        {"strengths": ()},
        {"strengths": (0.5, 0.25)},
        {"strengths": (1.5,)},
        {"alarm_after": 0},
        {"time_to_live_versions": 0},
    ],
)
def test_settings_out_of_range_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(BadConfig, match="guard"):
        GuardSettings(**arguments)  # type: ignore[arg-type]
