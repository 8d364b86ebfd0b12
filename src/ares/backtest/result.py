"""What a backtest gives back."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.backtest.metrics import DAY_NS, Marks, TradeArrays, compute_metrics
from ares.store.codecs import register

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from ares.core.types import Float64Array, Int64Array
    from ares.market.bars import Bars

REASONS: Final = ("signal", "stop", "target", "gap", "time", "end", "ruin")


@register(schema=1)
class Outcome(enum.Enum):
    """How a backtest ended; the value is advice."""

    OK = "The run is complete."
    RUINED = "Equity reached zero: trade a smaller size, or set a stop."
    TOO_FEW_TRADES = "Too few trades to judge: loosen the entry, or use more data."
    NOT_FINITE = "Equity left the range of floats: look for impossible prices."

    @staticmethod
    def of(equity: Float64Array, *, ruined: bool) -> Outcome:
        """Outcome of a run with these marks."""
        if ruined:
            return Outcome.RUINED
        return Outcome.OK if bool(np.isfinite(equity).all()) else Outcome.NOT_FINITE


@register(schema=1)
@dataclass(frozen=True, eq=False, repr=False)
class BacktestResult:
    """One backtest.

    Attributes:
        trades: One row per round trip: entry_bar exit_bar entry_time exit_time side entry_price
            exit_price units fees pnl return reason. Times are the timestamps (open times, UTC) of
            the two bars; side is 1 or -1; units are positive; fees hold both sides; pnl is net of
            fees and accruals; return = pnl / (units * entry_price).
        equity: Equity at every close of the bars traded, indexed by close time (UTC).
        metrics: See `ares.backtest.metrics.compute_metrics`.
        outcome: OK, RUINED or NOT_FINITE.
        daily_returns: Net daily returns by UTC date, the first against the initial cash.
    """

    trades: pd.DataFrame
    equity: pd.Series
    metrics: dict[str, float]
    outcome: Outcome
    daily_returns: pd.Series

    def __repr__(self) -> str:
        found = self.metrics
        return (
            f"BacktestResult({self.outcome.name}, {len(self.trades):,} trades,"
            f" total return {found['total_return']:.2%}, Sharpe {found['sharpe']:.2f},"
            f" drawdown {found['max_drawdown']:.2%})"
        )

    def plot(self, bars: Bars | None = None) -> Figure:
        """Equity and drawdown as a plotly figure, with `bars` the close and the fills as well.

        Long series are thinned so that their extremes stay. `result.plot(bars)` at the end of a
        notebook's cell shows it; `result.plot().write_html("backtest.html")` keeps it.

        Args:
            bars: The bars that were traded.

        Raises:
            InputError: bars that the backtest did not trade.
        """
        from ares.backtest.plot import figure  # plotly takes its time

        return figure(self, bars)


def full_result(
    bars: Bars,
    trades: TradeArrays,
    marks: Marks,
    close_marks: Float64Array,
    close_time: Int64Array,
    outcome: Outcome,
) -> BacktestResult:
    """Tables and metrics of one backtest; `close_marks` is the equity at each of `close_time`."""
    import pandas as pd

    frame = pd.DataFrame(
        {
            "entry_bar": trades.entry_bar,
            "exit_bar": trades.exit_bar,
            "entry_time": pd.DatetimeIndex(bars.timestamp[trades.entry_bar], tz="UTC"),
            "exit_time": pd.DatetimeIndex(bars.timestamp[trades.exit_bar], tz="UTC"),
            "side": trades.side,
            "entry_price": trades.entry_price,
            "exit_price": trades.exit_price,
            "units": trades.units,
            "fees": trades.fees,
            "pnl": trades.pnl,
            "return": trades.returns,
            "reason": pd.Series([REASONS[code] for code in trades.reason], dtype=str),
        }
    )
    closes = pd.DatetimeIndex(close_time, tz="UTC", name="close_time")
    days = pd.DatetimeIndex(marks.days * DAY_NS, tz="UTC", name="day")
    return BacktestResult(
        trades=frame,
        equity=pd.Series(close_marks, index=closes, name="equity", copy=False),
        metrics=compute_metrics(trades, marks),
        outcome=outcome,
        daily_returns=pd.Series(marks.returns, index=days, name="return"),
    )
