"""The engine beside vectorbt, backtesting.py and a plain compiled loop: same work, same run.

    python benchmarks/engine.py [FOLDER] [--repeats N]

FOLDER holds `bitfinex_BTCUSD_1m_*.csv.gz` files; without it random walks of the same length serve.
Every contestant runs in a process of its own, two rounds in turn; its first run there is cold (kernels
are compiled before), the others are warm. Their results are compared before their times are: each
must find the same number of trades and the same final value of every point, but for two known
differences (`_contestants.py` says which). Added memory is the highest resident memory of a run
less that before it, which needs Linux. Times are medians (least to greatest).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import _contestants as contestants
import numpy as np

ORDER = ("timestamp", "open", "close", "high", "low", "volume")
MARKET = {"symbol": "BTCUSD", "exchange": "bitfinex", "timeframe": "1m"}
LEVELS = {"300 to 500 trades": (0.32, 0.37), "3,000 trades": (0.142, 0.152)}
# Slow ones run once a round.
SLOW = {name for name in dir(contestants) if name.startswith("vectorbt")}
# Whose results are those of another contestant; the own means of vectorbt cross elsewhere now and then.
LIKE = {name: "loop_score_as_vectorbt" for name in SLOW if "score" in name}
OWN_MEANS = {"vectorbt_grid_wide", "vectorbt_grid_each"}


def read(folder, years):
    from ares.market.files import load_bars

    paths = [folder / f"bitfinex_BTCUSD_1m_{year}.csv.gz" for year in years]
    return load_bars(paths, columns=ORDER, **MARKET)


def random_walk(count, seed=0):
    from ares.market.bars import Bars

    generator = np.random.default_rng(seed)
    close = np.round(300 * np.exp(np.cumsum(generator.normal(0, 8e-4, count))), 2)
    opening = np.concatenate([[300.0], close[:-1]])
    high, low = np.maximum(opening, close) + 0.05, np.minimum(opening, close) - 0.05
    time_ = 1_420_070_400 * 10**9 + 60 * 10**9 * np.arange(count)
    columns = (opening, np.round(high, 2), np.round(low, 2), close, np.ones(count))
    return Bars(time_, *columns, **MARKET, tick=0.01)


def market(folder, years):
    return read(folder, years) if folder else random_walk(366_710 if len(years) == 1 else 798_543)


# -- one contestant in its own process ------------------------------------------------------------


def highest_memory():
    """Highest resident memory since `reset_memory`, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def reset_memory():
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return highest_memory()


def contest(name, threads, kind, folder, repeats):
    bars = market(folder, (2015,) if kind == "grid" else (2013, 2014, 2015))
    points, score = contestants.GRID, None
    if kind != "grid":
        points = contestants.score_points(*LEVELS[kind])
        score = contestants.smooth_score(len(bars))
    work = contestants.Work(bars, score, points)
    run = getattr(contestants, name)
    contestants.warm_up(run, work)
    seconds, added = [], []
    for _ in range(repeats):
        before = reset_memory()
        begun = time.perf_counter()
        final, trades = run(work, threads)
        seconds.append(time.perf_counter() - begun)
        added.append(highest_memory() - before)
    print(json.dumps([seconds, max(added), final.tolist(), trades.tolist()]))


