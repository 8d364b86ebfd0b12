import dataclasses
import math
import os
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ares.backtest.costs import Costs
from ares.backtest.strategies import EmaCross, SmaCross
from ares.backtest.user import load_strategy
from ares.core.errors import ConfigError, InputError, ParameterError
from ares.search import CachedBacktester, EngineEvaluator, Objective, scorestore

CALLS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(2, 8), st.integers(9, 20)), min_size=1, max_size=6),
        st.none() | st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True),
    ),
    min_size=1,
    max_size=4,
)


def same(a, b):
    return all(
        (x.value, x.outcome, x.blocks) == (y.value, y.outcome, y.blocks)
        for x, y in zip(a, b, strict=True)
    )


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=CALLS, size=st.integers(1, 5), stored=st.booleans())
def test_it_is_transparent(engine, tmp_path, calls, size, stored):
    path = tmp_path / "cache.sqlite" if stored else None
    cached = CachedBacktester(inner=engine, max_cache_size=size, store=path)
    for pairs, blocks in calls:
        points = [{"fast": f, "slow": s} for f, s in pairs]
        plain = engine.evaluate(points, blocks, of=6)
        assert same(cached.evaluate(points, blocks, of=6), plain)
        assert same(cached.evaluate(points[::-1], blocks, of=6), plain[::-1])
    assert cached.stats()["entries"] <= size
    assert cached.stats()["fallbacks"] == []
    cached.close()


def test_equal_points_run_once_and_the_store_outlives_the_process(counting, points, tmp_path):
    path = tmp_path / "deep" / "cache.sqlite"
    first = CachedBacktester(inner=counting, store=path)
    plain = first.evaluate(points + points[:3])
    assert counting.points == len(points)
    assert [s.source for s in first.evaluate(points)] == ["memory"] * len(points)
    first.close()
    second = CachedBacktester(inner=counting, store=path)
    again = second.evaluate(points)
    assert same(again, plain[: len(points)])
    assert [s.source for s in again] == ["store"] * len(points)
    assert counting.points == len(points)
    assert second.stats()["store_hits"] == len(points)
    assert second.stats()["misses"] == 0
    second.close()


def test_flat_blocks_are_found_again_by_their_numbers_and_their_count(counting):
    cached = CachedBacktester(inner=counting)
    point = [{"fast": 5, "slow": 20}]
    first = cached.evaluate(point, [3, 1], of=8)
    assert same(cached.evaluate(point, [3, 1], of=8), first)
    assert counting.points == 2
    cached.evaluate(point, [3, 1], of=7)
    cached.evaluate(point, [5], of=8)
    assert counting.points == 5


def test_the_least_recently_used_result_leaves(counting):
    cached = CachedBacktester(inner=counting, max_cache_size=2)
    a, b, c = ({"fast": f, "slow": 20} for f in (3, 4, 5))
    for point in (a, b, a, c, a):
        cached.run_cached_backtest(point)
    assert counting.points == 3
    cached.run_cached_backtest(b)
    assert counting.points == 4
    assert cached.stats()["evictions"] == 2
    assert cached.evict(1.0) == 2


def variants(bars):
    close = bars.close.copy()
    close[1234] += 0.0001
    shifted = dataclasses.replace(bars, close=close)
    plain = {"costs": Costs(0.001, 0.0005)}
    return {
        "plain": (bars, SmaCross(), plain),
        "one bar": (shifted, SmaCross(), plain),
        "fee": (bars, SmaCross(), {"costs": Costs(0.0010000001, 0.0005)}),
        "slippage": (bars, SmaCross(), {"costs": Costs(0.001, 0.0)}),
        "borrow": (bars, SmaCross(), {"costs": Costs(0.001, 0.0005, borrow=0.1)}),
        "fill": (bars, SmaCross(), {**plain, "fill": "close"}),
        "max_gap": (bars, SmaCross(), {**plain, "max_gap": 60}),
        "blocks": (bars, SmaCross(), {**plain, "n_blocks": 8}),
        "start": (bars, SmaCross(), {**plain, "start": 1}),
        "stop": (bars, SmaCross(), {**plain, "stop": len(bars) - 1}),
        "strategy": (bars, EmaCross(), plain),
    }


def test_the_key_covers_each_influence(cyclic, tmp_path):
    path = tmp_path / "cache.sqlite"
    for name, (bars, strategy, options) in variants(cyclic).items():
        cached = CachedBacktester(inner=EngineEvaluator(bars, strategy, **options), store=path)
        cached.run_cached_backtest({"fast": 5, "slow": 20})
        assert cached.stats()["misses"] == 1, name
        cached.close()
    assert len(variants(cyclic)) == 11


