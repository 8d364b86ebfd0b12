"""Daily returns of runs, cut into blocks: sums and the path inside each block, in one pass."""

from __future__ import annotations

import math
from typing import Final

import numba
import numpy as np
import numpy.typing as npt

from ares.kernels.compiling import compiled

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MEASURES: Final = ("sum", "sum_sq", "downside_sq", "log_growth", "drawdown", "trough", "peak")
"""Rows of the output."""

_STRETCH: Final = 64
_F = numba.types.Array(numba.float64, 1, "C", readonly=True)
_I = numba.types.Array(numba.int64, 1, "C", readonly=True)
_RUNS = numba.types.Array(numba.float64, 2, "C", readonly=True)

_OUT = numba.float64[:, ::1]
_TRADES = numba.int64[::1]
_COUNTS = numba.types.Array(numba.int64, 2, "C", readonly=True)


@compiled(numba.void(_F, _I, _I, _OUT, _TRADES), allocates=False)
def measure_run(returns: Floats, closed: Ints, borders: Ints, out: Floats, trades: Ints) -> None:
    """Cut a run into blocks; block b holds the days borders[b] to borders[b + 1] - 1.

    The path starts at 1 in each block. A return of -1 or less makes the growth -inf.

    Args:
        returns: Daily returns, shape (days,).
        closed: Trades closed on each day, shape (days,).
        borders: Increasing, shape (blocks + 1,).
        out: Becomes the measures, shape (7, blocks).
        trades: Becomes the trades of each block, shape (blocks,).
    """
    for b in range(out.shape[1]):
        total = squares = downside = growth = drawdown = 0.0
        level = trough = peak = 1.0
        count = 0
        for i in range(borders[b], borders[b + 1]):
            r = returns[i]
            count += closed[i]
            total += r
            squares += r * r
            if r < 0.0:
                downside += r * r
            growth += -math.inf if r <= -1.0 else math.log1p(r)
            level *= max(1.0 + r, 0.0)
            peak = max(peak, level)
            trough = min(trough, level)
            drawdown = max(drawdown, 1.0 - level / peak)
        out[0, b] = total
        out[1, b] = squares
        out[2, b] = downside
        out[3, b] = growth
        out[4, b] = drawdown
        out[5, b] = trough
        out[6, b] = peak
        trades[b] = count


@compiled(
    numba.void(_RUNS, _COUNTS, _I, numba.float64, numba.float64[:, :, ::1], numba.int64[:, ::1])
)
def measure_runs(
    equity: Floats, closed: Ints, borders: Ints, initial: float, out: Floats, trades: Ints
) -> None:
    """`measure_run` of many runs, from their marks.

    The return of a day on a mark of 0 (after ruin) is 0.

    Args:
        equity: Daily marks, shape (runs, days).
        closed: Trades closed on each day, shape (runs, days).
        borders: Increasing, shape (blocks + 1,).
        initial: What the first day started with.
        out: Becomes the measures, shape (runs, 7, blocks).
        trades: Becomes the trades of each block, shape (runs, blocks).
    """
    returns = np.empty(equity.shape[1])
    for run in range(equity.shape[0]):
        before = initial
        for i in range(equity.shape[1]):
            returns[i] = equity[run, i] / before - 1.0 if before != 0.0 else 0.0
            before = equity[run, i]
        measure_run(returns, closed[run], borders, out[run], trades[run])


@compiled(numba.float64(_F, numba.float64), allocates=False)
def largest_fall(equity: Floats, initial: float) -> float:
    """Largest fall from a peak as a fraction of the peak; `initial` is the first peak.

    A stretch without a new peak falls furthest at its least value, so most stretches need only
    their extremes, and these are found in four chains side by side. NaN is passed over.
    """
    peak, fall, n = initial, 0.0, equity.shape[0]
    for begin in range(0, n, _STRETCH):
        end = min(begin + _STRETCH, n)
        high, other_high, low, other_low = peak, peak, peak, peak
        for i in range(begin, end - 1, 2):
            high, other_high = max(high, equity[i]), max(other_high, equity[i + 1])
            low, other_low = min(low, equity[i]), min(other_low, equity[i + 1])
        high, low = max(high, other_high, equity[end - 1]), min(low, other_low, equity[end - 1])
        if high <= peak:
            fall = max(fall, (peak - low) / peak)
            continue
        for i in range(begin, end):
            peak = max(peak, equity[i])
            fall = max(fall, (peak - equity[i]) / peak)
    return fall
