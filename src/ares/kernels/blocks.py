"""Daily returns of one run, cut into blocks: sums and the path inside each block, in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_Function = TypeVar("_Function", bound=Callable[..., Any])

MEASURES: Final = ("sum", "sum_sq", "downside_sq", "log_growth", "drawdown", "trough", "peak")
"""Rows of the output."""

_F = numba.types.Array(numba.float64, 1, "C", readonly=True)
_I = numba.types.Array(numba.int64, 1, "C", readonly=True)


def _compiled(signature: Any) -> Callable[[_Function], _Function]:
    compiler: Callable[[_Function], _Function] = numba.njit(
        signature, cache=True, nogil=True, error_model="numpy"
    )
    return compiler


@_compiled(numba.void(_F, _I, numba.float64[:, ::1]))
def measure_blocks(returns: Floats, borders: Ints, out: Floats) -> None:
    """Fill `out`, shape (7, blocks); block b holds returns[borders[b]:borders[b + 1]].

    The path starts at 1 in each block. A return of -1 or less makes the growth -inf.
    """
    for b in range(out.shape[1]):
        total = 0.0
        squares = 0.0
        downside = 0.0
        growth = 0.0
        drawdown = 0.0
        level = 1.0
        trough = 1.0
        peak = 1.0
        for i in range(borders[b], borders[b + 1]):
            r = returns[i]
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
