"""CSV to Parquet, loading and resampling of minute bars, beside pandas, polars and DuckDB.

    python benchmarks/data.py [FOLDER] [--rows 1000000 ...] [--repeats 3]

Bars are made (a random walk, prices with two decimals, in the six usual columns) in each of the
sizes; FOLDER with `bitfinex_BTCUSD_1m_*.csv.gz` adds the real files. Every figure is the median of
fresh processes that take turns; each says what rows and sums it has seen, and all must agree.
Cold is the first call in a fresh process, imports included; other times begin after imports.
Memory is the peak of the process, and what the work added to the peak after the imports. Sizes are
rounded up to whole quarters of an hour, since Ares drops a bar that is not complete. Ares checks every row, sorts, takes digests and
writes a manifest; the others convert and no more.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BEGUN = time.perf_counter()
MARKET = {"symbol": "BTCUSD", "exchange": "bitfinex", "timeframe": "1m"}
NAMES = ("timestamp", "open", "high", "low", "close", "volume")
ORDER = "timestamp,open,close,high,low,volume"
START = 111_112 * 900_000
"""ms; 1973, so that a hundred million minutes end before 2262, and on a quarter of an hour."""
SEEN = ("rows", "close", "volume", "last")


def summary(rows, close, volume, last):
    """What a contestant has seen: rows, sums of close and volume, last time in ns."""
    return dict(zip(SEEN, (int(rows), float(close), float(volume), int(last)), strict=True))


def of_arrays(columns, unit=1):
    close, volume = columns["close"], columns["volume"]
    return summary(len(close), close.sum(), volume.sum(), int(columns["timestamp"][-1]) * unit)


def of_parquet(path):
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["timestamp", "close", "volume"])
    sums = [pc.sum(table[name]).as_py() for name in ("close", "volume")]
    return summary(len(table), *sums, int(table["timestamp"][-1].as_py()) * 10**6)


# --- CSV to Parquet: (work, what it must import first) ---


def ares_convert(folder):
    from ares.market.stored.datasets import import_files
    from ares.store.workspace import Workspace

    import_files(Workspace(folder / "home"), folder / "bars.csv", **MARKET)


def pandas_convert(folder):
    import pandas as pd

    pd.read_csv(folder / "bars.csv").to_parquet(folder / "pandas.parquet", compression="zstd")


def polars_convert(folder):
    import polars as pl

    pl.scan_csv(folder / "bars.csv").sink_parquet(folder / "polars.parquet", compression="zstd")


def duckdb_convert(folder):
    import duckdb

    source, target = folder / "bars.csv", folder / "duckdb.parquet"
    duckdb.sql(f"copy (from read_csv('{source}')) to '{target}' (format parquet, compression zstd)")


# --- Parquet to arrays, each of its own file ---


def ares_load(folder):
    from ares.market.stored.datasets import load_dataset
    from ares.store.workspace import Workspace

    bars = load_dataset(Workspace(folder / "home"), *MARKET.values())
    return {name: getattr(bars, name) for name in NAMES}, 1


def pyarrow_load(folder):
    """The same files that Ares reads, without digests, manifest or `Bars`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted((folder / "home").rglob("[12]*.parquet"))
    table = pa.concat_tables([pq.read_table(path, columns=list(NAMES)) for path in files])
    return {name: table[name].to_numpy() for name in NAMES}, 1


def pandas_load(folder):
    import pandas as pd

    frame = pd.read_parquet(folder / "pandas.parquet")
    return {name: frame[name].to_numpy() for name in NAMES}, 10**6


def polars_load(folder):
    import polars as pl

    frame = pl.read_parquet(folder / "polars.parquet")
    return {name: frame[name].to_numpy() for name in NAMES}, 10**6


def duckdb_load(folder):
    import duckdb

    return duckdb.sql(f"from read_parquet('{folder / 'duckdb.parquet'}')").fetchnumpy(), 10**6


