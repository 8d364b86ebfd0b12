"""What is wrong with rows as they were read: impossible cells, their order, and their distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ares.core.errors import DataError
from ares.market.quality import time_text
from ares.market.raw import NO_TIME, PRICES
from ares.market.timeframe import DAY, TIMEFRAMES, timeframe_name

if TYPE_CHECKING:
    from ares.core.types import BoolArray, Int64Array
    from ares.market.raw import RawBars

_ENOUGH: Final = 20
"""Distances needed before rows that are too far apart mean that the timeframe is another one."""


def impossible_rows(raw: RawBars) -> BoolArray:
    """True for rows that cannot be a bar: a cell is unreadable or they contradict each other."""
    with np.errstate(invalid="ignore"):
        fine = raw.timestamp != NO_TIME
        for name in PRICES:
            price = getattr(raw, name)
            fine &= (price > 0) & (price < np.inf)
        fine &= (raw.volume >= 0) & (raw.volume < np.inf)
        fine &= raw.low <= np.minimum(raw.open, raw.close)
        fine &= raw.high >= np.maximum(raw.open, raw.close)
    return np.asarray(~fine)


def impossible_row_error(raw: RawBars, row: int) -> DataError:
    """Names file, row, column, rule, value and remedy of an impossible row."""
    column, rule, value = _fault(raw, row)
    return DataError(
        rule,
        value=value,
        where=raw.where(row, column),
        remedy="Correct or remove the row; `ares data check` counts all rows of this kind.",
    )


def describe_impossible_row(raw: RawBars, row: int) -> str:
    """The same in one line, for a report."""
    column, rule, value = _fault(raw, row)
    return f"{raw.where(row, column, short=True)}: {rule}; got {value!r}"


def _fault(raw: RawBars, row: int) -> tuple[str, str, object]:
    """Column, rule and value of the first thing that is wrong with a row."""
    for problem in raw.problems:
        if problem.row == row:
            kind = "a time" if problem.column == "timestamp" else "a number"
            return problem.column, f"{problem.column} must be {kind}", problem.text
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


def out_of_order_rows(raw: RawBars) -> Int64Array:
    """Positions of the rows that open before the row above them (rows without a time aside)."""
    rows = np.flatnonzero(raw.timestamp != NO_TIME)
    times = raw.timestamp[rows]
    return np.asarray(rows[1:][times[1:] < times[:-1]])


def stable_order(timestamp: Int64Array) -> Int64Array:
    """Positions of the rows by time; rows of one time stay in the order of the file."""
    if bool((timestamp[1:] >= timestamp[:-1]).all()):
        return np.arange(len(timestamp))
    return np.argsort(timestamp, kind="stable")


def shortest_distance(interval: int) -> int:
    """Bars closer than this overlap; days of 23 hours do not."""
    return interval - interval // 4 if interval >= DAY else interval


def refuse_other_timeframe(times: Int64Array, interval: int, where: str) -> None:
    """Raise where the distances of distinct, sorted open times say another timeframe.

    Raises:
        DataError: most bars open before the bar above them has closed, or no two bars are
            neighbours and many are apart by one same longer time.
    """
    distance = np.diff(times)
    if len(distance) == 0:
        return
    too_close = 2 * np.count_nonzero(distance < shortest_distance(interval)) > len(distance)
    apart = len(distance) >= _ENOUGH and int(distance.min()) > interval
    if not too_close and not apart:
        return
    values, counts = np.unique(distance, return_counts=True)
    usual = int(values[counts.argmax()])
    name = timeframe_name(usual)
    known = usual in TIMEFRAMES.values()
    every_second = usual == 2 * interval and not known  # a thin market, as far as one can tell
    if not too_close and (every_second or 5 * int(counts.max()) <= 2 * len(distance)):
        return
    raise DataError(
        f"the rows must be bars of the timeframe {timeframe_name(interval)}, but most open"
        f" {name} apart (from {time_text(int(times[0]))})",
        value=timeframe_name(interval),
        where=where,
        remedy=f"Is the timeframe {name}?" if known else f"Timeframes: {', '.join(TIMEFRAMES)}.",
    )
