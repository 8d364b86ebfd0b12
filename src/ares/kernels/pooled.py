"""What a search maximises: one statistic of the pooled blocks of a run, and its standard error."""

from __future__ import annotations

import math
from typing import Final

import numba
import numpy as np
import numpy.typing as npt

from ares.kernels.blocks import MEASURES
from ares.kernels.compiling import compiled

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SHARPE: Final = 0
SORTINO: Final = 1
TOTAL_RETURN: Final = 2
CALMAR: Final = 3

_SUM = MEASURES.index("sum")
_SQUARES = MEASURES.index("sum_sq")
_DOWNSIDE = MEASURES.index("downside_sq")
_GROWTH = MEASURES.index("log_growth")
_DRAWDOWN = MEASURES.index("drawdown")
_TROUGH = MEASURES.index("trough")
_PEAK = MEASURES.index("peak")
_NO_FALL: Final = 1e-12  # what rounding leaves of a path that never falls
NONE: Final = -1
"""No block is left out."""

_I = numba.types.Array(numba.int64, 1, "C", readonly=True)
_RUN = numba.types.Array(numba.float64, 2, "C", readonly=True)
_RUNS = numba.types.Array(numba.float64, 3, "C", readonly=True)


@compiled(numba.float64(_RUN, numba.int64), allocates=False)
def chained_drawdown(run: Floats, left_out: int) -> float:
    """Largest fall of the daily marks over the chained blocks, as a fraction of their high."""
    level = top = 1.0
    worst = 0.0
    for b in range(run.shape[1]):
        if b == left_out:
            continue
        worst = max(worst, run[_DRAWDOWN, b], 1.0 - level * run[_TROUGH, b] / top)
        top = max(top, level * run[_PEAK, b])
        level *= math.exp(run[_GROWTH, b])
    return worst


@compiled(numba.types.UniTuple(numba.float64, 6)(_I, _RUN, numba.int64), allocates=False)
def _totals(n: Ints, run: Floats, left_out: int) -> tuple[float, float, float, float, float, float]:
    """All days; and of all blocks but one: days, returns, squares, downside squares, growth."""
    whole = days = total = squares = downside = growth = 0.0
    for b in range(n.shape[0]):
        whole += n[b]
        if b != left_out:
            days += n[b]
            total += run[_SUM, b]
            squares += run[_SQUARES, b]
            downside += run[_DOWNSIDE, b]
            growth += run[_GROWTH, b]
    return whole, days, total, squares, downside, growth


@compiled(
    numba.float64(numba.int64, _I, _RUN, numba.int64, numba.float64),
    allocates=False,
)
def _measured(kind: int, n: Ints, run: Floats, left_out: int, days_per_year: float) -> float:
    """What has a standard error: a ratio itself, or the log growth of the whole range."""
    whole, days, total, squares, downside, growth = _totals(n, run, left_out)
    if kind == SHARPE:
        centred = squares - total * total / days
        if not centred > 1e-13 * squares:  # what rounding leaves of equal returns is 0
            centred = 0.0
        value = total / days / math.sqrt(centred / (days - 1.0)) * math.sqrt(days_per_year)
    elif kind == SORTINO:
        value = total / days / math.sqrt(downside / days) * math.sqrt(days_per_year)
    else:
        # Left-out samples are shorter: their growth is brought to the whole range.
        value = growth * (whole / days)
    return value if math.isfinite(value) else math.nan


@compiled(numba.float64(numba.int64, _I, _RUN, numba.float64, numba.float64), allocates=False)
def _statistic(kind: int, n: Ints, run: Floats, measured: float, days_per_year: float) -> float:
    """The statistic where `_measured` is `measured`; NaN where it is undefined."""
    value = measured
    if kind == TOTAL_RETURN:
        value = math.expm1(measured)
    elif kind == CALMAR:
        days = _totals(n, run, NONE)[0]
        fall = chained_drawdown(run, NONE)
        if fall < _NO_FALL:
            fall = 0.0
        value = math.expm1(measured * days_per_year / days) / fall
    return value if math.isfinite(value) else math.nan


@compiled(
    numba.void(numba.int64, _I, _RUNS, numba.float64, numba.float64, numba.float64[:, ::1]),
    allocates=False,
)
def pool(
    kind: int, n: Ints, runs: Floats, days_per_year: float, penalty: float, out: Floats
) -> None:
    """Penalised statistic and its standard error for each run, NaN where undefined.

    The standard error is the jackknife's over the blocks (Efron 1982). What grows has a floor of
    -1, at which its errors vanish: there it is the log growth that is penalised, so that a point
    which reliably loses all is no better than one that gains with some uncertainty. The error
    is then how far one standard error takes the statistic down.

    Each run is summed alone and in order: its numbers do not depend on the others.

    Args:
        kind: SHARPE (annualised, of the pooled daily returns), SORTINO (the same with the downside
            deviation), TOTAL_RETURN (of the whole range) or CALMAR (annual growth over the
            largest drawdown of the daily marks).
        n: Days of each block, shape (blocks,).
        runs: `MEASURES` of each run, shape (runs, 7, blocks).
        days_per_year: Of the calendar.
        penalty: Standard errors taken off.
        out: Becomes value and error, shape (runs, 2).
    """
    count = n.shape[0]
    for i in range(runs.shape[0]):
        run = runs[i]
        mean = 0.0
        for b in range(count):
            mean += _measured(kind, n, run, b, days_per_year)
        mean /= count
        squares = 0.0
        for b in range(count):
            distance = _measured(kind, n, run, b, days_per_year) - mean
            squares += distance * distance
        error = math.sqrt((count - 1) / count * squares) if count > 1 else math.nan
        measured = _measured(kind, n, run, NONE, days_per_year)
        bare = _statistic(kind, n, run, measured, days_per_year)
        out[i, 0] = bare
        if penalty > 0.0:
            out[i, 0] = _statistic(kind, n, run, measured - penalty * error, days_per_year)
        out[i, 1] = bare - _statistic(kind, n, run, measured - error, days_per_year)
