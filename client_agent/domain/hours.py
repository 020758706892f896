"""The hours of the day in which a site may upload."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

_RANGE = re.compile(r"(?P<h1>\d\d):(?P<m1>\d\d)-(?P<h2>\d\d):(?P<m2>\d\d)")
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class Hours:
    """Ranges of local wall-clock time, minutes since midnight; one that ends before it begins
    goes over midnight. No range at all: every hour is allowed.
    """

    ranges: tuple[tuple[int, int], ...] = ()
    zone: tzinfo | None = None  # None: the zone of the machine

    @property
    def minutes_a_day(self) -> int:
        """How many minutes of a day are allowed."""
        return sum(self._allows(minute) for minute in range(_DAY_MINUTES))

    def allow(self, at: datetime) -> bool:
        """Whether that moment (with a time zone) lies in a range; a range ends before its end."""
        local = at.astimezone(self.zone)
        return self._allows(local.hour * 60 + local.minute)

    def seconds_until_open(self, at: datetime) -> float:
        """Seconds from that moment to the next allowed one; 0 if it is allowed."""
        if self.allow(at):
            return 0.0
        # Minute by minute through real time: right on the days when the clocks are changed, too.
        start = at.astimezone(UTC).replace(second=0, microsecond=0)
        moments = (start + timedelta(minutes=i) for i in range(1, 2 * _DAY_MINUTES))
        opening = next(moment for moment in moments if self.allow(moment))
        return (opening - at).total_seconds()

    def _allows(self, minute: int) -> bool:
        return not self.ranges or any(
            begin <= minute < end if begin < end else minute >= begin or minute < end
            for begin, end in self.ranges
        )


def read_hours(texts: Sequence[str], zone: tzinfo | None = None) -> Hours:
    """The hours of texts such as `20:00-06:00`. Raises ValueError with the rule that is broken."""
    return Hours(tuple(_read(text) for text in texts), zone)


def _read(text: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no range of hours such as 20:00-06:00")
    begin = _minutes(match["h1"], match["m1"], text)
    end = _minutes(match["h2"], match["m2"], text)
    if begin in (end, _DAY_MINUTES):
        raise ValueError(f"{text!r} is an empty range; the whole day is 00:00-24:00")
    return begin, end


def _minutes(hour: str, minute: str, text: str) -> int:
    made = int(hour) * 60 + int(minute)
    if made > _DAY_MINUTES or int(minute) > 59:
        raise ValueError(f"{text!r} names a time that a day does not have")
    return made
