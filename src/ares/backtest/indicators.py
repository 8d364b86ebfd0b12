"""The core indicators as checked functions: whole arrays, or chunk by chunk (`Carried`).

All take float64 arrays of one value per bar and return one value per bar, NaN where undefined:
in the warm-up, after each index in `starts` (first bars after long gaps) and after a NaN.

SMA and STD do not depend on where the series starts. With values k / 10**decimals the window's
mean is S / (period * 10**decimals), S an exact integer, in one division. Where the values share no
number of decimals (`decimals` -1), each window is summed alone, oldest value first. The decision
belongs to the market: pass `decimals` for parts of a series; None decides from the values given.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import ParameterError
from ares.core.types import Float64Array, Int64Array, readonly
from ares.kernels import events
from ares.kernels import indicators as kernels

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DECIMALS: Final = 15
MAX_EXACT_PERIOD: Final = 1 << 17
_NO_STARTS: Final = np.empty(0, dtype=np.int64)
_MAX: Final = 1.0
_MIN: Final = -1.0


def decimals_of(values: Float64Array) -> int:
    """Fewest decimals, at most 15, that write every value exactly; -1 where there is none.

    NaN is left out. Values that need integers beyond 2**45 count as having none.
    """
    return int(kernels.decimal_places(_column("values", values), 0, MAX_DECIMALS))


def decimals_of_tick(tick: float, values: Float64Array) -> int:
    """Decimals of a market whose smallest decimal step is `tick`, or -1 where `values` need more.

    A value that misses its step by a few units in the last place has that step: else one such value
    would change the path, and so the bits, of all indicators before it.
    """
    if not 0.0 < tick < math.inf:
        return -1
    places = max(0, round(-math.log10(tick)))
    array = _column("values", values)
    if places > MAX_DECIMALS or not kernels.has_step(array, 10.0**places):
        return -1
    return places


def running_sums(values: Float64Array, decimals: int) -> tuple[Int64Array, int]:
    """Sums of the first 0, 1, ... n values as integers, shape (n + 1,), and the largest value.

    They may pass 2**63 and wrap; the difference of two is exact for every window that `sma` takes.
    """
    out = np.empty(len(values) + 1, dtype=np.int64)
    with np.errstate(over="ignore"):
        largest = events.running_sums(_column("values", values), float(10**decimals), out)
    readonly(out)
    return out, int(largest)


def sma(
    values: Float64Array,
    period: int,
    *,
    starts: Int64Array | None = None,
    decimals: int | None = None,
) -> Float64Array:
    """Mean of the last `period` values."""
    return _windowed(kernels.sma, values, period, starts, decimals)


def std(
    values: Float64Array,
    period: int,
    *,
    starts: Int64Array | None = None,
    decimals: int | None = None,
) -> Float64Array:
    """Standard deviation (ddof 0) of the last `period` values."""
    return _windowed(kernels.std, values, period, starts, decimals)


def volume_sma(
    volume: Float64Array,
    period: int,
    *,
    starts: Int64Array | None = None,
    decimals: int | None = None,
) -> Float64Array:
    """Mean of the last `period` volumes."""
    return sma(volume, period, starts=starts, decimals=decimals)


def ema(values: Float64Array, period: int, *, starts: Int64Array | None = None) -> Float64Array:
    """Exponential mean with weight 2 / (period + 1), seeded with the first `period` values' mean."""
    return Carried("ema", period).push(values, starts=starts)


def rsi(values: Float64Array, period: int, *, starts: Int64Array | None = None) -> Float64Array:
    """Relative strength index (Wilder 1978), 0 to 100; 50 where nothing moved."""
    return Carried("rsi", period).push(values, starts=starts)


def atr(
    high: Float64Array,
    low: Float64Array,
    close: Float64Array,
    period: int,
    *,
    starts: Int64Array | None = None,
) -> Float64Array:
    """Average true range (Wilder 1978), in units of the price; first defined at bar `period`."""
    return Carried("atr", period).push(high, low, close, starts=starts)


def volatility(
    close: Float64Array, period: int, *, starts: Int64Array | None = None
) -> Float64Array:
    """Standard deviation (ddof 1) of the last `period` log returns, per bar."""
    return Carried("volatility", period).push(close, starts=starts)


def highest_before(
    values: Float64Array, period: int, *, starts: Int64Array | None = None
) -> Float64Array:
    """Largest of the `period` values before each bar, the bar itself left out."""
    return Carried("highest", period).push(values, starts=starts)


def lowest_before(
    values: Float64Array, period: int, *, starts: Int64Array | None = None
) -> Float64Array:
    """Smallest of the `period` values before each bar, the bar itself left out."""
    return Carried("lowest", period).push(values, starts=starts)


