"""Coarser bars, and the causal join of coarse bars to base bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ares.core.errors import DataError
from ares.kernels.resample import aggregate
from ares.market.bars import Bars
from ares.market.calendars import parse_calendar
from ares.market.raw import COLUMNS
from ares.market.timeframe import DAY, WEEK, timeframe_ns
from ares.store.scratch import relax

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    if timeframe_ns(timeframe) == bars.interval_ns:
        return bars
    market = f"{bars.symbol} {bars.exchange}"
    resampler = Resampler(bars.timeframe, timeframe, market)
    cuts = [slice(at, at + _PIECE) for at in range(0, len(bars), _PIECE)]
    pieces = []
    for cut in cuts:
        pieces.append(resampler.push({n: getattr(bars, n)[cut] for n in COLUMNS}))
        relax()
    pieces.append(resampler.finish())
    columns: dict[str, Any] = {n: np.concatenate([piece[n] for piece in pieces]) for n in COLUMNS}
    missing = parse_calendar(bars.calendar).missing(columns["timestamp"], timeframe_ns(timeframe))
    before = np.flatnonzero(missing)
    return Bars(
        **columns,
        symbol=bars.symbol,
        exchange=bars.exchange,
        timeframe=timeframe,
        tick=bars.tick,
        calendar=bars.calendar,
        gaps=np.column_stack([before, before + 1, missing[before]]),
        adjusted=bars.adjusted,
    )


class Resampler:
    """Coarser bars of a market that comes in pieces; any cut gives the bars of `resample`.

    Args:
        base: The timeframe of the bars that come.
        timeframe: A multiple of it.
        market: Names the bars in errors.

    Raises:
        ConfigError: an unknown timeframe.
        DataError: the timeframe is not a multiple of `base`.
    """

    def __init__(self, base: str, timeframe: str, market: str = "") -> None:
        self._interval, self._length = timeframe_ns(base), timeframe_ns(timeframe)
        if self._length % self._interval:
            raise DataError(
                f"bars can be resampled to multiples of their timeframe {base}",
                value=timeframe,
                where=market,
                remedy="Choose a coarser timeframe, or load finer bars.",
            )
        self._origin = _MONDAY if self._length % WEEK == 0 else 0
        self._open: dict[str, Any] | None = None  # the interval that may not be over, as one bar
        self._closed = 0  # when the last bar closed

    def push(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Coarse bars whose intervals the next bars show to be over."""
        times = columns["timestamp"]
        if len(times) == 0:
            return {name: columns[name] for name in COLUMNS}
        bucket = (times + (self._interval - 1 - self._origin)) // self._length
        arrays = {name: columns[name] for name in COLUMNS[1:]}
        if self._open is not None:  # sums go on from it, in time order
            bucket = np.concatenate([self._open["timestamp"], bucket])
            arrays = {n: np.concatenate([self._open[n], array]) for n, array in arrays.items()}
        starts = np.flatnonzero(np.diff(bucket, prepend=bucket[:1] - 1)).astype(np.int64)
        values = aggregate(starts, *arrays.values(), len(bucket))
        coarse = dict(zip(COLUMNS, [bucket[starts], *values], strict=True))
        self._open = {name: array[-1:].copy() for name, array in coarse.items()}
        self._closed = int(times[-1]) + self._interval
        return self._timed({name: array[:-1] for name, array in coarse.items()})

    def finish(self) -> dict[str, Any]:
        """The last coarse bar, if the last bar closed with it; else none."""
        if self._open is None:
            return {n: np.zeros(0, np.int64 if n == "timestamp" else np.float64) for n in COLUMNS}
        end = (int(self._open["timestamp"][0]) + 1) * self._length + self._origin
        stop = 0 if self._closed < end else 1
        return self._timed({name: array[:stop] for name, array in self._open.items()})

    def _timed(self, coarse: dict[str, Any]) -> dict[str, Any]:
        return {**coarse, "timestamp": coarse["timestamp"] * self._length + self._origin}


def align(coarse: Bars, base: Bars) -> Int64Array:
    """For each base bar the index of the last coarse bar that is known at its close.

    That is the last one whose close time is not after the base bar's close time; -1 where there
    is none. int64 (n,).
    """
    # Close times of `base` would be kept with it: eight bytes a bar for a look at some.
    latest = base.timestamp + (base.interval_ns - coarse.interval_ns)
    known = np.searchsorted(coarse.timestamp, latest, side="right")
    known -= 1
    return np.asarray(known, dtype=np.int64)
