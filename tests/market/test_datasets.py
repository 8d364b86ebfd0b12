"""The dataset store: what was imported is what loads, bit for bit, whatever happens meanwhile."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import zoneinfo
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.core.errors import (
    ArtifactError,
    BusyError,
    ConfigError,
    DataError,
    InputError,
    StoreError,
)
from ares.market.files import load_bars
from ares.market.stored import writing
from ares.market.stored.datasets import (
    has_dataset,
    import_files,
    list_datasets,
    load_dataset,
    repair_dataset,
)
from ares.market.stored.partitions import MANIFEST, read_manifest
from ares.store.faults import reset_faults
from ares.store.locks import FileLock
from ares.store.workspace import Workspace

NAMES = ("BTCUSD", "bitfinex", "1m")
MARKET = dict(zip(("symbol", "exchange", "timeframe"), NAMES, strict=True))
BITFINEX = {**MARKET, "columns": "timestamp,open,close,high,low,volume"}
YEAR_END = 1_609_459_200  # 2021-01-01
HEADER = "timestamp,open,high,low,close,volume\n"


def csv_file(path: Path, minutes, price=100.0) -> Path:
    rows = (
        f"{YEAR_END + 60 * m},{price},{price + 1},{price - 1},{price},{m % 7}\n" for m in minutes
    )
    path.write_text(HEADER + "".join(rows))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "home")


def test_a_dataset_loads_bit_for_bit_as_the_file_loads(shared_data, workspace):
    path = shared_data / "bitfinex_BTCUSD_1m_2013.csv.gz"
    result = import_files(workspace, path, **BITFINEX)
    assert (result.before, result.after, result.changed) == (0, 148_047, True)
    expected = load_bars(path, **BITFINEX)
    loaded = load_dataset(workspace, *NAMES)
    assert loaded == expected
    assert loaded.quality == expected.quality == result.quality
    for name in ("timestamp", "open", "high", "low", "close", "volume", "gaps"):
        assert getattr(loaded, name).tobytes() == getattr(expected, name).tobytes()
        assert not getattr(loaded, name).flags.writeable


def test_years_imported_one_by_one_are_the_years_imported_together(shared_data, tmp_path):
    paths = [shared_data / f"bitfinex_BTCUSD_1m_{year}.csv.gz" for year in (2014, 2013)]
    apart, together = Workspace(tmp_path / "apart"), Workspace(tmp_path / "together")
    for path in paths:
        import_files(apart, path, **BITFINEX)
    import_files(together, paths, **BITFINEX)
    one, other = load_dataset(apart, *NAMES), load_dataset(together, *NAMES)
    assert one == other
    assert one.quality.rows == other.quality.rows == 148_055 + 283_787
    assert one.quality.bad_prints == other.quality.bad_prints == 9


@pytest.mark.parametrize(
    "timerange", ["20201231-20210102", "-20210101", "20210101-", "20201231-20210101"]
)
def test_a_time_range_of_a_dataset_is_that_of_the_file(tmp_path, workspace, timerange):
    minutes = [m for m in range(-3000, 3000) if m % 5 or m > 100]
    path = csv_file(tmp_path / "a.csv", minutes)
    import_files(workspace, path, **MARKET)
    part = load_dataset(workspace, *NAMES, timerange)
    assert part == load_bars(path, timerange=timerange, **MARKET)
    assert len(part.gaps) > 0 or timerange == "20210101-" or len(part)
    with pytest.raises(DataError, match="no bars lie in the time range"):
        load_dataset(workspace, *NAMES, "20300101-")


def test_importing_a_file_twice_changes_nothing(tmp_path, workspace):
    path = csv_file(tmp_path / "a.csv", range(300))
    first = import_files(workspace, path, **MARKET)
    before = tree(first.path)
    assert not import_files(workspace, path, **MARKET).changed
    copy = tmp_path / "b.csv"
    copy.write_bytes(path.read_bytes() + b"\n")  # the same rows in other bytes
    assert not import_files(workspace, copy, **MARKET).changed
    assert tree(first.path) == before


def test_conflicting_bars_are_those_of_the_last_import(tmp_path, workspace):
    import_files(workspace, csv_file(tmp_path / "a.csv", range(200)), **MARKET)
    result = import_files(workspace, csv_file(tmp_path / "b.csv", range(100, 300), 101.0), **MARKET)
    assert (result.before, result.after) == (200, 300)
    bars = load_dataset(workspace, *NAMES)
    assert np.array_equal(bars.close, np.r_[np.full(100, 100.0), np.full(200, 101.0)])
    assert (bars.quality.rows, bars.quality.duplicates, bars.quality.conflicts) == (400, 100, 100)


@settings(max_examples=15)
@given(st.permutations(range(4)), st.lists(st.integers(0, 3), max_size=3))
def test_the_order_and_repetition_of_imports_do_not_matter(tmp_path_factory, order, again):
    folder = tmp_path_factory.mktemp("order")
    workspace = Workspace(folder / "home")
    spans = [range(-900, -300), range(-400, 200), range(200, 500), range(450, 700)]
    files = [csv_file(folder / f"{n}.csv", span) for n, span in enumerate(spans)]
    for n in [*order, *again]:
        import_files(workspace, files[n], options={"calendar": "24/7"}, **MARKET)
    merged = load_bars(files, calendar="24/7", **MARKET)
    assert load_dataset(workspace, *NAMES) == merged


def test_readers_keep_the_old_content_until_the_manifest_is_replaced(tmp_path, workspace):
    first = import_files(workspace, csv_file(tmp_path / "a.csv", range(-200, 200)), **MARKET)
    manifest = read_manifest(first.path)
    import_files(workspace, csv_file(tmp_path / "b.csv", range(200, 300)), **MARKET)
    names = {part.file for part in manifest.parts}
    kept = {p.name for p in first.path.glob("*.parquet")}
    assert len(names & kept) == 1  # the year that did not change keeps its file
    assert {part.file for part in read_manifest(first.path).parts} <= kept


_CHILD = """
import sys
from pathlib import Path
from ares.market.stored.datasets import import_files
from ares.store.workspace import Workspace
import_files(Workspace(Path(sys.argv[1])), sys.argv[2], symbol="BTCUSD", exchange="bitfinex",
             timeframe="1m")