def call(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def compare(title, kind, entries, folder, repeats):
    """Rounds of all contestants; the first one is Ares. Prints a table with ratios."""
    where = [folder] if folder else []
    found = {entry: ([], [], []) for entry in entries}
    answers = {}
    for _ in range(2):
        for name, threads in entries:
            count = 1 if name in SLOW else repeats
            seconds, added, *answer = call(*where, "--contest", name, threads, kind, count)
            cold, warm, memory = found[name, threads]
            cold.append(seconds[0])
            warm.extend(seconds[1:] or seconds)
            memory.append(added)
            answers[name] = np.array(answer)
    if "vectorbt_score_each" in answers:
        like = "loop_score_as_vectorbt"
        answers[like] = np.array(call(*where, "--contest", like, 1, kind, 1)[2:])
    final, trades = answers[entries[0][0]]
    print(f"\n{title}: {len(final)} points, {trades.mean():,.0f} trades each on average")
    ours = statistics.median(found[entries[0]][1])
    for entry in entries:
        cold, warm, memory = (np.array(values) for values in found[entry])
        a_point = 1e3 / len(final)
        print(
            f"  {entry[0]:20} {entry[1]} thread{'s' if entry[1] > 1 else ' '}"
            f" {np.median(warm) * a_point:9.3f} ms a point"
            f" ({warm.min() * a_point:.3f} to {warm.max() * a_point:.3f},"
            f" cold {cold.max() * a_point:.3f})"
            f" x{np.median(warm) / ours:8.1f}  added {memory.max():7.1f} MiB"
            f"  {agreement(entry[0], answers, entries[0][0])}"
        )


def agreement(name, answers, ours):
    """How a contestant's results compare with those they should equal."""
    expected = answers[LIKE.get(name, ours)]
    equal = (answers[name][1] == expected[1]) & (np.abs(answers[name][0] / expected[0] - 1) < 1e-9)
    if name in OWN_MEANS:
        near = np.abs(answers[name][1] - expected[1]).max()
        return f"own means: trades differ by at most {near:.0f}"
    if not equal.all():
        raise SystemExit(f"{name}: {(~equal).sum()} points have other results")
    return "equal results"


# -- growth and cold start ------------------------------------------------------------------------


def stretched(bars, score, factor):
    """The same trades on more bars: after each bar follow quiet ones at its close."""
    from ares.market.bars import Bars

    n = len(bars) * factor
    flat = np.repeat(bars.close, factor)
    columns = {name: flat.copy() for name in ("open", "high", "low", "close")}
    for name, column in columns.items():
        column[::factor] = getattr(bars, name)
    times = bars.timestamp[0] + 60 * 10**9 * np.arange(n)
    longer = np.full(n, np.nan)
    longer[factor - 1 :: factor] = score
    return Bars(times, *columns.values(), np.ones(n), **MARKET, tick=bars.tick), longer


def growth(folder, repeats):
    from ares.backtest import Arena, Costs, run_batch, simulate
    from ares.backtest.strategies import ScoreThreshold

    base = market(folder, (2015,))[:80_000]
    score, costs = contestants.smooth_score(len(base)), Costs(0.0001, 0.0)
    points = [
        {k: v for k, v in p.items() if k != "cooldown"} for p in contestants.score_points(0.2, 0.3)
    ]
    print("\nGrowth: the same trades on ten times the bars")
    rows = []
    for factor in (1, 10):
        bars, longer = stretched(base, score, factor)
        strategy = ScoreThreshold(longer)
        arena = Arena.of(bars, costs=costs, fill="close")
        batch = partial(run_batch, arena, strategy, points)
        batch()
        one = partial(simulate, bars, strategy, points[0], costs=costs, fill="close")
        medians = [
            statistics.median(timed(function) for _ in range(repeats)) for function in (batch, one)
        ]
        rows.append((*medians, batch()))
    same = (rows[0][2].n_trades == rows[1][2].n_trades).all() and np.allclose(
        rows[0][2].total_return, rows[1][2].total_return, rtol=1e-9, atol=1e-12
    )
    print(
        f"  {len(base):,} and {10 * len(base):,} bars, {rows[0][2].n_trades.mean():,.0f} trades a point, same trades: {same}"
    )
    for title, k in (("run_batch, a point", 0), ("simulate, with its closes", 1)):
        print(f"  {title:26} x{rows[1][k] / rows[0][k]:.2f}")


def timed(function):
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


COLD = """
import time
begun = time.perf_counter()
import numpy as np
from ares.backtest import Costs, simulate
from ares.backtest.strategies import SmaCross
from ares.market.sources import sample
imported = time.perf_counter()
bars = sample()
ready = time.perf_counter()
simulate(bars, SmaCross(), {"fast": 10, "slow": 50}, costs=Costs(0.001, 0.0))
print([imported - begun, time.perf_counter() - ready])
"""


def cold_start():
    print("\nCold start")
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        environment.pop("NUMBA_CACHE_DIR", None)
        for title in ("from nothing: every kernel compiles", "new process, kernels kept"):
            done = subprocess.run(
                [sys.executable, "-c", COLD],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            imports, first = json.loads(done.stdout)
            print(f"  {title:36} imports {imports:5.2f} s, first simulate {first:.3f} s")


def event_driven(folder):
    """backtesting.py on one point, for a size."""
    bars = market(folder, (2015,))
    seconds, trades = contestants.backtesting_py(bars, 20, 100)
    work = contestants.Work(bars, None, ({"fast": 20, "slow": 100},))
    contestants.ares_grid(work, 1)
    ours = statistics.median(timed(lambda: contestants.ares_grid(work, 1)) for _ in range(5))
    print(
        f"\nbacktesting.py, one SMA point: x{seconds / ours:,.0f} ({trades:,} trades; {seconds:.1f} s)"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--contest", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contest:
        name, threads, kind, repeats = options.contest
        contest(name, int(threads), kind, options.folder, int(repeats))
        return
    folder, repeats = options.folder, options.repeats
    grid = [
        ("ares_grid", 2), ("ares_grid", 1), ("vectorbt_grid_wide", 1), ("vectorbt_grid_each", 1),
        ("vectorbt_grid_each", 2), ("vectorbt_grid_given", 1),
    ]  # fmt: skip
    compare("SMA grid 10 x 10, one year of minutes", "grid", grid, folder, repeats)
    score = [
        ("ares_score", 1), ("ares_score", 2), ("loop_score", 1), ("vectorbt_score_wide", 1),
        ("vectorbt_score_each", 1), ("vectorbt_score_each", 2),
    ]  # fmt: skip
    for kind in LEVELS:
        title = f"Score with stop and target, three years of minutes, {kind}"
        compare(title, kind, score, folder, repeats)
    event_driven(folder)
    growth(folder, repeats)
    cold_start()


if __name__ == "__main__":
    main()
