"""Early stopping on whole markets: is the best kept, at what cost, and is its own audit right.

`benchmarks/stopping.py` does the same on 200 markets of four kinds.
"""

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

import planted_markets as pm
from ares.backtest.costs import Costs
from ares.backtest.strategies import SmaCross
from ares.core.config import SearchConfig
from ares.market.bars import Bars
from ares.search import EngineEvaluator, Objective, ProgressiveEvaluator, progressive, run_search

SIZE = 64
MARKETS = 40


def values_of(scores):
    return np.array([score.value for score in scores])


@pytest.mark.slow
def test_the_planted_best_is_kept_in_95_percent_of_markets_at_40_percent_of_the_cost():
    kept, costs = [], []
    for seed in range(MARKETS):
        engine = pm.planted_market(seed)
        rng = np.random.default_rng(1_000_000 + seed)
        evaluator = ProgressiveEvaluator(inner=engine, seed=seed)
        known = values_of(evaluator.evaluate_full(pm.wide(rng, SIZE))).max()
        points = [*pm.wide(rng, SIZE - 1), dict(pm.PLANTED)]
        truth = values_of(engine.evaluate(points))
        scores = evaluator.evaluate(points)
        costs.append(evaluator.stats()["cost_raced"])
        if truth.argmax() == SIZE - 1 and truth[-1] > known:
            kept.append(scores[-1].full)
            assert not scores[-1].full or scores[-1].value == truth[-1]
    assert len(kept) >= 0.95 * MARKETS  # the planted point is the best there is
    assert np.mean(kept) >= 0.95
    assert np.mean(costs) <= 0.40


@pytest.mark.parametrize("seed", range(5))
def test_the_true_best_survives_where_the_first_third_favours_the_worst_point(seed):
    worst = {"enter": 0.02, "exit": -0.3, "max_hold": 40, "cooldown": 0, "direction": "both"}
    engine = pm.flipping_market(seed, worst)
    problem = engine.problem
    rng = np.random.default_rng(seed)
    points = [*pm.wide(rng, SIZE - 2), worst, dict(pm.PLANTED)]
    truth = values_of(engine.evaluate(points))
    prefix = EngineEvaluator(
        problem.bars,
        problem.strategy,
        costs=problem.costs,
        objective=problem.objective,
        stop=pm.BARS // 3,
    )
    early = values_of(prefix.evaluate(points))
    assert early.argmax() == truth.argmin() == SIZE - 2
    assert truth.argmax() == SIZE - 1
    assert (early > early[-1]).mean() > 0.5  # a prefix would have stopped the best
    evaluator = ProgressiveEvaluator(inner=engine, seed=seed)
    evaluator.evaluate_full(pm.wide(rng, SIZE))
    scores = evaluator.evaluate(points)
    assert scores[-1].full
    assert scores[-1].value == truth.max()
    assert not scores[-2].full


@pytest.mark.slow
def test_the_false_stop_rate_of_the_audit_is_the_true_one_within_its_error(monkeypatch):
    # Small generations that move towards the planted point, and half of the stopped audited: false
    # stops are to happen, and to be seen.
    monkeypatch.setattr(progressive, "_AUDITED", 0.5)
    true = stopped = audited = measured = 0
    far = {"enter": 0.45, "exit": -0.25, "max_hold": 30, "cooldown": 12}
    for seed in range(24):
        engine = pm.planted_market(seed)
        rng = np.random.default_rng(2_000_000 + seed)
        evaluator = ProgressiveEvaluator(inner=engine, seed=seed)
        best = values_of(evaluator.evaluate_full(pm.narrow(rng, far, 32, 0.2))).max()
        for step in np.arange(1, 9) / 8:
            centre = {name: far[name] + step * (pm.PLANTED[name] - far[name]) for name in far}
            points = pm.narrow(rng, centre, 16)
            truth = values_of(engine.evaluate(points))
            scores = evaluator.evaluate(points)
            best = max(best, values_of(scores).max())  # of the survivors; the rest is -inf
            lost = np.array([not score.full for score in scores])
            true += int((truth[lost] > best).sum())
            stopped += int(lost.sum())
        found = evaluator.stats()
        audited += found["audited"]
        measured += found["false_stops"]
        assert (found["audit_largest"] > 0) == (found["false_stops"] > 0)
    rate = true / stopped
    assert true >= 20
    assert 0.45 < audited / stopped < 0.55
    # Audited points are a sample of the stopped ones.
    error = np.sqrt(rate * (1 - rate) / audited * (1 - audited / stopped))
    assert abs(measured / audited - rate) < 2.6 * error
    low, high = scipy_stats.binomtest(measured, audited).proportion_ci(0.99)
    assert low < rate < high


