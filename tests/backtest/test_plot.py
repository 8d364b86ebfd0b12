"""The figure of a backtest: equity, drawdown, and with bars the close and its fills."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ares
from ares.backtest import Costs, Outcome, simulate
from ares.backtest.strategies import SmaCross
from ares.core.errors import InputError
from backtest_cases import Fixed, bars_of_closes, random_bars

if TYPE_CHECKING:
    from ares.backtest import BacktestResult
    from ares.market.bars import Bars

COSTS = Costs(0.001, 0.0005)


def _run(bars: Bars, **more: Any) -> BacktestResult:
    params = {"fast": 3, "slow": 9, "direction": "both"}
    return simulate(bars, SmaCross(), params, costs=COSTS, **more)


def _traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_a_figure_has_equity_and_drawdown_one_below_the_other() -> None:
    result = _run(random_bars(500, 1))
    figure = ares.backtest.BacktestResult.plot(result)
    traces = _traces(figure)
    assert list(traces) == ["Equity", "Drawdown"]
    assert traces["Equity"].y.tolist() == result.equity.tolist()
    assert -traces["Drawdown"].y.min() == pytest.approx(result.metrics["max_drawdown"])
    assert figure.layout.yaxis.domain[0] > figure.layout.yaxis2.domain[1]
    assert f"{len(result.trades)} trades" in figure.layout.title.text
    assert "<div" in figure.to_html(include_plotlyjs=False)


def test_with_bars_every_fill_is_marked_on_the_close() -> None:
    bars = random_bars(500, 2)
    result = _run(bars)
    traces = _traces(result.plot(bars))
    assert list(traces) == ["Close", "Exit", "Long entry", "Short entry", "Equity", "Drawdown"]
    assert traces["Close"].y.tolist() == bars.close.tolist()
    for name, side in (("Long entry", 1), ("Short entry", -1)):
        mine = result.trades[result.trades["side"] == side]
        assert traces[name].y.tolist() == mine["entry_price"].tolist()
        assert (
            traces[name].x.astype(np.int64).tolist() == bars.timestamp[mine["entry_bar"]].tolist()
        )
    assert traces["Exit"].y.tolist() == result.trades["exit_price"].tolist()


def test_long_series_are_thinned_and_keep_their_extremes() -> None:
    bars = random_bars(60_000, 3, step=0.001)
    result = _run(bars)
    assert len(result.trades) > 5000
    figure = result.plot(bars)
    traces = _traces(figure)
    assert len(traces["Equity"].y) < 5_000
    assert len(traces["Close"].y) < 21_000
    assert traces["Equity"].y.min() == result.equity.min()
    assert traces["Equity"].y.max() == result.equity.max()
    assert traces["Close"].y.max() == bars.close.max()
    assert len(traces["Exit"].y) == 5000
    assert "5,000 of them marked" in figure.layout.title.text
    names = [trace.name for trace in figure.data]
    assert names.index("Close") > names.index("Exit")  # so many marks would cover the price


def test_only_the_bars_that_were_traded_are_drawn() -> None:
    bars = random_bars(300, 4)
    result = _run(bars, start=100, stop=250)
    assert _traces(result.plot(bars))["Close"].y.tolist() == bars.close[100:250].tolist()


def test_other_bars_are_refused() -> None:
    bars = random_bars(300, 5)
    result = _run(bars)
    for others in (bars[:200], bars[1:]):
        with pytest.raises(InputError, match="bars: the bars must be those that the backtest"):
            result.plot(others)


def test_no_trades_and_ruin_have_figures_too() -> None:
    bars = random_bars(60, 6)
    idle = simulate(bars, Fixed(), {}, costs=COSTS).plot(bars)
    assert "Exit" not in _traces(idle)
    assert "Sharpe" not in idle.layout.title.text  # it is undefined
    bars = bars_of_closes([10, 10, 30, 30])
    short = Fixed({"short_entry": {0}})
    ruined = simulate(bars, short, {"direction": "short"}, costs=COSTS)
    assert ruined.outcome is Outcome.RUINED
    assert Outcome.RUINED.value in ruined.plot(bars).layout.title.text
