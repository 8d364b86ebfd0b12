"""Wilder's directional movement and Lambert's channel index, carried from piece to piece.

The arithmetic is TA-Lib's, operation by operation; TA-Lib itself cannot go on where it stopped.
Inputs are finite; a value that is not defined yet is NaN. `state` begins as
zeros and is kept by the caller.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from ares.kernels.compiling import compiled

Floats = npt.NDArray[np.float64]

_F = numba.types.Array(numba.float64, 1, "C", readonly=True)
_OUT = numba.float64[::1]
_ZERO = 1e-14
_LAMBERT = 0.015


@compiled(
    numba.void(_F, _F, _F, numba.int64, _OUT, _OUT, _OUT, _OUT),
    allocates=False,
)
def directional_movement(
    high: Floats,
    low: Floats,
    close: Floats,
    period: int,
    state: Floats,
    plus: Floats,
    minus: Floats,
    index: Floats,
) -> None:
    """Plus and minus directional indicator, and the average directional index; 0 to 100.

    Args:
        high: float64, shape (n,).
        low: float64, shape (n,).
        close: float64, shape (n,).
        period: Bars of the smoothing.
        state: float64, shape (8,): bars seen, last high, low and close, smoothed movements up and
            down, smoothed true range, and the index (or the sum of its first values).
        plus: Written to, shape (n,); defined from bar `period` on. So is `minus`.
        minus: Written to.
        index: Written to; defined from bar 2 * period - 1 on.
    """
    seen, last_high, last_low, last_close = state[0], state[1], state[2], state[3]
    up, down, span, average = state[4], state[5], state[6], state[7]
    for i in range(close.shape[0]):
        plus[i] = minus[i] = index[i] = np.nan
        if seen > 0.0:
            rise, fall = high[i] - last_high, last_low - low[i]
            range_ = max(high[i] - low[i], abs(high[i] - last_close), abs(low[i] - last_close))
            if seen >= period:
                up -= up / period
                down -= down / period
                span -= span / period
            if fall > 0.0 and rise < fall:
                down += fall
            elif rise > 0.0 and rise > fall:
                up += rise
            span += range_
            if seen >= period:
                plus[i] = minus[i] = 0.0
                moved = -_ZERO < span < _ZERO
                if not moved:
                    plus[i] = 100.0 * (up / span)
                    minus[i] = 100.0 * (down / span)
                total = plus[i] + minus[i]
                known = not (moved or -_ZERO < total < _ZERO)
                strength = 100.0 * (abs(minus[i] - plus[i]) / total) if known else 0.0
                if seen < 2 * period:
                    average += strength
                    if seen == 2 * period - 1:
                        average /= period
                elif known:
                    average = (average * (period - 1) + strength) / period
                if seen >= 2 * period - 1:
                    index[i] = average
        last_high, last_low, last_close = high[i], low[i], close[i]
        seen += 1.0
    state[0], state[1], state[2], state[3] = seen, last_high, last_low, last_close
    state[4], state[5], state[6], state[7] = up, down, span, average


@compiled(numba.void(_F, numba.int64, _OUT, _OUT), allocates=False)
def channel_index(typical: Floats, period: int, state: Floats, out: Floats) -> None:
    """Commodity channel index: distance from the mean in mean absolute deviations over 0.015.

    Sums run over a ring, from its first cell to its last, wherever the newest value lies.

    Args:
        typical: float64, shape (n,), typical prices.
        period: Bars of the window.
        state: float64, shape (1 + period,): bars seen, and the ring.
        out: Written to, shape (n,); defined from bar `period - 1` on.
    """
    seen = state[0]
    for i in range(typical.shape[0]):
        out[i] = np.nan
        state[1 + int(seen) % period] = typical[i]
        seen += 1.0
        if seen >= period:
            mean = 0.0
            for j in range(1, period + 1):
                mean += state[j]
            mean /= period
            deviation = 0.0
            for j in range(1, period + 1):
                deviation += abs(state[j] - mean)
            distance = typical[i] - mean
            out[i] = 0.0
            if distance != 0.0 and deviation != 0.0:
                out[i] = distance / (_LAMBERT * (deviation / period))
    state[0] = seen
