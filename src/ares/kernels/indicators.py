"""Rolling and recursive indicators, one pass over an array each.

Every kernel starts anew at the indices in `starts` and after a NaN, so nothing spans a long gap
and one missing value does not poison the rest of the series. A value that is not defined is NaN.

Window kernels (sma, std, volatility, previous_extreme) depend on the values of their window alone.
Recursive kernels (ema, rsi, atr) carry their state in an array that the caller keeps, so a series
that arrives in chunks gives the same bits as the whole.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

from ares.kernels.compiling import compiled

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_F = numba.types.Array(numba.float64, 1, "C", readonly=True)
_I = numba.types.Array(numba.int64, 1, "C", readonly=True)
_OUT = numba.float64[::1]
_LARGEST = 2.0**45  # integers of prices; sums of 2**17 of them still fit into 63 bits
_EXACT_SQUARE = 2.0**62
_LAST_PLACES = 2.0**-50

_WINDOW = numba.void(_F, _I, numba.int64, numba.float64, _OUT)
_RECURSIVE = numba.void(_F, _I, numba.int64, _OUT, _OUT)


@compiled(numba.int64(_F, numba.int64, numba.int64))
def decimal_places(values: Floats, first: int, last: int) -> int:
    """Fewest places d in [first, last] with every value equal to k / 10**d, else -1."""
    places = first
    scale = 10.0**first
    for i in range(values.shape[0]):
        x = values[i]
        if math.isnan(x):
            continue
        while not (abs(x) * scale <= _LARGEST and np.rint(x * scale) / scale == x):
            places += 1
            scale = 10.0**places
            if places > last or abs(x) * scale > _LARGEST:
                return -1
    for i in range(values.shape[0]):
        if abs(values[i]) * scale > _LARGEST:
            return -1
    return places


@compiled(numba.boolean(_F, numba.float64), allocates=False)
def has_step(values: Floats, scale: float) -> bool:
    """Whether every value is k / scale with an integer k, but for a few units in the last place."""
    off = 0
    for i in range(values.shape[0]):
        scaled = abs(values[i]) * scale
        off += abs(np.rint(scaled) - scaled) > _LAST_PLACES * scaled
        off += scaled > _LARGEST
    return off == 0


@compiled(_WINDOW)
def sma(values: Floats, starts: Ints, period: int, scale: float, out: Floats) -> None:
    """Mean of the last `period` values: an integer sum in units of 1/scale, one division.

    With `scale` 0 the values share no decimal step, and each window is summed oldest first.
    """
    count = 0
    cut = 0
    total = np.int64(0)
    denominator = period * scale
    for i in range(values.shape[0]):
        if cut < starts.shape[0] and starts[cut] == i:
            cut += 1
            count = 0
            total = np.int64(0)
        x = values[i]
        out[i] = np.nan
        if math.isnan(x):
            count = 0
            total = np.int64(0)
            continue
        count += 1
        if scale > 0:
            total += np.int64(np.rint(x * scale))
            if count > period:
                total -= np.int64(np.rint(values[i - period] * scale))
            if count >= period:
                out[i] = total / denominator
        elif count >= period:
            window = 0.0
            for j in range(i - period + 1, i + 1):
                window += values[j]
            out[i] = window / period


@compiled(numba.float64(_F, numba.int64, numba.int64))
def _two_pass(values: Floats, first: int, last: int) -> float:
    """Sum of squared deviations of values[first:last] from their mean, oldest first."""
    mean = 0.0
    for j in range(first, last):
        mean += values[j]
    mean /= last - first
    squares = 0.0
    for j in range(first, last):
        squares += (values[j] - mean) ** 2
    return squares


@compiled(_WINDOW)
def std(values: Floats, starts: Ints, period: int, scale: float, out: Floats) -> None:
    """Standard deviation (ddof 0) of the last `period` values.

    p * sum(k^2) - sum(k)^2 of the integers k = value * scale is (p * scale * std)^2. Integer
    arithmetic modulo 2^64 gives it exactly wherever it is below 2^63, whatever the parts are. The
    path length of the window bounds it; where the bound fails, or there is no scale, two passes
    over the window serve. Which of the two depends on the window alone.
    """
    count = 0
    cut = 0
    anchor = total = squares = path = np.int64(0)
    for i in range(values.shape[0]):
        if cut < starts.shape[0] and starts[cut] == i:
            cut += 1
            count = 0
        x = values[i]
        out[i] = np.nan
        if math.isnan(x):
            count = 0
            continue
        count += 1
        if scale > 0:
            k = np.int64(np.rint(x * scale))
            if count == 1:
                anchor = k
                total = squares = path = np.int64(0)
            else:
                path += abs(k - np.int64(np.rint(values[i - 1] * scale)))
            total += k - anchor
            squares += (k - anchor) * (k - anchor)
            if count > period:
                old = np.int64(np.rint(values[i - period] * scale))
                following = np.int64(np.rint(values[i - period + 1] * scale))
                total -= old - anchor
                squares -= (old - anchor) * (old - anchor)
                path -= abs(following - old)
        if count >= period:
            if scale > 0 and (float(period) * float(path)) ** 2 < _EXACT_SQUARE:
                out[i] = math.sqrt(period * squares - total * total) / (period * scale)
            else:
                out[i] = math.sqrt(_two_pass(values, i - period + 1, i + 1) / period)


@compiled(numba.void(_F, _I, numba.int64, _OUT))
def volatility(close: Floats, starts: Ints, period: int, out: Floats) -> None:
    """Standard deviation (ddof 1) of the last `period` log returns."""
    returns = np.empty(close.shape[0])
    count = 0
    cut = 0
    for i in range(close.shape[0]):
        if cut < starts.shape[0] and starts[cut] == i:
            cut += 1
            count = 0
        out[i] = np.nan
        returns[i] = np.nan
        if math.isnan(close[i]):
            count = 0
            continue
        count += 1
        if count > 1:
            returns[i] = math.log(close[i] / close[i - 1])
        if count > period:
            squares = _two_pass(returns, i - period + 1, i + 1)
            out[i] = math.sqrt(squares / (period - 1))


@compiled(_RECURSIVE)
def ema(values: Floats, starts: Ints, period: int, state: Floats, out: Floats) -> None:
    """Exponential mean, seeded with the mean of the first `period` values.

    `state` holds the count, the seed's sum and the last mean.
    """
    count, seed, mean = state[0], state[1], state[2]
    share = 2.0 / (period + 1.0)
    cut = 0
    for i in range(values.shape[0]):
        if cut < starts.shape[0] and starts[cut] == i:
            cut += 1
            count = seed = 0.0
        x = values[i]
        out[i] = np.nan
        if math.isnan(x):
            count = seed = 0.0
            continue
        count += 1.0
        if count <= period:
            seed += x
            mean = seed / period
        else:
            mean += share * (x - mean)
        if count >= period:
            out[i] = mean
    state[0], state[1], state[2] = count, seed, mean


@compiled(_RECURSIVE)
def rsi(values: Floats, starts: Ints, period: int, state: Floats, out: Floats) -> None:
    """Wilder's relative strength index; 50 where nothing has moved.

    `state` holds the count, the last value, the mean gain and the mean loss.
    """
    count, last, gain, loss = state[0], state[1], state[2], state[3]
    cut = 0
    for i in range(values.shape[0]):
        if cut < starts.shape[0] and starts[cut] == i:
            cut += 1
            count = gain = loss = 0.0
        x = values[i]
        out[i] = np.nan
        if math.isnan(x):
            count = gain = loss = 0.0
            continue
        count += 1.0
        if count > 1.0:
            up = max(x - last, 0.0)
            down = max(last - x, 0.0)
            if count <= period + 1.0:
                gain += up
                loss += down
                if count == period + 1.0:
                    gain /= period
                    loss /= period
            else:
                gain = (gain * (period - 1.0) + up) / period
                loss = (loss * (period - 1.0) + down) / period
        last = x
        if count > period:
            out[i] = 100.0 * (gain / (gain + loss)) if gain + loss > 0.0 else 50.0
    state[0], state[1], state[2], state[3] = count, last, gain, loss


@compiled(numba.void(_F, _F, _F, _I, numba.int64, _OUT, _OUT))
def atr(
    high: Floats, low: Floats, close: Floats, starts: Ints, period: int, state: Floats, out: Floats
) -> None:
    """Wilder's average true range; the first bar of a stretch has no true range.

    `state` holds the count, the last close and the mean.
    """
    count, last, mean = state[0], state[1], state[2]
    cut = 0
    for i in range(close.shape[0]):
        if cut < starts.shape[0] and starts[cut] == i:
            cut += 1
            count = mean = 0.0
        out[i] = np.nan
        if math.isnan(high[i] + low[i] + close[i]):
            count = mean = 0.0
            continue
        count += 1.0
        if count > 1.0:
            range_ = max(high[i], last) - min(low[i], last)
            if count <= period + 1.0:
                mean += range_
                if count == period + 1.0:
                    mean /= period
            else:
                mean = (mean * (period - 1.0) + range_) / period
        last = close[i]
        if count > period:
            out[i] = mean
    state[0], state[1], state[2] = count, last, mean


@compiled(_WINDOW)
def previous_extreme(values: Floats, starts: Ints, period: int, sign: float, out: Floats) -> None:
    """Largest (sign 1) or smallest (sign -1) of the `period` values before each bar.

    Lemire (2006), streaming maximum: the queue holds the indices that may still become extreme. It
    is a ring of a power of two: a mask takes a quarter of the time of a remainder.
    """
    size = 1
    while size <= period:
        size *= 2
    mask = size - 1
    queue = np.empty(size, dtype=np.int64)
    head = tail = begin = cut = 0
    for i in range(values.shape[0]):
        if cut < starts.shape[0] and starts[cut] == i:
            cut += 1
            head = tail = 0
            begin = i
        x = values[i]
        out[i] = np.nan
        if math.isnan(x):
            head = tail = 0
            begin = i + 1
            continue
        while head < tail and queue[head & mask] < i - period:
            head += 1
        if i - period >= begin:
            out[i] = values[queue[head & mask]]
        while head < tail and sign * values[queue[(tail - 1) & mask]] <= sign * x:
            tail -= 1
        queue[tail & mask] = i
        tail += 1
