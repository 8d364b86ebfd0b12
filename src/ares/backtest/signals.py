"""What a strategy says (`ScoreRule` or `Events`) and what guards its positions (`Stops`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ares.core.types import Float64Array, Int64Array, readonly
from ares.kernels.index import extremes
from ares.kernels.position import LONG_ENTRY, LONG_EXIT, NEVER, SHORT_ENTRY, SHORT_EXIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OF_DIRECTION: Final = {
    "long": LONG_ENTRY | LONG_EXIT,
    "short": SHORT_ENTRY | SHORT_EXIT,
    "both": LONG_ENTRY | LONG_EXIT | SHORT_ENTRY | SHORT_EXIT,
}

Flags: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class IndexedScore:
    """A score per bar with its block extremes, by which the engine finds levels.

    Attributes:
        array: float64, one value per bar, known at the bar's close; NaN says nothing.
        minima: `ares.kernels.index.extremes` of it downward.
        maxima: The same upward.
    """

    array: Float64Array
    minima: Float64Array
    maxima: Float64Array

    @staticmethod
    def of(values: Any) -> IndexedScore:
        """Index `values`."""
        array = np.ascontiguousarray(values, dtype=np.float64)
        return IndexedScore(array, extremes(array, -1.0), extremes(array, 1.0))

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.array.nbytes + self.minima.nbytes + self.maxima.nbytes


@dataclass(frozen=True, eq=False)
class ScoreRule:
    """Levels on one score per bar; NaN is neither above nor below.

    Long entry where score >= enter, long exit where score <= exit; short entry where
    score <= short_enter, short exit where score >= short_exit.

    Attributes:
        array: float64, one score per bar, known at the bar's close.
        enter: Level of the long entry.
        exit: Level of the long exit.
        short_enter: Level of the short entry; None mirrors `enter` at zero.
        short_exit: Level of the short exit; None mirrors `exit` at zero.
    """

    array: Float64Array
    enter: float
    exit: float
    short_enter: float | None = None
    short_exit: float | None = None

    @property
    def levels(self) -> tuple[float, float, float, float]:
        """Long entry and exit, short entry and exit."""
        short_enter = -self.enter if self.short_enter is None else self.short_enter
        short_exit = -self.exit if self.short_exit is None else self.short_exit
        return self.enter, self.exit, short_enter, short_exit


@dataclass(frozen=True, eq=False)
class Events:
    """Sorted indices of the bars at whose close something is decided, int64."""

    long_entry: Int64Array
    long_exit: Int64Array
    short_entry: Int64Array
    short_exit: Int64Array


Signals: TypeAlias = ScoreRule | Events


@dataclass(frozen=True)
class Stops:
    """The common parameters, checked: what ends a position besides a signal, and its size."""

    direction: Literal["long", "short", "both"] = "long"
    stop_loss: float | None = None
    take_profit: float | None = None
    stop_unit: Literal["fraction", "atr"] = "fraction"
    max_hold: int | None = None
    size: float = 1.0
    cooldown: int = 0

    @staticmethod
    def of(point: Mapping[str, Any]) -> Stops:
        """The common part of a normalised point."""
        return Stops(**{name: point[name] for name in Stops.__dataclass_fields__})


@dataclass(frozen=True, eq=False)
class StopTable:
    """The stops of many points, as the kernels take them.

    Attributes:
        rates: Stop loss and take profit (NaN where there is none) and size, shape (points, 3).
        plans: Longest hold, cooldown, whether levels count in average true ranges, and the watched
            signals as bits, shape (points, 4).
        needs_atr: Whether any point does.
    """

    rates: Float64Array
    plans: Int64Array
    needs_atr: bool

    @staticmethod
    def of(points: Sequence[Mapping[str, Any]]) -> StopTable:
        """One row per normalised point."""
        rates = [
            (_or_nan(point["stop_loss"]), _or_nan(point["take_profit"]), point["size"])
            for point in points
        ]
        atr = [
            point["stop_unit"] == "atr"
            and not (point["stop_loss"] is None and point["take_profit"] is None)
            for point in points
        ]
        plans = [
            (
                min(point["max_hold"] or NEVER, NEVER),
                min(point["cooldown"], NEVER),
                needed,
                OF_DIRECTION[point["direction"]],
            )
            for point, needed in zip(points, atr, strict=True)
        ]
        return StopTable(
            np.array(rates, dtype=np.float64).reshape(-1, 3),
            np.array(plans, dtype=np.int64).reshape(-1, 4),
            any(atr),
        )


def _or_nan(level: float | None) -> float:
    return math.nan if level is None else level


def flags_of(signals: Signals, n: int, direction: str) -> Flags:
    """One byte per bar: the four signals as bits, those of other directions cleared.

    Args:
        signals: As `ares.backtest.checks.checked_signals` answers them.
        n: Number of bars.
        direction: "long", "short" or "both".
    """
    flags = np.zeros(n, dtype=np.uint8)
    bits = (LONG_ENTRY, LONG_EXIT, SHORT_ENTRY, SHORT_EXIT)
    if isinstance(signals, ScoreRule):
        score = signals.array
        enter, leave, short_enter, short_exit = signals.levels
        met = (score >= enter, score <= leave, score <= short_enter, score >= short_exit)
        for where, bit in zip(met, bits, strict=True):
            flags |= where.view(np.uint8) * np.uint8(bit)
    else:
        for column, bit in zip(fields(signals), bits, strict=True):
            flags[getattr(signals, column.name)] |= bit
    flags &= OF_DIRECTION[direction]
    readonly(flags)
    return flags
