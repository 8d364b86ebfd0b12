import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.backtest import simulate
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
FRACTIONS = st.lists(st.integers(1, 19), max_size=4, unique=True).map(
    lambda twentieths: [t / 20 for t in sorted(twentieths)] + [1.0]
)


@settings(max_examples=60)
@given(
    edges=POINTS,
    seed=st.integers(0, 50),
    noise=st.integers(0, 1000),
    blocks=st.integers(1, 25),
    fractions=FRACTIONS,
    data=st.data(),
)
def test_it_does_what_the_rule_says(edges, seed, noise, blocks, fractions, data):
    weights = [data.draw(st.sampled_from([0.3, 0.5, 1.0, 2.5])) for _ in fractions]
    stages = tuple(zip(fractions, weights, strict=True))
    frame = market()
    rng = np.random.default_rng(noise)
    # Small whole numbers make ties, and blocks that are all alike.
    table = {e: np.round(rng.normal(e / 10, 0.5, 200), noise % 3) for e in edges}
    evaluator = ProgressiveEvaluator(frame, stages=stages, n_blocks=blocks, seed=seed, warmup=0)
    borders = np.arange(blocks + 1) * 200 // blocks
    starts = {int(a): i for i, a in enumerate(borders[:-1])}
    order, twin = [], Twin(stages)

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


@pytest.fixture(scope="module")
def expected(long_engine):
    evaluator = ProgressiveEvaluator(inner=long_engine, seed=1)
    return [summary(s) for s in run_generations(evaluator, 3)], evaluator.stats()


def test_the_cache_decides_nothing(long_engine, tmp_path, expected):
    for size in (1, 100_000):  # a cache that forgets at once, and one that holds all
        cache = CachedBacktester(inner=long_engine, store=tmp_path / "c", max_cache_size=size)
        for _ in range(2):  # cold, warm
            evaluator = ProgressiveEvaluator(inner=cache, seed=1)
            assert [summary(s) for s in run_generations(evaluator, 3)] == expected[0]
            assert evaluator.stats() == expected[1]
        cache.close()


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_the_workers_and_their_chunks_decide_nothing(long_engine, expected, workers):
    with ParallelBacktester(workers, inner=long_engine) as pool:
        evaluator = ProgressiveEvaluator(inner=pool, seed=1)
        assert [summary(s) for s in run_generations(evaluator, 3)] == expected[0]
        assert evaluator.stats() == expected[1]


@pytest.mark.parametrize("done", [1, 2])
def test_a_resume_decides_nothing(long_engine, expected, done):
    first = ProgressiveEvaluator(inner=long_engine, seed=1)
    kept = run_generations(first, done)
    second = ProgressiveEvaluator(inner=long_engine, seed=1)
    for seed, scores in enumerate(kept):
        second.learn(generation(seed), scores)
    assert second.stats() == first.stats()
    for seed in range(done, 3):
        assert summary(second.evaluate(generation(seed))) == expected[0][seed]
    assert second.stats() == expected[1]


def test_a_generation_of_one_point_has_no_worse_half(long_engine):
    evaluator = ProgressiveEvaluator(inner=long_engine, seed=1)
    run_generations(evaluator, 1)
    assert all(evaluator.evaluate([point])[0].full for point in generation(5, 4))
    assert evaluator.stats()["raced"] == 0


def test_the_stats_add_up(expected):
    scores, stats = expected
    flat = [s for generation in scores for s in generation]
    stopped = [s for s in flat if s[2] is not None]
    assert stats["full"] == len(flat) - len(stopped)
    assert stats["stopped"] == len(stopped) == sum(s["stopped"] for s in stats["stages"])
    assert stats["audited"] == sum(s[4] is not None for s in flat)
    assert (stats["raced"], stats["raced_generations"]) == (64, 2)
    assert stats["off"] is None
    assert stats["false_stop_low"] <= stats["false_stops"] / max(stats["audited"], 1)
    bars = stats["bars"]
    assert bars["without"] == 96 * 40_000
    assert bars["full"] == stats["full"] * 40_000
    assert bars["audit"] == stats["audited"] * 40_000
    used = sum(bars.values()) - bars["without"]
    assert stats["saved"] == pytest.approx(1 - used / bars["without"])
    assert 0 < stats["cost_raced"] < 0.45


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


def off_after(evaluator, points, caplog):
    """Why nothing is stopped, having made sure of it: said once, and in the stats."""
    for _ in range(2):
        assert all(score.full for score in evaluator.evaluate(points))
    stats = evaluator.stats()
    assert stats["flat_blocks"] is None
    assert stats["stopped"] == stats["raced"] == 0
    assert stats["fallbacks"] == [stats["off"]]
    said = [r.message for r in caplog.records if "early stopping is off" in r.message]
    assert said in ([], [stats["off"]])
    return stats["off"]


