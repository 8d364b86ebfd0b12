"""Step 14's reruns: the out-of-sample bars again under dearer costs, late decisions, noisy prices."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from ares.learn.features import PIECE
from ares.pipeline.walk import Market, daily, first_needed, trade
from ares.validate.walk_forward import stitch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ares.core.types import Float64Array
    from ares.market.bars import Bars
    from ares.model.trading_model import TradingModel
    from ares.validate.monte_carlo import Rerun
    from ares.validate.walk_forward import WindowResult


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
        costs = market.costs.times(costs_multiple)
        dear = dataclasses.replace(market, costs=costs)
        results = []
        for result, model, score in zip(windows, models, scores, strict=True):
            window = result.window
            first = first_needed(model.params, window.test_start)
            seen = bars[first : window.test_stop]
            if price_noise_seed is not None:
                seen = noisy(bars, noise, price_noise_seed, first, window.test_stop)
            late, start = delayed(score, latency), window.test_start - first
            run = trade(seen, late, dict(model.params), dear, start)
            _, returns = daily(run)
            results.append(
                dataclasses.replace(result, daily_returns=returns, trades=run.trades, closes=None)
            )
        return stitch(results, days_per_year=bars.days_per_year).daily_returns

    return rerun


def delayed(score: Float64Array, bars: int) -> Float64Array:
    """A window's score as it is known `bars` later, float64; NaN at the window's first bars."""
    late = np.full(len(score), np.nan)
    late[bars:] = score[: len(score) - bars]
    return late


def noisy(bars: Bars, noise: float, seed: int, start: int = 0, stop: int | None = None) -> Bars:
    """Bars [start, stop) with prices scaled by one log-normal factor each.

    The factors are `noise` average ranges of all bars wide, and do not depend on the range.
    """
    ranges = np.subtract(bars.high, bars.low)
    ranges /= bars.close
    width = noise * float(np.mean(ranges))
    del ranges
    generator = np.random.default_rng(seed)
    for begin in range(0, start, PIECE):
        generator.normal(size=min(PIECE, start - begin))
    part = bars[start:stop]
    factor = generator.normal(0.0, width, len(part))
    np.exp(factor, out=factor)
    prices = {name: getattr(part, name) * factor for name in ("open", "high", "low", "close")}
    return dataclasses.replace(part, **prices)
