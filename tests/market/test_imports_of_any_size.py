"""Imports, appends and resampled datasets: streamed, and yet what the whole market gives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.core.errors import DataError
from ares.market.bars import check_bars
from ares.market.files import load_bars
from ares.market.raw import COLUMNS, RawBars
from ares.market.resample import resample
from ares.market.stored.datasets import import_files, load_dataset, repair_dataset
from ares.market.stored.derived import resample_dataset
from ares.market.stored.partitions import MANIFEST, read_manifest
from ares.store.workspace import Workspace

NAMES = ("BTCUSD", "bitfinex", "1m")
MARKET = dict(zip(("symbol", "exchange", "timeframe"), NAMES, strict=True))
BITFINEX = {**MARKET, "columns": "timestamp,open,close,high,low,volume"}
COARSE = (*NAMES[:2], "15m")
YEAR_END = 1_609_459_200
HEADER = "timestamp,open,high,low,close,volume\n"
YEAR = 366 * 1440


def csv_file(path: Path, minutes, price=100.0) -> Path:
    rows = (
        f"{YEAR_END + 60 * m},{price},{price + 1},{price - 1},{price},{m % 7}\n" for m in minutes
    )
    path.write_text(HEADER + "".join(rows))
    return path


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "home")


def same(one, other):
    assert one.digest == other.digest
    assert one.gaps.tolist() == other.gaps.tolist()


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32), swaps=st.booleans(), wild=st.booleans(), several=st.booleans())
def test_an_import_is_what_loading_the_files_gives(tmp_path_factory, seed, swaps, wild, several):
    """Rows months apart that come out of order, files that overlap, names in any order."""
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("import")
    minutes = np.sort(rng.choice(200_000, 400, replace=False)) - 100_000
    minutes = np.concatenate([minutes, np.arange(300)])
    if swaps:
        some = rng.integers(0, len(minutes), 20)
        minutes[some] = minutes[some[::-1]]
    rows = [
        f"{YEAR_END + 60 * m},{p},{p + 1},{p - 1},{p},1\n"
        for m, p in zip(minutes, rng.choice([100, 101, 500 if wild else 102], 700), strict=True)
    ]
    cuts = np.sort(rng.integers(0, 700, 2)) if several else np.array([700])
    files = []
    for n, part in enumerate(np.split(np.array(rows), cuts)):
        if len(part):
            files.append(folder / f"{n}.csv")
            files[-1].write_text(HEADER + "".join(part))
    rng.shuffle(files)
    result = import_files(Workspace(folder / "home"), files, options={"calendar": "24/7"}, **MARKET)
    bars = load_bars(files, calendar="24/7", **MARKET)
    loaded = load_dataset(Workspace(folder / "home"), *NAMES)
    same(loaded, bars)
    assert loaded.quality == result.quality == bars.quality


def test_an_append_writes_the_years_concerned_only(tmp_path, workspace):
    """A year before, a year between and a year after keep their files, the same inodes."""
    spans = [range(k * YEAR, k * YEAR + 500) for k in range(-3, 2)]
    first = import_files(
        workspace, csv_file(tmp_path / "a.csv", [m for span in spans for m in span]), **MARKET
    )
    before = {p.name: p.stat().st_ino for p in first.path.glob("20*.parquet")}
    years = {name[:4] for name in before}
    assert len(years) == 5
    added = import_files(workspace, csv_file(tmp_path / "b.csv", range(-50, 900), 101.0), **MARKET)
    after = {p.name: p.stat().st_ino for p in first.path.glob("20*.parquet")}
    changed = {name[:4] for name in set(after) - set(before)}
    assert changed == {"2020", "2021"}
    assert all(before[name] == after[name] for name in set(before) & set(after))
    assert (added.before, added.after, added.replaced, added.dropped) == (2500, 2950, 500, 0)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), factor=st.sampled_from([1.0, 1.3, 5.0]))
def test_an_append_is_the_check_of_the_old_bars_and_the_new_ones(tmp_path_factory, seed, factor):
    """The state at the year's end is carried: a new last bar of 2020 may damn the first of 2021."""
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("append")
    workspace = Workspace(folder / "home")
    spans = [np.sort(rng.choice(np.arange(-400, 400), 150, replace=False)) for _ in range(2)]
    spans[1] = spans[1][spans[1] < rng.integers(-300, 400)]
    spans[1] = spans[1] if len(spans[1]) else np.arange(-400, -390)
    files = [
        csv_file(folder / "a.csv", spans[0]),
        csv_file(folder / "b.csv", spans[1], 100.0 * factor),
    ]
    old, new = (load_bars(file, calendar="24/7", **MARKET) for file in files)
    import_files(workspace, files[0], options={"calendar": "24/7"}, **MARKET)
    result = import_files(workspace, files[1], options={"calendar": "24/7"}, **MARKET)
    both = [
        RawBars(**{n: getattr(bars, n) for n in COLUMNS}, files=(name,))
        for bars, name in ((old, "dataset"), (new, "import"))
    ]
    expected, seam = check_bars(RawBars.concat(both), calendar="24/7", **MARKET)
    same(load_dataset(workspace, *NAMES), expected)
    assert (result.replaced, result.dropped) == (seam.conflicts, seam.bad_prints)
    assert (result.before, result.after) == (len(old), len(expected))
    manifest = read_manifest(result.path)
    assert manifest.quality.gaps == seam.gaps
    assert manifest.quality.rows == 150 + len(spans[1])


