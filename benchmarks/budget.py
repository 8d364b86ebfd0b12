"""From a file many times larger than the memory it may take, to a trained model.

Real minute bars (or a random walk), forwards and backwards in turn so that prices stay continuous,
make a CSV of any length; only their longer gaps stay. Each command then runs in a process of its
own: `import`, `data check`, `data resample` to 15m, and a quick `train` at 15m. Its base is what
the process takes once it has imported what it needs and has seen no data; the budget is that and
300 MiB. Printed are the peak of the resident memory, in which mapped files count, and of what of
it is no file and cannot be given back. Run it twice: a process that compiles kernels has another
base.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import engine as markets
import numpy as np

ABOVE = 300  # MiB above the base
START = 111_112 * 900_000  # ms; a whole quarter of an hour
MARKET = ("--symbol", "BTCUSD", "--exchange", "bitfinex")
PRICES = ("open", "high", "low", "close", "volume")
TAKER = ("taker_base", "taker_quote")
QUIET = (
    60  # minutes without a trade that are left out: today's markets have few, and these had half
)
IMPORTS = (
    (
        "ares.market.stored.datasets",
        "ares.market.stored.derived",
        "ares.market.streaming",
        "pyarrow.csv",
    ),
    ("ares.enhanced_training_manager", "ares.ares_launcher.progress", "ares.ares_launcher.output"),
)
SMALL = ("analyst.trees=6", "tactician.trees=6", "search.trials=72", "search.initial_samples=64")


# -- one command in its own process ---------------------------------------------------------------


def resident():
    """Resident memory: highest so far, and anonymous now, in MiB."""
    status = Path("/proc/self/status").read_text()
    return [
        int(status.split(f"{name}:")[1].split()[0]) / 1024
        for name in ("VmHWM", "RssAnon", "RssShmem")
    ]


def child(arguments):
    from ares.ares_launcher import main
    from ares.pipeline import footprint

    for module in IMPORTS[arguments[0] == "train"]:
        importlib.import_module(module)
    if arguments[0] == "train":
        footprint.preload()
    Path("/proc/self/clear_refs").write_text("5")
    base, *_ = resident()
    anonymous, ended = [0.0], threading.Event()

    def sample():
        while not ended.wait(0.01):
            _, own, shared = resident()
            anonymous[0] = max(anonymous[0], own + shared)

    sampler = threading.Thread(target=sample)
    budget = f"{base + ABOVE:.0f}MiB"
    began = time.perf_counter()
    sampler.start()
    try:
        main([*arguments, *(("--memory", budget) if arguments[0] == "train" else ())])
    except SystemExit as end:
        code = end.code
    ended.set()
    sampler.join()
    seconds, (peak, *_) = time.perf_counter() - began, resident()
    facts = {"base": base, "peak": peak, "anonymous": anonymous[0], "seconds": seconds}
    print("\n" + json.dumps(facts), flush=True)
    raise SystemExit(code)


def run(title, *arguments):
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{title} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    facts = json.loads(done.stdout.splitlines()[-1])
    held = facts["peak"] <= facts["base"] + ABOVE
    print(
        f"{title:22} base {facts['base']:5.0f}  budget {facts['base'] + ABOVE:5.0f}"
        f"  peak {facts['peak']:5.0f}  of it no file {facts['anonymous']:5.0f} MiB"
        f"  {'holds' if held else 'EXCEEDED'}  {facts['seconds']:6.0f} s",
        flush=True,
    )
    return held


# -- the file -------------------------------------------------------------------------------------


def write_bars(path, bars, rows):
    """`rows` minute bars as Binance's klines: the market, then the same backwards, and so on."""
    import pyarrow as pa
    import pyarrow.csv as pc

    steps = np.diff(bars.timestamp) // 60_000_000_000
    minutes = np.concatenate([[0], np.cumsum(np.where(steps > QUIET, steps, 1))])
    span = int(minutes[-1]) + 1
    decimal = pa.decimal128(20, 8)
    written = tile = 0
    with path.open("wb") as file:
        while written < rows:
            back = slice(None, None, -1 if tile % 2 else 1)
            first, last = (bars.close, bars.open) if tile % 2 else (bars.open, bars.close)
            at = (span - 1 - minutes if tile % 2 else minutes)[back] + tile * span
            worth = bars.close * bars.volume
            numbers = {"open": first, "high": bars.high, "low": bars.low, "close": last}
            numbers |= {"volume": bars.volume, "quote_volume": worth}
            numbers |= {"taker_base": 0.5 * bars.volume, "taker_quote": 0.5 * worth}
            columns = {"open_time": pa.array(START + 60_000 * at)}
            columns |= {k: pa.array(np.round(v[back], 8)).cast(decimal) for k, v in numbers.items()}
            columns |= {"close_time": pa.array(START + 60_000 * at + 59_999)}
            columns |= {"trades": pa.array(np.ceil(bars.volume[back]).astype(np.int64))}
            order = ("open_time", *PRICES, "close_time", "quote_volume", "trades", *TAKER)
            table = pa.table({name: columns[name] for name in order})[: rows - written]
            pc.write_csv(
                table, file, pc.WriteOptions(include_header=not written, quoting_style="none")
            )
            written, tile = written + len(table), tile + 1


def main():
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="folder of real CSV.gz files")
    parser.add_argument("--rows", type=int, default=50_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        file, home = Path(name, "bars.csv"), ("--home", name)
        bars = markets.market(options.folder and options.folder.resolve(), (2013, 2014, 2015))
        write_bars(file, bars, options.rows)
        size = file.stat().st_size / 2**20
        print(f"{options.rows:,} rows in {size:,.0f} MiB, {size / ABOVE:.1f} times the increment")
        held = [
            run("import", "import", file, *MARKET, "--timeframe", "1m", *home),
            run("data check", "data", "check", file),
            run("resample to 15m", "data", "resample", *MARKET, "--timeframe", "1m", "--to", "15m", *home),
            run(
                "train at 15m", "train", *MARKET, "--timeframe", "15m", "--mode", "quick", *home,
                *(part for setting in SMALL for part in ("--set", setting)),
            ),
        ]  # fmt: skip
    raise SystemExit(not all(held))


if __name__ == "__main__":
    main()
