"""Series that remember the start of their stretch, carried from piece to piece.

A feature that smooths recursively is a window function of the bars and of some of these. Prices
are in units of the stretch's first close: TA-Lib takes differences below 1e-14 for zero, which
prices near 5e-5 come close to. The values are TA-Lib's (up to rounding), which cannot go on where
it stopped; here a stretch gives the same bits however it is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.kernels.indicators import atr, ema, rsi
from ares.kernels.wilder import channel_index, directional_movement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ares.core.types import Float64Array

_NO_CUTS: Final = np.zeros(0, dtype=np.int64)
_FAST, _SLOW, _SIGNAL = 12, 26, 9


class _Prices:
    """High, low and close of the next piece of a stretch, as given and in units of `unit`."""

    def __init__(
        self, high: Float64Array, low: Float64Array, close: Float64Array, unit: float
    ) -> None:
        self.close = close
        self.high_units = high / unit
        self.low_units = low / unit
        self.units = close / unit


def _atr(prices: _Prices, state: Float64Array) -> Float64Array:
    out = np.empty(len(prices.units))
    atr(prices.high_units, prices.low_units, prices.units, _NO_CUTS, 14, state, out)
    ratio: Float64Array = out / prices.units
    return ratio


def _unit(prices: _Prices, _: Float64Array) -> Float64Array:
    return prices.units


def _typical(prices: _Prices, _: Float64Array) -> Float64Array:
    out: Float64Array = (prices.high_units + prices.low_units + prices.units) / 3.0
    return out


def _ema(window: int) -> Callable[[_Prices, Float64Array], Float64Array]:
    def step(prices: _Prices, state: Float64Array) -> Float64Array:
        return _mean(prices.units, window, state)

    return step


def _mean(values: Float64Array, window: int, state: Float64Array) -> Float64Array:
    out = np.empty(len(values))
    ema(values, _NO_CUTS, window, state, out)
    return out


def _macd(part: int) -> Callable[[_Prices, Float64Array], Float64Array]:
    """Line (part 0) or histogram (part 2) of MACD(12, 26, 9).

    State: bars seen, then the three means. The fast mean is seeded by the last bars of the slow
    one's seed; a NaN makes the kernel wait.
    """

    def step(prices: _Prices, state: Float64Array) -> Float64Array:
        late = prices.units.copy()
        late[: max(0, _SLOW - _FAST - int(state[0]))] = np.nan
        state[0] += len(late)
        line = _mean(late, _FAST, state[1:4]) - _mean(prices.units, _SLOW, state[4:7])
        signal = _mean(line, _SIGNAL, state[7:10])
        return line - signal if part == 2 else np.where(np.isnan(signal), np.nan, line)

    return step


def _directional(which: str) -> Callable[[_Prices, Float64Array], Float64Array]:
    def step(prices: _Prices, state: Float64Array) -> Float64Array:
        plus, minus, index = np.empty((3, len(prices.units)))
        arguments = (prices.high_units, prices.low_units, prices.units)
        directional_movement(*arguments, 14, state, plus, minus, index)
        return index if which == "index" else plus - minus

    return step


def _rsi(window: int) -> Callable[[_Prices, Float64Array], Float64Array]:
    def step(prices: _Prices, state: Float64Array) -> Float64Array:
        out = np.empty(len(prices.close))
        rsi(prices.close, _NO_CUTS, window, state, out)
        return out

    return step


def _cci(prices: _Prices, state: Float64Array) -> Float64Array:
    out = np.empty(len(prices.units))
    channel_index(_typical(prices, state), 20, state, out)
    return out


_STEPS: Final[Mapping[str, tuple[int, Callable[[_Prices, Float64Array], Float64Array]]]] = (
    MappingProxyType(
        {
            "unit": (0, _unit),
            "typical": (0, _typical),
            "atr": (3, _atr),
            "ema_12": (3, _ema(12)),
            "ema_50": (3, _ema(50)),
            "macd": (10, _macd(0)),
            "macd_histogram": (10, _macd(2)),
            "adx": (8, _directional("index")),
            "directional": (8, _directional("difference")),
            "rsi_5": (4, _rsi(5)),
            "rsi_14": (4, _rsi(14)),
            "cci": (21, _cci),
        }
    )
)
"""Name to the size of the state and the function that goes on from it.

`atr` is a share of the close; `unit`, `typical`, `ema_*` and `macd*` are in units of the first
close; `adx`, `directional`, `rsi_*` and `cci` are TA-Lib's numbers.
"""


class Carried:
    """Series of one stretch, made piece by piece.

    Args:
        names: Which ones.
        overlap: How many of the last values are handed out again with the next piece.
    """

    def __init__(self, names: tuple[str, ...], overlap: int) -> None:
        self._states = {name: np.zeros(_STEPS[name][0]) for name in names}
        self._last: dict[str, Float64Array] = {name: np.empty(0) for name in names}
        self._overlap = overlap
        self._unit: float | None = None

    def push(
        self, high: Float64Array, low: Float64Array, close: Float64Array
    ) -> dict[str, Float64Array]:
        """Go on with the next bars of the stretch.

        Returns:
            For each series its last values of before, at most `overlap`, and those of these bars.
        """
        if self._unit is None:
            self._unit = float(close[0])
        prices = _Prices(high, low, close, self._unit)
        out = {}
        for name, state in self._states.items():
            joined = np.concatenate([self._last[name], _STEPS[name][1](prices, state)])
            self._last[name] = joined[max(0, len(joined) - self._overlap) :].copy()
            out[name] = joined
        return out


@dataclass(frozen=True)
class Recursive:
    """Function of a feature that needs carried series.

    Attributes:
        inputs: Columns of the bars that `window` takes, in order.
        series: Series that it takes after them.
        window: Window function of these: pieces with their warm-up give the bits of the whole.
        bars: Columns that the feature names as its inputs, in order.
    """

    inputs: tuple[str, ...]
    series: tuple[str, ...]
    window: Callable[..., Float64Array]
    bars: tuple[str, ...] = ("high", "low", "close")

    def __call__(self, *columns: Any) -> Float64Array:
        """The feature of a whole stretch, from the columns `bars`."""
        given = dict(zip(self.bars, columns, strict=True))
        close = given["close"]
        high, low = given.get("high", close), given.get("low", close)
        made = Carried(self.series, 0).push(high, low, close)
        return self.window(
            *(given[name] for name in self.inputs), *(made[name] for name in self.series)
        )
