from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from ares.backtest.costs import Costs
from ares.backtest.engine import simulate
from ares.backtest.result import BacktestResult, Outcome
from ares.backtest.strategies import SmaCross
from ares.market.bars import Bars
from ares.report.backtest_page import render_backtest
from report_cases import Elements

if TYPE_CHECKING:
    from collections.abc import Mapping

COSTS = Costs(fee=0.001, slippage=0.0005)
PARAMS = {"fast": 10, "slow": 30, "direction": "both"}
TITLE = {"strategy": "SmaCross", **PARAMS}
SECTIONS = ["result", "setting", "metrics", "price", "equity", "months", "trades", "data"]


def _run(bars: Bars, costs: Costs = COSTS, params: Mapping[str, Any] = PARAMS) -> BacktestResult:
    return simulate(bars, SmaCross(), params, costs=costs)


def _price_traces(elements: Elements) -> dict[str, Any]:
    return {trace["name"]: trace for trace in elements.plots()["plot-price"]["data"]}


@pytest.fixture(scope="module")
def result(sample_bars: Bars) -> BacktestResult:
    return _run(sample_bars)


def test_the_page_shows_once_and_twice_the_costs(sample_bars: Bars, result: BacktestResult) -> None:
    twice = _run(sample_bars, COSTS.times(2.0))
    text = render_backtest(TITLE, sample_bars, result, COSTS, twice)
    elements = Elements(text)
    assert [a["id"] for a, _ in elements.named("section")] == SECTIONS
    row = re.search(
        r"<td>Sharpe ratio</td><td class=\"n\">(.*?)</td><td class=\"n\">(.*?)</td>", text
    )
    assert row is not None
    shown = [float(cell.replace("\N{MINUS SIGN}", "-")) for cell in row.groups()]
    wanted = [result.metrics["sharpe"], twice.metrics["sharpe"]]
    assert shown == pytest.approx(wanted, abs=0.00501)
    assert "10 basis points" in elements.text
    assert "Twice the costs" not in render_backtest(TITLE, sample_bars, result, COSTS)
    assert text == render_backtest(TITLE, sample_bars, result, COSTS, twice)


def test_every_trade_is_marked_at_its_fill(sample_bars: Bars, result: BacktestResult) -> None:
    traces = _price_traces(Elements(render_backtest(TITLE, sample_bars, result, COSTS)))
    trades = result.trades
    for name, side in (("Long entry", 1), ("Short entry", -1)):
        mine = trades[trades["side"] == side]
        times = mine["entry_time"].dt.strftime("%Y-%m-%d %H:%M").tolist()
        assert traces[name]["x"] == times
        np.testing.assert_allclose(traces[name]["y"], mine["entry_price"], rtol=1e-5)
    np.testing.assert_allclose(traces["Exit"]["y"], trades["exit_price"], rtol=1e-5)
    assert len(traces["Close"]["y"]) == len(sample_bars)


def test_buy_and_hold_starts_at_the_first_open(sample_bars: Bars, result: BacktestResult) -> None:
    text = render_backtest(TITLE, sample_bars, result, COSTS)
    plots = Elements(text).plots()
    held = plots["plot-equity"]["data"][1]["y"]
    final = sample_bars.close[-1] / sample_bars.open[0]
    assert held[-1] == pytest.approx(final, rel=1e-5)
    assert f"holding made +{final - 1:.1%}".replace("%", " %") in text


def test_the_page_says_by_which_rules_and_on_which_data(
    sample_bars: Bars, result: BacktestResult
) -> None:
    said = Elements(render_backtest(TITLE, sample_bars, result, COSTS)).text
    assert "at the next open" in said
    assert "no gap is too long" in said
    assert "1999-01-04 to 2018-12-31" in said  # days that were traded, not the last bar's end
    assert sample_bars.quality is not None
    assert f"{sample_bars.quality.holidays:,}" in said
    assert "Funding" not in said
    dear = replace(COSTS, borrow=0.02, funding=((0, 0.001), (1, 0.001)))
    page = render_backtest(TITLE, sample_bars, result, dear, fill="close", max_gap=1)
    said = Elements(page).text
    assert "at the close" in said
    assert "1 bar missing" in said
    assert "200 basis points" in said
    assert "2 payments" in said


def test_long_lists_show_the_first_and_last_hundred(
    sample_bars: Bars, result: BacktestResult
) -> None:
    assert len(result.trades) <= 200
    text = render_backtest(TITLE, sample_bars, result, COSTS)
    assert "All trades" in text
    many = pd.concat([result.trades] * 5, ignore_index=True)
    text = render_backtest(TITLE, sample_bars, replace(result, trades=many), COSTS)
    assert "First 100" in text
    assert "Last 100" in text
    assert text.count('<span class="nowrap">') == 400  # entry and exit of 200 trades


def test_marks_are_thinned_beyond_five_thousand(sample_bars: Bars, result: BacktestResult) -> None:
    many = pd.concat([result.trades] * (12_000 // len(result.trades)), ignore_index=True)
    page = render_backtest(TITLE, sample_bars, replace(result, trades=many), COSTS)
    elements = Elements(page)
    traces = _price_traces(elements)
    assert len(traces["Exit"]["x"]) == 5000
    assert list(traces)[-1] == "Close"  # so many marks would cover it
    assert f"5,000 of {len(many):,} trades are marked" in elements.text


def test_a_long_price_keeps_its_extremes() -> None:
    rng = np.random.default_rng(3)
    n = 60_000
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.001, n)))
    frame = pd.DataFrame(
        {
            "timestamp": pd.date_range("2020-01-01", periods=n, freq="min", tz="UTC"),
            **dict.fromkeys(("open", "high", "low", "close"), close),
            "volume": 1.0,
        }
    )
    bars = Bars.from_frame(frame, symbol="X", exchange="binance", timeframe="1m")
    price = _price_traces(Elements(render_backtest(TITLE, bars, _run(bars), COSTS)))["Close"]["y"]
    assert len(price) <= 20_004
    assert min(price) == pytest.approx(close.min(), rel=1e-5)
    assert max(price) == pytest.approx(close.max(), rel=1e-5)


def test_a_backtest_without_trades_has_a_page(sample_bars: Bars) -> None:
    short = sample_bars[:31]
    found = _run(short)
    assert found.trades.empty  # one bar after the warm-up
    elements = Elements(render_backtest(TITLE, short, found, COSTS))
    assert "There were no trades." in elements.text
    assert not re.search(r"\b(nan|inf)\b", elements.text)


def test_a_ruined_backtest_says_so(sample_bars: Bars, result: BacktestResult) -> None:
    ruined = replace(result, outcome=Outcome.RUINED)
    assert Outcome.RUINED.value in Elements(render_backtest(TITLE, sample_bars, ruined, COSTS)).text


def test_names_cannot_become_markup(sample_bars: Bars, result: BacktestResult) -> None:
    hostile = "<script>alert(1)</script>"
    text = render_backtest({"strategy": hostile, hostile: hostile}, sample_bars, result, COSTS)
    scripts = [a for a, _ in Elements(text).named("script")]
    assert len([a for a in scripts if not a]) == 2
    assert hostile not in text
