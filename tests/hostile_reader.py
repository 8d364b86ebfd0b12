"""Reads hostile files, each in a forked child under a memory limit, and prints what came of it.

    python hostile_reader.py OUTPUT NAME=PATH ...

Writes JSON to OUTPUT: for each name and reader the outcome, the seconds of processor time and the peak of resident
memory above what the child began with.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path

import pyarrow.compute  # imported before the fork: it is no part of the measure
import pyarrow.csv
import pyarrow.parquet  # noqa: F401

from ares.backtest.streaming import StreamingDataProcessor
from ares.core.errors import AresError
from ares.market.files import load_bars
from ares.market.stored.datasets import import_files
from ares.market.streaming import report_files
from ares.store.workspace import Workspace

MARKET = {"symbol": "BTCUSD", "exchange": "bitfinex", "timeframe": "1m"}
HEADROOM = 1 << 30
importlib.import_module("pandas")
importlib.import_module("ares.kernels.quality")


def imported(path):
    return import_files(Workspace(path.parent / "home"), path, **MARKET)


def streamed(path):
    return sum(len(chunk) for chunk in StreamingDataProcessor(100_000).iter_chunks(path))


READERS = {
    "load": lambda path: load_bars(path, **MARKET),
    "check": lambda path: report_files(path, timeframe="1m"),
    "stream": streamed,
    "import": imported,
}


def status(field):
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{field}:")[1].split()[0]) << 10


def attempt(path, reader):
    """Outcome of one reader, in this process."""
    before = status("VmRSS")
    resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + HEADROOM,) * 2)
    begun = time.process_time()  # the machine may be busy
    try:
        READERS[reader](path)
        outcome = "read"
    except AresError as error:
        outcome = f"refused: {error}"
    except BaseException as error:  # noqa: BLE001  # whatever it is, the parent shall see it
        outcome = f"{type(error).__name__}: {error}"
    return outcome, time.process_time() - begun, status("VmHWM") - before


def main():
    found = {}
    for argument in sys.argv[2:]:
        name, path = argument.split("=", 1)
        for reader in READERS:
            source, sink = os.pipe()
            child = os.fork()
            if child == 0:
                os.write(sink, json.dumps(attempt(Path(path), reader)).encode())
                os._exit(0)
            os.close(sink)
            with os.fdopen(source, "rb") as pipe:
                said = pipe.read()
            _, code = os.waitpid(child, 0)
            found[f"{name} / {reader}"] = json.loads(said) if said else [f"died: {code}", 0, 0]
    Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
