"""Frames made small without losing a bit, kept in files, cut into views."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ares.backtest import Costs, simulate
from ares.backtest.strategies import SmaCross
from ares.core.errors import ConfigError, DataError, StoreError
from ares.core.identity import fingerprint
from ares.market.bars import Bars
from ares.market.dataframes import MemoryEfficientDataManager
from ares.market.files import load_bars
from ares.store import csvtable

COSTS = Costs(fee=0.001, slippage=0.0005)


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


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "lz4", "none"])
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


def awkward():
    """Frames of every kind of column and index that Parquet can be asked to keep."""
    four = range(4)
    floats = {"a": [0.1 + 0.2, 1, 2, 3], "z": [-0.0, 1, 2, 3], "s": [5e-324, 1, 2, 3]}
    wide = np.array([2**64 - 1, 0, 1, 2], dtype=np.uint64)
    text = pd.Series(["x", "x", None, "x"], dtype=object)
    days = pd.date_range("2020", periods=4, freq="D")
    columns = {
        "floats": {**floats, "b": [1e22, 1, 2, 3], "i": [np.inf, 1, 2, 3], "n": [np.nan] * 4},
        "integers": {
            "a": [2**53 + 1, 2**62, 1, -(2**63)],
            "u": wide,
            "o": pd.Series(four, dtype=object),
        },
        "nullable": {
            "i": pd.array([1, None, 3, 2**60], dtype="Int64"),
            "b": pd.array([True, None, False, True], dtype="boolean"),
            "s": pd.array(["x", None, "x", "x"], dtype="string"),
        },
        "arrow": {"a": pd.array([1.5, None, 2, 3], dtype="double[pyarrow]")},
        "times": {
            "t": days.tz_localize("Asia/Tokyo"),
            "s": days.astype("datetime64[s]"),
            "d": pd.to_timedelta([1, 2, 3, 4], unit="s"),
        },
        "categories": {
            "a": pd.Categorical(["x", "y", "x", None], ["y", "x"], ordered=True),
            "b": pd.Categorical([2, 1, 2, 2]),
        },
        "small": {"h": np.array([0.1, 0.2, 0.3, 0.4], np.float16), "b": [True, False] * 2},
        "text": {"a": text.where(text.notna(), np.nan)},
        "none": {},
    }
    found = {name: pd.DataFrame(one) for name, one in columns.items()}
    plain = pd.DataFrame({"a": [1.25, 2, 3, 4]})
    levels = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["x", None])
    return found | {
        "no rows": pd.DataFrame({"a": np.array([], float), "s": pd.Series([], dtype="str")}),
        "duplicate index": plain.set_axis([1, 1, 2, 2]),
        "levels": plain.set_axis(levels),
        "frequency": plain.set_axis(days),
        "range": plain.set_axis(pd.RangeIndex(3, 11, 2, name="n")),
        "labels": pd.DataFrame({0: [1.25, 2], 7: [1, 2]}),
        "label levels": pd.DataFrame([[1.25]], columns=pd.MultiIndex.from_tuples([("a", 1)])),
    }


@pytest.mark.parametrize("name", sorted(awkward()))
def test_every_frame_survives_optimising_restoring_saving_and_loading(tmp_path, manager, name):
    df = awkward()[name]
    df.attrs = {"source": "x", "n": [1, {"y": None}]}
    before = df.copy(deep=True)
    small = manager.optimize_dataframe(df)
    pd.testing.assert_frame_equal(df, before)
    assert df.attrs == before.attrs
    back = manager.restore(small)
    pd.testing.assert_frame_equal(
        back, df, check_dtype=False, check_exact=True, check_categorical=False
    )
    for label in df.columns:
        if df[label].dtype == np.float64:
            known = df[label].notna()
            assert np.array_equal(bits(back[label][known]), bits(df[label][known]))
    for frame in (df, small, back):
        path = manager.save_to_parquet(frame, tmp_path / "a.parquet")
        loaded = manager.load_from_parquet(path)
        pd.testing.assert_frame_equal(loaded, frame, check_exact=True, check_freq=True)
        assert loaded.attrs == frame.attrs
        pd.testing.assert_frame_equal(
            manager.restore(loaded), manager.restore(frame), check_exact=True
        )


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": ["x", 1, 2.5]}),
        pd.DataFrame({"a": [1 + 2j]}),
        pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}),
        pd.DataFrame({0: [1], "0": [2]}),
        pd.DataFrame(index=range(3)),
        pd.DataFrame({"a": pd.Series(["\ud800"], dtype=object)}),
    ],
)
def test_what_parquet_cannot_keep_is_refused_and_the_older_file_stays(tmp_path, manager, frame):
    path = manager.save_to_parquet(pd.DataFrame({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError):
        manager.save_to_parquet(frame, path)
    assert manager.load_from_parquet(path)["a"].tolist() == [1]


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, np.int64(1), object(), {"a": (1,)}])
def test_attrs_that_would_come_back_changed_are_refused(tmp_path, manager, value):
    df = pd.DataFrame({"a": [1]})
    df.attrs = {"key": value}
    with pytest.raises(DataError, match="attrs\\['key'\\]"):
        manager.save_to_parquet(df, tmp_path / "a.parquet")


def test_an_unknown_compression_is_refused(tmp_path, manager):
    with pytest.raises(ConfigError, match="zstd, snappy, gzip, lz4, none"):
        manager.save_to_parquet(pd.DataFrame({"a": [1]}), tmp_path / "a.parquet", "brotli9")


def test_text_with_any_missing_values_is_optimised(manager):
    mixed = pd.Series(["x", "x", pd.NA, None, np.nan, "x", "x", "x"], dtype=object)
    arrays = pd.Series([np.arange(2), "x", None, "x"] * 2, dtype=object)
    lone = pd.Series(["\ud800"] * 8, dtype=object)
    df = pd.DataFrame({"a": mixed, "b": mixed.astype("string"), "c": arrays, "d": lone})
    small = manager.optimize_dataframe(df)
    assert list(map(str, small.dtypes)) == ["category", "category", "object", "object"]
    for name in ("a", "b"):
        assert small[name].isna().tolist() == mixed.isna().tolist()
        assert set(small[name].dropna()) == {"x"}


def test_a_note_on_decimals_is_dropped_with_its_column(manager):
    small = manager.optimize_dataframe(pd.DataFrame({"a": [1.25, 2.5], "b": [1.5, 2]}))
    small["a"] = [np.pi, np.e]
    again = manager.optimize_dataframe(small.drop(columns="b"))
    assert again.attrs["decimals"] == {}
    assert small.attrs["decimals"] == {"a": 2, "b": 1}


def test_a_csv_stands_in_for_a_missing_parquet_file(tmp_path, manager, sample_bars, caplog):
    df = sample_bars[:500].to_frame()
    df.to_csv(tmp_path / "bars.csv", index=False)
    loaded = manager.load_from_parquet(tmp_path / "bars.parquet")
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'bars.parquet'} does not exist: bars.csv is read"
    ]
    pd.testing.assert_frame_equal(loaded, df, check_exact=True)
    (tmp_path / "bars.csv.gz").write_bytes(csvtable.encode(df[:7], {}))
    assert len(manager.load_from_parquet(tmp_path / "bars.parquet")) == 7
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="other.csv"):
        manager.load_from_parquet(tmp_path / "other.parquet")


@pytest.fixture
def timed():
    times = pd.date_range("2020-03-01", periods=100, freq="h", tz="Europe/Berlin")
    return pd.DataFrame({"timestamp": times, "x": np.arange(100.0), "n": np.arange(100)})


def test_a_subset_shares_every_column_and_its_writes_stay_its_own(manager, timed):
    timed["t"] = pd.Categorical(["a", "b"] * 50)
    before = timed.copy(deep=True)
    part = manager.get_subset(timed, 10, 20)
    for name in ("x", "n"):
        assert np.shares_memory(part[name].to_numpy(), timed[name].to_numpy())
    assert np.shares_memory(part["timestamp"].array.asi8, timed["timestamp"].array.asi8)
    assert np.shares_memory(part["t"].array.codes, timed["t"].array.codes)
    part.iloc[0, 1] = -1.0
    part["n"] = 0
    part.loc[part.index[1], "timestamp"] = pd.Timestamp("1999", tz="UTC")
    part["t"] = part["t"].cat.rename_categories({"a": "c"})
    pd.testing.assert_frame_equal(timed, before)


def test_times_cut_like_positions(manager, timed):
    naive = timed.assign(timestamp=timed["timestamp"].dt.tz_localize(None))
    for df in (timed, naive, timed.set_index("timestamp"), naive.set_index("timestamp")):
        assert manager.get_subset(df, "2020-03-02", "2020-03-03")["n"].tolist() == list(
            range(24, 48)
        )
        assert manager.get_subset(df, pd.Timestamp("2020-03-04"), -4)["n"].tolist() == list(
            range(72, 96)
        )
        assert manager.get_subset(df, "2020-03-05 02:30", None)["n"].tolist() == [99]
        assert len(manager.get_subset(df, "2019", "2019-06")) == 0
        assert len(manager.get_subset(df, 5, 5)) == 0
        assert len(manager.get_subset(df, "2021", 200)) == 0
    utc = pd.Timestamp("2020-03-01 23:00", tz="UTC")
    assert manager.get_subset(timed, utc, None)["n"].iloc[0] == 24
    assert manager.get_subset(naive, utc, None)["n"].iloc[0] == 23
    coarse = naive.assign(timestamp=naive["timestamp"].astype("datetime64[s]"))
    assert manager.get_subset(coarse, "2020-03-02 00:00:00.000000001", None)["n"].iloc[0] == 25


def test_bounds_that_make_no_sense_are_refused(manager, timed):
    for start, end in ((20, 10), ("2020-03-03", "2020-03-02"), (-1, 3), ("2020-03-03", 0)):
        with pytest.raises(DataError, match="must not end before it starts"):
            manager.get_subset(timed, start, end)
    for bound in ("soon", True, object(), pd.NaT, float("nan"), "2020-03-29 02:30"):
        with pytest.raises(DataError, match="a bound must be a row position or a time"):
            manager.get_subset(timed, bound, None)
    with pytest.raises(DataError, match="must be sorted"):
        manager.get_subset(timed[::-1], "2020-03-02", None)
    with pytest.raises(DataError, match="holds times"):
        manager.get_subset(timed[["x"]], "2020-03-02", None)
    assert manager.get_subset(timed[::-1], 0, 1)["n"].tolist() == [99]


SHARED = {
    "bitfinex_BTCUSD_1m_2013.csv.gz": ("BTCUSD", "bitfinex", "1m"),
    "bitfinex_BTCUSD_1m_2014.csv.gz": ("BTCUSD", "bitfinex", "1m"),
    "bitfinex_BTCUSD_1m_2015.csv.gz": ("BTCUSD", "bitfinex", "1m"),
    "bitfinex_ETHUSD_1m_2016.csv.gz": ("ETHUSD", "bitfinex", "1m"),
    "binance_ADA_BTC_5m_2018-01.feather": ("ADA/BTC", "binance", "5m"),
}
SHRUNK = {
    "bitfinex_ETHUSD_1m_2016.csv.gz": {"open": 4, "low": 4, "close": 4},
    "rounded": {"open": 8, "high": 8, "low": 8, "close": 8},
}


def shared_frame(folder, name):
    """The rows of a shared file; "rounded" is ADA/BTC with its products of 1e-8 as decimals."""
    file = "binance_ADA_BTC_5m_2018-01.feather" if name == "rounded" else name
    market = dict(zip(("symbol", "exchange", "timeframe"), SHARED[file], strict=True))
    df = load_bars(folder / file, bad_prints="keep", **market).to_frame()
    if name == "rounded":
        for column in ("open", "high", "low", "close"):
            df[column] = [float(f"{value:.8f}") for value in df[column]]
    return df, market


@pytest.mark.parametrize("name", [*SHARED, "rounded"])
def test_a_backtest_on_the_optimised_frame_equals_the_one_on_the_original(
    shared_data, tmp_path, manager, name
):
    df, market = shared_frame(shared_data, name)
    small = manager.optimize_dataframe(df)
    assert small.attrs["decimals"] == SHRUNK.get(name, {})
    loaded = manager.load_from_parquet(manager.save_to_parquet(small, tmp_path / "a.parquet"))
    pd.testing.assert_frame_equal(loaded, small, check_exact=True)
    pd.testing.assert_frame_equal(manager.restore(loaded), df, check_exact=True)
    original = Bars.from_frame(df, **market)
    expected = simulate(original, SmaCross(), {"fast": 20, "slow": 50}, costs=COSTS, max_gap=60)
    assert len(expected.trades) > 50
    for frame in (small, loaded):
        bars = Bars.from_frame(frame, **market)
        assert bars.digest == original.digest
        found = simulate(bars, SmaCross(), {"fast": 20, "slow": 50}, costs=COSTS, max_gap=60)
        pd.testing.assert_frame_equal(found.trades, expected.trades, check_exact=True)
        assert np.array_equal(bits(found.equity), bits(expected.equity))
        assert fingerprint(found.metrics) == fingerprint(expected.metrics)
    assert load_bars(tmp_path / "a.parquet", **market).digest == original.digest
