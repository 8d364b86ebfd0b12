"""Frames made small without losing a bit, and a budget that caches keep to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ares.core.errors import DataError, StoreError
from ares.market.bars import Bars
from ares.market.files import load_bars
from ares.market.memory import MemoryEfficientDataManager


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