"""


def test_a_kill_at_any_point_of_an_import_leaves_the_old_or_the_new(tmp_path, workspace):
    old, new = (
        csv_file(tmp_path / "a.csv", range(-99, 99)),
        csv_file(tmp_path / "b.csv", range(-200, 300)),
    )
    import_files(workspace, old, **MARKET)
    before = load_dataset(workspace, *NAMES)
    after = load_bars(new, **MARKET)
    kept = 0
    for point in (1, 8, 14, 17):
        workspace = Workspace(tmp_path / f"killed-{point}")
        shutil.copytree(tmp_path / "home", workspace.home)
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(workspace.home), str(new)],
            env={**os.environ, "ARES_FAULT": f"*:{point}:kill"},
            capture_output=True,
            check=False,
        )
        found = load_dataset(workspace, *NAMES)
        assert found in (before, after)
        assert done.returncode == -signal.SIGKILL
        kept += found == before
    assert kept >= 3
    import_files(workspace, new, **MARKET)
    assert load_dataset(workspace, *NAMES) == after
    folder = workspace.dataset("bitfinex", "BTCUSD", "1m")
    named = {part.file for part in read_manifest(folder).parts}
    assert {p.name for p in folder.glob("20*.parquet")} == named
    assert not list(folder.glob(".ares-tmp-*"))


@pytest.mark.parametrize("mode", ["enospc", "eio"])
@pytest.mark.parametrize("point", [1, 2, 4, 6, 8])
def test_a_failing_disk_leaves_the_old_dataset(tmp_path, workspace, monkeypatch, mode, point):
    import_files(workspace, csv_file(tmp_path / "a.csv", range(-50, 50)), **MARKET)
    before = load_dataset(workspace, *NAMES)
    path = csv_file(tmp_path / "b.csv", range(-60, 60))
    reset_faults()
    monkeypatch.setenv("ARES_FAULT", f"*:{point}:{mode}")
    with pytest.raises(StoreError):
        import_files(workspace, path, **MARKET)
    monkeypatch.delenv("ARES_FAULT")
    reset_faults()
    assert load_dataset(workspace, *NAMES) == before
    assert import_files(workspace, path, **MARKET).after == 120


@pytest.mark.parametrize("first", [True, False])
def test_a_disk_that_fails_at_any_point_leaves_a_dataset_that_loads_or_none(
    tmp_path, monkeypatch, first
):
    path = csv_file(tmp_path / "b.csv", range(-60, 60))
    whole = load_bars(path, **MARKET)
    for point in range(1, 60):
        workspace = Workspace(tmp_path / f"failing-{point}")
        if not first:
            import_files(workspace, csv_file(tmp_path / "a.csv", range(-50, 50)), **MARKET)
        reset_faults()
        monkeypatch.setenv("ARES_FAULT", f"*:{point}:enospc")
        try:
            import_files(workspace, path, **MARKET)
        except StoreError:
            if has_dataset(workspace, "BTCUSD", "bitfinex", "1m"):
                load_dataset(workspace, *NAMES)
            else:
                assert first
            monkeypatch.delenv("ARES_FAULT")
            import_files(workspace, path, **MARKET)
            assert load_dataset(workspace, *NAMES) == whole
        else:
            break
    assert point > 10


@settings(max_examples=25)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), which=st.integers(0, 3))
def test_a_flipped_bit_is_found_in_every_file(tmp_path_factory, place, bit, which):
    folder = tmp_path_factory.mktemp("flip")
    workspace = Workspace(folder / "home")
    minutes = [*range(-50, 20), *range(30, 50)]
    result = import_files(workspace, csv_file(folder / "a.csv", minutes), **MARKET)
    path = sorted(p for p in result.path.iterdir() if p.is_file() and p.name[0] != ".")[which]
    data = bytearray(path.read_bytes())
    at = int(place * len(data))
    data[at] ^= 1 << bit
    path.write_bytes(bytes(data))
    expected = load_bars(folder / "a.csv", **MARKET)
    try:
        loaded = load_dataset(workspace, *NAMES)
    except ArtifactError:
        return
    assert path.name == MANIFEST  # white space of the manifest says nothing
    assert loaded == expected
    assert loaded.quality == expected.quality


def test_repair_takes_damaged_parts_out_and_an_import_refills(tmp_path, workspace):
    path = csv_file(tmp_path / "a.csv", range(-100, 100))
    folder = import_files(workspace, path, **MARKET).path
    assert repair_dataset(workspace, *NAMES) == ()
    damaged = next(folder.glob("2020-*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.raises(ArtifactError, match="bytes"):
        load_dataset(workspace, *NAMES)
    assert repair_dataset(workspace, *NAMES) == (damaged.name,)
    assert load_dataset(workspace, *NAMES) == load_bars(path, timerange="20210101-", **MARKET)
    assert repair_dataset(workspace, *NAMES) == ()
    import_files(workspace, path, **MARKET)
    assert load_dataset(workspace, *NAMES) == load_bars(path, **MARKET)


def test_datasets_are_listed_and_missing_ones_named(tmp_path, workspace):
    assert list_datasets(workspace) == []
    with pytest.raises(DataError, match="no such dataset.*ares import"):
        load_dataset(workspace, *NAMES)
    assert not has_dataset(workspace, *NAMES)
    import_files(workspace, csv_file(tmp_path / "a.csv", range(100)), **MARKET)
    import_files(workspace, tmp_path / "a.csv", **{**MARKET, "symbol": "BTC/USD"})
    import_files(workspace, tmp_path / "a.csv", **{**MARKET, "symbol": "BTC-USD"})
    found = list_datasets(workspace)
    assert [(d.symbol, d.bars) for d in found] == [
        ("BTC-USD", 100),
        ("BTC/USD", 100),
        ("BTCUSD", 100),
    ]
    assert len({d.path for d in found}) == 3
    assert found[0].first == YEAR_END * 10**9


@pytest.mark.parametrize("symbol", ["../../x", "", "a\0b", "x" * 5000, "\u202eUSD"])
def test_a_symbol_never_leaves_the_workspace(tmp_path, workspace, symbol):
    path = csv_file(tmp_path / "a.csv", range(10))
    with pytest.raises(InputError):
        import_files(workspace, path, **{**MARKET, "symbol": symbol})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv"]


def test_two_writers_do_not_meet(tmp_path, workspace, monkeypatch):
    monkeypatch.setattr(writing, "_WAIT_SECONDS", 0.05)
    folder = workspace.dataset("bitfinex", "BTCUSD", "1m")
    with FileLock(folder / ".lock"), pytest.raises(BusyError, match=str(os.getpid())):
        import_files(workspace, csv_file(tmp_path / "a.csv", range(10)), **MARKET)


def test_prices_adjusted_in_different_ways_do_not_mix(tmp_path, workspace):
    import_files(workspace, csv_file(tmp_path / "a.csv", range(10)), **MARKET)
    with pytest.raises(DataError, match="adjusted"):
        import_files(
            workspace,
            csv_file(tmp_path / "b.csv", range(20)),
            options={"adjusted": "split"},
            **MARKET,
        )


def test_a_broken_file_changes_nothing(tmp_path, workspace):
    folder = import_files(workspace, csv_file(tmp_path / "a.csv", range(10)), **MARKET).path
    before = tree(folder)
    (tmp_path / "b.csv").write_text(HEADER + "1609459200,1,2,3,4,x\n")
    with pytest.raises(DataError):
        import_files(workspace, tmp_path / "b.csv", **MARKET)
    assert tree(folder) == before


def session_file(path: Path, days) -> Path:
    """Hours of New York sessions (09:00 to 16:00) of the given dates."""
    zone = zoneinfo.ZoneInfo("America/New_York")
    rows = (
        f"{dt.datetime(*map(int, day.split('-')), hour, tzinfo=zone).isoformat()},9,10,8,9,1\n"
        for day in np.datetime_as_string(np.asarray(days, dtype="datetime64[D]"))
        for hour in range(9, 16)
    )
    path.write_text(HEADER + "".join(rows))
    return path


def test_an_inferred_calendar_is_inferred_again_from_all_bars(tmp_path, workspace):
    """Two days look like 24/7 and a summer like UTC; the dataset must not stay with that."""
    market = {"symbol": "SPY", "exchange": "arca", "timeframe": "1h"}
    spans = (
        ("2023-05-02", "2023-05-04"),
        ("2023-05-02", "2023-08-01"),
        ("2023-08-01", "2024-02-01"),
    )
    files = []
    for start, end in spans:
        days = np.arange(start, end, dtype="datetime64[D]")
        files.append(session_file(tmp_path / f"{start}-{end}.csv", days[np.is_busday(days)]))
    found = []
    for file in files:
        import_files(workspace, file, **market)
        bars = load_dataset(workspace, "SPY", "arca", "1h")
        found.append((bars.calendar, bars.quality.calendar_inferred, len(bars.gaps)))
    assert found == [
        ("24/7", True, 1),
        ("session:UTC 13:00-20:00", True, 0),
        ("session:America/New_York 09:00-16:00", True, 0),
    ]
    assert load_dataset(workspace, "SPY", "arca", "1h") == load_bars(files, **market)
    declared = "session:America/New_York 09:00-16:00"
    again = import_files(workspace, files[0], options={"calendar": declared}, **market)
    assert again.changed  # not a bar, but the calendar is declared from now on
    import_files(workspace, files[1], **market)
    bars = load_dataset(workspace, "SPY", "arca", "1h")
    assert (bars.calendar, bars.quality.calendar_inferred) == (declared, False)


def test_an_unknown_timeframe_is_answered_with_the_known_ones(tmp_path, workspace):
    file = csv_file(tmp_path / "a.csv", range(30))
    with pytest.raises(ConfigError, match="timeframe: a timeframe must be one of 1m, .*got '1M'"):
        import_files(workspace, file, **{**MARKET, "timeframe": "1M"})


def test_bars_of_any_number_of_parts_load_without_a_gap(tmp_path, workspace):
    """One part without a gap (an empty file of gaps), then a year more than one chunk holds."""
    import_files(workspace, csv_file(tmp_path / "a.csv", range(100)), **MARKET)
    assert len(load_dataset(workspace, *NAMES).gaps) == 0
    long = csv_file(tmp_path / "b.csv", range(-150_000, 150_000))
    import_files(workspace, long, **MARKET)
    bars = load_dataset(workspace, *NAMES)
    assert bars == load_bars(long, **MARKET)
    assert not any(getattr(bars, name).flags.writeable for name in ("timestamp", "close"))


def test_an_import_says_what_it_replaced_and_what_was_dropped_beside_the_dataset(
    tmp_path, workspace, caplog
):
    """Ten bars at five times the price took ten good bars away, and nobody said so."""
    import_files(workspace, csv_file(tmp_path / "a.csv", range(300)), **MARKET)
    better = import_files(workspace, csv_file(tmp_path / "b.csv", range(40), 101.0), **MARKET)
    assert (better.replaced, better.dropped) == (40, 0)
    assert not caplog.records
    worse = csv_file(tmp_path / "c.csv", range(100, 110), 500.0)
    result = import_files(workspace, worse, **MARKET)
    assert (result.before, result.after, result.replaced, result.dropped) == (300, 290, 10, 10)
    assert "10 bars are bad prints beside those of the dataset (dropped), the first" in caplog.text


def test_a_damaged_manifest_is_no_dead_end(tmp_path, workspace):
    """Neither import nor repair took such a dataset; only removing the folder by hand helped."""
    file = csv_file(tmp_path / "a.csv", range(300))
    folder = import_files(workspace, file, **MARKET).path
    (folder / MANIFEST).write_text("{")
    with pytest.raises(ArtifactError):
        import_files(workspace, file, **MARKET)
    assert repair_dataset(workspace, *NAMES) == (MANIFEST,)
    with pytest.raises(DataError, match="no such dataset"):
        repair_dataset(workspace, *NAMES)
    assert import_files(workspace, file, **MARKET).after == 300
