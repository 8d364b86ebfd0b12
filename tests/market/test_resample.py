from __future__ import annotations

import datetime as dt
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.errors import ConfigError, DataError
from ares.market.bars import Bars
from ares.market.resample import align, resample
from ares.market.timeframe import timeframe_ns

MINUTE = 60 * 10**9
HOUR = 60 * MINUTE
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@st.composite
def markets(draw, timeframe="1h", max_size=120, off_grid=False):
    n = draw(st.integers(1, max_size))
    step = timeframe_ns(timeframe)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    hops = np.where(rng.random(n) < 0.7, 1, rng.integers(1, 60, n))
    times = (draw(st.integers(400_000, 430_000)) * HOUR // step + np.cumsum(hops)) * step
    if off_grid:  # bars that overlap or stand beside the grid
        times = np.unique(times + rng.integers(-step // 2, step // 2, n))
    four = np.sort(rng.uniform(90, 110, (len(times), 4)), axis=1)
    return Bars(
        times, four[:, 1], four[:, 3], four[:, 0], four[:, 2], rng.uniform(0, 9, len(times)),
        symbol="X", exchange="test", timeframe=timeframe, tick=0.01,
    )  # fmt: skip


def bucket_start(time_ns, timeframe):
    """Open time of the coarse bar in which a bar that opens at `time_ns` lies, by dates."""
    when = EPOCH + dt.timedelta(microseconds=time_ns // 1000)
    if timeframe == "1w":
        when -= dt.timedelta(days=when.weekday())
    if timeframe in {"1d", "1w"}:
        when = when.replace(hour=0, minute=0)
    else:
        hours = timeframe_ns(timeframe) // HOUR
        when = when.replace(hour=when.hour - when.hour % hours, minute=0)
    return (when - EPOCH) // dt.timedelta(microseconds=1) * 1000


def naive(bars, timeframe):
    groups = {}
    for k, time in enumerate(bars.timestamp.tolist()):
        groups.setdefault(bucket_start(time, timeframe), []).append(k)
    ends = bars.close_time[-1]
    rows = []
    for start, members in groups.items():
        if start + timeframe_ns(timeframe) > ends:
            continue
        volume = 0.0
        for k in members:
            volume += float(bars.volume[k])
        rows.append(
            (start, bars.open[members[0]], max(bars.high[members]), min(bars.low[members]),
             bars.close[members[-1]], volume)
        )  # fmt: skip
    return rows


@given(markets(), st.sampled_from(["2h", "4h", "6h", "12h", "1d", "1w"]))
def test_coarse_bars_equal_a_plain_grouping(bars, timeframe):
    coarse = resample(bars, timeframe)
    found = list(
        zip(*(getattr(coarse, c).tolist() for c in
              ("timestamp", "open", "high", "low", "close", "volume")), strict=True)
    )  # fmt: skip
    assert found == naive(bars, timeframe)
    times = coarse.timestamp.tolist()
    step = timeframe_ns(timeframe)
    absent = [(b - a) // step - 1 for a, b in itertools.pairwise(times)]
    assert coarse.gaps.tolist() == [[k, k + 1, n] for k, n in enumerate(absent) if n]
    assert (coarse.timeframe, coarse.tick, coarse.symbol) == (timeframe, 0.01, "X")


@given(st.booleans().flatmap(lambda off: markets(off_grid=off)),
       st.sampled_from(["2h", "4h", "1d"]), st.data())  # fmt: skip
def test_coarse_bars_of_the_past_stay_as_they_were(bars, timeframe, data):
    cut = data.draw(st.integers(1, len(bars)))
    part, whole = resample(bars[:cut], timeframe), resample(bars, timeframe)
    assert part.digest == whole[: len(part)].digest
    joined = align(whole, bars)[:cut]
    np.testing.assert_array_equal(align(part, bars[:cut]), joined)


@given(st.booleans().flatmap(lambda off: markets(off_grid=off)),
       st.sampled_from(["2h", "4h", "1d"]), st.data())  # fmt: skip
def test_what_is_joined_to_a_bar_does_not_depend_on_later_bars(bars, timeframe, data):
    k = data.draw(st.integers(0, len(bars) - 1))
    changed = {
        name: np.concatenate([getattr(bars, name)[: k + 1], getattr(bars, name)[k + 1 :] * 3])
        for name in ("open", "high", "low", "close", "volume")
    }
    other = Bars(
        bars.timestamp, *changed.values(),
        symbol="X", exchange="test", timeframe="1h",
    )  # fmt: skip
    rows = align(resample(bars, timeframe), bars)[: k + 1]
    last = rows.max(initial=-1) + 1
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(
            getattr(resample(bars, timeframe), name)[:last],
            getattr(resample(other, timeframe), name)[:last],
        )


@given(markets(), st.sampled_from(["2h", "1d"]))
def test_the_join_takes_the_last_coarse_bar_that_has_closed(bars, timeframe):
    coarse = resample(bars, timeframe)
    step = timeframe_ns(timeframe)
    expected = []
    for time in bars.timestamp.tolist():
        closed = [k for k, t in enumerate(coarse.timestamp.tolist()) if t + step <= time + HOUR]
        expected.append(closed[-1] if closed else -1)
    found = align(coarse, bars)
    assert found.dtype == np.int64
    assert found.tolist() == expected


def test_a_bar_that_closes_in_the_next_interval_belongs_there():
    # Daily bars of London's midnight: in summer they open at 23:00 UTC of the day before.
    days = [dt.datetime(2021, 3, 27, 0, tzinfo=dt.UTC), dt.datetime(2021, 3, 28, 0, tzinfo=dt.UTC)]
    days += [dt.datetime(2021, 3, 28 + k, 23, tzinfo=dt.UTC) for k in range(3)]
    times = np.array([int(d.timestamp()) * 10**9 for d in days])
    price = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    bars = Bars(times, price, price, price, price, price, symbol="X", exchange="t", timeframe="1d")
    weekly = resample(bars, "1w")
    assert weekly.close.tolist() == [2.0]
    assert align(weekly, bars).tolist() == [-1, 0, 0, 0, 0]


def test_sessions_keep_their_calendar():
    times = [dt.datetime(2021, 6, day, 13, 30, tzinfo=dt.UTC) + dt.timedelta(minutes=30 * k)
             for day in (7, 8, 9, 11) for k in range(13)]  # fmt: skip
    times = np.array([int(t.timestamp()) * 10**9 for t in times])
    price = np.linspace(100, 110, len(times))
    calendar = "session:America/New_York 09:30-16:00"
    bars = Bars(times, price, price, price, price, price, symbol="X", exchange="t",
                timeframe="30m", calendar=calendar)  # fmt: skip
    hourly = resample(bars, "1h")
    assert hourly.calendar == calendar
    assert len(hourly.gaps) == 0
    assert len(hourly) == 4 * 7
    daily = resample(bars, "1d")
    assert len(daily) == 3  # the last day is not over at its last bar
    assert len(daily.gaps) == 0


def test_the_same_timeframe_is_the_same_market(sample_like):
    assert resample(sample_like, "1h") is sample_like
    assert len(resample(sample_like[:0], "4h")) == 0


@pytest.mark.parametrize("timeframe", ["30m", "1m"])
def test_finer_bars_are_not_invented(sample_like, timeframe):
    with pytest.raises(DataError, match="multiples of their timeframe 1h"):
        resample(sample_like, timeframe)


def test_intervals_must_fit_into_each_other(sample_like):
    eight = resample(sample_like, "8h")
    with pytest.raises(DataError, match="multiples"):
        resample(eight, "12h")
    with pytest.raises(ConfigError):
        resample(eight, "2y")


@pytest.fixture
def sample_like():
    price = np.linspace(100, 110, 100)
    times = 400_000 * HOUR + np.arange(100) * HOUR
    return Bars(times, price, price, price, price, price, symbol="X", exchange="t", timeframe="1h")
