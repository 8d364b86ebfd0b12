"""The verdict: silent on noise, awake on a market with a planted edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ares.backtest.costs import Costs
from ares.market.bars import Bars
from ares.pipeline import steps
from ares.pipeline.program import recipe_of, refit
from ares.pipeline.step import Runner
from ares.pipeline.values import Tools
from small_runs import small_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ares.core.types import Float64Array
    from ares.validate.evidence import Evidence

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TOOLS = Tools(1, None, 100, None, lambda *_: None, lambda _: None)
WALKS = 20
FOUND = {
    "analyst.trees": 40,
    "tactician.trees": 40,
    "search.trials": 64,
    "search.initial_samples": 32,
}


def market(like: Bars, drift: Float64Array, seed: int) -> Bars:
    """Daily bars of a continuous path: 24/5, no overnight moves, volatility of a day lognormal.

    Highs and lows must be those of one continuous path, or stops and targets would have an edge:
    a day has 32 steps, and within a step the extremes of a Brownian bridge are drawn exactly.

    Args:
        like: Where the dates come from.
        drift: Expected return of each day.
        seed: Of the path.
    """
    import pandas as pd

    rng = np.random.default_rng([seed, 0])
    days, steps_a_day = len(drift), 32
    sigma = 0.01 * np.exp(rng.normal(0.0, 0.3, days)) / np.sqrt(steps_a_day)
    moves = rng.normal(0.0, 1.0, (days, steps_a_day)) * sigma[:, None]
    moves += drift[:, None] / steps_a_day - sigma[:, None] ** 2 / 2
    after = np.cumsum(moves.ravel()).reshape(moves.shape)
    before = after - moves
    spread = [np.sqrt(moves**2 - 2 * sigma[:, None] ** 2 * np.log(1 - rng.random(moves.shape)))
              for _ in range(2)]  # fmt: skip
    prices = {
        "open": before[:, 0],
        "high": ((before + after + spread[0]) / 2).max(axis=1),
        "low": ((before + after - spread[1]) / 2).min(axis=1),
        "close": after[:, -1],
    }
    columns = {name: 1000.0 * np.exp(values) for name, values in prices.items()}
    volume = rng.lognormal(14.0, 0.3, days)
    frame = pd.DataFrame({"timestamp": like.timestamp[:days], **columns, "volume": volume})
    return Bars.from_frame(frame, symbol="SIM", exchange="test", timeframe="1d", calendar="24/5")


def verdict(bars: Bars, costs: Costs, changed: Mapping[str, int] | None = None) -> Evidence:
    """What step 13 says of these bars; the windows refit everything, so it needs no more."""
    config = small_config({"search.min_trades": 30, **(changed or {})})
    recipe = recipe_of(config, costs)
    walk = steps.validate_walk_forward(
        bars,
        recipe,
        config.walk_forward,
        steps.Refit(lambda _, seen: refit(Runner(None), seen, recipe, TOOLS)),
    )
    return walk.evidence


def test_random_walks_have_no_edge(sample_bars: Bars) -> None:
    n = len(sample_bars) * 8 // 10  # the training range of a run on the sample
    claims = []
    for seed in range(WALKS):
        drift = np.full(n, 0.0003 if seed % 2 else 0.0)  # half of them rise as stocks do
        found = verdict(market(sample_bars, drift, seed), Costs(0.0001, 0.0002))
        if found.edge:
            claims.append((seed, found.verdict))
    assert len(claims) <= 1, claims


def trending(days: int, seed: int) -> Float64Array:
    """Drift of half a daily deviation, up or down, for two months at a time on average."""
    rng = np.random.default_rng([seed, 2])
    turns = np.cumsum(rng.random(days) < 1 / 40)
    return 0.005 * np.where(turns % 2, -1.0, 1.0)


def test_a_planted_edge_is_found(sample_bars: Bars) -> None:
    n = len(sample_bars) * 8 // 10
    found = verdict(market(sample_bars, trending(n, 10), 10), Costs(0.0, 0.0), FOUND)
    assert found.edge, found.verdict
    assert found.n_trades >= 30