def test_a_resampled_dataset_is_the_resampled_market(shared_data, workspace):
    paths = [shared_data / f"bitfinex_BTCUSD_1m_{year}.csv.gz" for year in (2013, 2014)]
    import_files(workspace, paths[0], **BITFINEX)
    first = resample_dataset(workspace, *NAMES, "15m")
    assert first.changed
    same(load_dataset(workspace, *COARSE), resample(load_dataset(workspace, *NAMES), "15m"))
    again = resample_dataset(workspace, *NAMES, "15m")
    assert (again.changed, again.before, again.after) == (False, first.after, first.after)
    import_files(workspace, paths[1], **BITFINEX)
    grown = resample_dataset(workspace, *NAMES, "15m")
    assert grown.changed
    assert grown.before == first.after < grown.after
    coarse, fine = load_dataset(workspace, *COARSE), load_dataset(workspace, *NAMES)
    same(coarse, resample(fine, "15m"))
    manifest = read_manifest(grown.path)
    assert manifest.origin.timeframe == "1m"
    assert (
        manifest.origin.identity == read_manifest(workspace.dataset(*NAMES[1::-1], "1m")).identity
    )
    assert coarse.quality.bars == len(coarse)
    assert coarse.quality.gaps == len(coarse.gaps)
    assert coarse.quality.bad_prints == 0


def test_what_was_imported_is_not_replaced_by_resampling(tmp_path, workspace):
    with pytest.raises(DataError, match="no such dataset"):
        resample_dataset(workspace, *NAMES, "15m")
    import_files(workspace, csv_file(tmp_path / "a.csv", range(100)), **MARKET)
    for to, message in (("1m", "this is the timeframe"), ("3d", None)):
        with pytest.raises(DataError, match=message):
            resample_dataset(workspace, *NAMES, to)
    import_files(workspace, csv_file(tmp_path / "b.csv", range(0, 300, 15)), **{**MARKET, "timeframe": "15m"})  # fmt: skip
    before = load_dataset(workspace, *COARSE)
    with pytest.raises(DataError, match="imported from files"):
        resample_dataset(workspace, *NAMES, "15m")
    assert load_dataset(workspace, *COARSE) == before
    with pytest.raises(DataError, match="multiples of their timeframe 15m"):
        resample_dataset(workspace, *COARSE, "1m")


def test_a_missing_dataset_names_the_finer_one(tmp_path, workspace):
    import_files(workspace, csv_file(tmp_path / "a.csv", range(200)), **MARKET)
    command = "ares data resample --symbol BTCUSD --exchange bitfinex --timeframe 1m --to 15m"
    with pytest.raises(DataError, match=command):
        load_dataset(workspace, *COARSE)
    resample_dataset(workspace, *NAMES, "15m")
    assert len(load_dataset(workspace, *COARSE)) == 13


def test_a_repaired_resampled_dataset_is_made_anew(tmp_path, workspace):
    import_files(workspace, csv_file(tmp_path / "a.csv", range(-300, 300)), **MARKET)
    folder = resample_dataset(workspace, *NAMES, "15m").path
    whole = load_dataset(workspace, *COARSE)
    damaged = next(folder.glob("2020-*.parquet"))
    damaged.write_bytes(b"x")
    assert repair_dataset(workspace, *COARSE) == (damaged.name,)
    assert len(load_dataset(workspace, *COARSE)) == 20
    assert resample_dataset(workspace, *NAMES, "15m").changed
    assert load_dataset(workspace, *COARSE) == whole


