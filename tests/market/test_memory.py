"""Frames made small without losing a bit, and a budget that caches keep to."""

from __future__ import annotations

import gc
import json
import mmap
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ares.core.errors import ConfigError, DataError, MemoryBudgetError, StoreError
from ares.market.bars import Bars
from ares.market.budget import cgroup_limit, memory_limit, parse_size
from ares.market.files import load_bars
from ares.market.memory import MemoryEfficientDataManager, MemoryManager, tree_bytes


def bits(column):
    return np.asarray(column, dtype=np.float64).view(np.int64)


@pytest.fixture
def manager():
    return MemoryEfficientDataManager()


@given(hnp.arrays(np.int64, st.integers(1, 20)))
def test_integers_get_the_smallest_type_that_holds_them(values):
    df = pd.DataFrame({"n": values})
    small = MemoryEfficientDataManager().optimize_dataframe(df)["n"]
    assert np.array_equal(small.to_numpy().astype(np.int64), values)
    for kind in ("int8", "uint8", "int16", "uint16", "int32", "uint32"):
        if np.dtype(kind).itemsize < small.dtype.itemsize:
            assert not np.array_equal(values.astype(kind).astype(np.int64), values)


@given(
    st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=30),
    st.integers(0, 9),
    st.booleans(),
)
def test_decimals_come_back_exactly_or_the_column_stays(units, places, hole):
    exact = np.array([float(f"{n}e-{places}") for n in units])
    if hole:
        exact[0] = np.nan
    df = pd.DataFrame({"close": exact})
    manager = MemoryEfficientDataManager()
    small = manager.optimize_dataframe(df)
    if small["close"].dtype == np.float64:
        assert np.array_equal(bits(small["close"]), bits(df["close"]))
    assert np.array_equal(manager.restore(small)["close"], exact, equal_nan=True)
    assert np.array_equal(bits(df["close"])[1:], bits(exact)[1:])


@given(hnp.arrays(np.float64, st.integers(1, 20)))
def test_any_floats_survive(values):
    manager = MemoryEfficientDataManager()
    back = manager.restore(manager.optimize_dataframe(pd.DataFrame({"x": values})))["x"]
    assert back.dtype == np.float64
    known = ~np.isnan(values)
    assert np.array_equal(bits(back)[known], bits(values)[known])
    assert np.array_equal(np.isnan(back), ~known)


def test_a_price_that_float32_cannot_hold_stays_float64(manager):
    df = pd.DataFrame({"fits": [100.25, 93.3], "not": [16_777_217.0, 1.0], "pi": [np.pi, np.e]})
    small = manager.optimize_dataframe(df)
    assert [str(t) for t in small.dtypes] == ["float32", "float64", "float64"]
    assert small.attrs["decimals"] == {"fits": 2}
    assert manager.report.bytes_after < manager.report.bytes_before
    assert manager.report.changes == ("fits: float64 to float32 at 2 decimals",)


def test_the_input_is_not_modified_and_other_columns_stay(manager):
    df = pd.DataFrame(
        {
            "time": pd.date_range("2020", periods=100, tz="UTC"),
            "few": ["a", "b"] * 50,
            "many": [f"name {n}" for n in range(100)],
            "flag": [True, False] * 50,
            "none": pd.array([1, None] * 50, dtype="Int64"),
        },
        index=pd.RangeIndex(5, 105),
    )
    before = df.copy(deep=True)
    small = manager.optimize_dataframe(df)
    pd.testing.assert_frame_equal(df, before)
    assert df.attrs == {}
    assert str(small["few"].dtype) == "category"
    for name in ("time", "many", "flag", "none"):
        pd.testing.assert_series_equal(small[name], df[name])
    assert list(small["few"]) == list(df["few"])
    assert small.index.equals(df.index)
    pd.testing.assert_frame_equal(manager.optimize_dataframe(small), small)
    with pytest.raises(DataError, match="one name|named once"):
        manager.optimize_dataframe(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    assert len(manager.optimize_dataframe(pd.DataFrame({"a": np.array([], dtype=np.int64)}))) == 0


def test_real_bars_survive_optimising_saving_and_loading(shared_data, tmp_path, manager):
    market = {"symbol": "ETHUSD", "exchange": "bitfinex", "timeframe": "1m"}
    bars = load_bars(shared_data / "bitfinex_ETHUSD_1m_2016.csv.gz", **market)
    df = bars.to_frame()
    small = manager.optimize_dataframe(df)
    assert len(small.attrs["decimals"]) >= 3
    assert Bars.from_frame(small, **market) == bars
    path = tmp_path / "small.parquet"
    manager.save_to_parquet(small, path)
    loaded = manager.load_from_parquet(path)
    pd.testing.assert_frame_equal(loaded, small)
    assert loaded.attrs["decimals"] == small.attrs["decimals"]
    assert Bars.from_frame(loaded, **market) == bars
    assert load_bars(path, **market) == bars
    pd.testing.assert_frame_equal(manager.restore(loaded), df)


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "none"])
def test_a_saved_frame_loads_with_types_index_and_names(tmp_path, manager, compression):
    df = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=pd.Index([3, 4], name="key"))
    manager.save_to_parquet(df, tmp_path / "a.parquet", compression=compression)
    pd.testing.assert_frame_equal(manager.load_from_parquet(tmp_path / "a.parquet"), df)


