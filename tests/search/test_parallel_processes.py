"""Spawned processes: the same results, data sent once, and what happens when workers die."""

import logging
import multiprocessing
import os
import random
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import psutil
import pytest

import risky_strategies
from ares.backtest.result import Outcome
from ares.core.errors import InputError, ParameterError
from ares.search import CachedBacktester, ParallelBacktester
from ares.search.workers import worker
from ares.search.workers.processes import ProcessPool
from risky_strategies import values


@pytest.fixture(scope="module")
def pool():
    with ProcessPool(2) as pool:
        yield pool


@pytest.fixture
def many():
    return [{"fast": 3 + i % 20, "slow": 25 + i} for i in range(60)]


@pytest.mark.parametrize("seconds", [0.0, 0.001, 100.0])
def test_chunks_of_any_size_give_the_results_of_the_plain_engine(engine, many, pool, seconds):
    parallel = ParallelBacktester(2, executor=pool, inner=engine, chunk_seconds=seconds)
    for _ in range(2):
        assert values(parallel.evaluate(many)) == values(engine.evaluate(many))
    flat = values(engine.evaluate(many, [4, 0], of=6))
    assert values(parallel.evaluate(many, [4, 0], of=6)) == flat
    np.testing.assert_array_equal(parallel.daily_returns(many), engine.daily_returns(many))
    assert parallel.daily_returns([]).shape == engine.daily_returns([]).shape
    assert parallel.evaluate([]) == []
    assert parallel.stats()["fallbacks"] == []


def test_data_travels_once_to_each_worker_and_again_to_one_that_forgot(make_bars, many):
    engines = [
        risky_strategies.engine_of(make_bars(600, seed=i), "Plain")
        for i in range(worker.MAX_PROBLEMS + 1)
    ]
    with ProcessPool(1) as pool:
        tools = [ParallelBacktester(1, executor=pool, inner=engine) for engine in engines]
        for tool, engine in zip(tools, engines, strict=True):
            for _ in range(3):
                assert values(tool.evaluate(many)) == values(engine.evaluate(many))
        assert pool.sent == len(engines)
        tools[-1].evaluate(many)
        assert pool.sent == len(engines)
        tools[0].evaluate(many)  # the one used longest ago had to go
        assert pool.sent == len(engines) + 1


