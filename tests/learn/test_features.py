"""The registry and its features against TA-Lib, pandas and formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.core.errors import ConfigError
from ares.learn.features import FEATURES, FeatureSet, compute_features, feature_names
from ares.market.bars import Bars
from ares.store.codecs import decode, encode

HOUR = 3_600_000_000_000


@pytest.fixture(scope="module")
def bars():
    rng = np.random.default_rng(11)
    n = 300
    closing = 5e-5 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))  # the level of ADA/BTC
    opening = np.concatenate([closing[:1], closing[:-1]]) * np.exp(rng.normal(0, 0.002, n))
    return Bars(
        timestamp=np.arange(n, dtype=np.int64) * HOUR,
        open=opening,
        high=np.maximum(opening, closing) * np.exp(np.abs(rng.normal(0, 0.004, n))),
        low=np.minimum(opening, closing) * np.exp(-np.abs(rng.normal(0, 0.004, n))),
        close=closing,
        volume=rng.lognormal(0, 1, n),
        symbol="X",
        exchange="x",
        timeframe="1h",
    )


@pytest.fixture(scope="module")
def table(bars):
    result = compute_features(bars, max_gap=60)
    return {name: result.matrix[:, j] for j, name in enumerate(result.names)}


@pytest.fixture(scope="module")
def frame(bars):
    out = bars.to_frame()
    out["change"] = np.log(out["close"]).diff()
    out["span"] = np.log(out["high"] / out["low"])
    return out


def agree(ours, theirs, tolerance=1e-9):
    theirs = np.asarray(theirs, dtype=float)
    assert (np.isnan(ours) == np.isnan(theirs)).all()
    assert ours == pytest.approx(theirs, rel=tolerance, abs=1e-11, nan_ok=True)


def test_about_fifty_features_in_every_group():
    assert 40 <= len(FEATURES) <= 60
    assert all(name == feature.name for name, feature in FEATURES.items())
    known = {"timestamp", "open", "high", "low", "close", "volume"}
    for feature in FEATURES.values():
        assert feature.unit
        assert set(feature.inputs) <= known
    assert max(feature.warmup for feature in FEATURES.values()) <= 100


def test_returns_and_volatility_equal_pandas(table, frame):
    agree(table["return_6"], np.log(frame["close"] / frame["close"].shift(6)))
    agree(table["gap_1"], np.log(frame["open"] / frame["close"].shift()))
    squares = frame["change"] ** 2
    agree(table["realised_20"], np.sqrt(squares.rolling(20).mean()))
    agree(
        table["volatility_ratio_10_60"],
        0.5 * np.log(squares.rolling(10).mean() / squares.rolling(60).mean()),
        1e-7,
    )
    agree(
        table["parkinson_20"],
        np.sqrt((frame["span"] ** 2).rolling(20).mean() / (4 * math.log(2))),
    )
    body = np.log(frame["close"] / frame["open"])
    variance = 0.5 * frame["span"] ** 2 - (2 * math.log(2) - 1) * body**2
    agree(table["garman_klass_20"], np.sqrt(variance.rolling(20).mean()), 1e-7)
    falling = squares.where(frame["change"] < 0, 0.0).where(frame["change"].notna())
    agree(
        table["downside_share_60"],
        falling.rolling(60).sum() / squares.rolling(60).sum() - 0.5,
        1e-7,
    )
    cubes = (frame["change"] ** 3).rolling(60).mean()
    agree(table["skewness_60"], cubes / squares.rolling(60).mean() ** 1.5, 1e-7)


def test_trend_and_momentum_equal_talib(bars, table):
    import talib

    # Prices of order one: TA-Lib's zero is 1e-14, its results are scale-free but for that.
    high, low, close = (p * 2.0**14 for p in (bars.high, bars.low, bars.close))
    atr = talib.ATR(high, low, close, 14)
    agree(table["atr_14"], atr / close)
    agree(table["sma_distance_50"], (close - talib.SMA(close, 50)) / atr, 1e-7)
    agree(table["ema_distance_50"], (close - talib.EMA(close, 50)) / atr, 1e-7)
    agree(table["slope_20"], talib.LINEARREG_SLOPE(close, 20) / atr, 1e-7)
    agree(table["adx_14"], talib.ADX(high, low, close, 14) / 100, 1e-7)
    agree(table["rsi_14"], talib.RSI(close, 14) / 100 - 0.5, 1e-7)
    agree(table["roc_10"], talib.ROC(close, 10) / 100, 1e-7)
    line, _, histogram = talib.MACD(close, 12, 26, 9)
    agree(table["macd"], line / atr, 1e-7)
    agree(table["macd_histogram"], histogram / atr, 1e-6)
    agree(table["cci_20"], talib.CCI(high, low, close, 20) / 100, 1e-7)
    agree(table["aroon_25"], talib.AROONOSC(high, low, 25) / 100)
    slow_k, slow_d = talib.STOCH(high, low, close, 14, 3, 0, 3, 0)
    agree(table["stochastic_d"], slow_d / 100 - 0.5, 1e-7)
    defined = np.isfinite(slow_k)  # TA-Lib holds the line back until its average is there
    assert table["stochastic_k"][defined] == pytest.approx(slow_k[defined] / 100 - 0.5, abs=1e-9)
    upper, _, lower = talib.BBANDS(close, 20, 2.0, 2.0, 0)
    agree(table["percent_b_20"], (close - lower) / (upper - lower), 1e-6)


def test_mean_reversion_and_volume_equal_pandas(bars, table, frame):
    rolling = frame["close"].rolling(60)
    agree(table["z_score_60"], (frame["close"] - rolling.mean()) / rolling.std(ddof=0), 1e-6)
    agree(
        table["autocorrelation_60"],
        frame["change"].rolling(60).corr(frame["change"].shift()),
        1e-6,
    )
    volume = frame["volume"]
    fifty = volume.rolling(50)
    agree(table["volume_z_score_50"], (volume - fifty.mean()) / fifty.std(ddof=0), 1e-7)
    agree(table["volume_ratio_5_50"], volume.rolling(5).mean() / fifty.mean() - 1, 1e-7)
    signed = np.sign(frame["close"].diff()) * volume
    agree(table["volume_balance_20"], signed.rolling(20).sum() / volume.rolling(20).sum(), 1e-7)
    agree(
        table["price_volume_correlation_60"],
        frame["change"].abs().rolling(60).corr(volume.where(frame["change"].notna())),
        1e-6,
    )
    obv = signed.fillna(0.0).cumsum().to_numpy()
    mean = volume.rolling(20).mean().to_numpy()
    for t in (20, 150, 299):
        slope = np.polyfit(np.arange(20), obv[t - 19 : t + 1], 1)[0]
        assert table["obv_slope_20"][t] == pytest.approx(slope / mean[t], rel=1e-7)


def test_microstructure_proxies_equal_their_formulas(table, frame):
    bounce = frame["change"].rolling(60).cov(frame["change"].shift(), ddof=0)
    agree(table["roll_spread_60"], 2 * np.sqrt((-bounce).clip(lower=0)), 1e-6)
    value = frame["close"] * frame["volume"]
    move = frame["change"].abs()

    def illiquidity(window):
        traded = value.where(move.notna()).rolling(window).sum()
        return move.rolling(window).sum() / traded

    expected = np.log(illiquidity(10) / illiquidity(100))
    agree(table["amihud_10_100"], expected, 1e-6)
    # Corwin and Schultz (2012), equations 14 and 18, written out for each pair of bars.
    spreads = [math.nan]
    for t in range(1, len(frame)):
        rows = frame.iloc[t - 1 : t + 1]
        beta = float((rows["span"] ** 2).sum())
        gamma = math.log(rows["high"].max() / rows["low"].min()) ** 2
        scale = 3 - 2 * math.sqrt(2)
        alpha = (math.sqrt(2 * beta) - math.sqrt(beta)) / scale - math.sqrt(gamma / scale)
        spreads.append(max(2 * (math.exp(alpha) - 1) / (1 + math.exp(alpha)), 0.0))
    mean = np.convolve(spreads, np.ones(20) / 20)[: len(spreads)]
    mean[:20] = np.nan
    agree(table["corwin_schultz_20"], mean, 1e-7)
    agree(
        table["upper_wick"],
        (frame["high"] - frame[["open", "close"]].max(axis=1)) / (frame["high"] - frame["low"]),
    )


def test_calendar_features_vary_or_are_left_out(bars, table, sample_bars):
    hour = (bars.timestamp // HOUR) % 24
    agree(table["hour_sin"], np.sin(2 * np.pi * hour / 24))
    agree(table["weekday_cos"], np.cos(2 * np.pi * ((bars.timestamp / HOUR) % 168) / 168))
    daily = compute_features(sample_bars[:200], max_gap=60)
    assert "weekday_sin" in daily.names
    assert not {"hour_sin", "hour_cos"} & set(daily.names)
    assert not {"hour_sin", "weekday_sin"} & set(feature_names(7 * 24 * HOUR))


def standing(level, n, moved):
    close = np.full(n, level)
    close[:moved] *= 1.1
    return Bars(
        timestamp=np.arange(n, dtype=np.int64) * HOUR,
        open=close, high=close, low=close, close=close, volume=np.zeros(n),
        symbol="X", exchange="x", timeframe="1h",
    )  # fmt: skip


@given(level=st.floats(1e-6, 1e6), n=st.integers(101, 160))
def test_a_market_that_stands_still_is_neutral(level, n):
    result = compute_features(standing(level, n, 0), max_gap=60)
    last = dict(zip(result.names, result.matrix[-1].tolist(), strict=True))
    for name, value in last.items():
        if not name.startswith(("hour", "weekday")):
            assert value == (0.5 if name == "percent_b_20" else 0.0), name


@given(level=st.floats(1e-6, 1e6), n=st.integers(200, 600), moved=st.integers(1, 99))
@settings(max_examples=10)
def test_standing_still_after_a_move_does_not_blow_noise_up(level, n, moved):
    result = compute_features(standing(level, n, moved), max_gap=60)
    values = result.matrix[result.complete()]
    assert len(values) == n - 100
    assert np.isfinite(values).all()
    assert np.abs(values).max() <= 50
    windowed = [j for j, name in enumerate(result.names) if FEATURES[name].carried]
    calendar = [j for j in windowed if result.names[j].startswith(("hour", "weekday"))]
    band = result.names.index("percent_b_20")
    still = result.matrix[-1, [j for j in windowed if j not in {*calendar, band}]]
    assert n - moved < 102 or (still == 0.0).all()


def test_long_gaps_start_every_feature_anew(bars):
    gap = np.array([[149, 150, 61]])
    shifted = bars.timestamp + np.where(np.arange(300) >= 150, 61 * HOUR, 0)
    columns = {c: getattr(bars, c) for c in ("open", "high", "low", "close", "volume")}
    names = {"symbol": "X", "exchange": "x", "timeframe": "1h"}
    gapped = Bars(timestamp=shifted, **columns, **names, gaps=gap)
    alone = Bars(timestamp=shifted[150:], **{c: v[150:] for c, v in columns.items()}, **names)
    cut = compute_features(gapped, max_gap=60).matrix
    assert cut[150:].tobytes() == compute_features(alone, max_gap=60).matrix.tobytes()
    assert cut[:150].tobytes() == compute_features(gapped[:150], max_gap=60).matrix.tobytes()
    spanned = compute_features(gapped, max_gap=61).matrix
    assert np.isfinite(spanned[150:]).all()


def test_columns_follow_the_names_and_are_read_only(bars):
    both = compute_features(bars, ("rsi_14", "return_1"), max_gap=None)
    assert both.names == ("rsi_14", "return_1")
    with pytest.raises(ValueError, match="read-only"):
        both.matrix[0, 0] = 1.0
    picked = compute_features(bars, max_gap=None).select(("rsi_14", "return_1"))
    assert picked.matrix.tobytes() == both.matrix.tobytes()
    assert both.complete().sum() == 300 - 14
    stored = decode(encode(both))
    assert isinstance(stored, FeatureSet)
    assert stored.names == both.names
    assert stored.matrix.tobytes() == both.matrix.tobytes()


def test_an_unknown_feature_is_refused_with_the_nearest_name(bars):
    with pytest.raises(ConfigError, match="rsi_14"):
        compute_features(bars, ("rsi14",), max_gap=None)


def test_changed_talib_switches_are_refused(bars, monkeypatch):
    import talib

    talib.set_unstable_period("RSI", 5)
    try:
        with pytest.raises(ConfigError, match="unstable period 0"):
            compute_features(bars, max_gap=None)
    finally:
        talib.set_unstable_period("RSI", 0)
    monkeypatch.setattr(talib, "get_compatibility", lambda: 1)
    with pytest.raises(ConfigError, match="compatibility"):
        compute_features(bars, max_gap=None)
