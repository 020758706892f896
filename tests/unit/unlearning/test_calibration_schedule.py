import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import BadConfig, MalformedRequest
from letheon.unlearning.calibration_schedule import CalibrationSchedule

schedules = st.builds(
    lambda every, rounds, more: CalibrationSchedule(every, rounds, every + more),
    st.integers(1, 9),
    st.integers(0, 9),
    st.integers(0, 60),
)


def rounds_carried_out(schedule: CalibrationSchedule, versions: int = 200) -> list[int]:
    """Versions since the removal at which a round began, looking once at each."""
    begun: list[int] = []
    for version in range(versions):
        if schedule.due(version, len(begun)):
            begun.append(version)
    return begun


def test_a_round_is_due_every_so_many_versions_after_the_removal() -> None:
    assert rounds_carried_out(CalibrationSchedule(4, 3, 20)) == [4, 8, 12]


def test_the_time_to_live_cuts_off_what_would_come_later() -> None:
    assert rounds_carried_out(CalibrationSchedule(4, 10, 13)) == [4, 8, 12]


def test_a_late_round_delays_none_after_it() -> None:
    schedule = CalibrationSchedule(4, 3, 20)
    assert schedule.due(9, 0)
    assert schedule.due(9, 1)
    assert not schedule.due(9, 2)


@given(schedules)
def test_a_schedule_gives_no_more_than_its_rounds_and_none_after_its_time_to_live(
    schedule: CalibrationSchedule,
) -> None:
    begun = rounds_carried_out(schedule)
    assert len(begun) == min(
        schedule.rounds, schedule.time_to_live_versions // schedule.every_versions
    )
    assert all(version <= schedule.time_to_live_versions for version in begun)


@given(schedules, st.integers(0, 99), st.integers(0, 12), st.integers(0, 99))
def test_once_over_a_schedule_is_never_due_again(
    schedule: CalibrationSchedule, versions: int, done: int, later: int
) -> None:
    if schedule.over(versions, done):
        assert not schedule.due(versions, done)
        assert schedule.over(versions + later, done)


@pytest.mark.parametrize("values", [(0, 1, 5), (1, -1, 5), (5, 1, 4)])
def test_a_schedule_out_of_range_is_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(BadConfig, match="calibration schedule"):
        CalibrationSchedule(*values)


def test_numbers_below_zero_are_refused() -> None:
    schedule = CalibrationSchedule(4, 3, 20)
    for asked in ((-1, 0), (0, -1)):
        with pytest.raises(MalformedRequest, match="not below 0"):
            schedule.due(*asked)
