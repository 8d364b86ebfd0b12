"""Train on the fifteen-minute bars of 50 million minutes within the base of the process + 300 MiB.

    python benchmarks/footprint.py [--rows 3333330] [--room 300]

Bars are made (a random walk, prices with two decimals), imported, and trained on in a fresh process
by the quick mode with few trees. Printed are base, budget and peak: resident memory of the process,
pages of mapped files included, as the kernel's high-water mark has it (the step that reaches it
beside it), and the part of it that is no file's, sampled every 20 ms.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

MIB = 1 << 20
MARKET = {"symbol": "WALK", "exchange": "bench", "timeframe": "15m"}
QUICK = {
    "enhanced_training_manager.mode": "quick",
    "analyst.trees": 6,
    "tactician.trees": 6,
    "search.trials": 72,
    "search.initial_samples": 64,
}
START = 111_112 * 900_000
"""ms; 1973."""


def made(path, rows):
    """Bars as a Parquet file."""
    import numpy as np
    import pandas as pd
    from scipy.signal import lfilter

    rng = np.random.default_rng(0)
    walk = 10.3 + lfilter([1.0], [1.0, -(1 - 1e-5)], rng.normal(0, 8e-4, rows))
    close = np.round(np.exp(walk), 2)
    opening = np.concatenate([close[:1], close[:-1]])
    up, down = (1 + sign * np.abs(rng.normal(0, 3e-4, rows)) for sign in (1, -1))
    times = (START + 900_000 * np.arange(rows)) * 10**6
    columns = {
        "open": opening,
        "high": np.round(np.maximum(opening, close) * up, 2),
        "low": np.round(np.minimum(opening, close) * down, 2),
        "close": close,
        "volume": np.round(rng.exponential(2.0, rows), 6),
    }
    frame = pd.DataFrame({"timestamp": pd.DatetimeIndex(times, tz="UTC"), **columns})
    frame.to_parquet(path)


def imported(home, path):
    from ares.market.stored.datasets import import_files
    from ares.store.workspace import Workspace

    import_files(Workspace(home), path, **MARKET)


def anonymous():
    """Resident bytes that belong to no file."""
    text = Path("/proc/self/status").read_text()
    return int(re.search(r"^RssAnon:\s*(\d+)", text, re.MULTILINE)[1]) * 1024


def trained(home, room):
    """Train in this process and print what it took."""
    from ares.core.settings import load_settings
    from ares.enhanced_training_manager import EnhancedTrainingManager
    from ares.market.memory import MemoryManager
    from ares.pipeline import footprint

    footprint.preload()
    base, own = MemoryManager().base_bytes, anonymous()
    budget = base + room * MIB
    key = "computational_optimization.memory_management.budget"
    settings = load_settings(None, overrides={**QUICK, key: f"{budget}B"}, environ={})
    highest = [own]

    def sample():
        while True:
            highest[0] = max(highest[0], anonymous())
            time.sleep(0.02)

    threading.Thread(target=sample, daemon=True).start()
    began = time.process_time()
    manager = EnhancedTrainingManager(settings, home=home)
    result = manager.execute_enhanced_training(MARKET)
    found = manager.get_memory_manager().profile_memory_usage()
    peak = found["peak_bytes"]
    step = max((r for r in result.steps), key=lambda r: r.peak_memory_bytes)
    print(
        f"base {base / MIB:,.0f} MiB, budget {budget / MIB:,.0f} MiB, peak {peak / MIB:,.0f} MiB"
        f" (base + {(peak - base) / MIB:,.0f}); no file's: base {own / MIB:,.0f},"
        f" peak {highest[0] / MIB:,.0f} (+ {(highest[0] - own) / MIB:,.0f}) MiB;"
        f" evictions {found['evictions']}; largest step {step.number} {step.scope}"
        f" (base + {(step.peak_memory_bytes - base) / MIB:,.0f});"
        f" {time.process_time() - began:,.0f} s of processor time"
    )
    if peak > budget:
        raise SystemExit("the budget was passed")


def main():
    if sys.argv[1:2] == ["--child"]:
        work, *rest = sys.argv[2:]
        {
            "made": lambda: made(Path(rest[0]), int(rest[1])),
            "imported": lambda: imported(Path(rest[0]), Path(rest[1])),
            "trained": lambda: trained(Path(rest[0]), int(rest[1])),
        }[work]()
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3_333_330)
    parser.add_argument("--room", type=int, default=300, help="MiB above the base")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home, path = Path(name, "home"), Path(name, "bars.parquet")
        for work in (
            ("made", path, options.rows),
            ("imported", home, path),
            ("trained", home, options.room),
        ):
            command = [sys.executable, __file__, "--child", *map(str, work)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
