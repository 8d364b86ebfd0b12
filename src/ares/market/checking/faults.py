"""What is wrong with rows as they were read: impossible cells, and their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from ares.core.errors import DataError
from ares.market.checking.tallies import Tally
from ares.market.quality import time_text
from ares.market.raw import NO_TIME, PRICES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ares.core.types import BoolArray, Int64Array
    from ares.market.raw import RawBars

Place: TypeAlias = "Callable[[], tuple[str, str]]"
"""Says where a cell stands, in short and in full."""

MOST_REPEATS: Final = 1 << 20
"""Rows that one time may have; they are judged together, so they cannot be split."""
_REMEDY: Final = "Correct or remove the row"


def impossible_rows(raw: RawBars) -> BoolArray:
    """True for rows that cannot be a bar: a cell is unreadable or they contradict each other."""
    with np.errstate(invalid="ignore"):
        fine = raw.timestamp != NO_TIME
        fine &= (raw.low > 0) & (raw.high < np.inf)
        for between in (raw.open, raw.close):
            fine &= (raw.low <= between) & (between <= raw.high)
        fine &= (raw.volume >= 0) & (raw.volume < np.inf)
    return np.asarray(~fine)


def impossible_row_error(raw: RawBars, row: int) -> DataError:
    """Names file, row, column, rule, value and remedy of an impossible row."""
    column, rule, value, remedy = _fault(raw, row)
    return DataError(
        rule,
        value=value,
        where=raw.where(row, column),
        remedy=f"{remedy}; `ares data check` counts all rows of this kind.",
    )


def describe_impossible_row(raw: RawBars, row: int) -> str:
    """The same in one line, for a report."""
    column, rule, value, _ = _fault(raw, row)
    return f"{raw.where(row, column, short=True)}: {rule}; got {value!r}"


def _fault(raw: RawBars, row: int) -> tuple[str, str, object, str]:
    """Column, rule, value and remedy of the first thing that is wrong with a row."""
    for problem in raw.problems:
        if problem.row == row:
            kind = "a time" if problem.column == "timestamp" else "a number"
            rule = problem.rule or f"{problem.column} must be {kind}"
            return problem.column, rule, problem.text, problem.remedy or _REMEDY
    return *_fault_of_values(raw, row), _REMEDY


def _fault_of_values(raw: RawBars, row: int) -> tuple[str, str, object]:
    """The same, without remedy, of a row whose cells are numbers, a time or nothing."""
    if raw.timestamp[row] == NO_TIME:
        return "timestamp", "timestamp must be a time", None
    for name in (*PRICES, "volume"):
        value = float(getattr(raw, name)[row])
        if not np.isfinite(value):
            return name, f"{name} must be a finite number", value
        if name != "volume" and value <= 0:
            return name, f"{name} must be positive", value
        if value < 0:
            return name, f"{name} must not be negative", value
    low, high = float(raw.low[row]), float(raw.high[row])
    for name in ("open", "close"):
        value = float(getattr(raw, name)[row])
        if low > value:
            return "low", f"low must not be above {name} ({value!r})", low
        if high < value:
            return "high", f"high must not be below {name} ({value!r})", high
    return "", "a row must be a possible bar", None


class RowChecks:
    """Checks rows in the order of the files, chunk by chunk: impossible ones and disorder."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self.rows = 0
        self.impossible = Tally()
        self.disorder = Tally()
        self._last = NO_TIME

    def push(self, raw: RawBars) -> None:
        """Look at the next rows.

        Raises:
            DataError: a row is impossible, and such rows are refused.
        """
        self.rows += len(raw)
        impossible = impossible_rows(raw)
        if self._strict and impossible.any():
            raise impossible_row_error(raw, int(impossible.argmax()))
        found = np.flatnonzero(impossible)
        self.impossible.add(found, lambda row: describe_impossible_row(raw, row))
        times = raw.timestamp
        if len(times) and times[0] >= max(self._last, NO_TIME + 1) and _ascending(times):
            self._last = int(times[-1])  # the usual case, which needs no copies
            return
        rows = np.flatnonzero(times != NO_TIME)
        if len(rows):
            times = times[rows]
            before = np.concatenate([[self._last], times[:-1]])
            self.disorder.add(rows[times < before], lambda row: describe_row(raw, row))
            self._last = int(times[-1])


def describe_row(raw: RawBars, row: int) -> str:
    """When and where a row is."""
    return f"{time_text(int(raw.timestamp[row]))} ({raw.where(row, short=True)})"


def place_in_rows(raw: RawBars, row: int, column: str) -> Place:
    """Where a cell stands, in short and in full; the rows need not be there any more when asked."""
    where = raw.where(row, column, short=True), raw.where(row, column)
    return lambda: where


def stable_order(timestamp: Int64Array) -> Int64Array:
    """Positions of the rows by time; rows of one time stay in the order of the file."""
    if _ascending(timestamp):
        return np.arange(len(timestamp))
    return np.argsort(timestamp, kind="stable")


def timed_order(timestamp: Int64Array) -> Int64Array:
    """The same of those rows that have a time."""
    order = stable_order(timestamp)
    if len(order) and timestamp[order[0]] == NO_TIME:  # which comes before all others
        order = order[timestamp[order] != NO_TIME]
    return order


def _ascending(times: Int64Array) -> bool:
    return bool((times[1:] >= times[:-1]).all())


def refuse_repeated(times: Int64Array, is_new: BoolArray, files: Sequence[str]) -> None:
    """Raise where one of the sorted `times` has too many rows; `is_new` marks its first row.

    Raises:
        DataError: one has.
    """
    if len(times) <= MOST_REPEATS:
        return
    starts = np.flatnonzero(is_new)
    counts = np.diff(starts, append=len(times))
    over = np.flatnonzero(counts > MOST_REPEATS)
    if len(over):
        first = over[0]
        raise repeated_error(int(times[starts[first]]), int(counts[first]), MOST_REPEATS, files)


def repeated_error(time: int, count: int, most: int, files: Sequence[str]) -> DataError:
    """Says that a time has `count` rows, and that `most` are taken."""
    return DataError(
        f"one time may have {most:,} rows",
        value=f"{count:,} of {time_text(time)}",
        where=", ".join(files) or "data",
        remedy="Bars of one market have a row per time; is this a file of trades or of markets?",
    )
