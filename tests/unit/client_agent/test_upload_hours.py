"""When a site may upload: pure functions of wall-clock time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_agent.domain.hours import Hours, read_hours

BERLIN = ZoneInfo("Europe/Berlin")
moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)).map(
    lambda at: at.replace(tzinfo=UTC)
)
minutes = st.integers(0, 24 * 60 - 1)
ranges = st.lists(
    st.tuples(minutes, st.integers(0, 24 * 60)).filter(lambda pair: pair[0] != pair[1]),
    min_size=1,
    max_size=3,
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("time", "allowed"),
    [("19:59", False), ("20:00", True), ("23:59", True), ("00:00", True), ("05:59", True),
     ("06:00", False), ("12:00", False)],
)  # fmt: skip
def test_a_range_over_midnight_holds_from_its_begin_to_before_its_end(
    time: str, allowed: bool
) -> None:
    hours = read_hours(["20:00-06:00"], UTC)
    assert hours.allow(at(f"2026-03-01T{time}")) is allowed


def test_no_range_allows_every_hour() -> None:
    assert Hours().allow(at("2026-03-01T12:00"))
    assert Hours().minutes_a_day == 24 * 60


def test_hours_are_those_of_the_named_zone() -> None:
    hours = read_hours(["20:00-06:00"], BERLIN)
    assert hours.allow(at("2026-07-01T18:30"))  # 20:30 in Berlin
    assert not hours.allow(at("2026-07-01T17:30"))


def test_the_wait_is_right_on_the_night_when_clocks_go_forward() -> None:
    hours = read_hours(["03:00-04:00"], BERLIN)  # 02:00 becomes 03:00 on 2026-03-29
    assert hours.seconds_until_open(at("2026-03-29T00:30")) == 30 * 60


@settings(deadline=None)
@given(ranges, moments)
def test_after_the_wait_it_is_open_and_a_minute_before_it_is_not(
    pairs: list[tuple[int, int]], moment: datetime
) -> None:
    hours = Hours(tuple(pairs), BERLIN)
    wait_s = hours.seconds_until_open(moment)
    assert (wait_s == 0.0) == hours.allow(moment)
    assert hours.allow(moment + timedelta(seconds=wait_s))
    if wait_s > 60:
        assert not hours.allow(moment + timedelta(seconds=wait_s - 60))


@pytest.mark.parametrize(
    ("text", "rule"),
    [("8-9", "no range"), ("20:00", "no range"), ("25:00-26:00", "does not have"),
     ("10:61-11:00", "does not have"), ("10:00-10:00", "empty"), ("24:00-06:00", "empty")],
)  # fmt: skip
def test_a_range_that_is_none_is_refused_with_the_rule(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        read_hours([text])
