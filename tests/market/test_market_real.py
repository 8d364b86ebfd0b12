"""Real markets, with the faults that real markets have, counted by an independent script."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from ares.core.errors import DataError
from ares.market.bars import Bars, check_bars
from ares.market.raw import RawBars
from ares.market.resample import resample
from market_naive import bad_print_flags, count, read_bitfinex

MINUTE_MS = 60_000
COUNTED = [
    "rows",
    "missing_bars",
    "gaps",
    "duplicates",
    "out_of_order",
    "impossible",
    "bad_prints",
    "stale_open",
]
BTC = {"symbol": "BTC/USD", "exchange": "bitfinex", "timeframe": "1m"}


def frame_of(path):
    frame = pd.read_csv(path, header=None)
    frame.columns = ["timestamp", "open", "close", "high", "low", "volume"]
    return frame


def counts_of(report):
    found = report.to_dict()
    return {name: found[name] for name in COUNTED}


@pytest.mark.parametrize("name", ["BTCUSD_1m_2013", "ETHUSD_1m_2016"])
def test_counts_of_real_files_equal_an_independent_script(shared_data, name):
    path = shared_data / f"bitfinex_{name}.csv.gz"
    report = Bars.from_frame(frame_of(path), **BTC).quality
    rows = read_bitfinex(path)
    assert counts_of(report) == count(rows, MINUTE_MS)
    first, last = (dt.datetime.fromtimestamp(rows[k][0] / 1000, dt.UTC) for k in (0, -1))
    assert report.to_dict()["first"] == first.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert report.to_dict()["last"] == last.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert report.calendar == "24/7"
    assert report.calendar_inferred


def test_the_same_counts_after_real_rows_are_disordered_repeated_and_broken(shared_data):
    rows = read_bitfinex(shared_data / "bitfinex_BTCUSD_1m_2013.csv.gz")[:6000]
    rng = np.random.default_rng(3)
    for k in rng.integers(1, 5000, 40).tolist():
        time, o, h, lo, c, v = rows[k]
        rows[k] = (time, o, lo - 1, h, c, v)  # high below low
        rows.insert(int(rng.integers(0, len(rows))), rows[k + 7])  # repeated elsewhere
        rows.append((rows[k + 9][0], o * 3, h * 3, lo * 3, c * 3, v))  # conflicting, bad
    columns = np.array(rows, dtype=object).T
    prices = [np.array([int(x) / 1e10 for x in column]) for column in columns[1:]]
    raw = RawBars(columns[0].astype(np.int64) * 10**6, *prices)
    bars, report = check_bars(raw, **BTC, strict=False)
    expected = count(rows, MINUTE_MS)
    assert expected["impossible"] >= 40
    assert expected["duplicates"] >= 75
    assert expected["out_of_order"] >= 40
    assert expected["bad_prints"] >= 10
    assert counts_of(report) == expected
    assert report.bars == len(bars)
    with pytest.raises(DataError, match=r"row \d+, column (low|high)"):
        check_bars(raw, **BTC)


def test_bad_prints_of_2013_are_named_and_gone(shared_data):
    path = shared_data / "bitfinex_BTCUSD_1m_2013.csv.gz"
    frame = frame_of(path)
    bars = Bars.from_frame(frame, **BTC)
    rows = read_bitfinex(path)
    flags = bad_print_flags(rows, MINUTE_MS)
    expected = [row[0] for row, bad in zip(rows, flags, strict=True) if bad]
    kept = set((bars.timestamp // 10**6).tolist())
    assert [t for t in frame["timestamp"] if t not in kept] == expected
    assert 1372701660000 in expected  # 2013-07-01: 1.00 beside 88.51
    (finding,) = (f for f in bars.quality.findings if f.kind == "bad_prints")
    assert finding.action == "dropped"
    assert finding.examples[0] == (
        "2013-04-10T17:36:00Z low 19.9, recent median close 226.499 (row 4049, column low)"
    )
    assert len(finding.examples) == len(expected)  # each one is named
    whole = Bars.from_frame(frame, **BTC, bad_prints="keep")
    assert len(whole) == len(frame)
    assert whole.quality.bad_prints == len(expected)
    with pytest.raises(DataError, match="row 4049, column low.*19.9"):
        Bars.from_frame(frame, **BTC, bad_prints="error")


def test_the_gap_of_2014_is_found_where_years_are_joined(shared_data):
    frames = [frame_of(shared_data / f"bitfinex_BTCUSD_1m_{y}.csv.gz") for y in (2014, 2015)]
    bars = Bars.from_frame(pd.concat(frames, ignore_index=True), **BTC)
    before, after, missing = bars.gaps[bars.gaps[:, 2].argmax()]
    times = bars.timestamp.astype("datetime64[ns]").astype("datetime64[s]").astype(str)
    last_of_2014 = int(frames[0]["timestamp"].iloc[-1])
    assert times[before].startswith("2014-11-21")
    assert bars.timestamp[before] == last_of_2014 * 10**6
    assert times[after] == "2015-01-01T00:00:00"
    assert missing == (1420070400000 - last_of_2014) // MINUTE_MS - 1
    assert after in bars.segments(60)
    daily = resample(bars, "1d")
    widest = daily.gaps[daily.gaps[:, 2].argmax()]
    days = daily.timestamp[widest[:2]].astype("datetime64[ns]").astype("datetime64[D]").astype(str)
    assert list(days) == ["2014-11-21", "2015-01-01"]
    assert widest[2] == 40


def test_cleaning_a_real_market_twice_changes_nothing(shared_data):
    once = Bars.from_frame(frame_of(shared_data / "bitfinex_BTCUSD_1m_2013.csv.gz"), **BTC)
    twice = Bars.from_frame(once.to_frame(), **BTC)
    assert twice.digest == once.digest
    assert twice.quality.bad_prints == 0


def test_prices_near_5e_minus_5_are_kept_exactly(shared_data):
    frame = pd.read_feather(shared_data / "binance_ADA_BTC_5m_2018-01.feather")
    bars = Bars.from_frame(frame, symbol="ADA/BTC", exchange="binance", timeframe="5m")
    times = [int(t.timestamp()) * 1000 for t in frame["date"]]
    prices = [[round(x * 10**10) for x in frame[c]] for c in ("open", "high", "low", "close")]
    rows = list(zip(times, *prices, [0] * len(times), strict=True))
    expected = {**count(rows, 300_000), "stale_open": bars.quality.stale_open}
    assert counts_of(bars.quality) == expected
    assert bars.tick == 1e-8
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(bars, name), frame[name].to_numpy())


def test_the_nasdaq_sample_keeps_weekdays_with_holidays():
    from arch.data import nasdaq

    frame = nasdaq.load()
    bars = Bars.from_frame(frame, symbol="IXIC", exchange="nasdaq", timeframe="1d")
    weekdays = pd.bdate_range(frame.index[0], frame.index[-1])
    assert bars.calendar.startswith("session:")
    assert bars.days_per_year == 252
    assert bars.quality.holidays == len(weekdays) - len(frame)
    assert bars.quality.gaps == bars.quality.missing_bars == 0
    assert len(bars.gaps) == 0
    assert bars.quality.zero_volume == int((frame["Volume"] == 0).sum())
