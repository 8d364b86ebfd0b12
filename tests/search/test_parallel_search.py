"""A whole search gives the same bytes wherever its points run."""

import pytest

from ares.core.config import SearchConfig
from ares.search import CachedBacktester, ParallelBacktester, ProgressiveEvaluator, run_search
from ares.search.workers.dask_pool import DaskPool
from ares.search.workers.processes import ProcessPool

CONFIG = SearchConfig(trials=96, initial_samples=32, generation=32, min_trades=5)


@pytest.fixture(scope="module")
def pools():
    with ProcessPool(2) as processes, DaskPool(2) as dask:
        yield {"processes": processes, "dask": dask}


def digest_of(found):
    proof = (found.replayed, found.best, found.score.value, found.score.blocks.to_bytes())
    return found.trials_digest, found.initial_returns.tobytes(), found.initial_numbers, proof


@pytest.fixture
def plain(engine):
    return digest_of(run_search(engine, engine.problem.strategy.space, CONFIG, seed=7))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_search_in_threads_has_the_bytes_of_a_serial_one(engine, plain, workers):
    with ParallelBacktester(workers, inner=engine) as parallel:
        found = run_search(parallel, engine.problem.strategy.space, CONFIG, seed=7)
    assert digest_of(found) == plain


@pytest.mark.parametrize("seconds", [0.001, 1.0])
@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_a_search_in_other_processes_has_the_bytes_of_a_serial_one(
    engine, plain, pools, kind, seconds
):
    parallel = ParallelBacktester(2, executor=pools[kind], inner=engine, chunk_seconds=seconds)
    found = run_search(parallel, engine.problem.strategy.space, CONFIG, seed=7)
    assert digest_of(found) == plain
    assert found.fallbacks == ()


@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_a_cached_search_in_other_processes_has_the_same_bytes_cold_and_warm(
    engine, plain, pools, kind, tmp_path
):
    for misses in (True, False):
        parallel = ParallelBacktester(2, executor=pools[kind], inner=engine)
        cached = CachedBacktester(inner=parallel, store=tmp_path / "cache.sqlite")
        found = run_search(cached, engine.problem.strategy.space, CONFIG, seed=7)
        assert digest_of(found) == plain
        assert bool(cached.stats()["misses"]) is misses
        cached.close()


@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_early_stopping_above_other_processes_stops_the_same_points(make_bars, pools, kind):
    from ares.backtest.strategies import SmaCross
    from ares.search import EngineEvaluator, Objective

    bars = make_bars(6000, seed=3)
    engine = EngineEvaluator(bars, SmaCross(), objective=Objective(min_trades=5))
    space = SmaCross.space.with_bounds({"fast": (3, 12), "slow": (13, 40)})
    parallel = ParallelBacktester(2, executor=pools[kind], inner=engine, chunk_seconds=0.002)
    digests = [
        digest_of(run_search(ProgressiveEvaluator(inner=inner, seed=2), space, CONFIG, seed=7))
        for inner in (engine, parallel)
    ]
    assert digests[0] == digests[1]
