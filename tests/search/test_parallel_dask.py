"""Workers on Dask: the same results, data sent once, and what happens when workers die."""

import builtins
import os
import signal
import socket
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import risky_strategies
from ares.backtest.result import Outcome
from ares.core.errors import ConfigError
from ares.search import CachedBacktester, ParallelBacktester
from risky_strategies import values

pytest.importorskip("distributed")
from ares.search.workers.dask_pool import DaskPool


@pytest.fixture(scope="module")
def pool():
    with DaskPool(2) as pool:
        yield pool


@pytest.fixture
def many():
    return [{"fast": 3 + i % 20, "slow": 25 + i} for i in range(40)]


@pytest.mark.parametrize("seconds", [0.0, 0.001, 100.0])
def test_chunks_of_any_size_give_the_results_of_the_plain_engine_on_dask(
    engine, many, pool, seconds
):
    parallel = ParallelBacktester(2, executor=pool, inner=engine, chunk_seconds=seconds)
    for _ in range(2):
        assert values(parallel.evaluate(many)) == values(engine.evaluate(many))
    flat = values(engine.evaluate(many, [4, 0], of=6))
    assert values(parallel.evaluate(many, [4, 0], of=6)) == flat
    np.testing.assert_array_equal(parallel.daily_returns(many), engine.daily_returns(many))
    assert parallel.stats()["fallbacks"] == []


def test_data_travels_at_most_once_to_each_dask_worker(make_bars, many, pool):
    engine = risky_strategies.engine_of(make_bars(700, seed=9), "Slow", seconds=0.002)
    parallel = ParallelBacktester(2, executor=pool, inner=engine, chunk_seconds=0.0)
    before = pool.sent
    for _ in range(3):
        parallel.evaluate(many)
    assert pool.sent - before == 2
    assert parallel.stats()["chunks"] > 40


def test_the_cache_above_dask_changes_nothing(engine, many, pool, tmp_path):
    plain = values(engine.evaluate(many))
    for _ in range(2):  # cold, then warm
        parallel = ParallelBacktester(2, executor=pool, inner=engine)
        cached = CachedBacktester(inner=parallel, store=tmp_path / "cache.sqlite")
        assert values(cached.evaluate(many)) == plain
        cached.close()
    assert parallel.stats()["points"] == 0


@pytest.mark.slow
def test_the_only_holder_of_the_data_is_killed_in_mid_run(cyclic, many):
    slow = risky_strategies.engine_of(cyclic, "Slow")
    with DaskPool(1) as pool:
        parallel = ParallelBacktester(1, executor=pool, inner=slow, chunk_seconds=0.1)
        parallel.evaluate(many[:4])
        assert pool.sent == 1
        [pid] = pool.pids
        killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
        killer.start()
        scores = parallel.evaluate(many * 2)
        killer.join()
        assert pool.pids != [pid]
        assert pool.sent == 2
    assert values(scores) == values(slow.evaluate(many)) * 2
    assert parallel.stats()["failed"] == 0
    assert parallel.stats()["fallbacks"] == []


@pytest.mark.slow
def test_a_point_that_always_kills_its_dask_worker_fails_alone(cyclic, many, pool, caplog, capfd):
    killer = risky_strategies.engine_of(cyclic, "Killer", fast=7)
    plain = risky_strategies.engine_of(cyclic, "Plain")
    parallel = ParallelBacktester(2, executor=pool, inner=killer)
    scores = parallel.evaluate(many[:20])
    for point, score, like in zip(many, scores, plain.evaluate(many[:20]), strict=False):
        same = values([score]) == values([like])
        assert same if point["fast"] != 7 else score.outcome is Outcome.NOT_FINITE
    assert parallel.stats()["failed"] == 1
    assert len(parallel.stats()["fallbacks"]) == 1
    assert sum("killed its worker" in r.getMessage() for r in caplog.records) == 1
    assert capfd.readouterr().err == ""  # what Dask has to say stays off the terminal


@pytest.mark.slow
def test_a_given_scheduler_is_used_and_its_end_is_survived(engine, many, caplog):
    from distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1",
        silence_logs=50,
    )  # fmt: skip
    with ParallelBacktester(
        2, inner=engine, workers="dask", scheduler=cluster.scheduler_address
    ) as parallel:
        assert values(parallel.evaluate(many)) == values(engine.evaluate(many))
        assert parallel.stats()["fallbacks"] == []
        cluster.close()
        assert values(parallel.evaluate(many)) == values(engine.evaluate(many))
        assert len(parallel.stats()["fallbacks"]) == 1


def test_a_local_cluster_listens_on_loopback_only_and_leaves_no_files_and_no_words(
    pool, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    with DaskPool(1) as other:
        [pid] = other.pids
        folder = other.submit(os.getcwd).result()
        listening = [
            connection.laddr.ip
            for process in (psutil.Process(), psutil.Process(pid))
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert set(listening) == {"127.0.0.1"}
    assert list(tmp_path.iterdir()) == []
    assert Path(folder) == tmp_path
    deadline = time.monotonic() + 5
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)
    assert pool.submit(os.getpid).result()  # another pool goes on, and is quiet
    assert capfd.readouterr().err == ""


def test_an_address_where_no_scheduler_answers_is_named(engine, capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ConfigError, match=address):
            DaskPool(scheduler=address, timeout=1.0)
    with pytest.raises(ConfigError, match="nonsense"):
        DaskPool(scheduler="nonsense://here", timeout=1.0)
    assert capfd.readouterr().err == ""


def test_without_distributed_the_error_says_how_to_install_it(engine, points, monkeypatch):
    plain = builtins.__import__

    def missing(name, *args, **options):
        if name.partition(".")[0] == "distributed":
            raise ImportError(name)
        return plain(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    parallel = ParallelBacktester(2, inner=engine, workers="dask")
    with pytest.raises(ConfigError, match=r"pip install 'ares-trainer\[dask\]'"):
        parallel.evaluate(points)