def test_manifests_without_an_origin_stay_as_they_were(tmp_path, workspace):
    folder = import_files(workspace, csv_file(tmp_path / "a.csv", range(100)), **MARKET).path
    assert "origin" not in (folder / MANIFEST).read_text()
    resample_dataset(workspace, *NAMES, "15m")
    coarse = read_manifest(workspace.dataset("bitfinex", "BTCUSD", "15m"))
    assert coarse.origin is not None
    assert read_manifest(folder).origin is None


def test_a_refused_first_import_leaves_no_files(tmp_path, workspace):
    rows = [f"{YEAR_END + 60 * 1440 * d},5,6,4,5,1\n" for d in range(300)]
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "".join(rows) + f"{YEAR_END + 60 * 1440 * 400},1,2,3,4,5\n")
    with pytest.raises(DataError, match="row 302"):
        import_files(workspace, path, **{**MARKET, "timeframe": "1d"})
    folder = workspace.dataset("bitfinex", "BTCUSD", "1d")
    assert [p.name for p in folder.iterdir()] == [".lock"]


def test_progress_counts_the_rows(tmp_path, workspace):
    files = [
        csv_file(tmp_path / f"{n}.csv", range(n * 40_000, n * 40_000 + 30_000)) for n in (0, 1)
    ]
    seen = []
    import_files(
        workspace, files, progress=lambda done, total: seen.append((done, total)), **MARKET
    )
    assert seen[-1] == (60_000, 60_000)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert all(50_000 < total < 70_000 for _, total in seen)


_CHILD = """
import sys
from pathlib import Path
from ares.market.stored.derived import resample_dataset
from ares.store.workspace import Workspace
resample_dataset(Workspace(Path(sys.argv[1])), "BTCUSD", "bitfinex", "1m", "15m")
"""


def test_a_kill_at_any_point_of_a_resampling_leaves_the_old_or_the_new(tmp_path, workspace):
    import_files(workspace, csv_file(tmp_path / "a.csv", range(-99, 99)), **MARKET)
    resample_dataset(workspace, *NAMES, "15m")
    old = load_dataset(workspace, *COARSE)
    import_files(workspace, csv_file(tmp_path / "b.csv", range(-200, 300)), **MARKET)
    new = resample(load_dataset(workspace, *NAMES), "15m")
    kept = 0
    for point in (2, 9, 15):
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(workspace.home)],
            env={**os.environ, "ARES_FAULT": f"*:{point}:kill"},
            capture_output=True,
            check=False,
        )
        found = load_dataset(workspace, *COARSE)
        assert found in (old, new)
        assert done.returncode == -signal.SIGKILL
        kept += found == old
    assert kept >= 2
    resample_dataset(workspace, *NAMES, "15m")
    assert load_dataset(workspace, *COARSE) == new
    folder = workspace.dataset("bitfinex", "BTCUSD", "15m")
    named = {part.file for part in read_manifest(folder).parts}
    assert {p.name for p in folder.glob("20*.parquet")} == named
    assert not list(folder.glob(".ares-tmp-*"))


_MEASURED = """
import resource, sys
from pathlib import Path
from ares.market.stored.datasets import import_files
from ares.market.stored.derived import resample_dataset
from ares.store.workspace import Workspace
market = {"symbol": "BTCUSD", "exchange": "bitfinex", "timeframe": "1m"}
def both(path, home):
    workspace = Workspace(Path(home))
    import_files(workspace, path, **market)
    resample_dataset(workspace, "BTCUSD", "bitfinex", "1m", "15m")
both(sys.argv[1], sys.argv[3] + "/small")  # imports and warms up
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
both(sys.argv[2], sys.argv[3] + "/large")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_memory_of_an_import_and_a_resampling_does_not_grow_with_the_file(tmp_path):
    """Both files have full years; the large one has ten of them, 250 MB as arrays."""
    for name, years in (("small", 2), ("large", 10)):
        with (tmp_path / f"{name}.csv").open("w") as file:
            file.write(HEADER)
            for day in range(365 * years):
                at = YEAR_END + 86_400 * day
                file.writelines(f"{at + 60 * m},5.5,6.5,4.5,5.25,{m % 97}.5\n" for m in range(1440))
    paths = [str(tmp_path / f"{name}.csv") for name in ("small", "large")]
    command = [sys.executable, "-c", _MEASURED, *paths, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60 << 20
