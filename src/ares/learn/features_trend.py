"""Features of trend, momentum and mean reversion."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.kernels.rolling import (
    log_change,
    ratio,
    rolling_covariance,
    rolling_deviation,
    rolling_dot,
    rolling_mean,
)
from ares.learn.features_core import (
    FLAT,
    Feature,
    per_volatility,
    position_in_range,
    previous,
    talib_call,
)
from ares.learn.features_price import realised
from ares.learn.features_series import Recursive

if TYPE_CHECKING:
    from collections.abc import Callable

    from ares.core.types import Float64Array


def sma_distance(close: Float64Array, atr: Float64Array, *, window: int) -> Float64Array:
    """Distance of the close from its mean, in ATR(14)."""
    distance, _ = rolling_deviation(close, window)
    return per_volatility(distance / close, atr)


def ema_distance(unit: Float64Array, mean: Float64Array, atr: Float64Array) -> Float64Array:
    """Distance of the close from its exponential mean, in ATR(14)."""
    return per_volatility((unit - mean) / unit, atr)


def slope(unit: Float64Array, atr: Float64Array, *, window: int) -> Float64Array:
    """Least-squares slope of the close per bar, in ATR(14).

    A change from one bar to the next moves all later closes of the window, so the slope is a
    weighted sum of the changes: exactly 0 where there were none.
    """
    offset = np.arange(window) - (window - 1) / 2.0
    weights = offset[::-1].cumsum()[::-1] / (offset @ offset)
    return per_volatility(rolling_dot(unit - previous(unit), weights[1:]) / unit, atr)


def percent(index: Float64Array) -> Float64Array:
    """An index over 100: average directional index, or plus less minus directional indicator."""
    return index / 100.0


def aroon(high: Float64Array, low: Float64Array) -> Float64Array:
    """Aroon oscillator of 25 bars over 100."""
    out: Float64Array = talib_call("AROONOSC", high, low, timeperiod=25) / 100.0
    return out


def efficiency(close: Float64Array, *, window: int) -> Float64Array:
    """Net move over the path walked, with its sign (Kaufman's efficiency ratio)."""
    path = rolling_mean(np.abs(log_change(close, 1)), window) * window
    return ratio(log_change(close, window), path)


def rsi(index: Float64Array) -> Float64Array:
    """Wilder's relative strength index from -0.5 to 0.5; 0 while nothing has moved."""
    return index / 100.0 - 0.5


def rate_of_change(close: Float64Array, *, window: int) -> Float64Array:
    """Relative change over `window` bars."""
    out: Float64Array = talib_call("ROCP", close, timeperiod=window)
    return out


def momentum(close: Float64Array, *, window: int) -> Float64Array:
    """Log return over `window` bars in units of its realised volatility."""
    scale = realised(close, window=window) * math.sqrt(window)
    return per_volatility(log_change(close, window), scale)


def macd(part: Float64Array, unit: Float64Array, atr: Float64Array) -> Float64Array:
    """Line or histogram of MACD(12, 26, 9), in ATR(14)."""
    return per_volatility(part / unit, atr)


def stochastic(
    high: Float64Array, low: Float64Array, close: Float64Array, *, smooth: int
) -> Float64Array:
    """Position in the range of 14 bars, averaged `smooth` times over 3 bars; -0.5 to 0.5."""
    out = position_in_range(high, low, close, 14)
    for _ in range(smooth):
        out = rolling_mean(out, 3)
    return out


def cci(index: Float64Array, typical: Float64Array, unit: Float64Array) -> Float64Array:
    """Commodity channel index of 20 bars over 100; 0 in a flat window."""
    _, deviation = rolling_deviation(typical, 20)
    return np.where(deviation <= FLAT * unit, 0.0, index / 100.0)


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


def _of(*series: str, window: Callable[..., Float64Array]) -> Recursive:
    return Recursive((), series, window)


def _rsi(window: int) -> Recursive:
    return Recursive((), (f"rsi_{window}",), rsi, bars=("close",))


def _sma_distance(window: int) -> Recursive:
    return Recursive(("close",), ("atr",), partial(sma_distance, window=window))


_CLOSE: Final = ("close",)
_HLC: Final = ("high", "low", "close")
_ATR: Final = "ATR(14)"

TREND_FEATURES: Final = (
    Feature("sma_distance_20", _HLC, 19, _ATR, False, _sma_distance(20)),
    Feature("sma_distance_50", _HLC, 49, _ATR, False, _sma_distance(50)),
    Feature(
        "ema_distance_12", _HLC, 14, _ATR, False, _of("unit", "ema_12", "atr", window=ema_distance)
    ),
    Feature(
        "ema_distance_50", _HLC, 49, _ATR, False, _of("unit", "ema_50", "atr", window=ema_distance)
    ),
    Feature(
        "slope_20",
        _HLC,
        19,
        "ATR(14) per bar",
        False,
        _of("unit", "atr", window=partial(slope, window=20)),
    ),
    Feature(
        "slope_60",
        _HLC,
        59,
        "ATR(14) per bar",
        False,
        _of("unit", "atr", window=partial(slope, window=60)),
    ),
    Feature("adx_14", _HLC, 27, "index / 100", False, _of("adx", window=percent)),
    Feature("directional_14", _HLC, 14, "index / 100", False, _of("directional", window=percent)),
    Feature("aroon_25", ("high", "low"), 25, "index / 100", True, aroon),
    Feature("efficiency_20", _CLOSE, 20, "share", True, partial(efficiency, window=20)),
    Feature("rsi_5", _CLOSE, 5, "index / 100 - 0.5", False, _rsi(5)),
    Feature("rsi_14", _CLOSE, 14, "index / 100 - 0.5", False, _rsi(14)),
    Feature("roc_10", _CLOSE, 10, "relative change", True, partial(rate_of_change, window=10)),
    Feature("momentum_20", _CLOSE, 20, "deviations", True, partial(momentum, window=20)),
    Feature("macd", _HLC, 33, _ATR, False, _of("macd", "unit", "atr", window=macd)),
    Feature(
        "macd_histogram", _HLC, 33, _ATR, False, _of("macd_histogram", "unit", "atr", window=macd)
    ),
    Feature("stochastic_k", _HLC, 15, "share of the range", True, partial(stochastic, smooth=1)),
    Feature("stochastic_d", _HLC, 17, "share of the range", True, partial(stochastic, smooth=2)),
    Feature("cci_20", _HLC, 19, "index / 100", False, _of("cci", "typical", "unit", window=cci)),
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
