"""Features of volume, microstructure proxies and the calendar."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.kernels.rolling import (
    cycle,
    hyperbolic_tangent,
    log_change,
    log_ratio,
    ratio,
    rolling_covariance,
    rolling_deviation,
    rolling_dot,
    rolling_mean,
)
from ares.learn.features_core import Feature, position_in_range, previous

if TYPE_CHECKING:
    from ares.core.types import Float64Array, Int64Array

_HOUR: Final = 3_600_000_000_000
_DAY: Final = 24 * _HOUR
_WEEK: Final = 7 * _DAY


def volume_z_score(volume: Float64Array, *, window: int) -> Float64Array:
    """Distance of the volume from its mean in its deviations; 0 where it never changed."""
    distance, deviation = rolling_deviation(volume, window)
    return ratio(distance, deviation)


def volume_ratio(volume: Float64Array, *, short: int, long: int) -> Float64Array:
    """Short over long mean of the volume, less one; 0 where nothing was traded."""
    mean = rolling_mean(volume, long)
    return ratio(rolling_mean(volume, short) - mean, mean)


def signed_volume(close: Float64Array, volume: Float64Array) -> Float64Array:
    """Volume with the sign of the bar's return."""
    return np.sign(close - previous(close)) * volume


def volume_balance(close: Float64Array, volume: Float64Array, *, window: int) -> Float64Array:
    """Volume of rising less falling bars over all volume: -1 to 1."""
    flow = rolling_mean(signed_volume(close, volume), window)
    return ratio(flow, rolling_mean(volume, window))


def obv_slope(close: Float64Array, volume: Float64Array, *, window: int) -> Float64Array:
    """Least-squares slope of on-balance volume per bar, in mean volumes.

    Bar i of the window moves all later sums, so the slope is a weighted sum of signed volumes.
    """
    offset = np.arange(window) - (window - 1) / 2.0
    weights = offset[::-1].cumsum()[::-1] / (offset @ offset)
    flow = rolling_dot(signed_volume(close, volume), weights)
    return ratio(flow, rolling_mean(volume, window))


def money_flow(
    high: Float64Array, low: Float64Array, close: Float64Array, volume: Float64Array, *, window: int
) -> Float64Array:
    """Chaikin's money flow: close location weighted by volume, -1 to 1."""
    flow = 2.0 * position_in_range(high, low, close, 2) * volume
    return ratio(rolling_mean(flow, window), rolling_mean(volume, window))


def price_volume_correlation(
    close: Float64Array, volume: Float64Array, *, window: int
) -> Float64Array:
    """Correlation of absolute log returns and volume; 0 where either never changed."""
    move = np.abs(log_change(close, 1))
    _, move_deviation = rolling_deviation(move, window)
    _, volume_deviation = rolling_deviation(volume, window)
    spread = move_deviation * volume_deviation
    return np.clip(ratio(rolling_covariance(move, volume, window), spread), -1.0, 1.0)


def amihud(close: Float64Array, volume: Float64Array, *, short: int, long: int) -> Float64Array:
    """Logarithm of short over long illiquidity: absolute return per traded value (Amihud 2002)."""
    move, value = np.abs(log_change(close, 1)), close * volume
    return log_ratio(
        rolling_mean(move, short) * rolling_mean(value, long),
        rolling_mean(move, long) * rolling_mean(value, short),
    )


def roll_spread(close: Float64Array, *, window: int) -> Float64Array:
    """Effective spread from the bid-ask bounce (Roll 1984); 0 where returns do not bounce."""
    change = log_change(close, 1)
    bounce = rolling_covariance(change, previous(change), window)
    return 2.0 * np.sqrt(np.maximum(-bounce, 0.0))


