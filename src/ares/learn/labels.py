"""Triple-barrier labels: each is the outcome of one trade with stop, target and holding time.

A decision at the close of bar t0 is filled at the next open (or at that close); the barriers count
from the fill price; touching is inclusive; a bar that opens beyond a barrier is left at its open;
where one bar touches both, the loss barrier counts. A trade that is still open where the data or
the stretch without long gaps ends has no label. (AFML chapter 3; the rules of a simulated trade.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.core.errors import DataError
from ares.core.types import readonly
from ares.kernels.barriers import NONE, TIME, UPPER, walk_barriers
from ares.kernels.rolling import log_change, rolling_deviation
from ares.learn.splits import stretches
from ares.store import scratch
from ares.store.codecs import register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ares.backtest.costs import Costs
    from ares.core.types import BoolArray, Fill, Float64Array, Int8Array, Int64Array
    from ares.market.bars import Bars

_YEAR_NS: Final = 365.25 * 86400e9
_PIECE: Final = 65_536


@register(schema=1)
@dataclass(frozen=True, eq=False)
class Labels:
    """Complete labels, in the order of the rows they were asked for.

    Attributes:
        t0: int64 (m,), bar at whose close the decision was made.
        t1: int64 (m,), bar in which the trade was left: at its close the label is known.
        side: int8 (m,), +1 long, -1 short.
        outcome: int8 (m,), +1 profit barrier, -1 loss barrier, 0 time.
        net_return: float64 (m,), return of the trade after all costs.
        y: int8 (m,), 1 where the profit barrier came first, or time with a positive net return.
    """

    t0: Int64Array
    t1: Int64Array
    side: Int8Array
    outcome: Int8Array
    net_return: Float64Array
    y: Int8Array

    def __post_init__(self) -> None:
        for name in ("t0", "t1", "side", "outcome", "net_return", "y"):
            readonly(getattr(self, name))

    def __len__(self) -> int:
        return len(self.t0)

    def take(self, chosen: BoolArray) -> Labels:
        """The labels where `chosen` is True."""
        return Labels(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @staticmethod
    def join(parts: Sequence[Labels]) -> Labels:
        """All labels of at least one part, in order."""
        columns = ([getattr(part, field.name) for part in parts] for field in fields(Labels))
        return Labels(*(np.concatenate(column) for column in columns))

    @property
    def paid(self) -> BoolArray:
        """Where the trade paid after costs: the meta-label."""
        return np.asarray(self.net_return > 0.0)


def barrier_width(bars: Bars, window: int, horizon: int, max_gap: int | None = 60) -> Float64Array:
    """Volatility over `horizon` bars, known at each close, as a fraction of the price.

    The deviation of the last `window` one-bar log returns times sqrt(horizon). float64 (n,); NaN
    in the first `window` bars of each stretch between gaps longer than `max_gap`, and 0 where no
    price moved.
    """
    width: Float64Array = scratch.full(len(bars), np.nan)
    for stretch in stretches(bars, max_gap):
        for start in range(stretch.start, stretch.stop, _PIECE):
            stop = min(start + _PIECE, stretch.stop)
            close = bars.close[max(stretch.start, start - window) : stop]
            _, deviation = rolling_deviation(log_change(close, 1), window)
            width[start:stop] = deviation[start - stop :] * math.sqrt(horizon)
            scratch.relax()
    return width


def triple_barrier(
    bars: Bars,
    rows: Int64Array,
    side: Int8Array | int,
    *,
    up: Float64Array | float,
    down: Float64Array | float,
    horizon: int,
    costs: Costs,
    fill: Fill = "next_open",
    max_gap: int | None = 60,
) -> Labels:
    """Label decisions at the closes of `rows`.

    Args:
        bars: The market.
        rows: int64 (m,), bar indices.
        side: +1 long or -1 short per row; 0 has no label.
        up: Distance of the profit barrier, in the direction of the side, as a fraction of the
            fill price; not positive or NaN: no label.
        down: Distance of the loss barrier, likewise.
        horizon: Bars from the entry to the time exit.
        costs: Fee, slippage, borrow and funding; the net return is after all of them.
        fill: "next_open" or "close".
        max_gap: Longest gap, in expected bars, that a label may span.

    Raises:
        DataError: a row outside the bars, arrays of unequal length, a horizon below 1.
    """
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    _check(rows, len(bars), horizon, fill)
    sides = _per_row("side", side, rows).astype(np.int8)
    borders = np.append(bars.segments(max_gap), len(bars))
    limit = borders[np.searchsorted(borders, rows, side="right")] if len(rows) else rows
    outcome, leave, net = walk_barriers(
        (bars.open, bars.high, bars.low, bars.close),
        (bars.timestamp, bars.interval_ns),
        rows,
        limit,
        sides,
        _per_row("up", up, rows),
        _per_row("down", down, rows),
        horizon=horizon,
        at_close=fill == "close",
        rates=(costs.fee, costs.slippage, costs.borrow / _YEAR_NS),
        funding=(
            np.array([time for time, _ in costs.funding or ()], dtype=np.int64),
            np.array([rate for _, rate in costs.funding or ()], dtype=np.float64),
        ),
    )
    known = outcome != NONE
    won = (outcome == UPPER) | ((outcome == TIME) & (net > 0.0))
    return Labels(
        t0=rows[known],
        t1=leave[known],
        side=sides[known],
        outcome=outcome[known],
        net_return=net[known],
        y=won[known].astype(np.int8),
    )


def _check(rows: Int64Array, n: int, horizon: int, fill: str) -> None:
    if horizon < 1:
        raise DataError("a horizon has at least one bar", value=horizon, where="horizon")
    if fill not in {"next_open", "close"}:
        raise DataError("fill is next_open or close", value=fill, where="fill")
    if len(rows) and (rows.min() < 0 or rows.max() >= n):
        raise DataError("rows lie inside the bars", value=n, where="rows")


def _per_row(name: str, value: object, rows: Int64Array) -> Float64Array:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim == 0:
        array = np.full(len(rows), array)
    if array.shape != rows.shape:
        raise DataError("there is one value per row", where=name, value=array.shape)
    return np.ascontiguousarray(array)