@pytest.mark.parametrize("what", ["a library", "a source of Ares", "the processor"])
def test_the_key_covers_the_environment(engine, tmp_path, monkeypatch, what):
    from ares.core import environment

    def misses():
        for cached_function in (environment.code_digest, environment.environment_salt):
            cached_function.cache_clear()
        cached = CachedBacktester(inner=engine, store=tmp_path / "c.sqlite")
        cached.run_cached_backtest({"fast": 5, "slow": 20})
        cached.close()
        return cached.stats()["misses"]

    assert [misses(), misses()] == [1, 0]
    with monkeypatch.context() as patch:
        if what == "a library":
            other = {**environment.library_versions(), "numpy": "0.0.1"}
            patch.setattr(environment, "library_versions", lambda: other)
        elif what == "a source of Ares":
            patch.setattr(environment, "source_digest", lambda: "another")
        else:
            patch.setattr(environment, "_cpu_features", lambda: "another")
        assert [misses(), misses()] == [1, 0]
    assert misses() == 0


def test_parameters_are_one_point_whatever_their_types(counting):
    cached = CachedBacktester(inner=counting)
    full = {"fast": 5, "slow": 20, "size": 1.0, "cooldown": 0, "direction": "long"}
    for point in (
        {"fast": 5, "slow": 20},
        {"slow": 20.0, "fast": np.int64(5)},
        {"fast": np.float64(5), "slow": 20, "size": 1},
        full,
    ):
        cached.run_cached_backtest(point)
    assert counting.points == 1
    for point in ({"fast": 6, "slow": 20}, {"fast": 5, "slow": 20, "stop_loss": 0.05}):
        cached.run_cached_backtest(point)
    assert counting.points == 3


def test_another_objective_hits_the_same_results(cyclic, tmp_path):
    values = []
    for objective in (Objective(min_trades=5), Objective("calmar", min_trades=5)):
        inner = EngineEvaluator(cyclic, SmaCross(), costs=Costs(0.0, 0.0), objective=objective)
        cached = CachedBacktester(inner=inner, store=tmp_path / "c.sqlite")
        values.append(cached.run_cached_backtest({"fast": 5, "slow": 20}))
        assert values[-1] == inner.evaluate([{"fast": 5, "slow": 20}])[0].value
        hits = cached.stats()["store_hits"]
        cached.close()
    assert hits == 1
    assert values[0] != values[1]


USER = """
import numpy as np
from ares.backtest.signals import Events
from ares.backtest.space import Int, ParameterSpace
from levels import LEVEL

class Mine:
    name = "Mine"
    space = ParameterSpace({"period": Int(1, 9, minimum=1, default=3)})
    def prepare(self, bars, *, max_gap=None):
        return bars.close
    def signals(self, prepared, params):
        up = np.flatnonzero(np.diff(prepared) > LEVEL) + 1
        down = np.flatnonzero(np.diff(prepared) < -LEVEL) + 1
        return Events(up, down, down, up)
"""


def test_the_code_of_a_users_strategy_and_of_its_imports_is_in_the_key(
    cyclic, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "levels.py").write_text("LEVEL = 0.5\n")
    file = tmp_path / "mine.py"

    def misses():
        sys.modules.pop("levels", None)
        inner = EngineEvaluator(cyclic, load_strategy(f"{file}:Mine"))
        cached = CachedBacktester(inner=inner, store=tmp_path / "c.sqlite")
        cached.run_cached_backtest({"period": 3})
        stats = cached.stats()
        cached.close()
        assert stats["fallbacks"] == []
        return stats["misses"]

    file.write_text(USER)
    assert [misses(), misses()] == [1, 0]
    file.write_text(USER + "\n# another text\n")
    assert [misses(), misses()] == [1, 0]
    (tmp_path / "levels.py").write_text("LEVEL = 0.75  # other\n")
    assert [misses(), misses()] == [1, 0]
    file.write_text(USER)
    (tmp_path / "levels.py").write_text("LEVEL = 0.5\n")
    assert misses() == 0
    sys.modules.pop("levels", None)


FACTORY = """
import numpy as np
from ares.backtest.signals import Events
from ares.backtest.space import Int, ParameterSpace

def make(sign):
    class Made:
        name = "Made"
        space = ParameterSpace({"period": Int(1, 9, minimum=1, default=3)})
        def prepare(self, bars, *, max_gap=None):
            return bars.close
        def signals(self, prepared, params):
            up = np.flatnonzero(sign * np.diff(prepared) > 0.5) + 1
            down = np.flatnonzero(sign * np.diff(prepared) < -0.5) + 1
            return Events(up, down, down, up)
    return Made

Trend, Revert = make(1.0), make(-1.0)
"""


