from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.errors import DataError
from ares.core.identity import fingerprint
from ares.market.bars import Bars, Holdout, split_holdout
from ares.market.calendars import parse_calendar
from ares.market.raw import COLUMNS
from ares.store.codecs import decode, encode

MARKET = {"symbol": "BTC/USD", "exchange": "test", "timeframe": "1h"}
HOUR = 3600 * 10**9
CALENDARS = ["24/7", "24/5", "session:America/New_York 09:30-16:00", "session:UTC 00:00-24:00"]


@st.composite
def frames(draw, max_size=80):
    """Possible hourly bars with gaps, near one price."""
    n = draw(st.integers(1, max_size))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    steps = np.where(rng.random(n) < 0.8, 1, rng.integers(2, 90, n))
    times = draw(st.integers(400_000, 450_000)) * HOUR + np.cumsum(steps) * HOUR
    four = np.sort(rng.uniform(90, 110, (n, 4)), axis=1)
    four = four if draw(st.booleans()) else np.round(four, draw(st.integers(0, 6)))
    up = rng.random(n) < 0.5
    return pd.DataFrame(
        {
            "timestamp": pd.DatetimeIndex(times, tz="UTC"),
            "open": np.where(up, four[:, 1], four[:, 2]),
            "high": four[:, 3],
            "low": four[:, 0],
            "close": np.where(up, four[:, 2], four[:, 1]),
            "volume": rng.uniform(0, 9, n),
        }
    )


markets = st.builds(
    lambda df, calendar: Bars.from_frame(df, **MARKET, calendar=calendar),
    frames(),
    st.sampled_from(CALENDARS),
)


@given(markets)
def test_a_frame_and_back_is_the_identity(bars):
    frame = bars.to_frame()
    again = Bars.from_frame(frame, **MARKET, calendar=bars.calendar)
    assert again.digest == bars.digest
    assert again == bars
    assert hash(again) == hash(bars)
    indexed = Bars.from_frame(frame.set_index("timestamp"), **MARKET, calendar=bars.calendar)
    assert indexed.digest == bars.digest


@given(markets, st.data())
def test_a_slice_has_the_gaps_of_its_own_times(bars, data):
    a = data.draw(st.integers(0, len(bars)))
    b = data.draw(st.integers(a, len(bars)))
    part = bars[a:b]
    assert len(part) == b - a
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(part, name), getattr(bars, name)[a:b])
        assert b == a or np.shares_memory(getattr(part, name), getattr(bars, name))
    by_day = parse_calendar(bars.calendar).kind == "session"
    if not by_day:  # what a session expects of a day depends on its other bars
        missing = parse_calendar(bars.calendar).missing(part.timestamp, HOUR)
        expected = [[k, k + 1, int(n)] for k, n in enumerate(missing) if n]
        assert part.gaps.tolist() == expected
    inside = [g for g in bars.gaps.tolist() if a <= g[0] and g[1] < b]
    assert part.gaps.tolist() == [[i - a, j - a, n] for i, j, n in inside]
    c = data.draw(st.integers(0, len(part)))
    assert part[c:].digest == bars[a + c : b].digest
    assert part.tick == bars.tick


@given(markets, st.integers(0, 80))
def test_segments_start_after_gaps_that_are_too_long(bars, max_gap):
    starts = bars.segments(max_gap)
    assert starts.dtype == np.int64
    assert starts[0] == 0
    long = {int(after) for _, after, missing in bars.gaps if missing > max_gap}
    assert set(starts[1:].tolist()) == long
    assert bool((np.diff(starts) > 0).all())


@given(markets)
def test_bars_are_stored_and_come_back(bars):
    again = decode(encode(bars))
    assert isinstance(again, Bars)
    assert again.digest == bars.digest
    assert again.quality == bars.quality
    training, holdout = split_holdout(bars, 0.5) if len(bars) > 1 else (bars, Holdout(bars, 0))
    assert decode(encode(holdout)).digest == holdout.digest
    assert decode(encode(training)).digest == training.digest


