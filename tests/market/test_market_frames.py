"""Frames as users have them: names, indexes, time zones, dtypes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.errors import DataError
from ares.market.bars import Bars
from ares.market.raw import NO_TIME
from ares.market.reading.frames import raw_from_frame, restore_decimals

MARKET = {"symbol": "X", "exchange": "test", "timeframe": "1h"}
TIMES = pd.date_range("2021-03-27", periods=60, freq="h", tz="UTC")


def frame():
    n = len(TIMES)
    close = 100 + np.arange(n) / 10
    return pd.DataFrame(
        {"timestamp": TIMES, "open": close, "high": close + 1, "low": close - 1, "close": close,
         "volume": 5}
    )  # fmt: skip


def digest(df):
    return Bars.from_frame(df, **MARKET).digest


@pytest.mark.parametrize("name", ["timestamp", "date", "datetime", "time", "open_time", "Date"])
def test_times_are_found_by_name_or_in_the_index(name):
    expected = digest(frame())
    named = frame().rename(columns={"timestamp": name})
    assert digest(named) == expected
    assert digest(named.set_index(name)) == expected
    numbers = named.assign(**{name: TIMES.as_unit("ms").asi8})
    assert digest(numbers.set_index(name)) == expected
    assert digest(named.set_index(name).rename_axis(None)) == expected


@pytest.mark.parametrize(
    "times",
    [
        TIMES.tz_localize(None),
        TIMES.tz_convert("America/New_York"),
        TIMES.tz_convert("Europe/Berlin"),  # the clocks change in these days
        TIMES.as_unit("s"),
        TIMES.as_unit("us"),
        TIMES.strftime("%Y-%m-%d %H:%M:%S"),
        TIMES.strftime("%Y-%m-%dT%H:%M:%SZ"),
        TIMES.tz_convert("Asia/Kolkata").map(lambda t: t.isoformat()),
        TIMES.as_unit("s").asi8,
        TIMES.as_unit("ms").asi8.astype(float),
        TIMES.as_unit("ms").asi8.astype(str),
        TIMES.as_unit("us").asi8,
        TIMES.as_unit("ns").asi8,
        list(TIMES.to_pydatetime()),
        pd.array(TIMES.as_unit("ms").asi8, dtype="Int64"),
    ],
    ids=lambda t: str(t[0]) if isinstance(t[0], str) else str(getattr(t, "dtype", "objects")),
)
def test_times_of_any_kind_mean_the_same(times):
    assert digest(frame().assign(timestamp=times)) == digest(frame())


def test_names_in_any_case_and_order_and_numbers_of_any_dtype():
    expected = digest(frame())
    shouting = frame().rename(columns=str.upper)[["CLOSE", "VOLUME", "LOW", "HIGH", "OPEN"]]
    assert digest(shouting.set_index(TIMES)) == expected
    text = frame().astype(dict.fromkeys(("open", "high", "low", "close", "volume"), str))
    assert digest(text) == expected
    assert digest(frame().astype({"close": "Float64", "volume": "Int32"})) == expected
    assert digest(frame().assign(other="x", adj_close=1.0)) == expected


def test_the_frame_is_not_modified_and_not_shared():
    df = frame()
    before = df.copy(deep=True)
    bars = Bars.from_frame(df, **MARKET)
    pd.testing.assert_frame_equal(df, before)
    df["close"] = 0.0
    assert bars.close[0] == 100.0
    assert not np.shares_memory(bars.to_frame()["close"].to_numpy(), bars.close)


@given(
    st.lists(st.integers(1, 2_000_000), min_size=2, max_size=50),
    st.integers(0, 8),
)
def test_float32_columns_get_their_exact_decimals_back(units, decimals):
    # Seven digits survive a float32, so these do.
    exact = np.array([float(f"{u}e-{decimals}") for u in units])
    shrunk = exact.astype(np.float32)
    np.testing.assert_array_equal(restore_decimals(shrunk.astype(np.float64), decimals), exact)
    columns = ("open", "high", "low", "close", "volume")
    df = pd.DataFrame(dict.fromkeys(columns, exact), index=TIMES[: len(units)])
    small = df.astype(np.float32)
    small.attrs["decimals"] = dict.fromkeys(small.columns, decimals)
    keep = {**MARKET, "bad_prints": "keep", "calendar": "24/7"}
    assert Bars.from_frame(small, **keep).digest == Bars.from_frame(df, **keep).digest


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_stale_note_on_decimals_changes_no_value(dtype):
    # attrs survive assignments, so a note may outlive the numbers it was written for.
    df = frame().assign(close=lambda d: d["close"] + 0.0123).astype({"close": dtype})
    df.attrs["decimals"] = {"close": 2, "open": 0, "high": "2"}
    raw = raw_from_frame(df)
    np.testing.assert_array_equal(raw.close, df["close"].to_numpy(dtype=np.float64))
    np.testing.assert_array_equal(raw.open, df["open"])


def test_what_cannot_be_restored_stays():
    values = np.array([1e300, 0.5])
    np.testing.assert_array_equal(restore_decimals(values, 2), values)
    np.testing.assert_array_equal(restore_decimals(values, 40), values)


def test_unreadable_cells_are_named():
    df = frame().astype({"close": object, "timestamp": str})
    df.loc[3, "close"] = "n/a"
    df.loc[5, "timestamp"] = "yesterday"
    raw = raw_from_frame(df, name="bars.csv")
    assert {(p.row, p.column, p.text) for p in raw.problems} == {
        (3, "close", "n/a"), (5, "timestamp", "yesterday"),
    }  # fmt: skip
    assert raw.timestamp[5] == NO_TIME
    with pytest.raises(DataError, match="row 4, column close: close must be a number; got 'n/a'"):
        Bars.from_frame(df, **MARKET)
    df.loc[3, "close"] = 100.3
    with pytest.raises(DataError, match="row 6, column timestamp.*'yesterday'"):
        Bars.from_frame(df, **MARKET)
    mixed = frame().assign(timestamp=TIMES.as_unit("ms").asi8)
    mixed.loc[9, "timestamp"] //= 1000
    with pytest.raises(DataError, match="bars.csv, row 10, column timestamp: one column"):
        raw_from_frame(mixed, name="bars.csv")


def test_missing_cells_are_refused():
    df = frame()
    df.loc[7, "low"] = np.nan
    with pytest.raises(DataError, match="row 8, column low: low must be a finite number"):
        Bars.from_frame(df, **MARKET)
    df = frame()
    df.loc[7, "timestamp"] = pd.NaT
    with pytest.raises(DataError, match="row 8, column timestamp: timestamp must be a time"):
        Bars.from_frame(df, **MARKET)


def test_missing_and_ambiguous_columns_are_refused():
    with pytest.raises(DataError, match="one column volume; got .*'close'"):
        digest(frame().drop(columns="volume"))
    with pytest.raises(DataError, match="one column close"):
        digest(frame().assign(Close=1.0))
    with pytest.raises(DataError, match="the open time must be the index or a column"):
        digest(frame().drop(columns="timestamp"))
    with pytest.raises(DataError, match="at least one bar"):
        digest(frame()[:0])


def test_a_time_of_day_in_a_column_of_its_own_is_not_ignored():
    df = frame().drop(columns="timestamp").assign(date="2024-01-31", time="23:58")
    with pytest.raises(DataError, match="must stand in one column; got '2024-01-31, 23:58'"):
        raw_from_frame(df)
