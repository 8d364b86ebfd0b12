"""Metrics of one backtest, computed in one place from its trades and its daily marks.

A day is the UTC date of a bar's timestamp, its mark the equity at its last close. On 24/7 calendars
days without bars repeat the mark; elsewhere only days with bars count. The first return is against
the initial cash of 1. What is undefined is NaN, never infinite and never 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from ares.core.types import Float64Array, Int8Array, Int64Array, readonly
from ares.kernels.blocks import largest_fall
from ares.kernels.position import END, RUIN

DAY_NS: Final = 86_400 * 10**9
YEAR_DAYS: Final = 365.25
INITIAL_CASH: Final = 1.0


@dataclass(frozen=True, eq=False)
class TradeArrays:
    """Round trips in the order of their exits, one array per column.

    Attributes:
        entry_bar: Bar of the entry.
        exit_bar: Bar of the exit.
        side: 1 long, -1 short.
        reason: Index into `ares.backtest.result.REASONS`.
        entry_price: Fill price of the entry, slippage in it.
        exit_price: Fill price of the exit, slippage in it.
        units: Units traded, positive.
        fees: Both fees, in cash.
        pnl: Profit in cash, net of fees and accruals.
    """

    entry_bar: Int64Array
    exit_bar: Int64Array
    side: Int8Array
    reason: Int8Array
    entry_price: Float64Array
    exit_price: Float64Array
    units: Float64Array
    fees: Float64Array
    pnl: Float64Array

    def __post_init__(self) -> None:
        for column in fields(self):
            readonly(getattr(self, column.name))

    def __len__(self) -> int:
        return len(self.pnl)

    @property
    def returns(self) -> Float64Array:
        """Profit over the value at the entry price; NaN where that value is too small for a float."""
        value = self.units * self.entry_price
        return np.divide(self.pnl, value, out=np.full_like(value, np.nan), where=value > 0.0)


@dataclass(frozen=True, eq=False)
class Marks:
    """Equity by day, and what the metrics need besides.

    Attributes:
        days: Days since 1970-01-01 UTC, increasing.
        equity: Equity at the last close of each day.
        drawdown: Largest fall of the close-marked equity from its peak, a fraction of the peak; the
            initial cash is a peak, too.
        closes_held: Closes that met an open position.
        n_bars: Bars traded.
        elapsed_days: From the first bar's open to the last bar's close.
        days_per_year: Trading days per year of the calendar.
    """

    days: Int64Array
    equity: Float64Array
    drawdown: float
    closes_held: int
    n_bars: int
    elapsed_days: float
    days_per_year: int

    def __post_init__(self) -> None:
        readonly(self.days)
        readonly(self.equity)

    @staticmethod
    def of(
        trades: TradeArrays,
        closes: Float64Array,
        *,
        days: Int64Array,
        ends: Int64Array,
        elapsed_days: float,
        days_per_year: int,
    ) -> Marks:
        """Marks of one walk.

        Args:
            trades: Its round trips.
            closes: Equity at every close.
            days: Days since 1970-01-01 UTC to mark.
            ends: For each of them the close that marks it, an index into `closes`.
            elapsed_days: From the first bar's open to the last bar's close.
            days_per_year: Trading days per year of the calendar.
        """
        # These two exits come after their close was marked.
        late = np.count_nonzero((trades.reason == END) | (trades.reason == RUIN))
        with np.errstate(all="ignore"):  # equity that left the floats is an outcome
            fall = float(largest_fall(closes, INITIAL_CASH))
        return Marks(
            days=days,
            equity=closes[ends],
            drawdown=fall,
            closes_held=int(np.sum(trades.exit_bar - trades.entry_bar)) + int(late),
            n_bars=len(closes),
            elapsed_days=elapsed_days,
            days_per_year=days_per_year,
        )

    @property
    def returns(self) -> Float64Array:
        """Daily returns; 0 after ruin."""
        return daily_returns(self.equity)


def daily_returns(equity: Float64Array) -> Float64Array:
    """Return of each daily mark on the one before, the first on the initial cash.

    Where the mark before is 0 (after ruin) the return is 0.

    Args:
        equity: Marks, shape (days,) or (runs, days).
    """
    before = np.full_like(equity, INITIAL_CASH)
    before[..., 1:] = equity[..., :-1]
    alive = before != 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        returns = np.divide(equity, before, out=np.ones_like(equity), where=alive) - 1.0
    return np.asarray(returns)


def compute_metrics(trades: TradeArrays, marks: Marks) -> dict[str, float]:
    """All metrics of one backtest, as floats.

    `total_return`; `cagr` by elapsed days / 365.25; `volatility`, `sharpe` and `sortino` of daily
    returns, annualised by `days_per_year` (std with ddof 1, downside sqrt(mean(min(r, 0)^2)));
    `max_drawdown` as a positive fraction; `calmar` = cagr / max_drawdown; `n_trades`; `win_rate`
    (pnl > 0); `profit_factor` = gains / losses; `expectancy` = mean pnl; `avg_bars_held`;
    `turnover` = value traded on both sides / mean daily equity; `fees_paid`; `exposure` = share of
    closes that met an open position; `days_per_year`.
    """
    with np.errstate(all="ignore"):
        values = {**_of_marks(marks), **_of_trades(trades, marks)}
    return {name: value if math.isfinite(value) else math.nan for name, value in values.items()}


def _of_marks(marks: Marks) -> dict[str, float]:
    final = float(marks.equity[-1]) / INITIAL_CASH
    cagr = _power(final, YEAR_DAYS / marks.elapsed_days) - 1.0
    returns = marks.returns
    year = math.sqrt(marks.days_per_year)
    mean = float(np.mean(returns))
    deviation = math.nan
    if len(returns) > 1:
        flat = bool((returns == returns[0]).all())  # rounding must not make a deviation of it
        deviation = 0.0 if flat else float(np.std(returns, ddof=1))
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    return {
        "total_return": final - 1.0,
        "cagr": cagr,
        "volatility": deviation * year,
        "sharpe": _ratio(mean, deviation) * year,
        "sortino": _ratio(mean, downside) * year,
        "max_drawdown": float(marks.drawdown),
        "calmar": _ratio(cagr, float(marks.drawdown)),
        "exposure": marks.closes_held / marks.n_bars,
        "days_per_year": float(marks.days_per_year),
    }


def _of_trades(trades: TradeArrays, marks: Marks) -> dict[str, float]:
    n = len(trades)
    gains = float(np.sum(trades.pnl[trades.pnl > 0.0]))
    losses = -float(np.sum(trades.pnl[trades.pnl < 0.0]))
    traded = float(np.sum(trades.units * (trades.entry_price + trades.exit_price)))
    held = int(np.sum(trades.exit_bar - trades.entry_bar))
    return {
        "n_trades": float(n),
        "win_rate": _ratio(float(np.count_nonzero(trades.pnl > 0.0)), float(n)),
        "profit_factor": _ratio(gains, losses),
        "expectancy": _ratio(float(np.sum(trades.pnl)), float(n)),
        "avg_bars_held": _ratio(float(held), float(n)),
        "turnover": _ratio(traded, float(np.mean(marks.equity))),
        "fees_paid": float(np.sum(trades.fees)),
    }


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0.0 else math.nan


def _power(base: float, exponent: float) -> float:
    try:
        return float(base**exponent)
    except OverflowError:
        return math.nan