def test_an_executor_of_the_user_is_sent_little_more_than_once_per_worker(engine, many):
    sent = []

    class Watched(ProcessPoolExecutor):
        def submit(self, function, /, *args, **options):
            sent.append(args[1] is not None)
            return super().submit(function, *args, **options)

    with Watched(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        parallel = ParallelBacktester(1, executor=pool, inner=engine, chunk_seconds=0)
        assert values(parallel.evaluate(many)) == values(engine.evaluate(many))
        parallel.evaluate(many)
        assert sum(sent) == 1
        assert len(sent) > 100
        assert parallel.stats()["fallbacks"] == []


def test_the_cache_above_processes_changes_nothing(engine, many, pool, tmp_path):
    plain = values(engine.evaluate(many))
    for _ in range(2):  # cold, then warm
        parallel = ParallelBacktester(2, executor=pool, inner=engine)
        cached = CachedBacktester(inner=parallel, store=tmp_path / "cache.sqlite")
        assert values(cached.evaluate(many)) == plain
        assert values(cached.evaluate(many)) == plain
        cached.close()
    assert parallel.stats()["points"] == 0


def test_a_killed_worker_is_replaced_and_its_chunk_runs_again(cyclic, many, tmp_path, pool):
    mortal = risky_strategies.engine_of(cyclic, "Mortal", lives=str(tmp_path))
    parallel = ParallelBacktester(2, executor=pool, inner=mortal, chunk_seconds=0.01)
    before = pool.deaths
    for round_ in (1, 2):
        for name in "ab":
            (tmp_path / name).touch()
        scores = parallel.evaluate(many)
        assert pool.deaths == before + 2 * round_
        assert not list(tmp_path.iterdir())
        assert values(scores) == values(mortal.evaluate(many))
    assert parallel.stats()["failed"] == 0
    assert parallel.stats()["fallbacks"] == []


@pytest.mark.slow
def test_workers_killed_from_outside_at_random_moments_shape_no_result(cyclic, many):
    slow = risky_strategies.engine_of(cyclic, "Slow")
    with ProcessPool(2) as pool:
        parallel = ParallelBacktester(2, executor=pool, inner=slow, chunk_seconds=0.05)
        parallel.evaluate(many[:4])

        def kill():
            moments = random.Random(4)
            for _ in range(3):
                time.sleep(moments.uniform(0.05, 0.3))
                os.kill(moments.choice(pool.pids or [pool.pids[0]]), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        scores = parallel.evaluate(many * 4)
        killer.join()
        assert pool.deaths >= 1
        assert values(scores) == values(slow.evaluate(many)) * 4
        assert parallel.stats()["fallbacks"] == []


@pytest.mark.slow
def test_a_point_that_always_kills_its_worker_fails_alone(cyclic, many, pool, caplog):
    killer = risky_strategies.engine_of(cyclic, "Killer")
    plain = risky_strategies.engine_of(cyclic, "Plain")
    parallel = ParallelBacktester(2, executor=pool, inner=killer)
    before = pool.deaths
    scores = parallel.evaluate(many)
    deadly = [i for i, point in enumerate(many) if point["fast"] == 13]
    assert deadly
    for i, (score, like) in enumerate(zip(scores, plain.evaluate(many), strict=True)):
        if i in deadly:
            assert (score.value, score.outcome) == (-np.inf, Outcome.NOT_FINITE)
            assert len(score.blocks) == len(like.blocks)
        else:
            assert values([score]) == values([like])
    assert parallel.stats()["failed"] == len(deadly)
    assert len(parallel.stats()["fallbacks"]) == 1
    assert sum("killed its worker" in r.getMessage() for r in caplog.records) == 1
    deaths = pool.deaths - before
    assert deaths <= len(deadly) * 4  # its chunk, a piece of it, and twice alone
    curves = parallel.daily_returns(many)  # known by now: nobody dies of them again
    assert pool.deaths == before + deaths
    assert np.isnan(curves[deadly]).all()
    np.testing.assert_array_equal(
        np.delete(curves, deadly, axis=0), np.delete(plain.daily_returns(many), deadly, axis=0)
    )


@pytest.mark.slow
def test_what_broke_the_users_pool_runs_on_in_processes_never_here(cyclic, points, caplog):
    killer = risky_strategies.engine_of(cyclic, "Killer")
    plain = risky_strategies.engine_of(cyclic, "Plain")
    spawn = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(1, mp_context=spawn) as theirs,
        ParallelBacktester(1, executor=theirs, inner=killer) as parallel,
    ):
        scores = parallel.evaluate(points)
        notes = parallel.stats()["fallbacks"]
    expected = plain.evaluate(points)
    for point, score, like in zip(points, scores, expected, strict=True):
        same = values([score]) == values([like])
        assert same if point["fast"] != 13 else score.outcome is Outcome.NOT_FINITE
    assert "own processes: the pool broke" in notes[0]
    assert sum("the pool broke" in r.getMessage() for r in caplog.records) == 1


def test_what_a_strategy_raises_in_a_process_stays_a_value_with_one_warning(
    cyclic, many, pool, caplog
):
    raising = risky_strategies.engine_of(cyclic, "Raising")
    parallel = ParallelBacktester(2, executor=pool, inner=raising, chunk_seconds=0)
    scores = parallel.evaluate(many)
    warned = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warned) == 1
    assert "odd: " in warned[0].getMessage()
    alone = raising.evaluate(many)
    assert values(scores) == values(alone)
    assert [s.reason for s in scores] == [s.reason for s in alone]
    assert {s.reason is None for s, p in zip(scores, many, strict=True) if p["fast"] % 2} == {False}
    assert {s.outcome for s, p in zip(scores, many, strict=True) if p["fast"] % 2} == {
        Outcome.NOT_FINITE
    }


