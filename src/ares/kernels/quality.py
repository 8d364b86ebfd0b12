"""Kernels of the data check: bad prints, judged by past bars only."""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

from ares.kernels.compiling import compiled

_F8 = numba.types.Array(numba.float64, 1, "C", readonly=True)
_I8 = numba.types.Array(numba.int64, 1, "C", readonly=True)
_TIMES = numba.types.Array(numba.int64, 1, "C")
_OUT = numba.types.Array(numba.float64, 1, "C")

MEMORY = 60
_TOLERANCE = 1e-12
_ROUNDING = 1e-15


@compiled(numba.boolean(_F8, numba.float64, numba.float64), allocates=False)
def on_step(values: npt.NDArray[np.float64], scale: float, most: float) -> bool:
    """Whether each value is, but for rounding, k / scale with an integer k below `most`."""
    off = 0
    for i in range(values.shape[0]):
        units = np.rint(values[i] * scale)
        off += not (abs(units / scale - values[i]) <= _ROUNDING * values[i] and units < most)
    return off == 0


def bad_prints(
    timestamp: npt.NDArray[np.int64],
    open_: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    low: npt.NDArray[np.float64],
    close: npt.NDArray[np.float64],
    window: int,
    factor: float,
) -> npt.NDArray[np.float64]:
    """What `judge_prints` gives for a whole market."""
    memory = (np.empty(MEMORY, dtype=np.int64), np.empty(MEMORY))
    columns = (timestamp, open_, high, low, close)
    reference, _ = judge_prints(*columns, window, factor, *memory, 0)
    return np.asarray(reference)


@numba.njit(numba.boolean(*[numba.float64] * 5), cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _beyond(top: float, bottom: float, least: float, most: float, factor: float) -> bool:
    """Whether prices may be beyond the factor of a median between two bounds."""
    above = least * factor * (1.0 + _TOLERANCE)
    below = most / factor * (1.0 - _TOLERANCE)
    return bool(top > above or bottom < below)


@numba.njit(numba.float64(_OUT, numba.int64, numba.int64), cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _median(ring: npt.NDArray[np.float64], head: int, held: int) -> float:
    """Median of the `held` numbers from `head` on."""
    ranked = np.empty(held, dtype=np.float64)
    for k in range(held):
        ranked[k] = ring[(head + k) % MEMORY]
    ranked.sort()
    half = held // 2
    middle = ranked[half]
    if held % 2 == 0:
        middle = 0.5 * (ranked[half - 1] + ranked[half])
    return float(middle)


@numba.njit(  # type: ignore[untyped-decorator]
    numba.types.UniTuple(numba.float64, 2)(_OUT, numba.int64, numba.int64),
    cache=True,
    error_model="numpy",
)
def _bounds(ring: npt.NDArray[np.float64], head: int, held: int) -> tuple[float, float]:
    """Least and largest of the `held` numbers from `head` on."""
    least, most = math.inf, -math.inf
    for k in range(held):
        least = min(least, ring[(head + k) % MEMORY])
        most = max(most, ring[(head + k) % MEMORY])
    return least, most


@numba.njit(  # type: ignore[untyped-decorator]  # numba is not typed
    numba.types.Tuple((_OUT, numba.int64))(
        _I8, _F8, _F8, _F8, _F8, numba.int64, numba.float64, _TIMES, _OUT, numba.int64
    ),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def judge_prints(
    timestamp: npt.NDArray[np.int64],
    open_: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    low: npt.NDArray[np.float64],
    close: npt.NDArray[np.float64],
    window: int,
    factor: float,
    times: npt.NDArray[np.int64],
    closes: npt.NDArray[np.float64],
    held: int,
) -> tuple[npt.NDArray[np.float64], int]:
    """The median that a bad print is beyond `factor` of, NaN for accepted bars; and `held`.

    The median is that of the closes of at most the last 60 accepted bars that opened at most
    `window` ns before; where there is none, the bar is accepted. A price exactly at the factor is not beyond it: the
    comparison leaves the last bits to rounding. All arrays have one length, prices are positive,
    times increase. `times` and `closes` hold the last `held` accepted bars, oldest first; they are
    brought up to date, so that the next bars of the market can follow.
    """
    n = len(timestamp)
    reference = np.full(n, np.nan)
    head = 0  # the arrays are a ring from here on
    # Bounds of the closes that are held, and of those accepted since the bounds were renewed: a bar
    # that is near to both ends of them is near to the median, which need not be known then.
    low_close, high_close = _bounds(closes, head, held)
    next_low, next_high, fresh = math.inf, -math.inf, 0
    for i in range(n):
        while held > 0 and timestamp[i] - times[head] > window:
            head = (head + 1) % MEMORY
            held -= 1
        if held > 0:
            top = max(open_[i], high[i], low[i], close[i])
            bottom = min(open_[i], high[i], low[i], close[i])
            if _beyond(top, bottom, low_close, high_close, factor):
                middle = _median(closes, head, held)
                if _beyond(top, bottom, middle, middle, factor):
                    reference[i] = middle
                    continue
        if held == MEMORY:
            head = (head + 1) % MEMORY
            held -= 1
        slot = (head + held) % MEMORY
        times[slot] = timestamp[i]
        closes[slot] = close[i]
        held += 1
        low_close, high_close = min(low_close, close[i]), max(high_close, close[i])
        next_low, next_high = min(next_low, close[i]), max(next_high, close[i])
        fresh += 1
        if fresh == MEMORY:  # all that are held came since
            low_close, high_close = next_low, next_high
            next_low, next_high, fresh = math.inf, -math.inf, 0
    kept_times = times.copy()
    kept_closes = closes.copy()
    for k in range(held):
        times[k] = kept_times[(head + k) % MEMORY]
        closes[k] = kept_closes[(head + k) % MEMORY]
    return reference, held
