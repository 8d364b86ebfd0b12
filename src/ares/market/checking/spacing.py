"""Gaps and holidays between the bars of a market, found piece by piece under its calendar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from ares.market.calendars import ZONES, Calendar
from ares.market.checking.tallies import EXAMPLES, Tally
from ares.market.quality import Finding, time_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ares.core.types import Int64Array

CLOSED_DAYS: Final = 10
OVERNIGHT_MOVE: Final = 0.3


class GapRows(NamedTuple):
    """Gaps: position and open time of the last bar before each, and the bars missing."""

    before: Int64Array
    time: Int64Array
    missing: Int64Array


class Spacing:
    """The distances of bars under a calendar; give the times to `look` first, then to `push`.

    Attributes:
        missing: Expected bars that are absent.
        gaps: Runs of them.
        holidays: Weekdays without bars in a session calendar.
        long_closures: Runs of more than 10 such weekdays.
    """

    def __init__(self, calendar: Calendar, interval: int) -> None:
        self._calendar = calendar
        self._interval = interval
        self._on_utc_grid = False
        self._last: int | None = None
        self._seen = 0
        self._longest: list[tuple[int, str]] = []
        self.missing = self.gaps = self.holidays = 0
        self.long_closures = Tally()

    def look(self, pieces: Iterable[Int64Array]) -> None:
        """Find out which grid the bars of a session calendar keep to: all of them decide."""
        if self._calendar.kind != "session":
            return
        bars = on_grid = 0
        for times in pieces:
            bars += len(times)
            on_grid += self._calendar.on_session_grid(times, self._interval)
        self._on_utc_grid = 2 * on_grid < bars

    def push(self, times: Int64Array) -> GapRows:
        """Gaps before or among the next of the ascending, distinct times."""
        start = self._seen
        self._seen += len(times)
        if self._last is not None:
            times = np.concatenate([[self._last], times])
            start -= 1
        if len(times) < 2:
            self._last = int(times[-1]) if len(times) else None
            return GapRows(*(np.zeros(0, dtype=np.int64) for _ in GapRows._fields))
        self._last = int(times[-1])
        missing = self._calendar.missing(times, self._interval, on_utc_grid=self._on_utc_grid)
        absent = np.flatnonzero(missing)
        self.missing += int(missing.sum())
        self.gaps += len(absent)
        self._rank(times, missing, absent)
        closed = self._calendar.holidays(times, self._interval)
        self.holidays += int(closed.sum())
        self.long_closures.add(
            np.flatnonzero(closed > CLOSED_DAYS),
            lambda k: f"{describe_span(times, k)}: {closed[k]} weekdays without bars",
        )
        return GapRows(start + absent, times[absent], missing[absent])

    def gap_findings(self) -> list[Finding]:
        """The gaps, the longest first, and the bars missing in them."""
        if not self.gaps:
            return []
        examples = tuple(text for _, text in self._longest)
        return [
            Finding("gaps", self.gaps, "listed; the longest first", examples),
            Finding("missing_bars", self.missing, "none invented"),
        ]

    def closure_findings(self) -> list[Finding]:
        """Closures too long for holidays."""
        action = "taken for holidays; is there a hole in the data?"
        return self.long_closures.finding("long_closures", action)

    def _rank(self, times: Int64Array, missing: Int64Array, absent: Int64Array) -> None:
        """Keep the longest gaps; of equally long ones the earlier."""
        if len(self._longest) == EXAMPLES:  # what is no longer than the tenth never enters
            absent = absent[missing[absent] > self._longest[-1][0]]
        longest = absent[np.argsort(-missing[absent], kind="stable")][:EXAMPLES]
        self._longest += [
            (int(missing[k]), f"{describe_span(times, k)}: {missing[k]} bars missing")
            for k in longest
        ]
        self._longest.sort(key=lambda gap: -gap[0])
        del self._longest[EXAMPLES:]


class OvernightMoves:
    """Moves of over 30 % from close to open: those between sessions are reported.

    A calendar that is not declared is known at the end only. Which trading day a bar belongs to
    depends on nothing but its zone, and few zones are inferred; so all of those are counted.
    """

    def __init__(self, calendar: Calendar | None, interval: int) -> None:
        self._calendars = [Calendar("session", zone) for zone in ZONES]
        if calendar is not None:
            self._calendars = [calendar]
        self._interval = interval
        self._before: tuple[int, float] | None = None
        self._moves = {calendar.zone: Tally() for calendar in self._calendars}

    def push(self, columns: dict[str, Any], at: Callable[[int], str]) -> None:
        """Look at the next bars; `at` describes one of them."""
        times, close = columns["timestamp"], columns["close"]
        if len(times) == 0:
            return
        first = self._before or (int(times[0]), float(columns["open"][0]))
        before = np.concatenate([[first[1]], close[:-1]])
        self._before = (int(times[-1]), float(close[-1]))
        moves = np.flatnonzero(np.abs(columns["open"] / before - 1) > OVERNIGHT_MOVE)
        if len(moves) == 0:
            return
        both = np.empty(2 * len(moves), dtype=np.int64)
        both[::2] = np.where(moves > 0, times[moves - 1], first[0])
        both[1::2] = times[moves]
        for calendar in self._calendars:
            days = calendar.session_days(both, self._interval)
            self._moves[calendar.zone].add(moves[days[1::2] != days[::2]], at)

    def between_sessions(self, calendar: Calendar) -> Tally:
        """The moves whose two bars belong to different trading days."""
        return self._moves[calendar.zone]


def describe_span(times: Int64Array, k: int) -> str:
    """From one time to the next, in words."""
    return f"{time_text(int(times[k]))} to {time_text(int(times[k + 1]))}"
