"""Features of trend, momentum and mean reversion."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.kernels.indicators import rsi as wilder
from ares.kernels.rolling import (
    log_change,
    ratio,
    rolling_covariance,
    rolling_deviation,
    rolling_mean,
)
from ares.learn.features_core import (
    FLAT,
    Feature,
    in_units,
    per_volatility,
    position_in_range,
    previous,
    relative_atr,
    talib_call,
)
from ares.learn.features_price import realised

if TYPE_CHECKING:
    from ares.core.types import Float64Array


def sma_distance(
    high: Float64Array, low: Float64Array, close: Float64Array, *, window: int
) -> Float64Array:
    """Distance of the close from its mean, in ATR(14)."""
    distance, _ = rolling_deviation(close, window)
    return per_volatility(distance / close, relative_atr(high, low, close))


def ema_distance(
    high: Float64Array, low: Float64Array, close: Float64Array, *, window: int
) -> Float64Array:
    """Distance of the close from its exponential mean, in ATR(14)."""
    (units,) = in_units(close, close)
    distance = (units - talib_call("EMA", units, timeperiod=window)) / units
    return per_volatility(distance, relative_atr(high, low, close))


def slope(
    high: Float64Array, low: Float64Array, close: Float64Array, *, window: int
) -> Float64Array:
    """Least-squares slope of the close per bar, in ATR(14)."""
    (units,) = in_units(close, close)
    rise = talib_call("LINEARREG_SLOPE", units, timeperiod=window) / units
    return per_volatility(rise, relative_atr(high, low, close))


def adx(high: Float64Array, low: Float64Array, close: Float64Array) -> Float64Array:
    """Average directional index of 14 bars over 100."""
    units = in_units(close, high, low, close)
    out: Float64Array = talib_call("ADX", *units, timeperiod=14) / 100.0
    return out


def directional(high: Float64Array, low: Float64Array, close: Float64Array) -> Float64Array:
    """Plus less minus directional indicator of 14 bars over 100."""
    units = in_units(close, high, low, close)
    plus = talib_call("PLUS_DI", *units, timeperiod=14)
    out: Float64Array = (plus - talib_call("MINUS_DI", *units, timeperiod=14)) / 100.0
    return out


def aroon(high: Float64Array, low: Float64Array) -> Float64Array:
    """Aroon oscillator of 25 bars over 100."""
    out: Float64Array = talib_call("AROONOSC", high, low, timeperiod=25) / 100.0
    return out


def efficiency(close: Float64Array, *, window: int) -> Float64Array:
    """Net move over the path walked, with its sign (Kaufman's efficiency ratio)."""
    path = rolling_mean(np.abs(log_change(close, 1)), window) * window
    return ratio(log_change(close, window), path)


def rsi(close: Float64Array, *, window: int) -> Float64Array:
    """Wilder's relative strength index from -0.5 to 0.5; 0 while nothing has moved."""
    out = np.empty(len(close))
    wilder(close, np.zeros(1, dtype=np.int64), window, np.zeros(4), out)
    return out / 100.0 - 0.5


def rate_of_change(close: Float64Array, *, window: int) -> Float64Array:
    """Relative change over `window` bars."""
    out: Float64Array = talib_call("ROCP", close, timeperiod=window)
    return out


def momentum(close: Float64Array, *, window: int) -> Float64Array:
    """Log return over `window` bars in units of its realised volatility."""
    scale = realised(close, window=window) * math.sqrt(window)
    return per_volatility(log_change(close, window), scale)


def macd(high: Float64Array, low: Float64Array, close: Float64Array, *, part: int) -> Float64Array:
    """MACD(12, 26, 9) in ATR(14): line (part 0) or histogram (part 2)."""
    (units,) = in_units(close, close)
    parts = talib_call("MACD", units, fastperiod=12, slowperiod=26, signalperiod=9)
    return per_volatility(parts[part] / units, relative_atr(high, low, close))


def stochastic(
    high: Float64Array, low: Float64Array, close: Float64Array, *, smooth: int
) -> Float64Array:
    """Position in the range of 14 bars, averaged `smooth` times over 3 bars; -0.5 to 0.5."""
    out = position_in_range(high, low, close, 14)
    for _ in range(smooth):
        out = rolling_mean(out, 3)
    return out


def cci(high: Float64Array, low: Float64Array, close: Float64Array) -> Float64Array:
    """Commodity channel index of 20 bars over 100; 0 in a flat window."""
    units = in_units(close, high, low, close)
    index = talib_call("CCI", *units, timeperiod=20) / 100.0
    typical = (units[0] + units[1] + units[2]) / 3.0
    _, deviation = rolling_deviation(typical, 20)
    return np.where(deviation <= FLAT * units[2], 0.0, index)


def z_score(close: Float64Array, *, window: int) -> Float64Array:
    """Distance of the close from its mean in its deviations (ddof 0)."""
    distance, deviation = rolling_deviation(close, window)
    return per_volatility(distance / close, deviation / close)


def percent_b(close: Float64Array) -> Float64Array:
    """Place of the close between Bollinger bands (20, 2): 0 lower, 1 upper, 0.5 when flat."""
    return 0.5 + z_score(close, window=20) / 4.0


def autocorrelation(close: Float64Array, *, window: int) -> Float64Array:
    """Correlation of one-bar log returns with the ones before."""
    now = log_change(close, 1)
    before = previous(now)
    _, now_deviation = rolling_deviation(now, window)
    _, before_deviation = rolling_deviation(before, window)
    spread = now_deviation * before_deviation
    spread = np.where(spread <= FLAT * FLAT, 0.0, spread)
    return np.clip(ratio(rolling_covariance(now, before, window), spread), -1.0, 1.0)


def range_position(
    high: Float64Array, low: Float64Array, close: Float64Array, *, window: int
) -> Float64Array:
    """Position of the close in the range of `window` bars; -0.5 to 0.5."""
    return position_in_range(high, low, close, window)


_CLOSE: Final = ("close",)
_HLC: Final = ("high", "low", "close")
_ATR: Final = "ATR(14)"

TREND_FEATURES: Final = (
    Feature("sma_distance_20", _HLC, 19, _ATR, False, partial(sma_distance, window=20)),
    Feature("sma_distance_50", _HLC, 49, _ATR, False, partial(sma_distance, window=50)),
    Feature("ema_distance_12", _HLC, 14, _ATR, False, partial(ema_distance, window=12)),
    Feature("ema_distance_50", _HLC, 49, _ATR, False, partial(ema_distance, window=50)),
    Feature("slope_20", _HLC, 19, "ATR(14) per bar", False, partial(slope, window=20)),
    Feature("slope_60", _HLC, 59, "ATR(14) per bar", False, partial(slope, window=60)),
    Feature("adx_14", _HLC, 27, "index / 100", False, adx),
    Feature("directional_14", _HLC, 14, "index / 100", False, directional),
    Feature("aroon_25", ("high", "low"), 25, "index / 100", True, aroon),
    Feature("efficiency_20", _CLOSE, 20, "share", True, partial(efficiency, window=20)),
    Feature("rsi_5", _CLOSE, 5, "index / 100 - 0.5", False, partial(rsi, window=5)),
    Feature("rsi_14", _CLOSE, 14, "index / 100 - 0.5", False, partial(rsi, window=14)),
    Feature("roc_10", _CLOSE, 10, "relative change", True, partial(rate_of_change, window=10)),
    Feature("momentum_20", _CLOSE, 20, "deviations", True, partial(momentum, window=20)),
    Feature("macd", _HLC, 33, _ATR, False, partial(macd, part=0)),
    Feature("macd_histogram", _HLC, 33, _ATR, False, partial(macd, part=2)),
    Feature("stochastic_k", _HLC, 15, "share of the range", True, partial(stochastic, smooth=1)),
    Feature("stochastic_d", _HLC, 17, "share of the range", True, partial(stochastic, smooth=2)),
    Feature("cci_20", _HLC, 19, "index / 100", False, cci),
    Feature("z_score_10", _CLOSE, 9, "deviations", True, partial(z_score, window=10)),
    Feature("z_score_60", _CLOSE, 59, "deviations", True, partial(z_score, window=60)),
    Feature("percent_b_20", _CLOSE, 19, "share of the bands", True, percent_b),
    Feature(
        "autocorrelation_60", _CLOSE, 61, "correlation", True, partial(autocorrelation, window=60)
    ),
    Feature(
        "range_position_50",
        _HLC,
        49,
        "share of the range",
        True,
        partial(range_position, window=50),
    ),
)
