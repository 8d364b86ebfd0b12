"""Synthetic markets whose drift follows the position of one known point of a strategy.

A score wanders (first-order autoregression). One planted point trades it by `ModelSignal`'s rules,
and while it holds a position the market drifts its way, in some regimes more than in others. Every
other point earns as far as its position agrees with the planted one: but for noise there is no
better point than the planted one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ares.backtest.costs import Costs
from ares.backtest.engine import simulate
from ares.backtest.scores import ModelSignal
from ares.market.bars import Bars
from ares.search import EngineEvaluator, Objective

BARS = 12_000
PLANTED = {"enter": 0.25, "exit": 0.1, "max_hold": 6, "cooldown": 4, "direction": "both"}
SPACE = ModelSignal.space.with_bounds(
    {
        "enter": (0.02, 0.5),
        "exit": (-0.3, 0.2),
        "max_hold": (2, 40, "log"),
        "cooldown": (0, 12),
        "direction": ["both"],
    }
)
_VOLATILITY = 0.006
_REGIME = 500
_FREE = Costs(0.0, 0.0)


def score_of(rng: np.random.Generator, n: int, keep: float = 0.8) -> np.ndarray:
    shocks = rng.normal(0.0, np.sqrt(1.0 - keep**2), n)
    score, level = np.empty(n), 0.0
    for t in range(n):
        level = keep * level + shocks[t]
        score[t] = level
    return np.clip(0.25 * score, -0.99, 0.99)


def bars_of(log_returns: np.ndarray, timeframe: str = "1h") -> Bars:
    levels = np.round(100.0 * np.exp(np.cumsum(np.concatenate(([0.0], log_returns)))), 6)
    opens, closes = levels[:-1], levels[1:]
    frame = pd.DataFrame(
        {
            "timestamp": pd.date_range("2020-01-01", periods=len(opens), freq=timeframe, tz="UTC"),
            "open": opens,
            "high": np.maximum(opens, closes),
            "low": np.minimum(opens, closes),
            "close": closes,
            "volume": np.ones(len(opens)),
        }
    )
    return Bars.from_frame(
        frame, symbol="PLANTED", exchange="test", timeframe=timeframe, bad_prints="keep"
    )


def position_of(score: np.ndarray, point: dict[str, Any]) -> np.ndarray:
    """1 over the bars that the point is long, -1 short, 0 flat; prices do not matter to it."""
    still = bars_of(np.zeros(len(score)))
    trades = simulate(still, ModelSignal(score), point, costs=_FREE).trades
    held = np.zeros(len(score))
    for first, last, side in zip(
        trades["entry_bar"], trades["exit_bar"], trades["side"], strict=True
    ):
        held[first:last] = 1.0 if side in (1, "long") else -1.0
    return held


def engine_of(score: np.ndarray, drift: np.ndarray, rng: np.random.Generator) -> EngineEvaluator:
    """`drift` per bar in volatilities of a bar, under noise of Student's t with 4 degrees."""
    noise = rng.standard_t(4, len(score)) / np.sqrt(2.0)
    return EngineEvaluator(
        bars_of(_VOLATILITY * (noise + drift)),
        ModelSignal(score),
        costs=Costs(0.0001, 0.00005),
        objective=Objective(),
    )


def planted_market(seed: int, strength: float = 0.15, spread: float = 0.5) -> EngineEvaluator:
    """A drift of `strength`, times a factor of each regime, normal about 1 with sd `spread`."""
    rng = np.random.default_rng(seed)
    score = score_of(rng, BARS)
    regimes = np.repeat(rng.normal(1.0, spread, BARS // _REGIME + 1), _REGIME)[:BARS]
    return engine_of(score, strength * regimes * position_of(score, PLANTED), rng)


def flipping_market(seed: int, against: dict[str, Any], strength: float = 0.3) -> EngineEvaluator:
    """The first third pays the point `against`; then the planted one, and that one is charged."""
    rng = np.random.default_rng(seed)
    score = score_of(rng, BARS)
    good, bad = position_of(score, PLANTED), position_of(score, against)
    first = np.arange(BARS) < BARS // 3
    drift = np.where(first, 0.8 * bad - 0.3 * good, 1.5 * good - 0.8 * bad)
    return engine_of(score, strength * drift, rng)


def wide(rng: np.random.Generator, count: int) -> list[dict[str, Any]]:
    """Points anywhere in the space."""
    return [
        {
            "enter": float(rng.uniform(0.02, 0.5)),
            "exit": float(rng.uniform(-0.3, 0.019)),
            "max_hold": int(np.rint(np.exp(rng.uniform(np.log(2), np.log(40))))),
            "cooldown": int(rng.integers(0, 13)),
            "direction": "both",
        }
        for _ in range(count)
    ]


def narrow(
    rng: np.random.Generator, centre: dict[str, Any], count: int, width: float = 0.1
) -> list[dict[str, Any]]:
    """Points about one point, normal with `width` of each range, as CMA-ES asks for them."""
    points = []
    for _ in range(count):
        enter = float(np.clip(rng.normal(centre["enter"], 0.48 * width), 0.02, 0.5))
        leave = float(np.clip(rng.normal(centre["exit"], 0.5 * width), -0.3, enter - 1e-3))
        hold = np.log(centre["max_hold"]) + rng.normal(0.0, np.log(20) * width)
        points.append(
            {
                "enter": enter,
                "exit": leave,
                "max_hold": int(np.clip(np.rint(np.exp(hold)), 2, 40)),
                "cooldown": int(
                    np.clip(np.rint(centre["cooldown"] + rng.normal(0, 12 * width)), 0, 12)
                ),
                "direction": "both",
            }
        )
    return points