def corwin_schultz(high: Float64Array, low: Float64Array, *, window: int) -> Float64Array:
    """Spread from ranges of one and two bars (Corwin and Schultz 2012), mean of `window` pairs.

    Negative estimates count as 0, as in the paper.
    """
    span = log_ratio(high, low)
    squares = span * span
    beta = squares + previous(squares)
    both = log_ratio(np.maximum(high, previous(high)), np.minimum(low, previous(low)))
    scale = 3.0 - 2.0 * math.sqrt(2.0)
    alpha = (np.sqrt(2.0 * beta) - np.sqrt(beta)) / scale - np.sqrt(both * both / scale)
    # 2 (e^a - 1) / (1 + e^a) is 2 tanh(a / 2).
    spread = 2.0 * hyperbolic_tangent(np.maximum(alpha, 0.0) / 2.0)
    return rolling_mean(spread, window)


def close_location(high: Float64Array, low: Float64Array, close: Float64Array) -> Float64Array:
    """Place of the close in the bar's range: -1 low to 1 high, 0 without a range."""
    return ratio((close - low) - (high - close), high - low)


def upper_wick(
    open_: Float64Array, high: Float64Array, low: Float64Array, close: Float64Array
) -> Float64Array:
    """Share of the range above the body."""
    return ratio(high - np.maximum(open_, close), high - low)


def lower_wick(
    open_: Float64Array, high: Float64Array, low: Float64Array, close: Float64Array
) -> Float64Array:
    """Share of the range below the body."""
    return ratio(np.minimum(open_, close) - low, high - low)


def phase(timestamp: Int64Array, *, period: int, quarter: int) -> Float64Array:
    """Sine (quarter 0) or cosine (1) of the bar's open time within `period`, in UTC."""
    return cycle(timestamp, period, quarter)


_CLOSE_VOLUME: Final = ("close", "volume")
_OHLC: Final = ("open", "high", "low", "close")
_TIME: Final = ("timestamp",)

VOLUME_FEATURES: Final = (
    Feature(
        "volume_z_score_50", ("volume",), 49, "deviations", True, partial(volume_z_score, window=50)
    ),
    Feature(
        "volume_ratio_5_50",
        ("volume",),
        49,
        "relative change",
        True,
        partial(volume_ratio, short=5, long=50),
    ),
    Feature(
        "volume_balance_20", _CLOSE_VOLUME, 20, "share", True, partial(volume_balance, window=20)
    ),
    Feature(
        "obv_slope_20",
        _CLOSE_VOLUME,
        20,
        "mean volumes per bar",
        True,
        partial(obv_slope, window=20),
    ),
    Feature(
        "price_volume_correlation_60",
        _CLOSE_VOLUME,
        60,
        "correlation",
        True,
        partial(price_volume_correlation, window=60),
    ),
    Feature(
        "money_flow_20",
        ("high", "low", "close", "volume"),
        20,
        "share",
        True,
        partial(money_flow, window=20),
    ),
    Feature(
        "amihud_10_100", _CLOSE_VOLUME, 100, "log ratio", True, partial(amihud, short=10, long=100)
    ),
    Feature("roll_spread_60", ("close",), 61, "share", True, partial(roll_spread, window=60)),
    Feature(
        "corwin_schultz_20", ("high", "low"), 20, "share", True, partial(corwin_schultz, window=20)
    ),
    Feature("close_location", ("high", "low", "close"), 0, "share", True, close_location),
    Feature("upper_wick", _OHLC, 0, "share", True, upper_wick),
    Feature("lower_wick", _OHLC, 0, "share", True, lower_wick),
    Feature("hour_sin", _TIME, 0, "sine", True, partial(phase, period=_DAY, quarter=0), _DAY),
    Feature("hour_cos", _TIME, 0, "cosine", True, partial(phase, period=_DAY, quarter=1), _DAY),
    Feature("weekday_sin", _TIME, 0, "sine", True, partial(phase, period=_WEEK, quarter=0), _WEEK),
    Feature(
        "weekday_cos", _TIME, 0, "cosine", True, partial(phase, period=_WEEK, quarter=1), _WEEK
    ),
)
