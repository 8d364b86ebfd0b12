"""Kernels that group bars into coarser ones."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

_F8 = numba.types.Array(numba.float64, 1, "C", readonly=True)
_I8 = numba.types.Array(numba.int64, 1, "C", readonly=True)
_OUT = numba.types.Array(numba.float64, 2, "C")


@numba.njit(  # type: ignore[untyped-decorator]  # numba is not typed
    _OUT(_I8, _F8, _F8, _F8, _F8, _F8, numba.int64),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def aggregate(
    starts: npt.NDArray[np.int64],
    open_: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    low: npt.NDArray[np.float64],
    close: npt.NDArray[np.float64],
    volume: npt.NDArray[np.float64],
    stop: int,
) -> npt.NDArray[np.float64]:
    """Open, high, low, close, volume (rows of the result) of each group of bars.

    Group g is the bars `starts[g]` to `starts[g + 1]`, the last one ends before `stop`. Volumes are
    added in time order.
    """
    groups = len(starts)
    out = np.empty((5, groups), dtype=np.float64)
    for g in range(groups):
        first = starts[g]
        end = starts[g + 1] if g + 1 < groups else stop
        top = high[first]
        bottom = low[first]
        total = volume[first]
        for i in range(first + 1, end):
            top = max(top, high[i])
            bottom = min(bottom, low[i])
            total += volume[i]
        out[0, g] = open_[first]
        out[1, g] = top
        out[2, g] = bottom
        out[3, g] = close[end - 1]
        out[4, g] = total
    return out
