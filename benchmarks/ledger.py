"""A trial ledger of a million trials: time and bytes a trial, memory, reading and export.

    python benchmarks/ledger.py [--trials N]

Trials are made up, with 16 scoring blocks each, and come in generations of 64. Memory is the
process's resident memory after the first tenth, and at its highest afterwards: what the ledger
keeps would show. Then the file is opened again as a resumed search does (every digest is
checked), read in order, and exported to Parquet.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from ares.backtest.result import Outcome
from ares.kernels.blocks import MEASURES
from ares.search.blocks import BlockTable
from ares.search.ledger import Ledger, Trial
from ares.search.objective import Score
from ares.search.trials import export_parquet

GENERATION = 64
MIB = 2**20


def generation_of(number, generation, rng):
    table = BlockTable(
        np.full(16, 70),
        rng.normal(0, 0.01, (GENERATION, len(MEASURES), 16)),
        rng.integers(0, 40, (GENERATION, 16)),
    )
    drawn = rng.random((GENERATION, 8)).tolist()
    return [
        Trial(
            number + i,
            generation,
            "adaptive",
            dict(zip("abcdefgh", values, strict=True)),
            Score(values[0], Outcome.OK, blocks, 0.1, None, math.nan),
            1e-3,
        )
        for i, (values, blocks) in enumerate(zip(drawn, table.results(), strict=True))
    ]


def resident():
    return psutil.Process().memory_info().rss / MIB


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--trials", type=int, default=1_000_000)
    trials = parser.parse_args().trials
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.sqlite")
        spent, number, early, highest = 0.0, 0, None, 0.0
        with Ledger(path, "benchmark") as ledger:
            for generation in range(trials // GENERATION):
                some = generation_of(number, generation, rng)
                begun = time.perf_counter()
                ledger.append(some)
                spent += time.perf_counter() - begun
                number += GENERATION
                if number >= trials // 10:
                    early = early or resident()
                    highest = max(highest, resident())
        size = path.stat().st_size
        print(
            f"{number:,} trials: {1e6 * spent / number:.1f} us and {size / number:,.0f} bytes each"
        )
        print(f"resident: {early:.1f} MiB after a tenth, {highest:.1f} MiB at most afterwards")
        begun = time.perf_counter()
        with Ledger(path, "benchmark") as ledger:
            print(f"opened again, digests checked: {rate(begun, len(ledger))}")
            begun = time.perf_counter()
            count = sum(len(some) for some in ledger.replay())
            print(f"replayed: {rate(begun, count)}")
            begun = time.perf_counter()
            target = Path(folder, "trials.parquet")
            count = export_parquet(ledger, target)
            print(
                f"exported to Parquet: {rate(begun, count)},"
                f" {target.stat().st_size / count:,.0f} bytes each"
            )
        print(f"resident at the end: {resident():.1f} MiB")


def rate(begun, count):
    seconds = time.perf_counter() - begun
    return f"{count:,} trials, {1e6 * seconds / count:.1f} us each"


if __name__ == "__main__":
    main()