# --- 1m to 15m ---


def ares_resample(folder):
    from ares.market.resample import resample
    from ares.market.stored.datasets import load_dataset
    from ares.store.workspace import Workspace

    bars = resample(load_dataset(Workspace(folder / "home"), *MARKET.values()), "15m")
    return {name: getattr(bars, name) for name in NAMES}, 1


def polars_resample(folder):
    import polars as pl

    bucket = (pl.col("timestamp") // 900_000 * 900_000).alias("timestamp")
    frame = (
        pl.scan_parquet(folder / "polars.parquet")
        .group_by(bucket)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
        )
        .sort("timestamp")
        .collect(engine="streaming")
    )
    return {name: frame[name].to_numpy() for name in NAMES}, 10**6


def duckdb_resample(folder):
    import duckdb

    return duckdb.sql(
        "select timestamp // 900000 * 900000 as timestamp, arg_min(open, timestamp) as open,"
        " max(high) as high, min(low) as low, arg_max(close, timestamp) as close,"
        f" sum(volume) as volume from read_parquet('{folder / 'duckdb.parquet'}')"
        " group by 1 order by 1"
    ).fetchnumpy(), 10**6


# --- real files, CSV.gz ---


def ares_gz(folder):
    from ares.market.files import load_bars

    bars = load_bars(sorted(folder.glob("*.csv.gz")), columns=ORDER, bad_prints="keep", **MARKET)
    return {name: getattr(bars, name) for name in NAMES}, 1


def pyarrow_gz(folder):
    import pyarrow as pa
    import pyarrow.csv as pc

    names = pc.ReadOptions(column_names=ORDER.split(","))
    paths = sorted(folder.glob("*.csv.gz"))
    table = pa.concat_tables([pc.read_csv(path, read_options=names) for path in paths])
    return {name: table[name].to_numpy() for name in NAMES}, 10**6


IMPORTS = {
    "ares": "ares.market.stored.datasets ares.market.resample ares.market.files ares.kernels.quality"
    " ares.kernels.csvrows"
    " pyarrow.csv pyarrow.parquet",
    "pandas": "pandas pyarrow.parquet",
    "polars": "polars",
    "duckdb": "duckdb numpy",
    "pyarrow": "pyarrow.parquet pyarrow.csv numpy",
}


