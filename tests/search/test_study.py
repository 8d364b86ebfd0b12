import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ares.backtest.costs import Costs
from ares.backtest.engine import simulate_reference
from ares.backtest.result import Outcome
from ares.backtest.strategies import SmaCross
from ares.core.config import SearchConfig
from ares.core.errors import ArtifactError, ReplayError, StoreError
from ares.search import (
    CachedBacktester,
    EngineEvaluator,
    Objective,
    ParallelBacktester,
    ProgressiveEvaluator,
    Score,
    run_search,
)
from ares.search.blocks import block_results, even_borders
from ares.search.study import request_digest, table_digest

CONFIG = SearchConfig(trials=72, initial_samples=24, generation=16, min_trades=5)
SPACE = SmaCross.space.with_bounds({"fast": (2, 15), "slow": (5, 60), "stop_loss": (0.02, 0.2)})


def search(evaluator, config=CONFIG, **options):
    return run_search(evaluator, SPACE, config, seed=7, **options)


def test_the_same_request_gives_the_same_trials(engine, tmp_path):
    plain = search(engine)
    results = []
    for jobs in (1, 2):
        with ParallelBacktester(jobs, inner=engine) as pool:
            for _ in ("cold", "warm"):
                cached = CachedBacktester(
                    inner=pool, store=tmp_path / f"{jobs}.sqlite", max_cache_size=10
                )
                results.append(search(cached))
                cached.close()
    for result in results:
        pd.testing.assert_frame_equal(result.trials, plain.trials, check_exact=True)
        assert result.trials_digest == plain.trials_digest
        assert result.best == plain.best
        np.testing.assert_array_equal(result.initial_returns, plain.initial_returns)
    assert set(results[1].volatile["source"]) == {"store"}
    assert search(engine, CONFIG.model_copy(update={"trials": 71})).trials_digest != (
        plain.trials_digest
    )
    assert run_search(engine, SPACE, CONFIG, seed=8).trials_digest != plain.trials_digest


def test_the_winner_is_the_best_full_trial_and_was_replayed(engine):
    result = search(engine)
    assert result.replayed
    assert result.counts == {
        "trials": 72,
        "full": 72,
        "stopped": 0,
        "raised": 0,
        "audited": 0,
        "failed": int(np.isinf(result.trials["value"]).sum()),
        "generations": 4,
    }
    assert result.score.value == result.trials["value"].max()
    row = result.trials.iloc[int(result.trials["value"].argmax())]
    assert {k: row[f"param_{k}"] for k in ("fast", "slow", "stop_loss")} == result.best
    assert (result.trials["param_fast"] < result.trials["param_slow"]).all()
    assert not result.trials.duplicated(["param_fast", "param_slow", "param_stop_loss"]).any()
    assert list(result.trials["phase"]) == ["sobol"] * 24 + ["adaptive"] * 48


def test_curves_of_the_sobol_points_are_those_of_single_backtests(engine):
    result = search(engine)
    assert result.initial_numbers == tuple(range(24))
    problem = engine.problem
    for number in (0, 23):
        row = result.trials.iloc[number]
        params = {"fast": row["param_fast"], "slow": row["param_slow"]}
        params["stop_loss"] = row["param_stop_loss"]
        alone = simulate_reference(problem.bars, problem.strategy, params, costs=problem.costs)
        np.testing.assert_array_equal(result.initial_returns[number], alone.daily_returns)
    assert not result.initial_returns.flags.writeable


def test_generations_end_at_the_budget_and_are_told(engine):
    seen = []
    search(engine, progress=seen.append)
    assert [p.trials for p in seen] == [24, 40, 56, 72]
    assert [p.generation for p in seen] == [1, 2, 3, 4]
    assert all(a.best <= b.best for a, b in pairwise(seen))


def test_patience_ends_a_search_that_gains_no_more_than_noise(engine):
    config = CONFIG.model_copy(update={"trials": 400})
    result = search(engine, config, patience=2)
    assert len(result.trials) < 400
    values = np.maximum.accumulate(result.trials.groupby("generation")["value"].max())
    last = result.trials["generation"].max()
    error = result.trials["error"][result.trials["value"].idxmax()]
    assert values[last] <= values[last - 2] + error


SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from conftest import cyclic_bars
from test_study import CONFIG, search
from ares.backtest.costs import Costs
from ares.backtest.strategies import SmaCross
from ares.search import EngineEvaluator, Objective, study
study.code_digest = lambda: "one code"  # an editor may save a source between the two runs
engine = EngineEvaluator(
    cyclic_bars(), SmaCross(), costs=Costs(0.0005, 0.0002), objective=Objective(min_trades=5)
)
runs = []
result = search(engine, ledger=sys.argv[2], progress=lambda p: runs.append(p.resumed))
print(json.dumps([result.trials_digest, runs]))
"""


def run_script(ledger, **environ):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(ledger)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "resumed"),
    [("ledger.before:1:kill", 0), ("ledger.inside:3:kill", 2), ("ledger.after:4:kill", 4)],
)
def test_a_killed_search_resumes_with_identical_trials(engine, tmp_path, fault, resumed):
    ledger = tmp_path / "ledger.sqlite"
    killed = run_script(ledger, ARES_FAULT=fault, PYTHONHASHSEED="1")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = run_script(ledger, PYTHONHASHSEED="2")
    assert again.returncode == 0, again.stderr
    digest, runs = json.loads(again.stdout.splitlines()[-1])
    assert sum(runs) == resumed
    assert digest == search(engine).trials_digest


def test_a_disk_that_fills_up_stops_the_search_and_it_resumes(engine, tmp_path, monkeypatch):
    from ares.store.faults import reset_faults

    path = tmp_path / "l.sqlite"
    monkeypatch.setenv("ARES_FAULT", "ledger.inside:3:enospc")
    reset_faults()
    with pytest.raises(StoreError, match="resumes"):
        search(engine, ledger=path)
    monkeypatch.delenv("ARES_FAULT")
    resumed = []
    result = search(engine, ledger=path, progress=lambda p: resumed.append(p.resumed))
    assert resumed == [True, True, False, False]
    assert result.trials_digest == search(engine).trials_digest


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        ("UPDATE trials SET value = value + 1e-9 WHERE number = 30", 1),
        ("DELETE FROM trials WHERE number = 3", 0),
        ("DELETE FROM generations WHERE generation = 1", 1),
        ("UPDATE trials SET blocks = zeroblob(8) WHERE number = 71", 3),
        ("UPDATE trials SET params = '{}' WHERE number = 41", 2),
    ],
)
def test_damaged_generations_are_run_again(engine, tmp_path, damage, kept, caplog):
    path = tmp_path / "l.sqlite"
    expected = search(engine, ledger=path).trials_digest
    with sqlite3.connect(path) as database:
        database.execute(damage)
    database.close()
    resumed = []
    result = search(engine, ledger=path, progress=lambda p: resumed.append(p.resumed))
    assert result.trials_digest == expected
    assert sum(resumed) == kept
    assert "damaged" in caplog.text
    resumed.clear()
    search(engine, ledger=path, progress=lambda p: resumed.append(p.resumed))
    assert all(resumed)


def test_a_ledger_that_is_no_database_is_put_aside(engine, tmp_path):
    path = tmp_path / "l.sqlite"
    path.write_bytes(b"nonsense " * 1000)
    assert search(engine, ledger=path).counts["trials"] == 72
    assert path.with_name("l.sqlite.damaged").exists()


def test_the_ledger_of_another_search_is_refused(engine, tmp_path):
    path = tmp_path / "l.sqlite"
    search(engine, ledger=path)
    with pytest.raises(ArtifactError, match="another search"):
        run_search(engine, SPACE, CONFIG, seed=8, ledger=path)
    with pytest.raises(ArtifactError, match="another search"):
        search(engine, ledger=path, patience=3)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    database.close()
    with pytest.raises(ArtifactError, match="schema"):
        search(engine, ledger=path)


def _days(blocks, year):
    return float(blocks.n[0])


def test_a_search_without_identity_keeps_its_ledger_in_memory_and_says_so(cyclic, tmp_path):
    engine = EngineEvaluator(cyclic, SmaCross(), costs=Costs(0.0, 0.0), objective=Objective(_days))
    offset = 3.0

    def closure(blocks, year):
        return offset + float(blocks.sum.sum())

    for function, file in ((closure, False), (engine.problem.objective.statistic, True)):
        path = tmp_path / f"{file}.sqlite"
        evaluator = EngineEvaluator(cyclic, SmaCross(), objective=Objective(function, min_trades=1))
        result = search(evaluator, ledger=path)
        assert path.exists() is file
        assert len(result.fallbacks) == (0 if file else 1)


@pytest.fixture(scope="module")
def stopping(make_bars):
    bars = make_bars(n=20_000, seed=3, timeframe="15m", period=30)
    return EngineEvaluator(bars, SmaCross(), costs=Costs(0.0002, 0.0001))


STOPPING = SearchConfig(trials=160, initial_samples=64, generation=32)
SHORT = SmaCross.space.with_bounds({"fast": (2, 12), "slow": (4, 35)})


def stopping_search(engine, **options):
    evaluator = ProgressiveEvaluator(inner=CachedBacktester(inner=engine), seed=7)
    return run_search(evaluator, SHORT, STOPPING, seed=7, **options)


def test_early_stopping_is_a_policy_that_resumes_too(stopping, tmp_path, monkeypatch):
    from ares.store.faults import reset_faults

    result = stopping_search(stopping)
    status = result.trials["status"]
    assert set(status[:64]) <= {"full", "failed"}
    assert (status[64:] == "stopped").sum() > 48
    assert result.counts["stopped"] == status.isin(["stopped", "audited"]).sum()
    assert result.policies["flat_blocks"] >= 6
    assert result.replayed
    monkeypatch.setenv("ARES_FAULT", "ledger.before:4:eio")
    reset_faults()
    with pytest.raises(StoreError):
        stopping_search(stopping, ledger=tmp_path / "l.sqlite")
    monkeypatch.delenv("ARES_FAULT")
    resumed = stopping_search(stopping, ledger=tmp_path / "l.sqlite")
    pd.testing.assert_frame_equal(resumed.trials, result.trials, check_exact=True)
    assert resumed.policies == result.policies
    plain = run_search(stopping, SHORT, STOPPING, seed=7)
    assert plain.score.value <= result.score.value + result.score.error


def test_a_search_does_not_depend_on_the_one_before_it(stopping):
    evaluator = ProgressiveEvaluator(inner=stopping, seed=7)
    assert evaluator.evaluate_progressively({}, lambda s, p: 1.0) == 1.0
    first, second = (run_search(evaluator, SHORT, STOPPING, seed=7) for _ in range(2))
    pd.testing.assert_frame_equal(first.trials, second.trials, check_exact=True)
    assert first.policies == second.policies
    assert evaluator.evaluate_progressively({}, lambda s, p: -1.0) == float("-inf")


def test_the_seed_of_early_stopping_is_part_of_the_request(stopping):
    def digest(evaluator):
        return request_digest(evaluator, SHORT, STOPPING, seed=7)

    found = [digest(ProgressiveEvaluator(inner=stopping, seed=seed)) for seed in (0, 1, 0)]
    assert found[0] == found[2]
    assert len({digest(stopping), *found}) == 3


class Lying:
    """An evaluator that is wrong about every point, as a poisoned cache would be."""

    def __init__(self, inner):
        self.inner = inner
        self.problem = inner.problem

    def evaluate(self, points, blocks=None, *, of=None):
        scores = self.inner.evaluate(points, blocks, of=of)
        return [dataclasses.replace(s, value=s.value + 1e-12) for s in scores]

    def daily_returns(self, points):
        return self.inner.daily_returns(points)


def test_a_winner_that_cannot_be_replayed_is_no_result(engine):
    with pytest.raises(ReplayError, match="replay"):
        search(Lying(engine))


class Landscape:
    """Values without bars: some points raise nothing but are bad."""

    def __init__(self, function):
        self.function = function

    def evaluate(self, points, blocks=None, *, of=None):
        blocks = block_results(np.full(8, 0.01), np.arange(8), even_borders(8, 2))
        values = [self.function(p) for p in points]
        return [
            Score(v, Outcome.OK if np.isfinite(v) else Outcome.NOT_FINITE, blocks) for v in values
        ]


def test_a_bad_point_is_never_the_best():
    result = search(Landscape(lambda p: -np.inf if p["fast"] > 4 else -float(p["slow"])))
    assert result.best["fast"] <= 4
    assert not result.replayed
    assert result.initial_returns.shape == (0, 0)
    for bad in (-np.inf, np.nan, np.inf):
        nothing = search(Landscape(lambda p, bad=bad: bad))
        assert (nothing.best, nothing.score) == (None, None)


def test_a_constant_objective_gives_the_first_point():
    result = search(Landscape(lambda p: 1.0))
    row = result.trials.iloc[0]
    assert result.best["slow"] == row["param_slow"]
    assert result.best["fast"] == row["param_fast"]


def test_a_small_space_is_searched_once(engine):
    space = SmaCross.space.with_bounds({"fast": (3, 4), "slow": (10, 12)})
    result = run_search(engine, space, CONFIG, seed=1)
    assert len(result.trials) == 6
    assert (
        run_search(engine, space, CONFIG.model_copy(update={"trials": 1}), seed=1).counts["trials"]
        == 1
    )


class Raising:
    """A strategy that raises where its period is even."""

    name = "Raising"
    space = SmaCross.space

    def prepare(self, bars, *, max_gap=None):
        return SmaCross().prepare(bars)

    def signals(self, prepared, params):
        if params["fast"] % 2 == 0:
            raise RuntimeError("even")
        return SmaCross().signals(prepared, params)


def test_a_strategy_that_raises_at_some_points_is_searched(cyclic, caplog):
    engine = EngineEvaluator(cyclic, Raising(), objective=Objective(min_trades=5))
    result = search(engine)
    even = result.trials["param_fast"] % 2 == 0
    assert even.any()
    assert (result.trials["outcome"][even] == "NOT_FINITE").all()
    assert result.best["fast"] % 2 == 1
    assert not set(result.initial_numbers) & set(np.flatnonzero(even))
    assert sum("its run failed" in r.message for r in caplog.records) == 1


def test_the_digest_sees_every_cell(engine):
    table = search(engine).trials
    digests = {table_digest(table)}
    for column, value in (("value", 1e-9), ("number", 1), ("stage", 1)):
        changed = table.copy()
        changed.loc[5, column] = changed.loc[5, column] + value
        digests.add(table_digest(changed))
    assert len(digests) == 4
