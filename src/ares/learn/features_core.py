"""What a feature is, and the small pieces that the feature modules share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import ConfigError
from ares.kernels.rolling import ratio

if TYPE_CHECKING:
    from collections.abc import Callable

    from ares.core.types import Float64Array

FLAT: Final = 1e-9
"""Volatility, as a share of the price, below which a market counts as flat."""

_MOST: Final = 50.0
_RECURSIVE: Final = ("ADX", "ATR", "EMA", "RSI")


@dataclass(frozen=True)
class Feature:
    """One column of a feature matrix.

    Attributes:
        name: Unique name.
        inputs: Columns of the bars that `function` takes, in order.
        warmup: Bars of a segment before the first defined value.
        unit: What 1.0 means.
        carried: True where the last `warmup + 1` bars alone decide the value, bit for bit, so that
            it can be carried bar by bar; False where it remembers its segment's start: then the
            function is a `Recursive`, or each segment is computed at once.
        function: From the columns of one contiguous segment, longer than `warmup`, to one value
            per bar; finite from `warmup` on.
        below: The feature varies only where a bar is shorter than this (ns); 0 means always.
    """

    name: str
    inputs: tuple[str, ...]
    warmup: int
    unit: str
    carried: bool
    function: Callable[..., Float64Array]
    below: int = 0


def talib_call(name: str, *arrays: Float64Array, **options: Any) -> Any:
    """Call a TA-Lib function; the arrays are finite."""
    import talib

    return getattr(talib, name)(*arrays, **options)


def check_talib() -> None:
    """TA-Lib's process-wide switches must stand where its documentation has them.

    Raises:
        ConfigError: another part of the process changed them.
    """
    import talib

    changed = [name for name in _RECURSIVE if talib.get_unstable_period(name) != 0]
    if changed or talib.get_compatibility() != 0:
        raise ConfigError(
            "TA-Lib must run with unstable period 0 and compatibility 0",
            value=changed or "compatibility",
            remedy="Undo talib.set_unstable_period and talib.set_compatibility.",
        )


def previous(x: Float64Array) -> Float64Array:
    """The value one bar earlier; NaN at the first bar."""
    out = np.full(len(x), np.nan)
    out[1:] = x[:-1]
    return out


def position_in_range(
    high: Float64Array, low: Float64Array, close: Float64Array, window: int
) -> Float64Array:
    """Where the close lies in the range of the last `window` bars: -0.5 low to 0.5 high."""
    highest = talib_call("MAX", high, timeperiod=window)
    lowest = talib_call("MIN", low, timeperiod=window)
    return ratio((close - lowest) - (highest - close), 2.0 * (highest - lowest))


def per_volatility(move: Float64Array, volatility: Float64Array) -> Float64Array:
    """A move in units of a volatility, both relative to the price; 0 in a flat market.

    Cut at 50 units: while a market stands still after a jump, ATR dies faster than distances do.
    """
    return np.clip(ratio(move, np.where(volatility <= FLAT, 0.0, volatility)), -_MOST, _MOST)
