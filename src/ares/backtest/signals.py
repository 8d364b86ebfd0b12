"""What a strategy says (`ScoreRule` or `Events`) and what guards its positions (`Stops`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ares.core.errors import ParameterError
from ares.core.types import Float64Array, Int64Array, readonly

if TYPE_CHECKING:
    from collections.abc import Mapping

LONG_ENTRY: Final = 1
LONG_EXIT: Final = 2
SHORT_ENTRY: Final = 4
SHORT_EXIT: Final = 8
_OF_DIRECTION: Final = {"long": 3, "short": 12, "both": 15}

Flags: TypeAlias = npt.NDArray[np.uint8]


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

    @property
    def needs_atr(self) -> bool:
        """Whether levels are counted in average true ranges."""
        levels = self.stop_loss is not None or self.take_profit is not None
        return levels and self.stop_unit == "atr"


def flags_of(signals: Signals, n: int, direction: str) -> Flags:
    """One byte per bar: the four signals as bits, those of other directions cleared.

    Raises:
        ParameterError: a score that has not one value per bar; events that are not sorted indices
            of bars.
    """
    if isinstance(signals, ScoreRule):
        flags = _score_flags(signals, n)
    elif isinstance(signals, Events):
        flags = np.zeros(n, dtype=np.uint8)
        bits = (LONG_ENTRY, LONG_EXIT, SHORT_ENTRY, SHORT_EXIT)
        names = ("long_entry", "long_exit", "short_entry", "short_exit")
        for name, bit in zip(names, bits, strict=True):
            flags[_checked_events(name, getattr(signals, name), n)] |= bit
    else:
        raise ParameterError("signals must be a ScoreRule or Events", value=type(signals).__name__)
    flags &= _OF_DIRECTION[direction]
    readonly(flags)
    return flags


def _score_flags(rule: ScoreRule, n: int) -> Flags:
    score = np.asarray(rule.array)
    if score.shape != (n,):
        raise ParameterError(
            "a score needs one value per bar", value=score.shape, remedy=f"There are {n} bars."
        )
    short_enter = -rule.enter if rule.short_enter is None else rule.short_enter
    short_exit = -rule.exit if rule.short_exit is None else rule.short_exit
    flags = (score >= rule.enter).view(np.uint8).copy()
    flags |= (score <= rule.exit).view(np.uint8) * np.uint8(LONG_EXIT)
    flags |= (score <= short_enter).view(np.uint8) * np.uint8(SHORT_ENTRY)
    flags |= (score >= short_exit).view(np.uint8) * np.uint8(SHORT_EXIT)
    return flags


def _checked_events(name: str, events: Any, n: int) -> Int64Array:
    array = np.asarray(events)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise ParameterError(
            "events must be a flat array of bar indices", value=array.dtype.name, where=name
        )
    if array[0] < 0 or array[-1] >= n or (np.diff(array) <= 0).any():
        raise ParameterError(
            f"events must be increasing indices of the {n} bars", value=array, where=name
        )
    return array.astype(np.int64)