def daily(frame):
    return Bars.from_frame(frame, symbol="BTC", exchange="test", timeframe="1d", bad_prints="keep")


def slow_search(bars, min_trades):
    """A search of crossings of about 50 and 200 bars; every point must run in full."""
    space = SmaCross.space.with_bounds({"fast": (30, 60), "slow": (150, 250)})
    engine = EngineEvaluator(
        bars, SmaCross(), costs=Costs(0.001, 0.0005), objective=Objective(min_trades=min_trades)
    )
    config = SearchConfig(trials=96, initial_samples=32, generation=32)
    found = run_search(ProgressiveEvaluator(inner=engine, seed=1), space, config, seed=1)
    assert set(found.trials["status"]) <= {"full", "failed"}
    assert found.policies["flat_blocks"] is None
    assert found.policies["stopped"] == 0
    assert found.policies["off"] in found.fallbacks
    return found.policies


def test_daily_bars_with_slow_crossings_switch_it_off(caplog):
    rng = np.random.default_rng(0)
    closes = np.round(100 * np.exp(np.cumsum(rng.normal(2e-4, 0.01, 8_000))), 4)
    opens = np.concatenate(([100.0], closes[:-1]))
    bars = daily(
        pd.DataFrame(
            {
                "timestamp": pd.date_range("1990-01-01", periods=8_000, freq="D", tz="UTC"),
                "open": opens,
                "high": np.maximum(opens, closes),
                "low": np.minimum(opens, closes),
                "close": closes,
                "volume": np.ones(8_000),
            }
        )
    )
    policies = slow_search(bars, min_trades=10)
    assert "the shortest of 9 blocks has 888 bars" in policies["off"]
    assert f"longest lookback {policies['lookback']} + typical holding" in policies["off"]
    assert policies["lookback"] > 200
    assert policies["holding"] > 50
    assert sum("early stopping is off" in r.message for r in caplog.records) == 1


REAL = Path(os.environ.get("ARES_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.skipif(not REAL.is_dir(), reason="real bars are not part of the project")
def test_real_daily_bars_with_slow_crossings_switch_it_off():
    parts = []
    for year in (2013, 2014, 2015):
        with gzip.open(REAL / f"bitfinex_BTCUSD_1m_{year}.csv.gz", "rt") as file:
            names = ["time", "open", "close", "high", "low", "volume"]
            parts.append(pd.read_csv(file, header=None, names=names))
    minutes = pd.concat(parts).drop_duplicates("time")
    minutes["timestamp"] = pd.to_datetime(minutes["time"], unit="ms", utc=True)
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    days = minutes.set_index("timestamp").sort_index().resample("1D").agg(how).dropna()
    policies = slow_search(daily(days.reset_index()), min_trades=2)
    assert "the shortest of 9 blocks has 103 bars" in policies["off"]
    few = slow_search(daily(days.reset_index()), min_trades=30)
    assert "0 of the 96 points run so far have a value, and 8 are needed" in few["off"]


def test_audits_change_nothing_but_what_is_known_of_them(monkeypatch):
    engine = pm.planted_market(0)
    config = SearchConfig(trials=4 * SIZE, initial_samples=SIZE, generation=SIZE)
    tables = []
    for share in (0.0, 0.05, 1.0):
        monkeypatch.setattr(progressive, "_AUDITED", share)
        evaluator = ProgressiveEvaluator(inner=engine, seed=3)
        found = run_search(evaluator, pm.SPACE, config, seed=3)
        assert (found.policies["audited"] > 0) == (share > 0)
        tables.append(found.trials)
    audited = tables[2]["audit"].notna().sum()
    assert audited == (tables[2]["status"] == "audited").sum() > 100
    for table in tables[1:]:
        same = table.assign(audit=np.nan, status=table["status"].replace("audited", "stopped"))
        pd.testing.assert_frame_equal(same, tables[0], check_exact=True)
