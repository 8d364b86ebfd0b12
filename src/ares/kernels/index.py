"""Block extremes: an index for "the first bar at which a value is this low or that high".

An array of n values has one entry for each 8 of them, then one for each 8 of those, and so on until
one entry is left: that of all values. The levels lie behind each other in one array, a seventh of
the values in size. A search looks at the values of one block, then at blocks, at blocks of blocks,
and so on for four levels. The two searches are written out: one for any number of levels or of
arrays was a quarter slower.
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
_SHIFT, _SPAN, _LEVELS_SEARCHED = 3, 8, 4
_REST = _SPAN - 1


@compiled(numba.void(_F, _FLOAT, _FLOAT[::1]), allocates=False)
def _block_extremes(values: Floats, sign: float, out: Floats) -> None:
    n = values.shape[0]
    for k in range(out.shape[0]):
        # Two chains of comparisons run side by side. max(a, b) is a unless b > a: NaN never wins.
        begin, one, other = k * _SPAN, -np.inf, -np.inf
        if begin + _SPAN <= n:
            for i in range(begin, begin + _SPAN, 2):
                one = max(one, sign * values[i])
                other = max(other, sign * values[i + 1])
        else:
            for i in range(begin, n):
                one = max(one, sign * values[i])
        out[k] = sign * max(one, other)


def extremes(values: Floats, sign: float) -> Floats:
    """Block maxima (sign 1) or minima (sign -1) of all levels, the last one that of all values.

    Args:
        values: float64, shape (n,).
        sign: 1 for maxima, -1 for minima. NaN is left out; a block without a number has the maximum
            -inf.
    """
    source = np.ascontiguousarray(values, dtype=np.float64)
    levels: list[Floats] = []
    while len(levels) < _LEVELS_SEARCHED or len(source) > 1:
        level = np.empty(-(-len(source) // _SPAN))
        _block_extremes(source, float(sign), level)
        levels.append(level)
        source = level
    joined = np.concatenate(levels)
    joined.flags.writeable = False
    return joined


@compiled(numba.types.UniTuple(_INT, 3)(_INT), inlined=True, allocates=False)
def _offsets(n: int) -> tuple[int, int, int]:
    """Where the second, third and fourth level over n values begin."""
    one = (n + _REST) >> _SHIFT
    two = (one + _REST) >> _SHIFT
    return one, one + two, one + two + ((two + _REST) >> _SHIFT)


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
    second, third, fourth = _offsets(lower.shape[0])
    i = begin
    while i < end:
        edge = min((i | _REST) + 1, end)
        while i < edge:
            if lower[i] <= low or upper[i] >= high:
                return i
            i += 1
        if i >= end:
            return end
        block, last = i >> _SHIFT, (end - 1) >> _SHIFT
        while block <= last:
            if block & _REST == 0:
                two = block >> _SHIFT
                if two & _REST == 0:
                    three = two >> _SHIFT
                    if three & _REST == 0:
                        at = fourth + (three >> _SHIFT)
                        if not (minima[at] <= low or maxima[at] >= high):
                            block += _SPAN * _SPAN * _SPAN
                            continue
                    at = third + three
                    if not (minima[at] <= low or maxima[at] >= high):
                        block += _SPAN * _SPAN
                        continue
                at = second + two
                if not (minima[at] <= low or maxima[at] >= high):
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
    second, third, fourth = _offsets(lows.shape[0])
    i = begin
    while i < end:
        edge = min((i | _REST) + 1, end)
        while i < edge:
            if lows[i] <= low or highs[i] >= high or values[i] <= bottom or values[i] >= top:
                return i
            i += 1
        if i >= end:
            return end
        block, last = i >> _SHIFT, (end - 1) >> _SHIFT
        while block <= last:
            at, stride = block, 1
            if block & _REST == 0:
                two = block >> _SHIFT
                three = two >> _SHIFT
                at, stride = second + two, _SPAN
                if two & _REST == 0:
                    at, stride = third + three, _SPAN * _SPAN
                    if three & _REST == 0:
                        at, stride = fourth + (three >> _SHIFT), _SPAN * _SPAN * _SPAN
            while stride > 0 and (
                minima[at] <= low or maxima[at] >= high or least[at] <= bottom or most[at] >= top
            ):
                stride >>= _SHIFT
                at = block
                if stride == _SPAN:
                    at = second + (block >> _SHIFT)
                elif stride == _SPAN * _SPAN:
                    at = third + (block >> 2 * _SHIFT)
            if stride == 0:
                break
            block += stride
        i = block << _SHIFT
    return end
