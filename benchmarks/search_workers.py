"""Workers of a search beside one of them: a generation of 512 points of a score on one-minute bars.

    python benchmarks/search_workers.py [FOLDER] [--points N] [--rounds N]

Threads, spawned processes and a local Dask cluster, with one and with two workers, in turn; results
are compared before times are. Workers hold the data before they are timed (the first generation of
each, which sends it, is printed apart). Medians (least to greatest) of the other rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import _contestants as contestants
from engine import LEVELS, market

from ares.backtest.strategies import ScoreThreshold
from ares.search import EngineEvaluator, ParallelBacktester


def generation(count, at):
    """Points near one another, other ones each time."""
    base = contestants.score_points(*LEVELS["300 to 500 trades"])
    return [{**base[i % len(base)], "stop_loss": 0.02 + 1e-5 * i + 1e-7 * at} for i in range(count)]


def timed(tool, points):
    begun = time.perf_counter()
    scores = tool.evaluate(points)
    return time.perf_counter() - begun, [(s.value, s.blocks.to_bytes()) for s in scores]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--points", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    bars = market(options.folder, (2013, 2014, 2015))
    engine = EngineEvaluator(bars, ScoreThreshold(contestants.smooth_score(len(bars))))
    expected = [timed(engine, generation(options.points, 0))[1]]
    print(f"{len(bars):,} bars, {options.points} points a generation")
    for workers in ("threads", "processes", "dask"):
        tools = {n: ParallelBacktester(n, inner=engine, workers=workers) for n in (1, 2)}
        seconds = {n: [] for n in tools}
        first = {n: timed(tool, generation(options.points, 0)) for n, tool in tools.items()}
        assert all(answer == expected[0] for _, answer in first.values()), workers
        for at in range(1, options.rounds + 1):
            points = generation(options.points, at)
            answers = {n: timed(tool, points) for n, tool in tools.items()}
            assert answers[1][1] == answers[2][1], workers
            for n in tools:
                seconds[n].append(answers[n][0])
        for n, values in seconds.items():
            middle = statistics.median(values)
            print(
                f"  {workers:9} {n} worker{'s' if n > 1 else ' '}"
                f" {1e3 * middle / options.points:7.3f} ms a point"
                f" ({1e3 * min(values) / options.points:.3f} to"
                f" {1e3 * max(values) / options.points:.3f})"
                f"  x{statistics.median(seconds[1]) / middle:.2f}"
                f"  first generation {first[n][0]:.2f} s, data sent {tools[n].stats()['sent']} times"
            )
        for tool in tools.values():
            tool.close()


if __name__ == "__main__":
    main()