def test_data_too_short_for_blocks_is_one_reason(engine, caplog):
    points = [{"fast": f, "slow": s} for f in (3, 5, 20) for s in (60, 120, 240)]
    off = off_after(ProgressiveEvaluator(inner=engine), points, caplog)
    assert "the shortest of 9 blocks has 330 bars" in off
    assert "longest lookback 240 + typical holding" in off
    assert len(caplog.records) == 1


def test_too_few_points_with_a_value_are_another(engine, caplog):
    points = [{"fast": f, "slow": s} for f in (150, 200) for s in (400, 500, 600)]
    points += [{"fast": 3, "slow": s} for s in (10, 12)]
    off = off_after(ProgressiveEvaluator(inner=engine), points, caplog)
    valued = 2 * sum(math.isfinite(s.value) for s in engine.evaluate(points))
    assert f"{valued} of the 16 points run so far have a value, and 8 are needed" in off


def test_enough_points_may_come_from_more_than_one_generation(long_engine):
    evaluator = ProgressiveEvaluator(inner=long_engine, seed=1)
    for seed in range(3):
        evaluator.evaluate(generation(seed, size=3))
        assert (evaluator.stats()["flat_blocks"] is None) == (seed < 2)


def test_a_range_of_few_days_is_another(make_bars, caplog):
    inner = EngineEvaluator(make_bars(7_200, timeframe="1m"), SmaCross())
    points = [{"fast": 2, "slow": slow} for slow in range(3, 18)]
    off = off_after(ProgressiveEvaluator(inner=inner), points, caplog)
    assert "the range has 5 days, and 9 are needed for as many flat-start blocks" in off


class Unspoken:
    """Slow crossings that do not say how far they look back."""

    name = "unspoken"
    space = SmaCross.space

    def prepare(self, bars, *, max_gap=None):
        return SmaCross().prepare(bars, max_gap=max_gap)

    def signals(self, prepared, params):
        return SmaCross().signals(prepared, params)


class Understated(Unspoken):
    """Slow crossings that claim to look back one bar."""

    name = "understated"

    def lookback(self, params):
        return 1


def slow_points(count=24):
    rng = np.random.default_rng(0)
    pairs = zip(rng.integers(30, 60, count), rng.integers(150, 250, count), strict=True)
    return [{"fast": int(f), "slow": int(s), "direction": "both"} for f, s in pairs]


def random_walk(make_bars, n):
    return make_bars(n, timeframe="1h", period=2)  # a drift that is gone after two bars


def test_blocks_that_rank_otherwise_are_another_with_all_that_was_tried(make_bars, caplog):
    inner = EngineEvaluator(random_walk(make_bars, 40_000), Understated())
    evaluator = ProgressiveEvaluator(inner=inner)
    off = off_after(evaluator, slow_points(), caplog)
    stats = evaluator.stats()
    assert stats["lookback"] == 1
    assert stats["holding"] > 50
    assert len(stats["agreements"]) >= 2
    assert all(agreement < 0.9 for _, agreement in stats["agreements"])
    for count, agreement in stats["agreements"]:
        assert f"{math.floor(agreement * 1e3) / 1e3:.3f} with {count} blocks" in off
    assert "and 0.9 is needed" in off


def test_the_lookback_of_a_strategy_that_does_not_say_is_its_largest_period(make_bars):
    inner = EngineEvaluator(random_walk(make_bars, 8_000), Unspoken())
    points = [{**point, "max_hold": 400} for point in slow_points()]
    evaluator = ProgressiveEvaluator(inner=inner)
    evaluator.evaluate(points)
    assert evaluator.stats()["lookback"] == max(point["slow"] for point in points)


def test_the_typical_holding_is_that_of_the_trades(long_engine):
    evaluator = ProgressiveEvaluator(inner=long_engine)
    points = generation(0)
    evaluator.evaluate(points)
    problem = long_engine.problem
    means = []
    for point in points:
        trades = simulate(problem.bars, problem.strategy, point, costs=problem.costs).trades
        means.append((trades["exit_bar"] - trades["entry_bar"]).mean())
    assert min(means) < evaluator.stats()["holding"] < max(means)
    assert evaluator.stats()["holding"] == pytest.approx(np.median(means), rel=0.3)


def test_blocks_are_passed_on(engine, points):
    evaluator = ProgressiveEvaluator(inner=engine)
    flat = evaluator.evaluate(points, [1, 2], of=6)
    assert [s.value for s in flat] == [s.value for s in engine.evaluate(points, [1, 2], of=6)]


def test_without_an_inner_evaluator_it_builds_the_engine(cyclic, points):
    plain = EngineEvaluator(cyclic, SmaCross()).evaluate(points)
    assert [s.value for s in ProgressiveEvaluator(cyclic).evaluate(points)] == [
        s.value for s in plain
    ]
