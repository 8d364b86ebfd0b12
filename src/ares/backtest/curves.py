"""What a plot shows of a backtest: thinned series, drawdowns, marks where orders were filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from ares.core.types import Float64Array, Int64Array
    from ares.market.bars import Bars

MAX_POINTS: Final = 4000
MAX_MARKED: Final = 5000


def decimate(values: Float64Array, limit: int = MAX_POINTS) -> Int64Array:
    """Indices of at most about `limit` points that keep every bucket's extremes.

    Args:
        values: One per point; NaN is never an extreme unless its bucket has nothing else.
        limit: Where there are no more points than this, all stay.
    """
    n = len(values)
    if n <= limit:
        return np.arange(n, dtype=np.int64)
    width = -(-n // (limit // 2))
    whole = n - n % width
    blocks = values[:whole].reshape(-1, width)
    start = np.arange(0, whole, width, dtype=np.int64)
    low = start + np.argmin(np.where(np.isnan(blocks), np.inf, blocks), axis=1)
    high = start + np.argmax(np.where(np.isnan(blocks), -np.inf, blocks), axis=1)
    rest = values[whole:]
    tail = [np.int64(0), np.int64(n - 1)]
    if len(rest) and not np.isnan(rest).all():
        tail += [np.int64(whole + np.nanargmin(rest)), np.int64(whole + np.nanargmax(rest))]
    return np.unique(np.concatenate([low, high, np.array(tail, dtype=np.int64)]))


def drawdown(equity: Float64Array) -> Float64Array:
    """Fall from the highest equity so far, the initial 1.0 included; 0 or negative."""
    peak = np.maximum.accumulate(np.maximum(np.nan_to_num(equity, nan=1.0), 1.0))
    return np.asarray(equity / peak - 1.0)


def buy_and_hold(bars: Bars, equity: pd.Series) -> Float64Array:
    """Value of 1 put into the market at the open of the first bar traded, without costs.

    Args:
        bars: The bars that were traded.
        equity: As `BacktestResult.equity`; the answer has one value for each of its closes.
    """
    times = equity.index.as_unit("ns").asi8  # type: ignore[attr-defined]  # a DatetimeIndex
    at = np.clip(np.searchsorted(bars.close_time, times), 0, len(bars) - 1)
    return np.asarray(bars.close[at] / bars.open[at[0]])


@dataclass(frozen=True, eq=False)
class FillMarks:
    """Fills of one kind.

    Attributes:
        kind: What they are.
        times: Open times of their bars, datetime64[ns], UTC.
        prices: Fill prices.
        notes: A few words on each: for an exit its reason and the trade's net return.
    """

    kind: Literal["Long entry", "Short entry", "Exit"]
    times: Any
    prices: Float64Array
    notes: tuple[str, ...]


def marked(trades: pd.DataFrame, limit: int = MAX_MARKED) -> pd.DataFrame:
    """At most `limit` of the trades, evenly spaced, the first and the last among them."""
    if len(trades) <= limit:
        return trades
    return trades.iloc[np.linspace(0, len(trades) - 1, limit).astype(np.int64)]


def fill_marks(trades: pd.DataFrame) -> tuple[FillMarks, ...]:
    """The fills of `trades` by kind, exits first: a reversal's entry is drawn over its exit.

    Kinds without fills are left out.

    Args:
        trades: As `BacktestResult.trades`.
    """
    made = []
    if len(trades):
        pairs = zip(trades["reason"].tolist(), trades["return"].tolist(), strict=True)
        words = (f"{r} {v:+.2%}" if np.isfinite(v) else r for r, v in pairs)
        made.append(_marks("Exit", trades, "exit", tuple(words)))
    side = trades["side"].to_numpy(np.int64)
    for kind, mine in (("Long entry", side > 0), ("Short entry", side < 0)):
        if mine.any():
            notes = ("",) * int(mine.sum())
            made.append(_marks(kind, trades[mine], "entry", notes))
    return tuple(made)


def _marks(kind: Any, trades: pd.DataFrame, end: str, notes: tuple[str, ...]) -> FillMarks:
    times = trades[f"{end}_time"].dt.tz_localize(None).to_numpy("datetime64[ns]")
    return FillMarks(kind, times, trades[f"{end}_price"].to_numpy(np.float64), notes)