def test_classes_that_one_function_made_are_told_apart_by_their_names(cyclic, tmp_path, caplog):
    file = tmp_path / "made.py"
    file.write_text(FACTORY)
    for name in ("Trend", "Revert"):
        inner = EngineEvaluator(cyclic, load_strategy(f"{file}:{name}"))
        cached = CachedBacktester(inner=inner, store=tmp_path / "c.sqlite")
        plain = inner.evaluate([{"period": 3}])
        assert same(cached.evaluate([{"period": 3}]), plain)
        assert cached.stats()["misses"] == 1
        cached.close()
    bare = EngineEvaluator(cyclic, load_strategy(f"{file}:Trend").inner)
    assert CachedBacktester(inner=bare).stats()["fallbacks"]
    assert "made by a function" in caplog.text


def test_a_file_that_was_changed_after_it_was_loaded_is_not_cached(cyclic, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "levels.py").write_text("LEVEL = 0.5\n")
    (tmp_path / "mine.py").write_text(USER)
    spec = f"{tmp_path / 'mine.py'}:Mine"

    def fallbacks(strategy):
        inner = EngineEvaluator(cyclic, strategy)
        return CachedBacktester(inner=inner).stats()["fallbacks"]

    try:
        strategy = load_strategy(spec)
        assert fallbacks(strategy) == []
        (tmp_path / "levels.py").write_text("LEVEL = 0.75\n")  # the old one is still loaded
        assert fallbacks(load_strategy(spec))
        (tmp_path / "levels.py").write_text("LEVEL = 0.5\n")
        assert fallbacks(strategy) == []
        (tmp_path / "mine.py").write_text(USER + "\n# other\n")
        assert fallbacks(strategy)
        assert fallbacks(load_strategy(spec)) == []
    finally:
        sys.modules.pop("levels", None)


def test_packages_that_hold_an_import_are_code_too(tmp_path, monkeypatch):
    from ares.search.strategy_identity import code_closure

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "pkg").mkdir()
    for name in ("pkg/__init__.py", "pkg/sub.py", "late.py"):
        (tmp_path / name).write_text("A = 1\n")
    start = tmp_path / "start.py"
    start.write_text("import importlib\nimport pkg.sub\nlate = importlib.import_module('late')\n")
    before = code_closure(start)
    assert len(before["files"]) == 4
    for name in ("pkg/__init__.py", "pkg/sub.py", "late.py"):
        (tmp_path / name).write_text("A = 2\n")
        after = code_closure(start)
        assert after != before, name
        before = after


class _Stopping:
    """A policy: it stops every other point."""

    def __init__(self, inner):
        self.inner, self.problem = inner, inner.problem

    def evaluate(self, points, blocks=None, *, of=None):
        scores = self.inner.evaluate(points, blocks, of=of)
        return [
            dataclasses.replace(score, value=-math.inf, stage=1) if i % 2 else score
            for i, score in enumerate(scores)
        ]


def test_what_a_policy_inside_has_stopped_is_not_kept(engine, points, tmp_path):
    cached = CachedBacktester(inner=_Stopping(engine), store=tmp_path / "c.sqlite")
    cached.evaluate(points)
    cached.close()
    plain = CachedBacktester(inner=engine, store=tmp_path / "c.sqlite")
    assert same(plain.evaluate(points), engine.evaluate(points))
    assert plain.stats()["store_hits"] == len(points) // 2
    plain.close()


def test_slow_misses_are_kept_piece_by_piece(counting, tmp_path):
    """Whoever kills a long generation in its middle finds what was done."""
    many = [{"fast": 3 + i % 9, "slow": 20 + i} for i in range(30)]

    class Slow:
        problem = counting.problem

        def evaluate(self, some, blocks=None, *, of=None):
            if counting.points + len(some) > 20:
                raise KeyboardInterrupt
            time.sleep(0.3 * len(some))
            return counting.evaluate(some, blocks, of=of)

    cached = CachedBacktester(inner=Slow(), store=tmp_path / "c.sqlite")
    with pytest.raises(KeyboardInterrupt):
        cached.evaluate(many)
    cached.close()
    again = CachedBacktester(inner=counting, store=tmp_path / "c.sqlite")
    again.evaluate(many)
    assert again.stats()["store_hits"] == 16
    again.close()


