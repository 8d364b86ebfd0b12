"""Tables and metrics: columns, calendars of daily marks, what is undefined."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from ares.backtest import Costs, Outcome, simulate
from ares.backtest.metrics import daily_returns
from ares.backtest.result import REASONS, BacktestResult
from ares.store.codecs import decode, encode
from backtest_cases import HOUR, MONDAY, Fixed, bars_of_closes, random_bars

FREE = Costs(0.0, 0.0)
HOLD = Fixed({"long_entry": {0}})
COLUMNS = [
    "entry_bar",
    "exit_bar",
    "entry_time",
    "exit_time",
    "side",
    "entry_price",
    "exit_price",
    "units",
    "fees",
    "pnl",
    "return",
    "reason",
]


def test_the_columns_of_trades_and_the_index_of_equity():
    bars = bars_of_closes([10, 11, 12, 13])
    result = simulate(bars, HOLD, {}, costs=FREE)
    assert result.trades.columns.tolist() == COLUMNS
    assert result.trades.entry_time[0] == pd.Timestamp(bars.timestamp[1], tz="UTC")
    assert result.equity.index.asi8.tolist() == bars.close_time.tolist()
    assert set(result.trades.reason) <= set(REASONS)
    empty = simulate(bars, Fixed(), {}, costs=FREE).trades
    assert empty.columns.tolist() == COLUMNS
    assert (empty.dtypes == result.trades.dtypes).all()


def test_undefined_metrics_are_nan_without_trades():
    metrics = simulate(random_bars(100, 1), Fixed(), {}, costs=FREE).metrics
    nan = {"sharpe", "sortino", "calmar", "win_rate", "profit_factor", "expectancy"}
    nan.add("avg_bars_held")
    assert {name for name, value in metrics.items() if math.isnan(value)} == nan
    zero = {"total_return", "cagr", "volatility", "max_drawdown", "n_trades", "turnover"}
    zero |= {"fees_paid", "exposure"}
    assert all(metrics[name] == 0 for name in zero)
    assert all(type(value) is float for value in metrics.values())


def test_undefined_metrics_are_nan_without_losers_and_within_a_day():
    metrics = simulate(bars_of_closes([10, 11, 12, 13]), HOLD, {}, costs=FREE).metrics
    assert math.isnan(metrics["profit_factor"])
    assert math.isnan(metrics["sortino"])
    assert math.isnan(metrics["volatility"])  # one day only
    assert math.isnan(metrics["calmar"])
    assert metrics["win_rate"] == 1.0
    assert metrics["exposure"] == 0.75


@pytest.mark.parametrize(
    ("calendar", "returns", "per_year"),
    [
        ("24/7", [0.0, 0.0, 0.1, 0.0, 0.1], 365),
        ("24/5", [0.0, 0.1, 0.1], 260),
        ("session:America/New_York 09:30-16:00", [0.0, 0.1, 0.1], 252),
    ],
)
def test_days_without_bars_repeat_the_mark_only_round_the_clock(calendar, returns, per_year):
    day = 24 * HOUR
    time = MONDAY + np.array([0, 1 * HOUR, 2 * day, 4 * day, 4 * day + HOUR])
    bars = bars_of_closes([100, 100, 110, 121, 121], time=time, calendar=calendar)
    result = simulate(bars, HOLD, {}, costs=FREE)
    assert result.daily_returns.tolist() == pytest.approx(returns, abs=1e-12)
    assert result.metrics["days_per_year"] == per_year
    mean, std = np.mean(returns), np.std(returns, ddof=1)
    assert result.metrics["sharpe"] == pytest.approx(mean / std * math.sqrt(per_year))
    days = (4 * 24 + 2) / 24
    assert result.metrics["cagr"] == pytest.approx(1.21 ** (365.25 / days) - 1)


def test_the_first_return_is_against_the_initial_cash():
    bars = bars_of_closes([100, 100, 90])
    result = simulate(bars, HOLD, {}, costs=Costs(0.01, 0.0), fill="close")
    assert result.equity.iloc[0] == pytest.approx(1 / 1.01)
    assert result.metrics["max_drawdown"] == pytest.approx(1 - 0.9 * 0.99 / 1.01)
    assert result.daily_returns.tolist() == [pytest.approx(result.metrics["total_return"])]


def test_returns_after_ruin_are_zero():
    assert daily_returns(np.array([0.5, 0.0, 0.0])).tolist() == [-0.5, -1.0, 0.0]


def test_what_leaves_the_range_of_floats_is_a_value():
    bars = bars_of_closes([1e-300, 1e-300, 1e300, 1e300], tick=0.0)
    result = simulate(bars, HOLD, {}, costs=FREE)
    assert result.outcome is Outcome.NOT_FINITE
    assert not any(math.isinf(value) for value in result.metrics.values())


def test_an_outcome_carries_advice():
    assert {o.name for o in Outcome} == {"OK", "RUINED", "TOO_FEW_TRADES", "NOT_FINITE"}
    assert all(o.value.endswith(".") for o in Outcome)


def test_a_result_survives_the_store():
    bars = random_bars(300, 2)
    result = simulate(bars, Fixed({"long_entry": {3, 90}, "long_exit": {50}}), {}, costs=FREE)
    back = decode(encode(result))
    assert isinstance(back, BacktestResult)
    assert back.outcome is Outcome.OK
    assert encode(back) == encode(result)
    pd.testing.assert_frame_equal(back.trades, result.trades)
    assert back.equity.tolist() == result.equity.tolist()


def test_a_cash_that_costs_have_eaten_has_no_return_per_trade():
    bars = bars_of_closes([10.0] * 1_500)
    every = {"long_entry": set(range(0, 1_500, 2)), "long_exit": set(range(1, 1_500, 2))}
    result = simulate(bars, Fixed(every), {}, costs=Costs(0.9, 0.0))
    assert 0 < result.equity.iloc[-1] < 1e-300
    assert result.trades["return"].iloc[0] == pytest.approx(-2 * 0.9)
    assert math.isnan(result.trades["return"].iloc[-1])
