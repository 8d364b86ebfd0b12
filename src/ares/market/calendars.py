"""Trading calendars: which bars are expected, declared as text or inferred from the times.

`24/7`: every interval. `24/5`: Monday 00:00 to Friday 21:00 UTC, the hours in which every market of
this kind is open, summer and winter; daily bars on weekdays. `session:<IANA zone> hh:mm-hh:mm`:
weekdays between two local times (a session that ends before it starts runs over midnight and
belongs to the day on which it ends); daily bars mean weekdays. A weekday without bars in a session
calendar is a holiday, not a gap.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import re
import zoneinfo
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from ares.core.errors import ConfigError
from ares.market.timeframe import DAY, HOUR, MINUTE, SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ares.core.types import Int64Array

Kind = Literal["24/7", "24/5", "session"]
_SESSION: Final = re.compile(r"session:(\S+)\s+(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday, Monday is 0
_FRIDAY_CLOSE: Final = 4 * DAY + 21 * HOUR
_QUARTER: Final = 15 * MINUTE
_FORMS: Final = "24/7, 24/5 or session:<IANA zone> hh:mm-hh:mm"


@dataclasses.dataclass(frozen=True)
class Calendar:
    """A parsed calendar. `opens` and `closes` are ns after local midnight (sessions only)."""

    kind: Kind
    zone: str = "UTC"
    opens: int = 0
    closes: int = DAY

    def __str__(self) -> str:
        if self.kind != "session":
            return self.kind
        return f"session:{self.zone} {_clock(self.opens)}-{_clock(self.closes)}"

    @property
    def days_per_year(self) -> int:
        """365 for 24/7, 260 for 24/5, 252 for sessions."""
        return {"24/7": 365, "24/5": 260, "session": 252}[self.kind]

    @property
    def _length(self) -> int:
        return (
            self.closes - self.opens if self.closes > self.opens else self.closes - self.opens + DAY
        )

    def session_days(self, timestamp: Int64Array, interval: int) -> Int64Array:
        """Number of the trading day of each open time (days since 1970 on the local calendar)."""
        if interval >= DAY:
            return _nearest_day(timestamp)
        if self.kind != "session":
            return np.asarray(timestamp // DAY)
        days, _ = self._day_and_open(timestamp)
        return days

    def missing(
        self, timestamp: Int64Array, interval: int, *, on_utc_grid: bool | None = None
    ) -> Int64Array:
        """Expected bars that are absent between neighbours, int64 (n-1,), never negative.

        Args:
            timestamp: Strictly increasing open times, int64 ns UTC.
            interval: Length of a bar in ns.
            on_utc_grid: Whether the whole market keeps to the UTC grid and not to that of its
                session's open, where `timestamp` is a part of it; None: decided here.
        """
        if len(timestamp) < 2:
            return np.zeros(0, dtype=np.int64)
        if self.kind == "24/7" or interval > DAY:
            return _absent(timestamp, interval)
        if interval == DAY:
            if self.kind == "session":
                return np.zeros(len(timestamp) - 1, dtype=np.int64)
            return _weekdays_between(_nearest_day(timestamp))
        if self.kind == "24/5":
            return self._missing_of_week(timestamp, interval)
        if on_utc_grid is None:
            on_utc_grid = 2 * self.on_session_grid(timestamp, interval) < len(timestamp)
        return self._missing_of_sessions(timestamp, interval, on_utc_grid)

    def on_session_grid(self, timestamp: Int64Array, interval: int) -> int:
        """How many bars stand on the grid that starts at the session's open; 0 where none has."""
        if self.kind != "session" or interval >= DAY:
            return 0
        _, opens = self._day_and_open(timestamp)
        return int(np.count_nonzero((timestamp - opens) % interval == 0))

    def holidays(self, timestamp: Int64Array, interval: int) -> Int64Array:
        """Weekdays without any bar between neighbours, int64 (n-1,); zeros but for sessions."""
        if self.kind != "session" or interval > DAY or len(timestamp) < 2:
            return np.zeros(max(len(timestamp) - 1, 0), dtype=np.int64)
        return _weekdays_between(self.session_days(timestamp, interval))

    def _missing_of_week(self, timestamp: Int64Array, interval: int) -> Int64Array:
        monday = (timestamp // DAY - (timestamp // DAY + _EPOCH_WEEKDAY) % 7) * DAY
        per_week = _FRIDAY_CLOSE // interval
        # Slots of the week that close by Friday evening; weekend bars count as after the last.
        slot = (timestamp - monday) // interval
        weeks = (monday[1:] - monday[:-1]) // (7 * DAY)
        before = np.minimum(slot[:-1], per_week - 1)
        after = np.minimum(slot[1:], per_week)
        return np.asarray(np.maximum(after - before - 1 + weeks * per_week, 0))

    def _missing_of_sessions(
        self, timestamp: Int64Array, interval: int, on_utc_grid: bool
    ) -> Int64Array:
        days, opens = self._day_and_open(timestamp)
        # Resampled bars stand on the UTC grid.
        phase = np.zeros_like(opens) if on_utc_grid else opens % interval
        first = (opens - phase) // interval
        count = -((first * interval + phase - opens - self._length) // interval)
        slot = (timestamp - phase) // interval - first
        before = np.clip(slot[:-1], -1, count[:-1] - 1)
        after = np.clip(slot[1:], 0, count[1:])
        work = (days + _EPOCH_WEEKDAY) % 7 < 5
        rest = np.where(work[:-1], count[:-1] - 1 - before, 0) + np.where(work[1:], after, 0)
        same = days[1:] == days[:-1]
        return np.maximum(np.where(same, np.where(work[1:], after - before - 1, 0), rest), 0)

    def _day_and_open(self, timestamp: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Trading day, and the UTC open time of that day's session, per open time."""
        local = timestamp + _utc_offset(timestamp, self.zone)
        # Over midnight a day starts halfway through the closed hours.
        over_midnight = self.closes <= self.opens
        shift = DAY - (self.opens + self.closes) // 2 if over_midnight else 0
        days = (local + shift) // DAY
        start = days * DAY + self.opens - (DAY if over_midnight else 0)
        return days, timestamp - (local - start)


def parse_calendar(text: str) -> Calendar:
    """The calendar that `text` declares.

    Raises:
        ConfigError: the text has another form, or the time zone is unknown.
    """
    if not isinstance(text, str):
        raise ConfigError(
            f"a calendar is one of {_FORMS}",
            value=text,
            where="calendar",
            remedy="For example 24/7, or 'session:America/New_York 09:30-16:00'.",
        )
    return _parse(text)


@functools.lru_cache(maxsize=64)
def _parse(text: str) -> Calendar:
    if text in {"24/7", "24/5"}:
        return Calendar("24/7" if text == "24/7" else "24/5")
    match = _SESSION.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            f"a calendar is one of {_FORMS}",
            value=text,
            where="calendar",
            remedy="For example 24/7, or 'session:America/New_York 09:30-16:00'.",
        )
    zone = match[1]
    opens, closes = (
        int(match[i]) * HOUR + int(match[i + 1]) * MINUTE if int(match[i + 1]) < 60 else DAY + 1
        for i in (2, 4)
    )
    if opens >= DAY or closes > DAY or opens == closes:
        raise ConfigError(
            "a session runs between two different times of day, 00:00 to 24:00",
            value=text,
            where="calendar",
            remedy="For example 'session:America/New_York 09:30-16:00'.",
        )
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            "a session calendar names an IANA time zone",
            value=zone,
            where="calendar",
            remedy="For example America/New_York.",
        ) from error
    return Calendar("session", zone, opens, closes)


class CalendarClues:
    """What the times of a market, given piece by piece, say of its calendar.

    Bars on Saturdays mean 24/7. Otherwise bars around the clock mean 24/5, and bars in some hours
    a session, in the zone where its days look most alike. Daily bars on weekdays with holidays
    are a session, without them 24/5. Times that cannot tell mean 24/7.
    """

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._count = self._saturdays = self._weekdays = 0
        self._first_day = self._last_day = 0
        self._hours = np.zeros(24, dtype=np.int64)

    def push(self, timestamp: Int64Array) -> None:
        """Look at the next piece of the ascending, distinct open times."""
        if len(timestamp) == 0:
            return
        # Hours are few, so most divisions are of them.
        hours, bars = _lengths(timestamp // HOUR)
        np.add.at(self._hours, hours % 24, bars)
        days = hours // 24
        if self._interval == DAY:
            days, bars = _lengths(_nearest_day(timestamp))
        if not self._count:
            self._first_day = int(days[0])
        self._last_day = int(days[-1])
        self._count += len(timestamp)
        weekday = (days + _EPOCH_WEEKDAY) % 7
        self._saturdays += int(bars[weekday == 5].sum())
        self._weekdays += int(bars[weekday < 5].sum())

    def calendar(self, pieces: Callable[[], Iterator[Int64Array]]) -> Calendar:
        """The calendar.

        Args:
            pieces: Gives the same times once more; called where they keep to a session.
        """
        if self._interval > DAY or self._count < 2:
            return Calendar("24/7")
        first, last = self._first_day, self._last_day
        weekends = (last - 2) // 7 - (first - 2) // 7  # day 2 of 1970 was a Saturday
        if self._saturdays * 200 > self._count or weekends < 1:
            return Calendar("24/7")
        if self._interval == DAY:
            expected = int(np.diff(_weekdays_before(np.array([first, last + 1])))[0])
            absent = expected - self._weekdays
            return Calendar("session") if absent * 100 > expected else Calendar("24/5")
        busy = np.count_nonzero(self._hours * 200 > self._count)
        if busy * max(self._interval, HOUR) > 0.9 * DAY:
            return Calendar("24/5")
        return _infer_session(pieces(), self._interval)


ZONES: Final = (
    "UTC",
    "America/New_York",
    "America/Chicago",
    "Europe/London",
    "Europe/Berlin",
    "Europe/Moscow",
    "Asia/Kolkata",
    "Asia/Shanghai",
    "Asia/Tokyo",
    "Australia/Sydney",
    "America/Sao_Paulo",
)
"""The zones of inferred calendars; an inferred session never runs over midnight."""


def _infer_session(pieces: Iterator[Int64Array], interval: int) -> Calendar:
    """The zone and hours with the shortest session; rare times of day are left out of it."""
    bars = np.zeros((len(ZONES), DAY // MINUTE), dtype=np.int64)
    for timestamp in pieces:
        for number, zone in enumerate(ZONES):
            minute = (timestamp + _utc_offset(timestamp, zone)) % DAY // MINUTE
            bars[number] += np.bincount(minute, minlength=DAY // MINUTE)
    best = Calendar("session")
    shortest = DAY + 1
    for row, zone in zip(bars, ZONES, strict=True):
        usual = np.flatnonzero(row * 5 >= row.max())
        opens = int(usual[0]) * MINUTE
        closes = min(int(usual[-1]) * MINUTE + interval, DAY)
        if closes - opens < shortest:
            shortest = closes - opens
            best = Calendar("session", zone, opens, closes)
    return best


def _lengths(values: Int64Array) -> tuple[Int64Array, Int64Array]:
    """The values of runs of equal ones, and how long each is."""
    starts = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
    return values[starts], np.diff(starts, append=len(values))


def _absent(timestamp: Int64Array, interval: int) -> Int64Array:
    distance = np.diff(timestamp)
    if interval >= DAY:  # days of 23 and 25 hours where bars open at local midnight
        distance = distance + interval // 4
    return np.asarray(np.maximum(distance // interval - 1, 0))


def _nearest_day(timestamp: Int64Array) -> Int64Array:
    """Day that a daily bar means: its open is at most half a day from that day's UTC midnight."""
    return np.asarray((timestamp + DAY // 2) // DAY)


def _weekdays_between(days: Int64Array) -> Int64Array:
    """Weekdays strictly between neighbouring days of an ascending list."""
    return np.asarray(np.maximum(_weekdays_before(days[1:]) - _weekdays_before(days[:-1] + 1), 0))


def _weekdays_before(days: Int64Array) -> Int64Array:
    """Mondays to Fridays in [day 0, day), exact for any day number."""
    weeks, rest = np.divmod(days + _EPOCH_WEEKDAY, 7)
    return np.asarray(weeks * 5 + np.minimum(rest, 5))


def _utc_offset(timestamp: Int64Array, zone: str) -> Int64Array:
    """Offset of local time from UTC in ns, of ascending times.

    A day whose offset is the same at both ends is one look-up; in the others zones change their
    offset at quarters of an hour.
    """
    info = zoneinfo.ZoneInfo(zone)
    days, day_of = _distinct(timestamp // DAY)
    start, end = (_offsets_at(days + k, DAY, info) for k in (0, 1))
    offset = np.asarray(start[day_of], dtype=np.int64)
    changing = (start != end)[day_of]
    if changing.any():
        quarters, quarter_of = _distinct(timestamp[changing] // _QUARTER)
        offset[changing] = _offsets_at(quarters, _QUARTER, info)[quarter_of]
    return offset


def _distinct(ascending: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Distinct numbers of an ascending list, and the place of each element among them."""
    is_new = np.diff(ascending, prepend=ascending[:1] - 1) != 0
    return ascending[is_new], np.cumsum(is_new) - 1


def _offsets_at(numbers: Int64Array, unit: int, zone: zoneinfo.ZoneInfo) -> Int64Array:
    seconds = (dt.timedelta(microseconds=n * unit // 1000) for n in numbers.tolist())
    offsets = ((_EPOCH + s).astimezone(zone).utcoffset() or dt.timedelta() for s in seconds)
    return np.array([o // dt.timedelta(seconds=1) * SECOND for o in offsets], dtype=np.int64)


def _clock(time: int) -> str:
    return f"{time // HOUR:02d}:{time % HOUR // MINUTE:02d}"