class _Settings:
    name = "Settings"
    space = SmaCross.space

    def __init__(self, hidden):
        self.hidden = hidden

    def prepare(self, bars, *, max_gap=None):
        return SmaCross().prepare(bars)

    def signals(self, prepared, params):
        return SmaCross().signals(prepared, params)


def test_a_strategy_without_identity_is_not_cached_and_says_so_once(cyclic, caplog):
    inner = EngineEvaluator(cyclic, _Settings(hidden=object()))
    cached = CachedBacktester(inner=inner)
    for _ in range(3):
        cached.run_cached_backtest({"fast": 5, "slow": 20})
    assert cached.stats()["entries"] == 0
    assert len(cached.stats()["fallbacks"]) == 1
    assert sum("uncached" in r.message for r in caplog.records) == 1


def test_settings_of_a_strategy_are_in_its_identity(cyclic):
    ids = [EngineEvaluator(cyclic, _Settings(h)).problem.identity for h in (1, 2, 1.0, 1)]
    assert len(set(ids)) == 3
    assert ids[0] == ids[3]


SCRIPT = """
import sys
import numpy as np, pandas as pd
from ares.search import CachedBacktester
close = 100 + np.arange(900) % 37 * 0.5
frame = pd.DataFrame({"close": close}, index=pd.date_range("2020-01-01", periods=900, freq="1D"))
cached = CachedBacktester(frame, store=sys.argv[1])
values = [cached.run_cached_backtest({"fast": f, "slow": 20}) for f in (3, 5, 7)]
print(values, cached.stats()["misses"])
cached.close()
"""


def test_keys_are_equal_in_every_process_and_under_every_hash_seed(tmp_path):
    outputs = []
    for seed in ("0", "1"):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "c.sqlite")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(run.stdout.strip().rsplit(" ", 1))
    assert outputs[0][0] == outputs[1][0]
    assert [count for _, count in outputs] == ["3", "0"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE results SET body = zeroblob(length(body))",
        "UPDATE results SET body = substr(body, 1, 80)",
        "UPDATE results SET body = 'text'",
        "UPDATE results SET body = NULL",
        "UPDATE results SET digest = zeroblob(16)",
        "UPDATE OR REPLACE results SET key = 'other' || key",
        # rows of other points: three of the four are foreign
        """UPDATE results SET (body, digest) =
           (SELECT r.body, r.digest FROM results r ORDER BY r.key LIMIT 1)""",
    ],
)
def test_damaged_and_foreign_rows_are_misses(counting, points, tmp_path, damage):
    path = tmp_path / "c.sqlite"
    first = CachedBacktester(inner=counting, store=path)
    plain = first.evaluate(points[:4])
    first.close()
    with sqlite3.connect(path) as database:
        database.execute(damage)
    database.close()
    again = CachedBacktester(inner=counting, store=path)
    assert same(again.evaluate(points[:4]), plain)
    stats = again.stats()
    wrong = 3 if "LIMIT 1" in damage else 4
    assert stats["misses"] == wrong
    assert stats["quarantined"] == (0 if "'other'" in damage else wrong)
    assert stats["fallbacks"] == []
    again.close()
    third = CachedBacktester(inner=counting, store=path)
    assert same(third.evaluate(points[:4]), plain)
    assert third.stats()["misses"] == 0
    third.close()


def test_a_file_that_is_no_database_is_put_aside(counting, points, tmp_path, caplog):
    path = tmp_path / "c.sqlite"
    path.write_bytes(b"not a database at all" * 500)
    cached = CachedBacktester(inner=counting, store=path)
    cached.evaluate(points[:2])
    assert cached.stats()["stored"] == 2
    assert path.with_name("c.sqlite.damaged").read_bytes().startswith(b"not a database")
    assert "damaged" in caplog.text
    cached.close()