def peak_kib():
    """Peak resident memory; `ru_maxrss` would count what the parent had when it forked."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # macOS: bytes


def child(task, who, folder, mode):
    """Run one contestant: `cold` from the start of the process, `once` or `warm` after imports."""
    import importlib

    work = globals()[f"{who}_{task}"]
    if mode != "cold":
        for module in IMPORTS[who].split():
            importlib.import_module(module)
    if mode == "warm":
        work(folder)
    base = peak_kib()
    begun = BEGUN if mode == "cold" else time.perf_counter()
    made = work(folder)
    seconds = time.perf_counter() - begun
    peak = peak_kib()
    seen = of_arrays(*made) if made else None
    print(json.dumps({"seconds": seconds, "base": base, "peak": peak, "seen": seen}))


def measured(task, who, folder, mode):
    command = [sys.executable, __file__, "--child", task, who, str(folder), mode]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{who}_{task} failed:\n{done.stderr}")
    result = json.loads(done.stdout)
    if result["seen"] is None:
        parts = (
            sorted((folder / "home").rglob("[12]*.parquet"))
            if who == "ares"
            else [folder / f"{who}.parquet"]
        )
        seen = [of_parquet(path) if who != "ares" else _own(path) for path in parts]
        sums = {name: sum(s[name] for s in seen) for name in ("rows", "close", "volume")}
        result["seen"] = {**sums, "last": seen[-1]["last"]}
    return result


def _own(path):
    seen = of_parquet(path)
    return {**seen, "last": seen["last"] // 10**6}


def compare(title, task, contestants, folder, mode, repeats):
    """Contestants in turn, in fresh processes; one line each, with ratios to the second one."""
    found = {who: [] for who in contestants}
    for _ in range(repeats):
        for who in contestants:
            if task == "convert":
                _forget(folder, who)
            found[who].append(measured(task, who, folder, mode))
    first = found[contestants[0]][0]["seen"]
    for who in contestants:
        seen = found[who][0]["seen"]
        for name in SEEN:
            if not math.isclose(seen[name], first[name], rel_tol=1e-9):
                raise SystemExit(f"{who}_{task} has seen {seen}, {contestants[0]} {first}")
    times = {who: statistics.median(r["seconds"] for r in runs) for who, runs in found.items()}
    for who, runs in found.items():
        base = statistics.median(r["base"] for r in runs) / 1024
        peak = statistics.median(r["peak"] for r in runs) / 1024
        added = "" if mode == "cold" else f"{peak - base:8,.0f}"
        ratio = times[contestants[0]] / times[who]
        print(
            f"{title:26} {first['rows']:>11,} {who:8} {times[who] * 1e3:11,.1f} ms"
            f"   Ares/it {ratio:6.2f}   {peak:8,.0f} {added:>8} MiB",
            flush=True,
        )


def _forget(folder, who):
    import shutil

    if who == "ares":
        shutil.rmtree(folder / "home", ignore_errors=True)
    else:
        (folder / f"{who}.parquet").unlink(missing_ok=True)


def random_walk(folder, rows, chunk=1_000_000):
    """Minute bars with a header, written in pieces; prices with two decimals."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv as pc

    generator = np.random.default_rng(0)
    level = np.log(30_000.0)
    with (folder / "bars.csv").open("wb") as file:
        for at in range(0, rows, chunk):
            count = min(chunk, rows - at)
            walk = level + np.cumsum(generator.normal(0, 2e-4, count) + 1e-6 * (10.3 - level))
            close = np.round(np.exp(walk), 2)
            opening = np.concatenate([[np.round(np.exp(level), 2)], close[:-1]])
            level = walk[-1]
            table = pa.table(
                {
                    "timestamp": START + 60_000 * np.arange(at, at + count),
                    "open": opening,
                    "high": np.round(np.maximum(opening, close) + 0.05, 2),
                    "low": np.round(np.minimum(opening, close) - 0.05, 2),
                    "close": close,
                    "volume": np.round(generator.exponential(2.0, count), 6),
                }
            )
            pc.write_csv(table, file, pc.WriteOptions(include_header=at == 0))


def main():
    if sys.argv[1:2] == ["--child"]:
        task, who, folder, mode = sys.argv[2:]
        child(task, who, Path(folder), mode)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="folder of real CSV.gz files")
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    everyone = ["ares", "pandas", "polars", "duckdb"]
    print(
        f"{'task':26} {'rows':>11} {'who':8} {'time':>14}   {'ratio':>14}   {'peak':>8} {'added':>8}"
    )
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            random_walk(folder, -(-rows // 15) * 15)
            for task, mode, title, contestants in (
                ("convert", "once", "CSV to Parquet", everyone),
                ("load", "cold", "load, fresh process", ["ares", "pyarrow", *everyone[1:]]),
                ("load", "warm", "load, warm", ["ares", "pyarrow", *everyone[1:]]),
                ("resample", "once", "Parquet 1m to 15m", ["ares", "polars", "duckdb"]),
            ):
                compare(title, task, contestants, folder, mode, options.repeats)
    if options.folder is not None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for path in options.folder.resolve().glob("bitfinex_BTCUSD_1m_*.csv.gz"):
                (folder / path.name).symlink_to(path)
            for mode, title in (("cold", "CSV.gz, fresh process"), ("warm", "CSV.gz, warm")):
                compare(title, "gz", ["ares", "pyarrow"], folder, mode, options.repeats)


if __name__ == "__main__":
    main()
