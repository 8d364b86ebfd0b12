"""A small market with a plain edge for crossings, and an evaluator that counts."""

from __future__ import annotations

import numpy as np
import pytest

from ares.backtest.costs import Costs
from ares.backtest.strategies import SmaCross
from ares.market.bars import Bars
from ares.market.timeframe import timeframe_ns
from ares.search import EngineEvaluator, Objective


def cyclic_bars(n=3000, seed=0, timeframe="4h", period=40):
    """Swings of `period` bars under noise: crossings that fit the swing earn, others do not."""
    import pandas as pd

    step = pd.Timedelta(timeframe_ns(timeframe), unit="ns")
    rng = np.random.default_rng(seed)
    drift = 0.004 * np.sign(np.sin(np.arange(n) * np.pi / period))
    close = np.round(100 * np.exp(np.cumsum(rng.normal(0.0, 0.008, n) + drift)), 4)
    opens = np.concatenate([[100.0], close[:-1]])
    return Bars.from_frame(
        pd.DataFrame(
            {
                "timestamp": pd.date_range("2015-01-01", periods=n, freq=step, tz="UTC"),
                "open": opens,
                "high": np.maximum(opens, close) + 0.01,
                "low": np.minimum(opens, close) - 0.01,
                "close": close,
                "volume": rng.integers(1, 100, n).astype(float),
            }
        ),
        symbol="CYC",
        exchange="test",
        timeframe=timeframe,
        bad_prints="keep",
    )


class Counting:
    """Passes on to a plain engine and counts the points that it had to run."""

    def __init__(self, inner):
        self.inner = inner
        self.points = 0

    @property
    def problem(self):
        return self.inner.problem

    def evaluate(self, points, blocks=None, *, of=None):
        self.points += len(points) * (1 if blocks is None else len(blocks))
        return self.inner.evaluate(points, blocks, of=of)

    def daily_returns(self, points):
        return self.inner.daily_returns(points)


@pytest.fixture(scope="session")
def cyclic():
    return cyclic_bars()


@pytest.fixture
def engine(cyclic):
    return EngineEvaluator(
        cyclic, SmaCross(), costs=Costs(0.0005, 0.0002), objective=Objective(min_trades=5)
    )


@pytest.fixture
def counting(engine):
    return Counting(engine)


@pytest.fixture(scope="session")
def make_bars():
    return cyclic_bars


@pytest.fixture
def points():
    return [{"fast": 3 + i, "slow": 12 + 3 * i} for i in range(12)]
