import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.thread import BrokenThreadPool

import numpy as np
import pytest

from ares.core.errors import ConfigError, InputError, ParameterError
from ares.search import CachedBacktester, ParallelBacktester


def values(scores):
    return [(s.value, s.outcome, s.blocks) for s in scores]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_workers_shapes_no_result(engine, points, workers):
    with ParallelBacktester(workers, inner=engine) as parallel:
        assert values(parallel.evaluate(points)) == values(engine.evaluate(points))
        flat = values(engine.evaluate(points, [4, 0], of=6))
        assert values(parallel.evaluate(points, [4, 0], of=6)) == flat
        curves = parallel.daily_returns(points)
        np.testing.assert_array_equal(curves, engine.daily_returns(points))
        assert parallel.evaluate([]) == []
        assert parallel.stats()["fallbacks"] == []


class Backwards(Executor):
    """One thread that takes the newest task first, after a pause in which more come in."""

    def __init__(self):
        self.tasks = []
        self.order = []
        self.thread = ThreadPoolExecutor(1)

    def submit(self, function, /, *args, **options):
        future = Future()
        self.tasks.append((future, function, args))
        self.thread.submit(self.run)
        return future

    def run(self):
        time.sleep(0.01)
        future, function, args = self.tasks.pop()
        self.order.append(args[0].points[0]["fast"])
        future.set_result(function(*args))


def test_results_come_in_the_order_of_the_points_whoever_finishes_first(engine, points):
    pool = Backwards()
    parallel = ParallelBacktester(3, executor=pool, inner=engine, chunk_seconds=0)
    assert values(parallel.evaluate(points)) == values(engine.evaluate(points))
    pool.thread.shutdown()
    assert pool.order != sorted(pool.order)


class Breaking(ThreadPoolExecutor):
    """A pool that breaks at the third task."""

    count = 0

    def submit(self, function, /, *args, **options):
        self.count += 1
        if self.count >= 3:
            raise BrokenThreadPool("no threads left")
        return super().submit(function, *args, **options)


def test_a_broken_pool_is_one_warning_and_serial_work(engine, points, caplog):
    with Breaking(2) as pool:
        parallel = ParallelBacktester(2, executor=pool, inner=engine)
        for _ in range(2):
            assert values(parallel.evaluate(points)) == values(engine.evaluate(points))
    assert len(parallel.stats()["fallbacks"]) == 1
    assert parallel.stats()["workers"] == 1
    assert "no threads left" in caplog.text
    assert len(caplog.records) == 1
    assert CachedBacktester(inner=parallel).stats()["fallbacks"] == parallel.stats()["fallbacks"]


def test_a_pool_that_was_shut_down_is_a_broken_one(engine, points):
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    parallel = ParallelBacktester(2, executor=pool, inner=engine)
    assert values(parallel.evaluate(points)) == values(engine.evaluate(points))
    assert len(parallel.stats()["fallbacks"]) == 1


def test_an_error_of_the_user_is_raised_and_breaks_no_pool(engine, points):
    with ParallelBacktester(2, inner=engine) as parallel:
        with pytest.raises(ParameterError):
            parallel.evaluate([*points, {"fast": 0, "slow": 20}])
        assert parallel.stats()["fallbacks"] == []


def test_batches_on_a_frame_and_on_bars(cyclic, points):
    cached = CachedBacktester(cyclic)
    expected = [cached.run_cached_backtest(p) for p in points]
    with ParallelBacktester(2) as parallel:
        assert parallel.evaluate_batch(points, cyclic) == expected
        assert [s.value for s in parallel.evaluate(points)] == expected
        frame = cyclic.to_frame()
        assert parallel.evaluate_batch(points, frame) == expected
        frame.loc[frame.index[1000:], ["open", "high", "low", "close"]] *= 1.5
        assert parallel.evaluate_batch(points, frame) != expected  # written to in place


def test_a_batch_uses_the_rules_of_its_inner_evaluator(engine, points, cyclic, make_bars):
    with ParallelBacktester(2, inner=engine) as parallel:
        plain = [s.value for s in engine.evaluate(points)]
        assert parallel.evaluate_batch(points, cyclic) == plain
        assert parallel.evaluate_batch(points, make_bars(seed=5)) != plain
        assert [s.value for s in parallel.evaluate(points)] == plain


def test_arguments_are_checked():
    with pytest.raises(ConfigError, match="n_workers"):
        ParallelBacktester(0)
    with pytest.raises(ConfigError, match="threads, processes, dask"):
        ParallelBacktester(workers="fork")
    with pytest.raises(InputError, match="inner"):
        ParallelBacktester(1).evaluate([{}])
