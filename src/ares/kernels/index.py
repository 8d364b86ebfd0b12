"""Block extremes: an index for "the first bar at which a value is this low or that high".

An array of n values has one entry for each 32 of them, then one for each 32 of those, and
so on until one entry is left: that of all values. The levels lie behind each other in one array, a
few percent of the values in size. A search looks at the values of one block, then at blocks, at
blocks of blocks, and at blocks of these.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from ares.kernels.compiling import compiled

Floats = npt.NDArray[np.float64]

_F = numba.types.Array(numba.float64, 1, "C", readonly=True)
_INT, _FLOAT = numba.int64, numba.float64
_PRICES, _SCORE = numba.types.UniTuple(_F, 4), numba.types.UniTuple(_F, 3)
_LEVELS = numba.types.UniTuple(_FLOAT, 4)
_SHIFT, _SPAN, _LANES = 5, 32, 8


@compiled(numba.void(_F, _FLOAT, _FLOAT[::1]))
def _block_extremes(values: Floats, sign: float, out: Floats) -> None:
    lanes = np.empty(_LANES)
    for k in range(out.shape[0]):
        for lane in range(_LANES):
            lanes[lane] = -np.inf
        begin, end = k * _SPAN, min((k + 1) * _SPAN, values.shape[0])
        whole = begin + (end - begin) // _LANES * _LANES
        for i in range(begin, whole, _LANES):
            for lane in range(_LANES):  # one instruction; a reduction in order would be eight
                value = sign * values[i + lane]
                lanes[lane] = max(lanes[lane], value)
        best = -np.inf
        for i in range(whole, end):
            best = max(best, sign * values[i])
        for lane in range(_LANES):
            best = max(best, lanes[lane])
        out[k] = sign * best


def extremes(values: Floats, sign: float) -> Floats:
    """Block maxima (sign 1) or minima (sign -1) of all levels, the last one that of all values.

    Args:
        values: float64, shape (n,).
        sign: 1 for maxima, -1 for minima. NaN is left out; a block without a number has the maximum
            -inf.
    """
    source = np.ascontiguousarray(values, dtype=np.float64)
    levels: list[Floats] = []
    while len(levels) < 3 or len(source) > 1:
        level = np.empty(-(-len(source) // _SPAN))
        _block_extremes(source, float(sign), level)
        levels.append(level)
        source = level
    joined = np.concatenate(levels)
    joined.flags.writeable = False
    return joined


@compiled(_INT(_F, _F, _F, _F, _INT, _INT, _FLOAT, _FLOAT), allocates=False)
def first_outside(
    lower: Floats,
    upper: Floats,
    minima: Floats,
    maxima: Floats,
    begin: int,
    end: int,
    low: float,
    high: float,
) -> int:
    """First i in [begin, end) with lower[i] <= low or upper[i] >= high; `end` where there is none.

    Args:
        lower: float64, shape (n,); NaN is never low.
        upper: float64, shape (n,); NaN is never high. May be the same array.
        minima: `extremes(lower, -1)`.
        maxima: `extremes(upper, 1)`.
        begin: First index looked at.
        end: One past the last.
        low: Level at the bottom; -inf for none.
        high: Level at the top; inf for none.
    """
    one = (lower.shape[0] + _SPAN - 1) >> _SHIFT
    two = (one + _SPAN - 1) >> _SHIFT
    i = begin
    while i < end:
        edge = min((i | (_SPAN - 1)) + 1, end)
        while i < edge:
            if lower[i] <= low or upper[i] >= high:
                return i
            i += 1
        if i >= end:
            return end
        block, last = i >> _SHIFT, (end - 1) >> _SHIFT
        while block <= last:
            if block & (_SPAN - 1) == 0:
                big = block >> _SHIFT
                if big & (_SPAN - 1) == 0:
                    huge = one + two + (big >> _SHIFT)
                    if not (minima[huge] <= low or maxima[huge] >= high):
                        block += _SPAN * _SPAN
                        continue
                if not (minima[one + big] <= low or maxima[one + big] >= high):
                    block += _SPAN
                    continue
            if minima[block] <= low or maxima[block] >= high:
                break
            block += 1
        i = block << _SHIFT
    return end


@compiled(_INT(_PRICES, _SCORE, _INT, _INT, _LEVELS), allocates=False)
def first_touch(
    prices: tuple[Floats, Floats, Floats, Floats],
    score: tuple[Floats, Floats, Floats],
    begin: int,
    end: int,
    levels: tuple[float, float, float, float],
) -> int:
    """First i in [begin, end) at which the price or the score is outside; `end` where none is.

    One walk for both costs less than two: they go over the same blocks.

    Args:
        prices: Lows, highs, block minima of the lows, block maxima of the highs.
        score: A score, its block minima and its block maxima.
        begin: First index looked at.
        end: One past the last.
        levels: Low and high of the price, low and high of the score, all inclusive; NaN is never
            outside.
    """
    lows, highs, minima, maxima = prices
    values, least, most = score
    low, high, bottom, top = levels
    one = (lows.shape[0] + _SPAN - 1) >> _SHIFT
    two = (one + _SPAN - 1) >> _SHIFT
    i = begin
    while i < end:
        edge = min((i | (_SPAN - 1)) + 1, end)
        while i < edge:
            if lows[i] <= low or highs[i] >= high or values[i] <= bottom or values[i] >= top:
                return i
            i += 1
        if i >= end:
            return end
        block, last = i >> _SHIFT, (end - 1) >> _SHIFT
        while block <= last:
            level, stride = block, 1
            if block & (_SPAN - 1) == 0:
                level, stride = one + (block >> _SHIFT), _SPAN
                if block & (_SPAN * _SPAN - 1) == 0:
                    level, stride = one + two + (block >> 2 * _SHIFT), _SPAN * _SPAN
            while stride > 0 and (
                minima[level] <= low
                or maxima[level] >= high
                or least[level] <= bottom
                or most[level] >= top
            ):
                stride //= _SPAN
                level = block if stride == 1 else one + (block >> _SHIFT)
            if stride == 0:
                break
            block += stride
        i = block << _SHIFT
    return end
