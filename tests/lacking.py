"""Virtual environments that lack packages, and what Ares must do the same in each.

`python lacking.py FOLDER` prints the answers of this environment as JSON.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

MARKET = {"symbol": "IXIC", "exchange": "nasdaq", "timeframe": "1d"}
FASTPARQUET = ("fastparquet", "cramjam", "fsspec")


class NotInstallableError(RuntimeError):
    """No package index has what an environment needs, or none is reachable."""


def environment_without(folder: Path, absent: Sequence[str], added: Sequence[str] = ()) -> Path:
    """A new virtual environment: all packages of this one but `absent`, and `added` from an index.

    Packages are linked, so it costs no copy; the absent ones are nowhere on its path. What is
    added is installed without dependencies, through the cache of wheels that all installs share.

    Returns:
        Its Python.
    """
    with_pip = bool(added) and shutil.which("uv") is None
    subprocess.run(
        [sys.executable, "-m", "venv", *([] if with_pip else ["--without-pip"]), str(folder)],
        check=True,
    )
    python = folder / "bin" / "python"
    purelib = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    hidden = {"__pycache__"} | _top_names([*absent, *added])
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        target = Path(purelib, entry.name)
        if entry.name not in hidden and not target.exists():
            target.symlink_to(entry)
    if added:
        _install(python, added, with_pip=with_pip)
    return python


def _top_names(distributions: Sequence[str]) -> set[str]:
    names: set[str] = set()
    for name in distributions:
        try:
            files = importlib.metadata.distribution(name).files or []
        except importlib.metadata.PackageNotFoundError:
            continue
        names |= {path.parts[0] for path in files}
    return names


def _install(python: Path, names: Sequence[str], *, with_pip: bool) -> None:
    command = [str(python), "-m", "pip"] if with_pip else ["uv", "pip"]
    options = ["--quiet", "--no-deps", *([] if with_pip else ["--python", str(python)])]
    done = subprocess.run(
        [*command, "install", *options, *names], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NotInstallableError(f"{', '.join(names)} cannot be installed: {reason}")


def answers_of(python: Path | str, folder: Path) -> dict[str, Any]:
    """What the environment of `python` answers on the files in `folder`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ARES_", "COV"))}
    done = subprocess.run(
        [str(python), __file__, str(folder)],
        env=clean, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(done.stderr)
    return {**json.loads(done.stdout), "stderr": done.stderr}


def awkward_frame() -> Any:
    """What a table of a run or an optimised frame may hold."""
    import numpy as np
    import pandas as pd

    return pd.DataFrame(
        {
            "timestamp": pd.date_range("2020", periods=4, tz="UTC"),
            "price": [5.33e-05, 0.1 + 0.2, -0.0, np.nan],
            "small": np.array([1.25, 2.5, np.nan, -1], dtype=np.float32),
            "wide": np.array([2**64 - 1, 0, 1, 2], dtype=np.uint64),
            "n": np.array([2**53 + 1, -1, 0, 1]),
            "flag": [True, False, True, False],
            "side": pd.Series(["long", "short", "", "a,b\n"], dtype="str"),
            "group": pd.Categorical(["x", "y", "x", None]),
        }
    )


def _main(folder: Path) -> None:
    import logging

    logging.basicConfig(level=logging.WARNING, format="WARNED %(message)s")
    import numpy as np
    import pandas as pd

    import ares
    from ares.backtest import Costs, simulate
    from ares.backtest.strategies import SmaCross
    from ares.core.errors import InputError
    from ares.core.identity import fingerprint
    from ares.market.sources import sample
    from ares.market.streaming import report_files
    from ares.store.codecs import content_digest, encode
    from ares.store.tables import table_engine, table_fallbacks

    def tried(name: str) -> str:
        try:
            return ares.load_bars(folder / name, **MARKET).digest
        except InputError as error:
            return str(error)

    bars = ares.load_bars(folder / "bars.csv", **MARKET)
    result = simulate(bars, SmaCross(), {"fast": 5, "slow": 20}, costs=Costs(0.001, 0.0005))
    manager = ares.MemoryEfficientDataManager()
    frame = bars.to_frame()
    small = manager.optimize_dataframe(frame)
    saved = manager.save_to_parquet(small, folder / "out" / f"{table_engine()}.parquet")
    loaded = manager.load_from_parquet(folder / "out" / f"{table_engine()}.parquet")
    pd.testing.assert_frame_equal(loaded, small, check_exact=True)
    pd.testing.assert_frame_equal(manager.restore(loaded), frame, check_exact=True)
    assert loaded.attrs == small.attrs
    odd = awkward_frame()
    manager.save_to_parquet(odd, folder / "out" / "odd.parquet")
    pd.testing.assert_frame_equal(
        manager.load_from_parquet(folder / "out" / "odd.parquet"), odd, check_exact=True
    )
    chunks = ares.StreamingDataProcessor(chunk_size=7).process_data_stream(folder / "bars.csv")
    report = report_files(folder / "faulty.csv", timeframe="1d").to_dict()
    answers = {
        "engine": table_engine(),
        "fallbacks": table_fallbacks(),
        "saved": saved.name,
        "csv": bars.digest,
        "gz": tried("bars.csv.gz"),
        "parquet": tried("bars.parquet"),
        "small": tried("small.parquet"),
        "feather": tried("bars.feather"),
        "optimised": ares.Bars.from_frame(loaded, **MARKET).digest,
        "sample": sample().digest,
        "chunks": fingerprint(
            [chunks[c].to_numpy().astype(np.float64) for c in chunks.columns[1:]]
        ),
        "faults": fingerprint(report),
        "trades": content_digest(encode(result.trades)),
        "metrics": fingerprint(result.metrics),
    }
    print(json.dumps(answers))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
