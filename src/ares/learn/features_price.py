"""Features of returns and volatility."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.kernels.rolling import log_change, log_ratio, ratio, rolling_deviation, rolling_mean
from ares.learn.features_core import Feature, previous
from ares.learn.features_series import Recursive

if TYPE_CHECKING:
    from ares.core.types import Float64Array

_FOUR_LOG_2: Final = 4.0 * math.log(2.0)


def log_return(close: Float64Array, *, lag: int) -> Float64Array:
    """Logarithmic return over `lag` bars."""
    return log_change(close, lag)


def opening_gap(open_: Float64Array, close: Float64Array) -> Float64Array:
    """Logarithm of the open over the previous close."""
    return log_ratio(open_, previous(close))


def body(open_: Float64Array, close: Float64Array) -> Float64Array:
    """Logarithm of the close over the open."""
    return log_ratio(close, open_)


def realised(close: Float64Array, *, window: int) -> Float64Array:
    """Root mean square of one-bar log returns."""
    change = log_change(close, 1)
    return np.sqrt(rolling_mean(change * change, window))


def log_range(high: Float64Array, low: Float64Array) -> Float64Array:
    """Logarithm of high over low."""
    return log_ratio(high, low)


def parkinson(high: Float64Array, low: Float64Array, *, window: int) -> Float64Array:
    """Volatility per bar from the range (Parkinson 1980)."""
    span = log_ratio(high, low)
    return np.sqrt(rolling_mean(span * span, window) / _FOUR_LOG_2)


def garman_klass(
    open_: Float64Array,
    high: Float64Array,
    low: Float64Array,
    close: Float64Array,
    *,
    window: int,
) -> Float64Array:
    """Volatility per bar from open, range and close (Garman and Klass 1980)."""
    span, move = log_ratio(high, low), log_ratio(close, open_)
    variance = 0.5 * span * span - (2.0 * math.log(2.0) - 1.0) * move * move
    return np.sqrt(np.maximum(rolling_mean(variance, window), 0.0))


def volatility_ratio(close: Float64Array, *, short: int, long: int) -> Float64Array:
    """Logarithm of short over long realised volatility."""
    return log_ratio(realised(close, window=short), realised(close, window=long))


def range_surprise(high: Float64Array, low: Float64Array, *, window: int) -> Float64Array:
    """Logarithm of the bar's range over its recent mean."""
    span = log_ratio(high, low)
    return log_ratio(span, rolling_mean(span, window))


def downside_share(close: Float64Array, *, window: int) -> Float64Array:
    """Share of squared returns that fell, less one half; 0 in a flat market."""
    change = log_change(close, 1)
    fallen = np.minimum(change, 0.0)
    total = rolling_mean(change * change, window)
    falling = rolling_mean(fallen * fallen, window)
    return ratio(falling - 0.5 * total, total)


def skewness(close: Float64Array, *, window: int) -> Float64Array:
    """Third moment of one-bar log returns about zero, in units of their root mean square cubed."""
    change = log_change(close, 1)
    root = np.sqrt(rolling_mean(change * change, window))
    return ratio(rolling_mean(change * change * change, window), root * root * root)


def volatility_of_volatility(high: Float64Array, low: Float64Array, *, window: int) -> Float64Array:
    """Deviation of the bars' ranges over their mean; 0 where there was no range."""
    span = log_ratio(high, low)
    mean = rolling_mean(span, window)
    _, deviation = rolling_deviation(span, window)
    return ratio(deviation, mean)


_ATR: Final = Recursive((), ("atr",), lambda atr: atr)
"""Average true range of 14 bars (Wilder) as a share of the close."""
_RETURN: Final = "log return"
_VOLATILITY: Final = "log return per bar, root mean square"

PRICE_FEATURES: Final = (
    *(
        Feature(f"return_{lag}", ("close",), lag, _RETURN, True, partial(log_return, lag=lag))
        for lag in (1, 2, 3, 6, 12, 24, 60)
    ),
    Feature("gap_1", ("open", "close"), 1, _RETURN, True, opening_gap),
    Feature("body_1", ("open", "close"), 0, _RETURN, True, body),
    Feature("realised_20", ("close",), 20, _VOLATILITY, True, partial(realised, window=20)),
    Feature("range_1", ("high", "low"), 0, _RETURN, True, log_range),
    Feature("parkinson_20", ("high", "low"), 19, _VOLATILITY, True, partial(parkinson, window=20)),
    Feature(
        "garman_klass_20",
        ("open", "high", "low", "close"),
        19,
        _VOLATILITY,
        True,
        partial(garman_klass, window=20),
    ),
    Feature("atr_14", ("high", "low", "close"), 14, "share of the close", False, _ATR),
    Feature(
        "volatility_ratio_10_60",
        ("close",),
        60,
        "log ratio",
        True,
        partial(volatility_ratio, short=10, long=60),
    ),
    Feature(
        "range_surprise_20",
        ("high", "low"),
        19,
        "log ratio",
        True,
        partial(range_surprise, window=20),
    ),
    Feature("downside_share_60", ("close",), 60, "share", True, partial(downside_share, window=60)),
    Feature("skewness_60", ("close",), 60, "moment ratio", True, partial(skewness, window=60)),
    Feature(
        "volatility_of_volatility_20",
        ("high", "low"),
        19,
        "ratio",
        True,
        partial(volatility_of_volatility, window=20),
    ),
)