def test_saving_is_all_or_nothing(tmp_path, manager):
    path = tmp_path / "a.parquet"
    manager.save_to_parquet(pd.DataFrame({"a": [1]}), path)
    with pytest.raises(DataError):
        manager.save_to_parquet(pd.DataFrame({"a": [object()]}), path)
    assert manager.load_from_parquet(path)["a"].tolist() == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        manager.save_to_parquet(pd.DataFrame({"a": [1]}), tmp_path / "file" / "a.parquet")


@pytest.mark.parametrize("note", [b"[]", b'{"a": "x"}', b"{", b'{"a": null}'])
def test_loading_refuses_what_is_damaged(tmp_path, manager, note):
    path = tmp_path / "a.parquet"
    with pytest.raises(DataError, match="must exist"):
        manager.load_from_parquet(path)
    path.write_bytes(b"PAR1 junk PAR1")
    with pytest.raises(DataError):
        manager.load_from_parquet(path)
    table = pa.table({"a": [1.0]}).replace_schema_metadata({b"ares.decimals": note})
    pq.write_table(table, path)
    with pytest.raises(DataError, match="decimals"):
        manager.load_from_parquet(path)


def test_a_subset_is_a_view_that_cannot_reach_the_frame(manager):
    df = pd.DataFrame(
        {"timestamp": pd.date_range("2020", periods=100, tz="UTC"), "x": np.arange(100.0)}
    )
    part = manager.get_subset(df, 10, 20)
    assert np.shares_memory(part["x"].to_numpy(), df["x"].to_numpy())
    assert not part["x"].to_numpy().flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        part["x"].to_numpy()[0] = 7
    part.loc[part.index[0], "x"] = -1.0
    assert df["x"].tolist() == list(range(100))
    by_time = manager.get_subset(df, "2020-01-11", pd.Timestamp("2020-01-21", tz="Asia/Tokyo"))
    assert by_time["x"].tolist() == list(range(10, 20))
    indexed = df.set_index("timestamp")
    assert manager.get_subset(indexed, None, "2020-01-03")["x"].tolist() == [0, 1]
    assert len(manager.get_subset(df, None, None)) == 100


class Cache:
    """A cache of `size` bytes that tells the others when it is emptied."""

    def __init__(self, name, size, log):
        self.name, self.nbytes, self.log = name, size, log

    def evict(self):
        freed, self.nbytes = self.nbytes, 0
        self.log.append(self.name)
        return freed


@pytest.fixture
def crowd():
    log = []
    caches = [Cache(name, 100, log) for name in "abc"]
    manager = MemoryManager(budget=250, usage=lambda: sum(c.nbytes for c in caches))
    for cache in caches:
        manager.register(cache)
    return manager, caches, log


