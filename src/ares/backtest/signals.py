"""What a strategy says (`ScoreRule` or `Events`) and what guards its positions (`Stops`)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ares.core.errors import ParameterError
from ares.core.types import Float64Array, Int64Array, readonly
from ares.kernels.index import extremes

if TYPE_CHECKING:
    from collections.abc import Mapping

LONG_ENTRY: Final = 1
LONG_EXIT: Final = 2
SHORT_ENTRY: Final = 4
SHORT_EXIT: Final = 8
OF_DIRECTION: Final = {"long": 3, "short": 12, "both": 15}

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
        flags = _score_flags(signals, checked_score(signals, n))
    elif isinstance(signals, Events):
        flags = np.zeros(n, dtype=np.uint8)
        bits = (LONG_ENTRY, LONG_EXIT, SHORT_ENTRY, SHORT_EXIT)
        for events, bit in zip(checked_events(signals, n), bits, strict=True):
            flags[events] |= bit
    else:
        raise ParameterError("signals must be a ScoreRule or Events", value=type(signals).__name__)
    flags &= OF_DIRECTION[direction]
    readonly(flags)
    return flags


def checked_score(rule: ScoreRule, n: int) -> Float64Array:
    """The score of a rule.

    Raises:
        ParameterError: it has not one value per bar.
    """
    score = np.ascontiguousarray(rule.array, dtype=np.float64)
    if score.shape != (n,):
        raise ParameterError(
            "a score needs one value per bar", value=score.shape, remedy=f"There are {n} bars."
        )
    return score


def _score_flags(rule: ScoreRule, score: Float64Array) -> Flags:
    enter, leave, short_enter, short_exit = rule.levels
    flags = (score >= enter).view(np.uint8).copy()
    flags |= (score <= leave).view(np.uint8) * np.uint8(LONG_EXIT)
    flags |= (score <= short_enter).view(np.uint8) * np.uint8(SHORT_ENTRY)
    flags |= (score >= short_exit).view(np.uint8) * np.uint8(SHORT_EXIT)
    return flags


def checked_events(signals: Events, n: int) -> list[Int64Array]:
    """The four lists in the order of `Events`, as contiguous int64.

    Raises:
        ParameterError: a list that is not of increasing indices of bars.
    """
    return [_checked_list(field.name, getattr(signals, field.name), n) for field in fields(signals)]


def _checked_list(name: str, events: Any, n: int) -> Int64Array:
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
    return np.ascontiguousarray(array, dtype=np.int64)
