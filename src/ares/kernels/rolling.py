"""Rolling kernels whose value at t is the same bits whatever follows t.

Every window is summed afresh, left to right, so a value depends on its own window alone: neither
on where the series starts nor on where it ends. (numpy sums pairwise and vectorises tails, whose
rounding depends on the length; running sums carry rounding from the start of the series.)

All functions take contiguous float64 arrays of one length n and return new arrays of length n.
NaN comes out where a window is incomplete or contains NaN.
"""

from __future__ import annotations

import math
from typing import Final

import numba
import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

_F: Final = numba.types.Array(numba.float64, 1, "C", readonly=True)
_I: Final = numba.types.Array(numba.int64, 1, "C", readonly=True)
_OUT: Final = numba.float64[::1]
_INT: Final = numba.int64


def log_change(x: Float64Array, lag: int) -> Float64Array:
    """Natural logarithm of x[t] / x[t - lag]; `x` is positive."""
    _check(lag, "lag")
    out: Float64Array = _log_change(_floats(x), lag)
    return out


def log_ratio(a: Float64Array, b: Float64Array) -> Float64Array:
    """Natural logarithm of a / b; 0 where either is not positive, NaN where either is NaN."""
    out: Float64Array = _log_ratio(_floats(a), _same(a, b))
    return out


def ratio(a: Float64Array, b: Float64Array) -> Float64Array:
    """Quotient a / b; 0 where b is 0 (nothing to compare with), NaN where either is NaN."""
    out: Float64Array = _ratio(_floats(a), _same(a, b))
    return out


def hyperbolic_tangent(x: Float64Array) -> Float64Array:
    """Hyperbolic tangent, value by value."""
    out: Float64Array = _tanh(_floats(x))
    return out


def rolling_mean(x: Float64Array, window: int) -> Float64Array:
    """Mean of the last `window` values."""
    _check(window, "window")
    out: Float64Array = _mean(_floats(x), window)
    return out


def rolling_deviation(x: Float64Array, window: int) -> tuple[Float64Array, Float64Array]:
    """Distance of x[t] from its window's mean, and the window's deviation (ddof 0).

    Both are exactly 0 on a constant window: values enter relative to x[t].
    """
    _check(window, "window")
    pair: tuple[Float64Array, Float64Array] = _deviation(_floats(x), window)
    return pair


def rolling_covariance(x: Float64Array, y: Float64Array, window: int) -> Float64Array:
    """Covariance (ddof 0) of the last `window` pairs."""
    _check(window, "window")
    out: Float64Array = _covariance(_floats(x), _same(x, y), window)
    return out


def rolling_dot(x: Float64Array, weights: Float64Array) -> Float64Array:
    """Weighted sum of the last len(weights) values; the last weight meets x[t]."""
    _check(len(weights), "number of weights")
    out: Float64Array = _dot(_floats(x), _floats(weights))
    return out


def cycle(timestamp: Int64Array, period: int, quarter: int) -> Float64Array:
    """Sine (quarter 0) or cosine (quarter 1) of the phase of `timestamp` within `period` (ns)."""
    _check(period, "period")
    out: Float64Array = _cycle(np.ascontiguousarray(timestamp, dtype=np.int64), period, quarter)
    return out


def _check(number: int, name: str) -> None:
    if number < 1:
        raise ValueError(f"{name} must be at least 1; got {number}")


def _floats(x: Float64Array) -> Float64Array:
    return np.ascontiguousarray(x, dtype=np.float64)


def _same(x: Float64Array, y: Float64Array) -> Float64Array:
    if x.shape != y.shape:
        raise ValueError(f"arrays must have one shape; got {x.shape} and {y.shape}")
    return _floats(y)


@numba.njit(_OUT(_F, _INT), cache=True, nogil=True, error_model="numpy")
def _log_change(x, lag):  # type: ignore[no-untyped-def]
    out = np.full(len(x), np.nan)
    for t in range(lag, len(x)):
        out[t] = math.log(x[t] / x[t - lag])
    return out


@numba.njit(_OUT(_F, _F), cache=True, nogil=True, error_model="numpy")
def _log_ratio(a, b):  # type: ignore[no-untyped-def]
    out = np.zeros(len(a))
    for t in range(len(a)):
        if math.isnan(a[t]) or math.isnan(b[t]):
            out[t] = np.nan
        elif a[t] > 0.0 and b[t] > 0.0:
            out[t] = math.log(a[t] / b[t])
    return out


@numba.njit(_OUT(_F, _F), cache=True, nogil=True, error_model="numpy")
def _ratio(a, b):  # type: ignore[no-untyped-def]
    out = np.zeros(len(a))
    for t in range(len(a)):
        if math.isnan(a[t]) or math.isnan(b[t]):
            out[t] = np.nan
        elif b[t] != 0.0:
            out[t] = a[t] / b[t]
    return out


@numba.njit(_OUT(_F), cache=True, nogil=True, error_model="numpy")
def _tanh(x):  # type: ignore[no-untyped-def]
    out = np.empty(len(x))
    for t in range(len(x)):
        out[t] = math.tanh(x[t])
    return out


@numba.njit(_OUT(_F, _INT), cache=True, nogil=True, error_model="numpy")
def _mean(x, window):  # type: ignore[no-untyped-def]
    out = np.full(len(x), np.nan)
    for t in range(window - 1, len(x)):
        total = 0.0
        for i in range(t - window + 1, t + 1):
            total += x[i]
        out[t] = total / window
    return out


@numba.njit(numba.types.UniTuple(_OUT, 2)(_F, _INT), cache=True, nogil=True, error_model="numpy")
def _deviation(x, window):  # type: ignore[no-untyped-def]
    distance = np.full(len(x), np.nan)
    deviation = np.full(len(x), np.nan)
    for t in range(window - 1, len(x)):
        total = 0.0
        for i in range(t - window + 1, t + 1):
            total += x[i] - x[t]
        mean = total / window
        squares = 0.0
        for i in range(t - window + 1, t + 1):
            gap = x[i] - x[t] - mean
            squares += gap * gap
        distance[t] = -mean
        deviation[t] = math.sqrt(squares / window)
    return distance, deviation


@numba.njit(_OUT(_F, _F, _INT), cache=True, nogil=True, error_model="numpy")
def _covariance(x, y, window):  # type: ignore[no-untyped-def]
    out = np.full(len(x), np.nan)
    for t in range(window - 1, len(x)):
        mean_x = 0.0
        mean_y = 0.0
        for i in range(t - window + 1, t + 1):
            mean_x += x[i]
            mean_y += y[i]
        mean_x /= window
        mean_y /= window
        total = 0.0
        for i in range(t - window + 1, t + 1):
            total += (x[i] - mean_x) * (y[i] - mean_y)
        out[t] = total / window
    return out


@numba.njit(_OUT(_F, _F), cache=True, nogil=True, error_model="numpy")
def _dot(x, weights):  # type: ignore[no-untyped-def]
    window = len(weights)
    out = np.full(len(x), np.nan)
    for t in range(window - 1, len(x)):
        total = 0.0
        for j in range(window):
            total += weights[j] * x[t - window + 1 + j]
        out[t] = total
    return out


@numba.njit(_OUT(_I, _INT, _INT), cache=True, nogil=True, error_model="numpy")
def _cycle(timestamp, period, quarter):  # type: ignore[no-untyped-def]
    out = np.empty(len(timestamp))
    for t in range(len(timestamp)):
        angle = 2.0 * math.pi * ((timestamp[t] % period) / period)
        out[t] = math.cos(angle) if quarter == 1 else math.sin(angle)
    return out
