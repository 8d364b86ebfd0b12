"""Out of sample: one model traded on one range of bars, and its days beside buy and hold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ares.backtest.engine import simulate
from ares.backtest.strategies import ModelSignal
from ares.learn.regimes import NAMES
from ares.market.timeframe import DAY
from ares.pipeline.values import Predictions
from ares.store import scratch
from ares.validate.walk_forward import Window, WindowResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from ares.backtest.costs import Costs
    from ares.backtest.result import BacktestResult
    from ares.core.types import Fill, Float64Array, Int64Array
    from ares.market.bars import Bars
    from ares.model.trading_model import Signals, TradingModel
    from ares.pipeline.values import Plan


@dataclass(frozen=True)
class Market:
    """How a model is traded: costs, fill rule and the longest gap a decision survives."""

    costs: Costs
    fill: Fill
    max_gap: int


def trade(
    bars: Bars,
    score: Float64Array,
    params: dict[str, object],
    market: Market,
    start: int,
) -> BacktestResult:
    """Trade on the bars from `start` on, one score for each; it starts and ends flat."""
    first = first_needed(params, start)
    known = np.concatenate([np.full(start - first, np.nan), score]) if first < start else score
    result = simulate(
        bars[first:].afresh(),
        ModelSignal(known),
        params,
        costs=market.costs,
        fill=market.fill,
        max_gap=market.max_gap,
        start=start - first,
    )
    for name in ("entry_bar", "exit_bar"):
        result.trades[name] += first
    return result


def first_needed(params: Mapping[str, object], start: int) -> int:
    """First bar that matters to trades from bar `start` on: true ranges alone look further back."""
    return 0 if params.get("stop_unit") == "atr" else start


def daily(result: BacktestResult) -> tuple[Int64Array, Float64Array]:
    """Days since 1970-01-01 and the net return of each."""
    series = result.daily_returns
    index: Any = series.index
    day: Int64Array = index.as_unit("ns").asi8 // DAY
    return day, series.to_numpy(dtype=np.float64)


def buy_and_hold(bars: Bars, start: int, stop: int, day: Int64Array) -> Float64Array:
    """Daily returns of the closes of bars [start, stop) on `day`, from the close before `start`.

    A day without bars repeats the mark, so its return is 0. No costs.
    """
    of_bar = bars.timestamp[start:stop] // DAY
    last = np.searchsorted(of_bar, day, side="right") - 1
    base = bars.close[start - 1] if start else bars.open[start]
    closes = bars.close[start:stop]
    marks = np.where(last >= 0, closes[np.maximum(last, 0)], base)
    before = np.concatenate([[base], marks[:-1]])
    returns: Float64Array = marks / before - 1.0
    return returns


def invested(result: BacktestResult, model: TradingModel) -> float:
    """Average share of equity in the market: share of closes held times the size; 0 if never."""
    held = result.metrics["exposure"]
    size = float(str(model.params.get("size", 1.0)))
    return 0.0 if math.isnan(held) else held * size


def equity_returns(trades: pd.DataFrame) -> Float64Array:
    """Net return on equity of each round trip, in order, from an equity of 1.0."""
    pnl = trades["pnl"].to_numpy(dtype=np.float64)
    after = 1.0 + np.cumsum(pnl)
    returns: Float64Array = pnl / np.concatenate([[1.0], after[:-1]]) if len(pnl) else pnl
    return returns


def said_of(model: TradingModel, signals: Signals) -> Predictions:
    """What `model.predict` says of bars after its training, of which the signals are known."""
    states = [NAMES.index(name) for name in model.regimes.names]
    known = np.isfinite(signals.regimes).all(axis=1)
    state = np.argmax(np.nan_to_num(signals.regimes), axis=1)
    regime = np.where(known, np.array(states, dtype=np.int8)[state], np.int8(-1))
    return Predictions(signals.p_up, signals.confidence, regime, model.entries(signals))


def test_window(
    bars: Bars, model: TradingModel, plan: Plan, window: Window, market: Market
) -> tuple[WindowResult, Signals, Predictions]:
    """Trade a refitted model on its test bars.

    Args:
        bars: All training bars of the pipeline; those after the window are not looked at.
        model: Refitted on bars [0, window.train_stop).
        plan: Its trading parameters.
        window: Which bars.
        market: How it is traded.

    Returns:
        The window's result, and what the model says at bars [window.test_start, window.test_stop).
    """
    seen = bars[: window.test_stop]
    signals = model.signals(seen, window.test_start)
    result = trade(seen, signals.score, dict(model.params), market, window.test_start)
    day, returns = daily(result)
    found = WindowResult(
        window=window,
        day=day,
        daily_returns=returns,
        benchmark_returns=buy_and_hold(bars, window.test_start, window.test_stop, day),
        exposure=invested(result, model),
        train_returns=plan.daily_returns,
        trades=result.trades,
        closes=scratch.copy(result.equity.to_numpy(dtype=np.float64)),
    )
    return found, signals, said_of(model, signals)
