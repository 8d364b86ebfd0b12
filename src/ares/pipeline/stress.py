"""Step 14's reruns: the out-of-sample bars again under dearer costs, late decisions, noisy prices."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from ares.pipeline.walk import Market, daily, trade
from ares.validate.walk_forward import stitch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ares.core.types import Float64Array
    from ares.market.bars import Bars
    from ares.model.trading_model import TradingModel
    from ares.validate.monte_carlo import Rerun
    from ares.validate.walk_forward import Window, WindowResult


def stressed_rerun(
    bars: Bars,
    windows: Sequence[WindowResult],
    models: Sequence[TradingModel],
    scores: Sequence[Float64Array],
    market: Market,
    noise: float,
) -> Rerun:
    """Make the function that trades all windows again under one stress.

    Args:
        bars: Training bars of the pipeline.
        windows: Their results as they were traded.
        models: One per window, for its parameters.
        scores: One per window, over bars [test_start, test_stop).
        market: Unstressed costs and fill rule.
        noise: Standard deviation of the price noise, in average bar ranges.
    """

    def rerun(costs_multiple: float, latency: int, price_noise_seed: int | None) -> Float64Array:
        traded = bars if price_noise_seed is None else noisy(bars, noise, price_noise_seed)
        costs = market.costs.times(costs_multiple)
        dear = dataclasses.replace(market, costs=costs)
        results = []
        for result, model, score in zip(windows, models, scores, strict=True):
            window = result.window
            late = delayed(score, latency, window)
            seen = traded[: window.test_stop].afresh()
            run = trade(seen, late, dict(model.params), dear, window.test_start, window.test_stop)
            _, returns = daily(run)
            results.append(
                dataclasses.replace(result, daily_returns=returns, trades=run.trades, closes=None)
            )
        return stitch(results, days_per_year=bars.days_per_year).daily_returns

    return rerun


def delayed(score: Float64Array, bars: int, window: Window) -> Float64Array:
    """The score as it is known `bars` later; nothing is known at the window's first bars.

    Args:
        score: Of bars [window.test_start, window.test_stop).
        bars: How much later.
        window: The window.

    Returns:
        float64 (window.test_stop,).
    """
    late = np.full(window.test_stop, np.nan)
    late[window.test_start + bars :] = score[: len(score) - bars]
    return late


def noisy(bars: Bars, noise: float, seed: int) -> Bars:
    """Bars whose prices are scaled by one log-normal factor each, `noise` average ranges wide."""
    width = noise * float(np.mean((bars.high - bars.low) / bars.close))
    factor = np.exp(np.random.default_rng(seed).normal(0.0, width, len(bars)))
    prices = {name: getattr(bars, name) * factor for name in ("open", "high", "low", "close")}
    return dataclasses.replace(bars, **prices)
