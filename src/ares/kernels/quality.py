"""Kernels of the data check: bad prints, judged by past bars only."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

_F8 = numba.types.Array(numba.float64, 1, "C", readonly=True)
_I8 = numba.types.Array(numba.int64, 1, "C", readonly=True)
_TIMES = numba.types.Array(numba.int64, 1, "C")
_OUT = numba.types.Array(numba.float64, 1, "C")

MEMORY = 60
_TOLERANCE = 1e-12


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
    ranked = np.empty(MEMORY, dtype=np.float64)  # the same closes, ascending
    ranked[:held] = np.sort(closes[:held])
    head = 0  # the arrays are a ring from here on
    for i in range(n):
        while held > 0 and timestamp[i] - times[head] > window:
            gone = np.searchsorted(ranked[:held], closes[head])
            for k in range(gone, held - 1):
                ranked[k] = ranked[k + 1]
            head = (head + 1) % MEMORY
            held -= 1
        if held > 0:
            half = held // 2
            middle = ranked[half]
            if held % 2 == 0:
                middle = 0.5 * (ranked[half - 1] + ranked[half])
            above = middle * factor * (1.0 + _TOLERANCE)
            below = middle / factor * (1.0 - _TOLERANCE)
            top = max(open_[i], high[i], low[i], close[i])
            bottom = min(open_[i], high[i], low[i], close[i])
            if top > above or bottom < below:
                reference[i] = middle
                continue
        if held == MEMORY:
            gone = np.searchsorted(ranked[:held], closes[head])
            for k in range(gone, held - 1):
                ranked[k] = ranked[k + 1]
            head = (head + 1) % MEMORY
            held -= 1
        place = np.searchsorted(ranked[:held], close[i])
        for k in range(held, place, -1):
            ranked[k] = ranked[k - 1]
        ranked[place] = close[i]
        slot = (head + held) % MEMORY
        times[slot] = timestamp[i]
        closes[slot] = close[i]
        held += 1
    kept_times = times.copy()
    kept_closes = closes.copy()
    for k in range(held):
        times[k] = kept_times[(head + k) % MEMORY]
        closes[k] = kept_closes[(head + k) % MEMORY]
    return reference, held