def test_a_store_that_cannot_be_opened_is_one_warning(engine, points, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    cached = CachedBacktester(inner=engine, store=tmp_path / "file" / "c.sqlite")
    assert same(cached.evaluate(points), engine.evaluate(points))
    cached.evaluate(points)
    assert len(cached.stats()["fallbacks"]) == 1
    assert sum("uncached" in r.message for r in caplog.records) == 1
    assert cached.stats()["memory_hits"] == len(points)


def test_a_full_disk_is_one_warning(engine, points, tmp_path, monkeypatch, caplog):
    def full(self, problem, results):
        with self._guard():
            raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(scorestore.ScoreStore, "put_many", full)
    cached = CachedBacktester(inner=engine, store=tmp_path / "c.sqlite", max_cache_size=2)
    for _ in range(2):
        assert same(cached.evaluate(points), engine.evaluate(points))
    assert len(cached.stats()["fallbacks"]) == 1
    assert "disk is full" in cached.stats()["fallbacks"][0]
    assert sum("uncached" in r.message for r in caplog.records) == 1


def test_arguments_are_checked(engine, cyclic):
    with pytest.raises(ConfigError, match="max_cache_size"):
        CachedBacktester(cyclic, max_cache_size=0)
    with pytest.raises(InputError, match="market data"):
        CachedBacktester()
    with pytest.raises(InputError, match="at least one block"):
        engine.evaluate([{"fast": 3, "slow": 9}], [])
    with pytest.raises(ParameterError):
        CachedBacktester(inner=engine).run_cached_backtest({"fast": 0, "slow": 9})


def walk(n=400, seed=1):
    rng = np.random.default_rng(seed)
    close = np.round(100 + np.cumsum(rng.normal(0, 0.5, n)), 2)
    return pd.DataFrame(
        {"high": close + 0.5, "low": close - 0.5, "close": close, "volume": rng.integers(1, 9, n)}
    )


def test_indicators_are_those_of_talib():
    frame = walk()
    found = CachedBacktester(frame).technical_indicators
    close = frame["close"].to_numpy()
    expected = {
        "sma_20": talib.SMA(close, 20),
        "sma_50": talib.SMA(close, 50),
        "ema_12": talib.EMA(close, 12),
        "ema_26": talib.EMA(close, 26),
        "rsi": talib.RSI(close, 14),
        "atr": talib.ATR(frame["high"].to_numpy(), frame["low"].to_numpy(), close, 14),
        "volatility": np.log(frame["close"]).diff().rolling(20).std().to_numpy(),
        "volume_sma": frame["volume"].rolling(20).mean().to_numpy(),
    }
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-7, err_msg=name)


def test_indicators_leave_out_what_has_no_columns_with_one_warning(caplog):
    found = CachedBacktester(walk()[["close"]])
    caplog.clear()
    names = set(found.technical_indicators)
    assert found.technical_indicators is found.technical_indicators
    assert names == {"sma_20", "sma_50", "ema_12", "ema_26", "rsi", "volatility"}
    assert len(caplog.records) == 1
    assert "atr, volume_sma" in caplog.text


def test_indicators_start_anew_after_nan():
    frame = walk()
    broken = frame.copy()
    broken.loc[150, "close"] = np.nan
    broken.loc[300, "high"] = np.nan
    found = CachedBacktester(broken).technical_indicators
    close = frame["close"].to_numpy()
    for name, make in (
        ("sma_20", lambda c: talib.SMA(c, 20)),
        ("ema_26", lambda c: talib.EMA(c, 26)),
        ("rsi", lambda c: talib.RSI(c, 14)),
    ):
        pieces = [make(close[:150]), [np.nan], make(close[151:])]
        np.testing.assert_allclose(found[name], np.concatenate(pieces), rtol=1e-7, err_msg=name)
    assert np.isnan(found["atr"][300:315]).all()
    assert np.isfinite(found["atr"][320:]).all()


def test_a_frame_of_closes_alone_can_be_searched(caplog):
    index = pd.date_range("2021-01-01", periods=900, freq="1D")
    close = 100 + np.abs(np.arange(900) % 60 - 30) * 1.0
    frame = pd.DataFrame({"Close": close}, index=index)
    kept = frame.copy()
    cached = CachedBacktester(frame, objective=Objective(min_trades=3))
    assert cached.problem.bars.timeframe == "1d"
    assert np.isfinite(cached.run_cached_backtest({"fast": 3, "slow": 10}))
    pd.testing.assert_frame_equal(frame, kept)
    assert "no column open, high, low, volume" in caplog.text
    unnamed = CachedBacktester(pd.DataFrame({"close": close}))
    assert len(unnamed.problem.bars) == 900


def test_rows_without_prices_are_left_out_and_said(caplog):
    frame = walk()
    frame.loc[[5, 9], "close"] = [np.nan, -1.0]
    bars = CachedBacktester(frame).problem.bars
    assert len(bars) == 398
    assert "2 rows without positive prices" in caplog.text
    with pytest.raises(InputError, match="close"):
        CachedBacktester(pd.DataFrame({"price": [1.0]}))
    with pytest.raises(InputError, match="positive"):
        CachedBacktester(pd.DataFrame({"close": [np.nan]}))