def test_the_least_recently_used_go_until_the_budget_holds(crowd):
    manager, caches, log = crowd
    manager.touch(caches[0])
    assert manager.check_memory_usage()
    assert log == ["b"]
    assert not manager.check_memory_usage()
    assert log == ["b"]
    profile = manager.profile_memory_usage()
    assert profile["evictions"] == 1
    assert profile["evicted_bytes"] == 100
    assert (profile["used_bytes"], profile["peak_bytes"], profile["cache_bytes"]) == (200, 300, 200)
    json.dumps(profile)


def test_cleaning_up_without_pressure_empties_every_cache(crowd):
    manager, caches, log = crowd
    caches[0].nbytes = 0
    assert manager.cleanup() == 200
    assert log == ["a", "b", "c"]


def test_a_registered_cache_is_not_kept_alive(crowd):
    manager, caches, _ = crowd
    del caches[:]
    gc.collect()
    assert manager.profile_memory_usage()["caches"] == 0
    assert manager.cleanup() == 0


def test_watching_evicts_and_remembers_the_peak(crowd):
    manager, caches, log = crowd
    with manager.watch(interval=0.005):
        for _ in range(400):
            if log:
                break
            import time

            time.sleep(0.005)
    assert log == ["a"]
    assert manager.profile_memory_usage()["peak_bytes"] == 300
    assert sum(c.nbytes for c in caches) == 200


def test_a_budget_that_the_process_alone_passes_says_what_would_fit():
    MemoryManager(budget=(300 << 20) + 1, usage=lambda: 300 << 20).check_base()
    for base, fits in ((300, 1024), (3000, 6000)):
        manager = MemoryManager(budget=base << 20, usage=lambda base=base: base << 20)
        with pytest.raises(MemoryBudgetError, match=rf"--memory {fits}MiB") as caught:
            manager.check_base()
        assert f"{base} MiB" in str(caught.value)


def test_pressure_that_nothing_relieves_is_warned_of_once(caplog):
    manager = MemoryManager(budget=10, usage=lambda: 100)
    for _ in range(3):
        assert manager.check_memory_usage()
    assert len(caplog.records) == 1


def test_the_process_tree_is_measured():
    manager = MemoryManager()
    assert manager.budget_bytes == int(0.8 * manager.limit_bytes)
    assert 10 << 20 < manager.base_bytes < manager.limit_bytes
    with mmap.mmap(-1, 64 << 20) as block:  # an array may lie in memory that was freed before
        block.write(bytes(64 << 20))
        assert tree_bytes() - manager.base_bytes > 32 << 20
    assert MemoryManager(budget="2GiB").budget_bytes == 2 << 30


@pytest.mark.parametrize("threshold", [0, -1, 1.5, float("nan")])
def test_a_threshold_is_a_share(threshold):
    with pytest.raises(ConfigError, match="memory_threshold"):
        MemoryManager(threshold)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GiB", 2 << 30),
        ("500 MB", 500_000_000),
        ("1.5k", 1536),
        ("7", 7),
        ("7B", 7),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "2XB", "two", "1e9", "GiB"])
def test_what_is_no_size(text):
    with pytest.raises(ConfigError, match="size"):
        parse_size(text)


def group(root, path, name, text):
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_the_smallest_limit_of_a_cgroup_and_its_parents_counts(tmp_path):
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    group(tmp_path, "a", "memory.max", "5000\n")
    group(tmp_path, "a/b", "memory.max", "max\n")
    assert cgroup_limit(root=tmp_path, own=own) == 5000
    group(tmp_path, "a/b", "memory.max", "3000\n")
    assert cgroup_limit(root=tmp_path, own=own) == 3000


def test_cgroups_of_version_1(tmp_path):
    own = tmp_path / "own"
    own.write_text("7:cpu:/x\n4:memory:/docker/abc\n")
    group(tmp_path, "memory", "memory.limit_in_bytes", "9223372036854771712\n")
    assert cgroup_limit(root=tmp_path, own=own) is None
    group(tmp_path, "memory", "memory.limit_in_bytes", "4000\n")  # the container's own view
    assert cgroup_limit(root=tmp_path, own=own) == 4000


def test_without_cgroups_physical_memory_is_the_limit(tmp_path):
    assert cgroup_limit(root=tmp_path, own=tmp_path / "absent") is None
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < memory_limit() <= pages * 1.01