def donchian(
    high: Float64Array, low: Float64Array, period: int, *, starts: Int64Array | None = None
) -> tuple[Float64Array, Float64Array]:
    """Upper and lower channel (Donchian) of the `period` bars before each bar."""
    upper = highest_before(high, period, starts=starts)
    return upper, lowest_before(low, period, starts=starts)


class Carried:
    """One indicator fed in chunks; the outputs joined equal the whole array's, bit for bit.

    Args:
        name: sma, std, ema, rsi, atr, volatility, highest or lowest.
        period: Its period.
        decimals: For sma and std: the decimals of the whole series (-1: none are shared).

    Raises:
        ParameterError: an unknown name, or a period outside its domain.
    """

    def __init__(self, name: str, period: int, *, decimals: int = -1) -> None:
        if name not in _COLUMNS:
            raise ParameterError(
                "this indicator is not known",
                value=name,
                remedy=f"Known are {', '.join(_COLUMNS)}.",
            )
        self.name = name
        self.period = _period(period, 2 if name in {"rsi", "volatility"} else 1)
        self._scale = _scale(decimals, self.period)
        self._state = np.zeros(4)
        self._tail = np.empty(0)
        self._tail_starts = _NO_STARTS

    def push(self, *columns: Float64Array, starts: Int64Array | None = None) -> Float64Array:
        """Outputs of the next bars, one per bar.

        Args:
            columns: The next values; high, low and close for atr.
            starts: Indices within this chunk at which the indicator starts anew.
        """
        arrays = [_column(self.name, column) for column in columns]
        if len(arrays) != _COLUMNS[self.name] or len({len(array) for array in arrays}) != 1:
            raise ParameterError(
                f"{self.name} takes {_COLUMNS[self.name]} columns of one length",
                value=[len(array) for array in arrays],
            )
        cuts = _starts(starts, len(arrays[0]))
        if self.name in _RECURSIVE:
            out = np.empty(len(arrays[0]))
            _RECURSIVE[self.name](*arrays, cuts, self.period, self._state, out)
        else:
            out = self._push_window(arrays[0], cuts)
        readonly(out)
        return out

    def _push_window(self, values: Float64Array, cuts: Int64Array) -> Float64Array:
        """Run the kernel over the last `period` values and the chunk; drop what is known."""
        known = len(self._tail)
        joined = np.concatenate([self._tail, values]) if known else values
        cuts = np.concatenate([self._tail_starts, cuts + known]) if known else cuts
        out = np.empty(len(joined))
        match self.name:
            case "sma":
                kernels.sma(joined, cuts, self.period, self._scale, out)
            case "std":
                with np.errstate(over="ignore"):
                    kernels.std(joined, cuts, self.period, self._scale, out)
            case "volatility":
                kernels.volatility(joined, cuts, self.period, out)
            case _:
                sign = _MAX if self.name == "highest" else _MIN
                kernels.previous_extreme(joined, cuts, self.period, sign, out)
        dropped = max(0, len(joined) - self.period)
        self._tail = joined[dropped:].copy()
        self._tail_starts = cuts[cuts >= dropped] - dropped
        return out[known:]


_RECURSIVE: Final[dict[str, Callable[..., None]]] = {
    "ema": kernels.ema,
    "rsi": kernels.rsi,
    "atr": kernels.atr,
}
_COLUMNS: Final = {
    "sma": 1,
    "std": 1,
    "ema": 1,
    "rsi": 1,
    "atr": 3,
    "volatility": 1,
    "highest": 1,
    "lowest": 1,
}


def _windowed(
    kernel: Callable[..., None],
    values: Float64Array,
    period: int,
    starts: Int64Array | None,
    decimals: int | None,
) -> Float64Array:
    array = _column("values", values)
    places = decimals_of(array) if decimals is None else decimals
    out = np.empty(len(array))
    window = _period(period, 1)
    with np.errstate(over="ignore"):  # sums of squares may pass 2**63; their difference does not
        kernel(array, _starts(starts, len(array)), window, _scale(places, window), out)
    readonly(out)
    return out


def _scale(decimals: int, period: int) -> float:
    if decimals < 0 or period > MAX_EXACT_PERIOD:
        return 0.0
    return float(10**decimals)


def _column(name: str, values: Any) -> Float64Array:
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ParameterError("an indicator takes flat arrays", value=array.shape, where=name)
    return array


def _period(period: Any, least: int) -> int:
    try:
        number = operator.index(period)
    except TypeError:
        number = 0
    if number < least:
        raise ParameterError(f"a period is a whole number of at least {least}", value=period)
    return number


def _starts(starts: Int64Array | None, n: int) -> Int64Array:
    if starts is None:
        return _NO_STARTS
    cuts = np.ascontiguousarray(starts, dtype=np.int64)
    if len(cuts) and (cuts[0] < 0 or cuts[-1] >= n or (np.diff(cuts) <= 0).any()):
        raise ParameterError(f"starts must be increasing indices of the {n} values", value=starts)
    return cuts