def test_an_error_of_the_user_crosses_the_process_border(engine, many, pool):
    parallel = ParallelBacktester(2, executor=pool, inner=engine)
    with pytest.raises(ParameterError, match="fast"):
        parallel.evaluate([*many, {"fast": 0, "slow": 20}])
    assert values(parallel.evaluate(many)) == values(engine.evaluate(many))
    assert parallel.stats()["fallbacks"] == []


def test_what_cannot_be_sent_runs_in_threads_with_one_warning(engine, many, caplog):
    class Local:
        """A class that no other process can import."""

        problem = engine.problem
        evaluate = staticmethod(engine.evaluate)
        daily_returns = staticmethod(engine.daily_returns)

    with ParallelBacktester(2, inner=Local(), workers="processes") as parallel:
        for _ in range(2):
            assert values(parallel.evaluate(many)) == values(engine.evaluate(many))
        assert [note[:8] for note in parallel.stats()["fallbacks"]] == ["threads:"]
    assert len(caplog.records) == 1


def test_a_strategy_whose_file_changed_since_is_refused(cyclic, many, pool, tmp_path):
    from ares.backtest.user import load_strategy
    from ares.search import EngineEvaluator

    file = tmp_path / "mine.py"
    source = "from risky_strategies import Plain\n\nclass Mine(Plain):\n    pass\n"
    file.write_text(source)
    engine = EngineEvaluator(cyclic, load_strategy(f"{file}:Mine"))
    file.write_text(source + "    name = 'other'\n")
    parallel = ParallelBacktester(2, executor=pool, inner=engine)
    with pytest.raises(InputError, match=r"mine\.py.*same in every worker.*changed"):
        parallel.evaluate(many)
    engine = EngineEvaluator(cyclic, load_strategy(f"{file}:Mine"))
    parallel = ParallelBacktester(2, executor=pool, inner=engine)
    assert values(parallel.evaluate(many)) == values(engine.evaluate(many))


def test_settings_of_a_users_strategy_travel_with_it(cyclic, many, pool):
    raising = risky_strategies.engine_of(cyclic, "Killer", fast=-1)
    parallel = ParallelBacktester(2, executor=pool, inner=raising)
    plain = risky_strategies.engine_of(cyclic, "Plain")
    assert values(parallel.evaluate(many)) == values(plain.evaluate(many))


def test_a_worker_is_single_threaded_and_ignores_ctrl_c(pool):
    pid = pool.submit(os.getpid).result()
    os.kill(pid, signal.SIGINT)
    assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"
    assert pool.submit(os.getenv, "NUMBA_NUM_THREADS").result() == "1"
    assert pid in pool.pids
    assert os.environ.get("NUMBA_NUM_THREADS") is None


def test_a_pool_that_was_shut_down_has_no_processes():
    with ProcessPool(1) as pool:
        pid = pool.submit(os.getpid).result()
    assert pool.pids == [] or not psutil.pid_exists(pid)


def test_an_objective_in_a_file_of_the_users_runs_in_processes(cyclic, many, pool):
    from ares.backtest.strategies import SmaCross
    from ares.search import EngineEvaluator, Objective
    from ares.search.user_objective import load_objective

    statistic = load_objective(f"{risky_strategies.__file__}:growth")
    engine = EngineEvaluator(cyclic, SmaCross(), objective=Objective(statistic))
    parallel = ParallelBacktester(2, executor=pool, inner=engine)
    assert values(parallel.evaluate(many)) == values(engine.evaluate(many))
    assert parallel.stats()["fallbacks"] == []
