"""Indicators against exact fractions, TA-Lib, naive loops, other starts and other chunks."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import talib
from hypothesis import given
from hypothesis import strategies as st

from ares.backtest import indicators as ind
from ares.backtest.strategy import Prepared
from ares.core.errors import ParameterError
from ares.market.files import load_bars

WINDOWS = {"sma", "std", "volatility", "highest", "lowest"}
NAMES = ("sma", "std", "volatility", "highest", "lowest", "ema", "rsi", "atr")


def walk(n, seed, decimals=2, step=0.01):
    rng = np.random.default_rng(seed)
    return np.round(100 * np.exp(np.cumsum(rng.normal(0, step, n))), decimals)


def compute(name, close, period, starts=None, decimals=-1):
    """One indicator on the whole array; atr gets a high and a low around the close."""
    carried = ind.Carried(name, period, decimals=decimals)
    return carried.push(*columns_of(name, close), starts=starts)


def columns_of(name, close):
    return (close * 1.01, close * 0.99, close) if name == "atr" else (close,)


@pytest.mark.laws
@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=60),
    st.integers(0, 8),
    st.integers(1, 12),
)
def test_sma_is_the_correctly_rounded_mean(whole, decimals, period):
    values = np.array([float(Fraction(k, 10**decimals)) for k in whole])
    out = ind.sma(values, period)
    for i in range(len(whole)):
        if i < period - 1:
            assert math.isnan(out[i])
        else:
            total = sum(whole[i - period + 1 : i + 1])
            assert out[i] == float(Fraction(total, period * 10**decimals))


@pytest.mark.laws
@given(
    st.lists(st.integers(1, 10**7) | st.just(500), min_size=2, max_size=60),
    st.integers(0, 4),
    st.integers(2, 12),
)
def test_std_is_the_exact_deviation(whole, decimals, period):
    values = np.array([float(Fraction(k, 10**decimals)) for k in whole])
    out = ind.std(values, period)
    for i in range(period - 1, len(whole)):
        window = [Fraction(k, 10**decimals) for k in whole[i - period + 1 : i + 1]]
        mean = sum(window) / period
        variance = sum((x - mean) ** 2 for x in window) / period
        assert out[i] == pytest.approx(math.sqrt(variance), rel=1e-12)
        assert (out[i] == 0) == (variance == 0)


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e9])
@pytest.mark.parametrize("decimals", [0, 2, 8])
def test_mean_and_deviation_do_not_depend_on_the_start(decimals, scale):
    values = np.round(walk(800, 4, 6) * scale, decimals)
    places = ind.decimals_of(values)
    for function, period in itertools.product((ind.sma, ind.std), (2, 7, 50)):
        whole = function(values, period, decimals=places)
        for start in (1, 13, 400):
            part = function(values[start:], period, decimals=places)
            assert part[period - 1 :].tobytes() == whole[start + period - 1 :].tobytes()


def test_means_of_real_bars_do_not_depend_on_the_start(shared_data):
    columns = ("timestamp", "open", "close", "high", "low", "volume")
    names = {"symbol": "BTCUSD", "exchange": "bitfinex", "timeframe": "1m", "columns": columns}
    bars = load_bars(shared_data / "bitfinex_BTCUSD_1m_2013.csv.gz", **names)
    whole, later = Prepared.of(bars), Prepared.of(bars[1_000:])
    for name, period in itertools.product(("sma", "std"), (5, 50, 250)):
        part = later.column(name, period)[period - 1 :]
        assert part.tobytes() == whole.column(name, period)[1_000 + period - 1 :].tobytes()


def test_without_shared_decimals_windows_are_summed_alone():
    values = walk(500, 6) * math.pi
    assert ind.decimals_of(values) == -1
    for function in (ind.sma, ind.std):
        whole = function(values, 20)
        part = function(values[77:], 20)
        assert part[19:].tobytes() == whole[96:].tobytes()
    expected = [sum(values[i - 19 : i + 1].tolist()) / 20 for i in range(19, 500)]
    assert ind.sma(values, 20)[19:].tolist() == expected


def test_equal_means_are_equal_bits_whatever_the_period():
    values = np.array([0.1, 0.3, 0.2, 0.2, 0.1, 0.3])
    assert ind.sma(values, 2)[5] == ind.sma(values, 3)[5] == ind.sma(values, 6)[5] == 0.2


def test_decimals_of_a_market():
    assert ind.decimals_of(np.array([100.0, 5.0])) == 0
    assert ind.decimals_of(np.array([0.1, 100.25, np.nan])) == 2
    assert ind.decimals_of(np.array([5.123e-5])) == 8
    assert ind.decimals_of(np.array([math.pi])) == -1
    assert ind.decimals_of(np.array([1e300])) == -1
    assert ind.decimals_of_tick(0.01, np.array([1.25])) == 2
    assert ind.decimals_of_tick(0.01, np.array([1.255])) == -1
    assert ind.decimals_of_tick(0.0, np.array([1.0])) == -1
    assert ind.decimals_of_tick(5.0, np.array([10.0])) == 0


@pytest.mark.laws
@given(
    st.sampled_from(NAMES),
    st.integers(2, 15),
    st.integers(0, 10**6),
    st.lists(st.integers(0, 120), max_size=6),
    st.lists(st.integers(0, 119), max_size=4, unique=True),
    st.lists(st.integers(0, 119), max_size=2),
    st.sampled_from([2, -1]),
)
def test_chunks_equal_the_whole_bit_for_bit(name, period, seed, cuts, starts, holes, decimals):
    close = walk(120, seed)
    close[holes] = np.nan
    where = np.array(sorted(starts), dtype=np.int64)
    whole = compute(name, close, period, where, decimals)
    carried = ind.Carried(name, period, decimals=decimals)
    edges = [0, *sorted(cuts), 120]
    parts = []
    for a, b in itertools.pairwise(edges):
        inside = where[(where >= a) & (where < b)] - a
        parts.append(carried.push(*columns_of(name, close[a:b]), starts=inside))
    assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_start_or_a_nan_begins_anew(name):
    close = walk(200, 9)
    fresh = compute(name, close[90:], 14, decimals=2)
    cut = compute(name, close, 14, np.array([90]), 2)
    assert cut[90:].tobytes() == fresh.tobytes()
    assert cut[:90].tobytes() == compute(name, close[:90], 14, decimals=2).tobytes()
    holed = close.copy()
    holed[89] = np.nan
    healed = compute(name, holed, 14, decimals=2)
    assert healed[90:].tobytes() == fresh.tobytes()
    assert math.isnan(healed[89])
    assert np.isfinite(fresh[-1])


@pytest.mark.parametrize("name", NAMES)
def test_a_prefix_gives_a_prefix(name):
    close = walk(300, 10)
    whole = compute(name, close, 14, decimals=2)
    for cut in (1, 14, 15, 100, 299):
        assert compute(name, close[:cut], 14, decimals=2).tobytes() == whole[:cut].tobytes()


@pytest.mark.parametrize("period", [2, 3, 14, 50])
def test_talib_agrees(period):
    close = walk(1_000, 12)
    rng = np.random.default_rng(1)
    high = close * (1 + np.abs(rng.normal(0, 0.01, 1_000)))
    low = close * (1 - np.abs(rng.normal(0, 0.01, 1_000)))
    pairs = {
        "sma": (ind.sma(close, period), talib.SMA(close, period)),
        "ema": (ind.ema(close, period), talib.EMA(close, period)),
        "rsi": (ind.rsi(close, period), talib.RSI(close, period)),
        "atr": (ind.atr(high, low, close, period), talib.ATR(high, low, close, period)),
        "std": (ind.std(close, period), talib.STDDEV(close, period, 1.0)),
    }
    for name, (ours, theirs) in pairs.items():
        assert np.array_equal(np.isnan(ours), np.isnan(theirs)), name
        # TA-Lib's running sums of squares lose digits in the deviation.
        tolerance = 1e-5 if name == "std" else 1e-9
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=name)
    upper, lower = ind.donchian(high, low, period)
    assert upper[period:].tolist() == talib.MAX(high, period)[period - 1 : -1].tolist()
    assert lower[period:].tolist() == talib.MIN(low, period)[period - 1 : -1].tolist()
    assert np.isnan(upper[:period]).all()


def test_published_rsi():
    closes = """44.34 44.09 44.15 43.61 44.33 44.83 45.10 45.42 45.84 46.08 45.89 46.03 45.61 46.28
        46.28 46.00 46.03 46.41 46.22 45.64 46.21 46.25 45.71 46.45 45.78 45.35 44.03 44.18 44.22
        44.57 43.42 42.66 43.13"""
    expected = """70.4641 66.2496 66.4809 69.3469 66.2947 57.9150 62.8807 63.2088 56.0116 62.3399
        54.6710 50.3868 40.0194 41.4926 41.9024 45.4995 37.3228 33.0905 37.7888"""
    out = ind.rsi(np.array(closes.split(), dtype=float), 14)
    assert np.isnan(out[:14]).all()
    assert out[14:] == pytest.approx(np.array(expected.split(), dtype=float), abs=5e-5)


def test_rsi_of_flat_rising_and_falling_series():
    assert ind.rsi(np.full(30, 7.0), 14)[14:].tolist() == [50.0] * 16
    assert ind.rsi(np.arange(1.0, 31.0), 14)[-1] == 100.0
    assert ind.rsi(np.arange(31.0, 1.0, -1.0), 14)[-1] == 0.0


def test_volatility_is_the_sample_deviation_of_log_returns():
    close = walk(100, 2)
    returns = np.diff(np.log(close))
    out = ind.volatility(close, 20)
    assert np.isnan(out[:20]).all()
    for i in range(20, 100):
        assert out[i] == pytest.approx(np.std(returns[i - 20 : i], ddof=1), rel=1e-9)


def test_volume_sma_is_a_mean():
    volume = np.array([1.5, 2.5, 3.5, 0.0])
    assert ind.volume_sma(volume, 2).tolist()[1:] == [2.0, 3.0, 1.75]


def test_wrong_arguments_are_named():
    with pytest.raises(ParameterError, match="not known"):
        ind.Carried("macd", 3)
    with pytest.raises(ParameterError, match="at least 1"):
        ind.sma(np.ones(3), 0)
    with pytest.raises(ParameterError, match="at least 2"):
        ind.rsi(np.ones(3), 1)
    with pytest.raises(ParameterError, match="whole number"):
        ind.ema(np.ones(3), 2.5)
    with pytest.raises(ParameterError, match="flat arrays"):
        ind.sma(np.ones((3, 2)), 2)
    with pytest.raises(ParameterError, match="increasing"):
        ind.sma(np.ones(3), 2, starts=np.array([2, 1]))
    with pytest.raises(ParameterError, match="3 columns"):
        ind.Carried("atr", 3).push(np.ones(3))


def test_outputs_are_read_only():
    assert not ind.sma(np.ones(5), 2).flags.writeable
    assert not ind.rsi(np.ones(5), 2).flags.writeable