def bars_of(n=10):
    price = np.linspace(100, 101, n)
    times = 400_000 * HOUR + np.arange(n) * HOUR
    return Bars(times, price, price, price, price, np.ones(n), **MARKET)


def test_the_digest_is_the_content_without_the_quality_report():
    frame = bars_of(300).to_frame()
    bars = Bars.from_frame(frame, **MARKET, calendar="24/7")
    repeated = Bars.from_frame(pd.concat([frame, frame[5:9]]), **MARKET, calendar="24/7")
    assert repeated.quality.duplicates == 4
    assert repeated.digest == bars.digest == fingerprint(bars)
    assert bars != "bars"
    for name, value in [
        ("symbol", "ETH/USD"), ("exchange", "other"), ("timeframe", "2h"), ("tick", 0.5),
        ("calendar", "24/5"), ("adjusted", "split"), ("gaps", np.array([[1, 2, 9]])),
        ("volume", np.zeros(300)), ("timestamp", bars.timestamp + 1),
    ]:  # fmt: skip
        assert dataclasses.replace(bars, **{name: value}).digest != bars.digest, name


@pytest.mark.parametrize("way", ["made", "copied", "pickled", "sliced", "stored"])
def test_bars_cannot_be_written_to(way):
    bars = bars_of()
    match way:
        case "copied":
            bars = copy.deepcopy(bars)
        case "pickled":  # on its way to a worker process
            bars = pickle.loads(pickle.dumps(bars))
        case "sliced":
            bars = bars[2:5]
        case "stored":
            bars = decode(encode(bars))
    for name in (*COLUMNS, "gaps", "close_time"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(bars, name)[...] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        bars.symbol = "x"


def test_what_is_known_when():
    bars = bars_of(3)
    assert bars.interval_ns == HOUR
    np.testing.assert_array_equal(bars.close_time, bars.timestamp + HOUR)
    assert [dataclasses.replace(bars, calendar=c).days_per_year for c in CALENDARS] == [
        365, 260, 252, 252,
    ]  # fmt: skip
    assert repr(bars) == (
        "Bars(BTC/USD test 1h, 3 bars, 2015-08-19T16:00:00Z to 2015-08-19T18:00:00Z, 24/7, 0 gaps)"
    )
    assert "no bars" in repr(bars[:0])
    assert bars[:0].segments(5).tolist() == []


@pytest.mark.parametrize("key", [3, -1, slice(0, 9, 2), slice(None, None, -1), [1, 2]])
def test_only_contiguous_slices_are_bars(key):
    with pytest.raises(DataError, match=r"bars\[a:b\]"):
        bars_of()[key]


def test_columns_of_bars_have_one_length():
    with pytest.raises(DataError, match="column close"):
        dataclasses.replace(bars_of(), close=np.ones(9))


@given(st.integers(3, 50), st.floats(0.01, 0.8))
def test_a_holdout_is_sealed_until_it_is_opened(n, share):
    bars = bars_of(n)
    training, holdout = split_holdout(bars, share)
    assert not isinstance(holdout, Bars)
    assert not any(hasattr(holdout, name) for name in COLUMNS if name != "open")
    assert holdout.n_bars == max(1, round(n * share))
    assert len(training) + holdout.n_bars == n
    assert holdout.first_time == bars.timestamp[len(training)]
    assert holdout.digest == bars[len(training) :].digest
    opened = holdout.open()
    assert opened.start == len(training)
    assert opened.bars.digest == bars.digest
    assert "sealed" in repr(holdout)


@pytest.mark.parametrize(("n", "share"), [(5, 0.0), (5, 1.0), (5, float("nan")), (1, 0.5)])
def test_a_split_leaves_both_parts_something(n, share):
    with pytest.raises(DataError, match="holdout|training"):
        split_holdout(bars_of(n), share)
