"""The search: evaluations per second with everything on, its own cost, workers, and a peer's search.

    python benchmarks/search.py [FOLDER] [--trials N] [--peer-trials N] [--repeats N]

FOLDER holds `bitfinex_BTCUSD_1m_*.csv.gz` files; without it a random walk of the same length serves.
The work is ScoreThreshold with 8 parameters on about 800,000 bars, full evaluations only, sampler,
cache (memory and file) and ledger on, bounds such that points make 300 to 500 trades. Every run
has a folder of its own; the first run of each kind (imports, kernels) is not counted. The peer is
Optuna's TPE over vectorbt's Rust engine, on the four of the parameters that vectorbt knows.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from unittest import mock

import _contestants as contestants
import engine as markets
import numpy as np

from ares.backtest.costs import Costs
from ares.backtest.strategies import ScoreThreshold
from ares.core.config import SearchConfig
from ares.search import (
    AdaptiveSampler,
    CachedBacktester,
    EngineEvaluator,
    Ledger,
    ParallelBacktester,
    run_search,
)
from ares.search.study import _Study

BOUNDS = {
    "enter": (0.25, 0.33),
    "exit": (-0.2, 0.2),
    "stop_loss": (0.01, 0.05, "log"),
    "take_profit": (0.01, 0.1, "log"),
    "max_hold": (200, 5000, "log"),
    "cooldown": (0, 50),
    "direction": ["long", "short", "both"],
    "size": (0.5, 1.0),
}
LARGE = 512  # a generation of many workers


class Prepared:
    """Answers at once, with the scores of points that were run before: what is left is overhead."""

    def __init__(self, engine, points):
        self.problem = engine.problem
        self._scores = engine.evaluate(points)

    def evaluate(self, points, blocks=None, *, of=None):  # noqa: ARG002  # the protocol's
        return [self._scores[i % len(self._scores)] for i in range(len(points))]

    def daily_returns(self, points):
        return np.zeros((len(points), 2))


def search(evaluator, space, trials, generation=64):
    """Seconds of one search with cache and ledger on files of its own."""
    config = SearchConfig(trials=trials, generation=generation, initial_samples=128)
    with tempfile.TemporaryDirectory() as folder:
        cached = CachedBacktester(inner=evaluator, store=Path(folder, "cache.sqlite"))
        begun = time.perf_counter()
        found = run_search(cached, space, config, seed=1, ledger=Path(folder, "ledger.sqlite"))
        seconds = time.perf_counter() - begun
        cached.close()
    assert found.counts["full"] == trials
    return seconds, found


def throughput(engine, space, trials, repeats):
    print(f"\nEverything on, {trials:,} full evaluations a search:")
    search(engine, space, 256)
    rates = {}
    for threads in (1, 2):
        for generation in (64, LARGE):
            seconds = []
            for _ in range(repeats):
                with ParallelBacktester(threads, inner=engine) as workers:
                    spent, found = search(workers, space, trials, generation)
                seconds.append(spent)
            trades = np.percentile(found.trials["n_trades"], [25, 50, 75])
            rates[threads, generation] = trials / statistics.median(seconds)
            print(
                f"  {threads} thread(s), generations of {generation:3}:"
                f" {rates[threads, generation]:7,.0f} a second"
                f" ({trials / max(seconds):,.0f} to {trials / min(seconds):,.0f}),"
                f" trades {trades[0]:.0f} / {trades[1]:.0f} / {trades[2]:.0f} (quartiles)"
            )
    return max(rates.values())


def overhead(engine, space, trials, repeats):
    points = [space.normalise({"enter": 0.3 + 0.001 * i, "exit": 0.0}) for i in range(50)]
    stub = Prepared(engine, points)
    with mock.patch("ares.search.study.replay_proof"):  # it would find the answers made up
        search(stub, space, 256)
        seconds = [search(stub, space, trials)[0] for _ in range(max(repeats, 5))]
        parts = measured_parts(lambda: search(stub, space, trials))
    each = statistics.median(seconds) / trials
    print(
        f"\nSampler, ledger and cache, without any backtest: {1e6 * each:.0f} us a trial"
        f" ({1e6 * min(seconds) / trials:.0f} to {1e6 * max(seconds) / trials:.0f}),"
        f" {100 * each / 1e-3:.1f} % of an evaluation of 1 ms; of one run: "
        + ", ".join(f"{name} {1e6 * spent / trials:.0f}" for name, spent in parts.items())
    )


def measured_parts(run):
    """Seconds that each part of a search takes."""
    spent = {}

    def timed(name, method):
        def call(*args, **options):
            begun = time.perf_counter()
            found = method(*args, **options)
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - begun
            return found

        return call

    with contextlib.ExitStack() as stack:
        for name, owner, method in (
            ("sampler", AdaptiveSampler, "ask"),
            ("sampler", AdaptiveSampler, "tell"),
            ("cache", CachedBacktester, "evaluate"),
            ("ledger", Ledger, "append"),
            ("tables and plateau", _Study, "result"),
        ):
            wrapped = timed(name, getattr(owner, method))
            stack.enter_context(mock.patch.object(owner, method, wrapped))
        run()
    return spent


def evaluations(engine, space, repeats):
    """The same generation of 512 points by one worker and by two, of each kind."""
    for title, low, high in (("cheap", 0.34, 0.42), ("dear", 0.12, 0.16)):
        points = [space.normalise(point) for point in drawn(low, high)]
        plain = engine.evaluate(points)
        trades = np.mean([score.blocks.trades.sum() for score in plain])
        print(
            f"\nA generation of {LARGE} {title} points, {trades:,.0f} trades each; no sampler, no cache:"
        )
        for kind in ("threads", "processes", "dask"):
            times = {}
            for count in (1, 2):
                with ParallelBacktester(count, inner=engine, workers=kind) as workers:
                    first = workers.evaluate(points)  # imports, and the data travels
                    assert [(s.value, s.blocks) for s in first] == [
                        (s.value, s.blocks) for s in plain
                    ]
                    times[count] = measured(workers, points, repeats)
            one, two = (1e3 * times[count] / LARGE for count in (1, 2))
            print(f"  {kind:9} one {one:.3f} ms a point, two {two:.3f}: x{one / two:.2f}")


def drawn(low, high):
    rng = np.random.default_rng(3)
    return [
        {
            "enter": rng.uniform(low, high),
            "exit": rng.uniform(-0.05, 0.05),
            "stop_loss": rng.uniform(0.01, 0.03),
            "take_profit": rng.uniform(0.02, 0.06),
            "direction": "both",
        }
        for _ in range(LARGE)
    ]


def measured(workers, points, repeats):
    seconds = []
    for _ in range(max(repeats, 5)):
        begun = time.perf_counter()
        workers.evaluate(points)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def peer(bars, score, trials):
    """Trials per second of Optuna's TPE over vectorbt, one point after the other as its users do."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    work = contestants.Work(bars, score, ())

    def objective(trial):
        point = {
            "enter": trial.suggest_float("enter", *BOUNDS["enter"]),
            "exit": trial.suggest_float("exit", *BOUNDS["exit"]),
            "stop_loss": trial.suggest_float("stop_loss", 0.01, 0.05, log=True),
            "take_profit": trial.suggest_float("take_profit", 0.01, 0.1, log=True),
        }
        return float(contestants.vectorbt_score_each(work_of(work, point), 1)[0][0])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=1)
        )
        study.optimize(objective, n_trials=3)
        begun = time.perf_counter()
        study.optimize(objective, n_trials=trials)
    return trials / (time.perf_counter() - begun)


def work_of(work, point):
    return contestants.Work(work.bars, work.score, (point,))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--trials", type=int, default=8192)
    parser.add_argument("--peer-trials", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    bars = markets.market(asked.folder, (2013, 2014, 2015))
    score = contestants.smooth_score(len(bars))
    strategy = ScoreThreshold(score)
    space = strategy.space.with_bounds(BOUNDS)
    engine = EngineEvaluator(bars, strategy, costs=Costs(0.0004, 0.0001))
    best = throughput(engine, space, asked.trials, asked.repeats)
    overhead(engine, space, asked.trials, asked.repeats)
    evaluations(engine, space, asked.repeats)
    theirs = peer(bars, score, asked.peer_trials)
    print(
        f"\nOptuna's TPE over vectorbt: {theirs:.1f} a second; ours are {best / theirs:,.0f} times as many"
    )


if __name__ == "__main__":
    main()
