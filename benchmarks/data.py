"""Loading 800,000 one-minute bars: CSV.gz and the dataset store against a bare pyarrow read.

    python benchmarks/data.py [FOLDER] [--repeats N]

FOLDER holds `bitfinex_BTCUSD_1m_*.csv.gz` files; without it a random walk of 800,000 bars is written
and read. Each way of loading alternates with a bare pyarrow read of the same rows. Cold runs are the first in a fresh process (imports included).
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MARKET = {"symbol": "BTCUSD", "exchange": "bitfinex", "timeframe": "1m"}
ORDER = "timestamp,open,close,high,low,volume"


def bare_csv(paths):
    import pyarrow as pa
    import pyarrow.csv as pc

    names = pc.ReadOptions(column_names=ORDER.split(","))
    return pa.concat_tables(pc.read_csv(path, read_options=names) for path in paths)


def bare_parquet(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("20*.parquet")))


def csv_files(paths):
    from ares.market.files import load_bars

    return load_bars(paths, columns=ORDER, **MARKET)


def dataset(home):
    from ares.market.datasets import load_dataset
    from ares.store.workspace import Workspace

    return load_dataset(Workspace(home), *MARKET.values())


def timed(function, argument):
    gc.collect()
    begun = time.perf_counter()
    rows = len(function(argument))
    return time.perf_counter() - begun, rows


def compare(title, ours, bare, ours_argument, bare_argument, repeats):
    pairs = [(timed(ours, ours_argument), timed(bare, bare_argument)) for _ in range(repeats)]
    mine = statistics.median(p[0][0] for p in pairs)
    theirs = statistics.median(p[1][0] for p in pairs)
    rows = pairs[0][0][1]
    print(
        f"{title:24} {rows:>9,} rows {mine * 1e3:9.1f} ms   bare {theirs * 1e3:9.1f} ms   x{mine / theirs:.2f}"
    )


def cold(name, argument):
    """Seconds of the first call in a fresh process, imports included."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import data; data.main_cold()"
    done = subprocess.run(
        [sys.executable, "-c", code, name, *map(str, argument)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def main_cold():
    name, *argument = sys.argv[1:]
    paths = [Path(text) for text in argument]
    function = globals()[name]
    print(timed(function, paths if name.endswith(("csv", "files")) else paths[0])[0])


def random_walk(folder, count=800_000):
    """Minute bars in the column order of the real files, prices with two decimals."""
    import numpy as np
    import pandas as pd

    generator = np.random.default_rng(0)
    close = np.round(300 * np.exp(np.cumsum(generator.normal(0, 2e-4, count))), 2)
    opening = np.concatenate([[300.0], close[:-1]])
    table = {
        "timestamp": 1_420_070_400_000 + 60_000 * np.arange(count),
        "open": opening,
        "close": close,
        "high": np.round(np.maximum(opening, close) + 0.05, 2),
        "low": np.round(np.minimum(opening, close) - 0.05, 2),
        "volume": np.round(generator.exponential(2.0, count), 6),
    }
    folder.mkdir()
    path = folder / "bitfinex_BTCUSD_1m_made.csv.gz"
    pd.DataFrame(table).to_csv(path, header=False, index=False)
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        source = options.folder or random_walk(Path(home) / "made")
        paths = sorted(source.glob("bitfinex_BTCUSD_1m_*.csv.gz"))
        from ares.market.datasets import import_files
        from ares.store.workspace import Workspace

        folder = import_files(Workspace(Path(home)), paths, columns=ORDER, **MARKET).path
        for title, ours, bare, argument, bare_argument in (
            ("CSV.gz", csv_files, bare_csv, paths, paths),
            ("dataset store", dataset, bare_parquet, Path(home), folder),
        ):
            compare(f"{title}, warm", ours, bare, argument, bare_argument, options.repeats)
            first = [argument] if isinstance(argument, Path) else argument
            other = [bare_argument] if isinstance(bare_argument, Path) else bare_argument
            pairs = [(cold(ours.__name__, first), cold(bare.__name__, other)) for _ in range(3)]
            mine, theirs = (statistics.median(p[n] for p in pairs) for n in (0, 1))
            print(
                f"{title + ', fresh process':24} {'':14} {mine * 1e3:9.1f} ms   bare {theirs * 1e3:9.1f} ms   x{mine / theirs:.2f}"
            )


if __name__ == "__main__":
    main()
