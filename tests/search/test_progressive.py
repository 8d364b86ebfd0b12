import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.backtest.costs import Costs
from ares.backtest.strategies import SmaCross
from ares.core.errors import ConfigError, DataError
from ares.search import (
    CachedBacktester,
    EngineEvaluator,
    Objective,
    ParallelBacktester,
    ProgressiveEvaluator,
)

STAGES = ((0.1, 0.3), (0.3, 0.5), (1.0, 1.0))


def market(rows=200):
    return pd.DataFrame({"close": np.arange(rows, dtype=float)})


def edge(subset, params):
    """Mean of a per-row value that the parameters shift; the warm-up rows are not scored."""
    scored = subset["close"].to_numpy()[subset.attrs["warmup"] :]
    return float(np.mean(np.sin(scored)) + params["edge"])


class Twin:
    """The rule, written again from its description, on values per block."""

    def __init__(self, stages):
        self.stages = stages
        self.best = None

    def value(self, order, per_block):
        seen, quantities, total, weights = [], [], 0.0, 0.0
        for fraction, weight in self.stages:
            count = math.ceil(round(fraction * len(order), 6))
            new = [per_block[b] for b in order[len(seen) : count]]
            seen += new
            if new:
                total += weight * sum(new) / len(new)
                weights += weight
            quantities.append(total / weights)
            if count < len(order) and self.best is not None and len(seen) > 1:
                spread = math.sqrt(
                    sum((v - sum(seen) / len(seen)) ** 2 for v in seen) / (len(seen) - 1)
                )
                error = spread / math.sqrt(len(seen))
                if quantities[-1] < self.best[1][len(quantities) - 1] - error:
                    return -math.inf, len(seen)
        mean = sum(seen) / len(seen)
        if self.best is None or mean > self.best[0]:
            self.best = (mean, quantities)
        return mean, len(seen)


POINTS = st.lists(st.integers(-20, 20), min_size=1, max_size=8)


@settings(max_examples=20)
@given(edges=POINTS, seed=st.integers(0, 50), noise=st.integers(0, 1000), blocks=st.integers(1, 25))
def test_it_does_what_the_rule_says(edges, seed, noise, blocks):
    frame = market()
    rng = np.random.default_rng(noise)
    table = {e: rng.normal(e / 10, 0.5, 200) for e in edges}
    evaluator = ProgressiveEvaluator(frame, n_blocks=blocks, seed=seed, warmup=0)
    borders = np.arange(blocks + 1) * 200 // blocks
    starts = {int(a): i for i, a in enumerate(borders[:-1])}
    order, twin = [], Twin(STAGES)

    def function(subset, params):
        block = starts[int(subset["close"].iloc[0])]
        calls.append(block)
        return float(table[params["edge"]][block])

    for e in edges:
        calls = []
        value = evaluator.evaluate_progressively({"edge": e}, function)
        order = order or list(calls)  # the first point is never stopped
        expected, used = twin.value(order, table[e])
        assert calls == order[:used]
        assert sorted(order) == list(range(blocks))
        assert value == pytest.approx(expected, abs=1e-12)


