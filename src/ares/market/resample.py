"""Coarser bars, and the causal join of coarse bars to base bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ares.core.errors import DataError
from ares.kernels.resample import aggregate
from ares.market.bars import Bars
from ares.market.calendars import parse_calendar
from ares.market.timeframe import DAY, WEEK, timeframe_ns

if TYPE_CHECKING:
    from ares.core.types import Int64Array

_MONDAY = 4 * DAY  # 1970-01-05
_PIECE = 1 << 16


def resample(bars: Bars, timeframe: str) -> Bars:
    """Bars of a coarser timeframe, each known only when its whole interval is over.

    Intervals start at multiples of their length since 1970 UTC: days at midnight, weeks on
    Monday. A bar belongs to the interval in which it closes, so that no coarse bar holds anything
    later than its own close time. Intervals without bars have none. The last interval is dropped
    unless the last bar closes with it. So coarse bars of `bars[:k]` are the first coarse bars of
    `bars`. Bad prints are not judged again.

    Args:
        bars: The finer market.
        timeframe: A multiple of the timeframe of `bars`.

    Raises:
        ConfigError: an unknown timeframe.
        DataError: the timeframe is not a multiple of that of `bars`.
    """
    length = timeframe_ns(timeframe)
    if length % bars.interval_ns:
        raise DataError(
            f"bars can be resampled to multiples of their timeframe {bars.timeframe}",
            value=timeframe,
            where=f"{bars.symbol} {bars.exchange}",
            remedy="Choose a coarser timeframe, or load finer bars.",
        )
    if length == bars.interval_ns:
        return bars
    origin = _MONDAY if length % WEEK == 0 else 0
    starts, bucket = _intervals(bars, length, origin)
    stop = len(bars)
    if stop and bars.timestamp[-1] + bars.interval_ns < (bucket[-1] + 1) * length + origin:
        stop = int(starts[-1])
        starts, bucket = starts[:-1], bucket[:-1]
    timestamp = bucket * length + origin
    open_, high, low, close, volume = aggregate(
        starts, bars.open, bars.high, bars.low, bars.close, bars.volume, stop
    )
    missing = parse_calendar(bars.calendar).missing(timestamp, length)
    before = np.flatnonzero(missing)
    return Bars(
        timestamp=timestamp,
        open=open_,
        high=high,
        low=low,
        close=close,
        volume=volume,
        symbol=bars.symbol,
        exchange=bars.exchange,
        timeframe=timeframe,
        tick=bars.tick,
        calendar=bars.calendar,
        gaps=np.column_stack([before, before + 1, missing[before]]),
        adjusted=bars.adjusted,
    )


def _intervals(bars: Bars, length: int, origin: int) -> tuple[Int64Array, Int64Array]:
    """First bar and number of each interval that has bars; piece by piece, to take no memory."""
    starts, numbers = [], []
    last = np.empty(0, dtype=np.int64)
    for begin in range(0, len(bars), _PIECE):
        close = bars.timestamp[begin : begin + _PIECE] + bars.interval_ns
        bucket = (close - 1 - origin) // length
        before = last if len(last) else bucket[:1] - 1
        first = np.flatnonzero(np.diff(bucket, prepend=before))
        starts.append(begin + first)
        numbers.append(bucket[first])
        last = bucket[-1:]
    none = np.empty(0, dtype=np.int64)
    return np.concatenate([none, *starts]), np.concatenate([none, *numbers])


def align(coarse: Bars, base: Bars) -> Int64Array:
    """For each base bar the index of the last coarse bar that is known at its close.

    That is the last one whose close time is not after the base bar's close time; -1 where there
    is none. int64 (n,).
    """
    known = np.searchsorted(coarse.close_time, base.close_time, side="right") - 1
    return np.asarray(known, dtype=np.int64)
