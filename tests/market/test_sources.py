"""The embedded sample, what names mean, and the copies of CSV files."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import logging
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from ares.core.errors import ConfigError, DataError
from ares.market.files import load_bars
from ares.market.sources import SAMPLE, resolve, sample
from ares.market.stored import copies
from ares.market.stored.copies import load_files
from ares.market.stored.datasets import import_files
from ares.market.stored.partitions import MANIFEST
from ares.store.workspace import Workspace

MARKET = {"symbol": "X", "exchange": "here", "timeframe": "1m"}
NAMES = tuple(MARKET.values())
HEADER = "timestamp,open,high,low,close,volume\n"


def csv_file(path: Path, rows: int, price: float = 100.0) -> Path:
    lines = (
        f"{1_600_000_020 + 60 * n},{price},{price + 1},{price - 1},{price},1\n" for n in range(rows)
    )
    path.write_text(HEADER + "".join(lines))
    return path


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "home")


def test_the_sample_is_the_file_that_arch_carries(sample_bars):
    folder = importlib.util.find_spec("arch").submodule_search_locations[0]
    with gzip.open(Path(folder, "data", "nasdaq", "nasdaq.csv.gz"), "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(sample_bars) == len(rows) == 5031
    for n, row in enumerate(rows):
        day = datetime.strptime(row["Date"], "%m/%d/%Y").replace(tzinfo=UTC)
        assert sample_bars.timestamp[n] == int(day.timestamp()) * 10**9
        for name in ("open", "high", "low", "close", "volume"):
            assert getattr(sample_bars, name)[n] == float(Decimal(row[name.capitalize()]))
    assert (sample_bars.symbol, sample_bars.exchange, sample_bars.timeframe) == SAMPLE
    assert sample_bars.calendar == "session:America/New_York 09:30-16:00"
    assert sample_bars.days_per_year == 252
    assert len(sample_bars.gaps) == 0


def test_the_sample_is_found_without_importing_arch():
    code = (
        "import sys; from ares.market.sources import sample; sample(); print('arch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_files_win_over_the_dataset_and_the_dataset_over_the_sample(tmp_path, workspace):
    path = csv_file(tmp_path / "a.csv", 50)
    with pytest.raises(DataError, match="ares import --symbol X --exchange here --timeframe 1m"):
        resolve(*NAMES, workspace=workspace)
    import_files(workspace, path, **MARKET)
    assert resolve(*NAMES, workspace=workspace) == load_bars(path, **MARKET)
    newer = csv_file(tmp_path / "b.csv", 60)
    assert resolve(*NAMES, workspace=workspace, data=newer) == load_bars(newer, **MARKET)
    assert resolve(*NAMES, data=(str(newer),)) == load_bars(newer, **MARKET)
    assert resolve(*SAMPLE, workspace=workspace) == resolve(*SAMPLE) == sample()
    with pytest.raises(DataError, match="no bars are known"):
        resolve("IXIC", "nasdaq", "1h", workspace=workspace)


def test_a_dataset_of_the_samples_name_wins(workspace):
    own = sample()[:100].to_frame()
    workspace.home.mkdir()
    own.to_parquet(workspace.home / "own.parquet")
    market = dict(zip(("symbol", "exchange", "timeframe"), SAMPLE, strict=True))
    import_files(workspace, workspace.home / "own.parquet", **market)
    assert len(resolve(*SAMPLE, workspace=workspace)) == 100


def test_time_ranges_apply_to_every_source(tmp_path, workspace):
    part = resolve(*SAMPLE, timerange="20100101-20110101")
    days = part.timestamp.astype("datetime64[ns]").astype("datetime64[Y]")
    assert len(part) == 252
    assert np.all(days == np.datetime64("2010"))
    path = csv_file(tmp_path / "a.csv", 50)
    with pytest.raises(DataError, match="no bars lie in the time range"):
        resolve(*NAMES, workspace=workspace, data=path, timerange="20300101-")


def test_a_dataset_and_another_calendar_contradict(tmp_path, workspace):
    import_files(workspace, csv_file(tmp_path / "a.csv", 50), **MARKET)
    with pytest.raises(DataError, match="these bars have calendar .24/7."):
        resolve(*NAMES, workspace=workspace, calendar="24/5")


def copy_files(workspace):
    return sorted((workspace.private / "copies").glob("*/*.parquet"))


def test_a_csv_leaves_one_copy_in_the_workspace_and_none_beside_it(
    tmp_path, workspace, monkeypatch
):
    folder = tmp_path / "theirs"
    folder.mkdir()
    path = csv_file(folder / "a.csv", 50)
    expected = load_bars(path, **MARKET)
    first = load_files(workspace, path, **MARKET)
    made = copy_files(workspace)
    monkeypatch.setattr(copies, "load_bars", None)  # the second time the CSV is not parsed
    second = load_files(workspace, path, **MARKET)
    assert first == second == expected
    assert first.quality == second.quality == expected.quality
    assert copy_files(workspace) == made
    assert [p.name for p in folder.iterdir()] == ["a.csv"]


def test_a_newer_csv_wins_over_the_copy(tmp_path, workspace):
    path = csv_file(tmp_path / "a.csv", 50)
    load_files(workspace, path, **MARKET)
    stamp = path.stat().st_mtime_ns
    csv_file(path, 50, price=200.0)
    import os

    os.utime(path, ns=(stamp, stamp))  # same name, size and time: only the bytes differ
    assert load_files(workspace, path, **MARKET).close[0] == 200.0


def test_how_a_file_was_read_is_part_of_its_copys_name(tmp_path, workspace):
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{1_600_000_020 + 60 * n},10,9,11,10,1\n" for n in range(9)))
    one = load_files(workspace, path, columns="timestamp,open,low,high,close,volume", **MARKET)
    other = load_files(workspace, path, columns="timestamp,close,low,high,open,volume", **MARKET)
    assert one == other  # open and close are equal here
    third = load_files(
        workspace,
        path,
        columns="timestamp,open,low,high,close,volume",
        options={"calendar": "24/5"},
        **MARKET,
    )
    assert third.calendar == "24/5"


@pytest.mark.parametrize("victim", [MANIFEST, "parquet"])
def test_a_damaged_copy_is_made_anew(tmp_path, workspace, victim, caplog):
    path = csv_file(tmp_path / "a.csv", 50)
    expected = load_files(workspace, path, **MARKET)
    damaged = next(p for p in copy_files(workspace)[0].parent.iterdir() if p.name.endswith(victim))
    damaged.write_bytes(damaged.read_bytes()[:-7])
    with caplog.at_level(logging.WARNING):
        assert load_files(workspace, path, **MARKET) == expected
    assert "damaged" in caplog.text
    caplog.clear()
    assert load_files(workspace, path, **MARKET) == expected
    assert not caplog.text


def test_a_workspace_that_cannot_be_written_costs_the_copy_not_the_bars(tmp_path, caplog):
    path = csv_file(tmp_path / "a.csv", 50)
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with caplog.at_level(logging.WARNING):
        bars = load_files(Workspace(blocked), path, **MARKET)
    assert bars == load_bars(path, **MARKET)
    assert len(caplog.records) == 1


def test_old_copies_are_pruned(tmp_path, workspace, monkeypatch):
    monkeypatch.setattr(copies, "COPIES_KEPT", 3)
    for n in range(6):
        load_files(workspace, csv_file(tmp_path / f"{n}.csv", 10 + n), **MARKET)
    assert len(list((workspace.private / "copies").glob(f"*/{MANIFEST}"))) == 3


def test_loading_a_dataset_compiles_nothing():
    """numba and pandas take a second each to import; the door needs numba, a dataset neither."""
    code = (
        "import ares, sys; ares.load_bars; import ares.market.stored.datasets;"
        "print(sorted({'numba', 'pandas', 'scipy', 'pyarrow'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("stored", [False, True])
def test_options_that_do_not_fit_are_not_ignored(tmp_path, stored, caplog):
    """A calendar for the sample or a dataset was taken in silence, even one that is none."""
    workspace, names = Workspace(tmp_path), SAMPLE
    own = "session:America/New_York 09:30-16:00"
    if stored:
        names = ("SPY", "arca", "1d")
        market = dict(zip(("symbol", "exchange", "timeframe"), names, strict=True))
        frame = sample().to_frame()
        frame.to_parquet(tmp_path / "a.parquet")
        import_files(workspace, tmp_path / "a.parquet", options={"calendar": own}, **market)
    spelled = "session:America/New_York 9:30-16:00"
    assert resolve(*names, workspace=workspace, calendar=spelled).calendar == own
    with pytest.raises(ConfigError, match="24/8"):
        resolve(*names, workspace=workspace, calendar="24/8")
    with pytest.raises(DataError, match="these bars have calendar 'session:.*got '24/5'"):
        resolve(*names, workspace=workspace, calendar="24/5")
    with pytest.raises(DataError, match="these bars have adjusted 'none'; got 'split'"):
        resolve(*names, workspace=workspace, adjusted="split")
    assert not caplog.records
    if stored:
        resolve(*names, workspace=workspace, max_print=3.0)
        assert "do nothing to a dataset" in caplog.text
    else:
        with pytest.raises(DataError, match="within a factor 1.01"):
            resolve(*names, workspace=workspace, bad_prints="error", max_print=1.01)


def test_columns_without_files_are_not_taken_in_silence(tmp_path, workspace, caplog):
    order = ("timestamp", "open", "close", "high", "low", "volume")
    with pytest.raises(DataError, match="order of columns is that of files"):
        resolve(*SAMPLE, workspace=workspace, columns=order)
    market = dict(zip(("symbol", "exchange", "timeframe"), SAMPLE, strict=True))
    sample()[:100].to_frame().to_parquet(tmp_path / "a.parquet")
    import_files(workspace, tmp_path / "a.parquet", **market)
    caplog.clear()
    assert len(resolve(*SAMPLE, workspace=workspace, columns=order)) == 100
    assert [r.message for r in caplog.records] == [
        "columns, bad_prints and max_print do nothing to a dataset: name its files instead"
    ]