def test_a_full_result_is_the_mean_over_blocks_and_losers_stop_early():
    evaluator = ProgressiveEvaluator(market(), seed=3)
    calls = []

    def function(subset, params):
        calls.append(len(subset) - subset.attrs["warmup"])
        return edge(subset, params)

    first = evaluator.evaluate_progressively({"edge": -9.0}, function)
    assert first == pytest.approx(np.mean(np.sin(np.arange(200.0))) - 9.0)
    assert calls == [10] * 20
    assert evaluator.evaluate_progressively({"edge": 1.0}, function) > 0.9
    calls.clear()
    assert evaluator.evaluate_progressively({"edge": -5.0}, function) == -math.inf
    assert len(calls) == 2
    assert evaluator.stats()["stopped"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_planted_best_survives(seed):
    rng = np.random.default_rng(seed)
    edges = [*rng.normal(0, 0.3, 30), 2.0, *rng.normal(0, 0.3, 30)]
    evaluator = ProgressiveEvaluator(market(), seed=seed)
    values = [evaluator.evaluate_progressively({"edge": e}, edge) for e in edges]
    assert int(np.argmax(values)) == 30
    assert all(v == -math.inf or math.isfinite(v) for v in values)
    assert sum(v == -math.inf for v in values[31:]) >= 25


def test_warm_up_rows_come_before_each_block():
    frames = {}

    def function(subset, params):
        warmup = subset.attrs["warmup"]
        rows = subset["close"].to_numpy()
        assert np.array_equal(np.diff(rows), np.ones(len(rows) - 1))
        frames[int(rows[warmup])] = warmup
        subset["close"] = 0.0  # what the function does to its rows harms nobody
        return 0.0

    frame = market()
    ProgressiveEvaluator(frame, n_blocks=4, warmup=70).evaluate_progressively({}, function)
    assert frames == {0: 0, 50: 50, 100: 70, 150: 70}
    assert frame.equals(market())
    assert "warmup" not in frame.attrs


def _raises(subset, params):
    raise RuntimeError("no")


@pytest.mark.parametrize("function", [_raises, lambda s, p: math.nan, lambda s, p: math.inf])
def test_what_fails_is_a_value_and_never_the_best(function):
    evaluator = ProgressiveEvaluator(market())
    assert evaluator.evaluate_progressively({}, function) == -math.inf
    assert evaluator.stats()["failed"] == 1
    assert evaluator.evaluate_progressively({"edge": -99.0}, edge) < -98  # nothing stops it


def test_few_rows_make_few_blocks_and_none_are_refused():
    calls = []
    evaluator = ProgressiveEvaluator(market(3))
    evaluator.evaluate_progressively({}, lambda s, p: calls.append(len(s)) or 1.0)
    assert len(calls) == 3
    with pytest.raises(DataError):
        ProgressiveEvaluator(market(0)).evaluate_progressively({}, lambda s, p: 1.0)


@pytest.mark.parametrize(
    "stages",
    [(), ((0.5, 1.0),), ((0.5, 1.0), (0.5, 1.0), (1.0, 1.0)), ((0.5, 0.0), (1.0, 1.0))],
)
def test_stages_are_checked(stages):
    with pytest.raises(ConfigError, match="stages"):
        ProgressiveEvaluator(market(), stages=stages)


def test_bars_are_shown_as_a_frame(cyclic):
    seen = []
    evaluator = ProgressiveEvaluator(cyclic, n_blocks=2)
    value = evaluator.evaluate_progressively({}, lambda s, p: seen.append(list(s.columns)) or 2.0)
    assert value == 2.0
    assert seen[0] == ["timestamp", "open", "high", "low", "close", "volume"]


@pytest.fixture(scope="module")
def long_engine(make_bars):
    bars = make_bars(n=40_000, seed=3, timeframe="15m", period=30)
    return EngineEvaluator(bars, SmaCross(), costs=Costs(0.0002, 0.0001), objective=Objective())


def generation(seed, size=32):
    rng = np.random.default_rng(seed)
    pairs = zip(rng.integers(2, 12, size), rng.integers(2, 25, size), strict=True)
    return [{"fast": int(f), "slow": int(f + s)} for f, s in pairs]


def summary(scores):
    return [(s.value, s.outcome, s.stage, s.revealed, s.audit) for s in scores]


def run_generations(evaluator, count=4):
    return [evaluator.evaluate(generation(seed)) for seed in range(count)]


def test_generations_keep_the_winner_and_full_values_are_those_of_the_engine(long_engine):
    evaluator = ProgressiveEvaluator(inner=CachedBacktester(inner=long_engine), seed=1)
    results = run_generations(evaluator)
    stats = evaluator.stats()
    assert stats["fallbacks"] == []
    assert stats["flat_blocks"] >= 6
    assert all(s.full for s in results[0])  # nothing stops before a generation was completed
    for seed, scores in enumerate(results):
        plain = long_engine.evaluate(generation(seed))
        for score, true in zip(scores, plain, strict=True):
            if score.full:
                assert (score.value, score.blocks) == (true.value, true.blocks)
            else:
                assert score.value == -math.inf
                assert score.audit in (None, true.value)
    true_best = max(s.value for seed in range(4) for s in long_engine.evaluate(generation(seed)))
    assert max(s.value for scores in results for s in scores) == true_best
    stopped = sum(not s.full for scores in results[1:] for s in scores)
    assert stopped > 0.8 * 96
    assert stats["stopped"] == stopped
    assert stats["full"] == 128 - stopped


def test_the_cache_and_the_workers_decide_nothing(long_engine, tmp_path):
    cold = CachedBacktester(inner=long_engine, store=tmp_path / "c.sqlite")
    expected = [summary(s) for s in run_generations(ProgressiveEvaluator(inner=cold, seed=1), 3)]
    warm = ProgressiveEvaluator(inner=cold, seed=1)
    assert [summary(s) for s in run_generations(warm, 3)] == expected
    with ParallelBacktester(2, inner=long_engine) as pool:
        parallel = ProgressiveEvaluator(inner=pool, seed=1)
        assert [summary(s) for s in run_generations(parallel, 3)] == expected
    cold.close()


def test_later_stages_rank_above_earlier_ones(long_engine):
    evaluator = ProgressiveEvaluator(inner=CachedBacktester(inner=long_engine), seed=1)
    run_generations(evaluator, 1)
    scores = evaluator.evaluate(generation(9))
    stages = [s.stage for s in scores if s.stage is not None]
    assert min(stages) == 1
    first = [s.revealed for s in scores if s.stage == 1]
    survivors = [s for s in scores if s.stage is None or s.stage > 1]
    assert len(first) == 16
    assert all(s.full or math.isfinite(s.revealed) for s in survivors)


def test_where_blocks_do_not_tell_the_truth_nothing_is_stopped(engine, caplog):
    evaluator = ProgressiveEvaluator(inner=engine)
    points = [{"fast": f, "slow": s} for f in (3, 20, 50) for s in (60, 120, 240)]
    for _ in range(2):
        assert all(s.full for s in evaluator.evaluate(points))
    assert evaluator.stats()["flat_blocks"] is None
    assert sum("early stopping is off" in r.message for r in caplog.records) == 1
    assert len(evaluator.stats()["fallbacks"]) == 1


def test_a_single_day_has_no_blocks_to_stop_by(make_bars):
    inner = EngineEvaluator(make_bars(1_440, timeframe="1m"), SmaCross())
    points = [{"fast": 1, "slow": slow} for slow in range(2, 18)]
    progressive = ProgressiveEvaluator(inner=inner)
    for _ in range(2):
        assert all(score.full for score in progressive.evaluate(points))
    assert progressive.stats()["flat_blocks"] is None


def test_blocks_are_passed_on(engine, points):
    evaluator = ProgressiveEvaluator(inner=engine)
    flat = evaluator.evaluate(points, [1, 2], of=6)
    assert [s.value for s in flat] == [s.value for s in engine.evaluate(points, [1, 2], of=6)]


def test_without_an_inner_evaluator_it_builds_the_engine(cyclic, points):
    plain = EngineEvaluator(cyclic, SmaCross()).evaluate(points)
    assert [s.value for s in ProgressiveEvaluator(cyclic).evaluate(points)] == [
        s.value for s in plain
    ]
