"""Strategies that trade a score that comes from elsewhere: one rule, two search ranges."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from ares.backtest.batch import SignalBatch
from ares.backtest.signals import IndexedScore, ScoreRule
from ares.backtest.space import COMMON, Float, Int, LessThan, ParameterSpace
from ares.core.errors import ParameterError
from ares.core.types import Float64Array, readonly

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ares.market.bars import Bars

_BELOW = (LessThan("exit", "enter"),)


@dataclass(frozen=True, eq=False)
class _ScoreRules:
    """What both have: a score, checked and indexed once, and two levels on it."""

    score: Float64Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "score", _checked(self.score))

    def prepare(self, bars: Bars, *, max_gap: int | None = None) -> IndexedScore:  # noqa: ARG002  # a score has no warm-up
        """The score, where it fits the bars."""
        if len(self.score) != len(bars):
            raise ParameterError(
                f"a score needs one value per bar, that is {len(bars)}",
                value=len(self.score),
                where="score",
            )
        return self._indexed

    def signals(self, prepared: IndexedScore, params: Mapping[str, Any]) -> ScoreRule:
        """The two levels."""
        return ScoreRule(prepared.array, params["enter"], params["exit"])

    def signals_batch(
        self, prepared: IndexedScore, points: Sequence[Mapping[str, Any]]
    ) -> SignalBatch:
        """The levels of all points on the one score."""
        levels = [(p["enter"], p["exit"], -p["enter"], -p["exit"]) for p in points]
        return SignalBatch.of_scores([prepared], np.array(levels).reshape(-1, 4))

    @functools.cached_property
    def _indexed(self) -> IndexedScore:
        return IndexedScore.of(self.score)


@final
@dataclass(frozen=True, eq=False)
class ScoreThreshold(_ScoreRules):
    """Long while a score is high, short while it is low.

    Long entry where score >= enter, long exit where score <= exit; short entry where
    score <= -enter, short exit where score >= -exit. NaN is neither. Centre probabilities by -0.5.

    Args:
        score: float64, one value per bar, known at the bar's close.

    Raises:
        ParameterError: a score that is not a flat array of numbers, infinite, or NaN throughout.
    """

    name: ClassVar[str] = "ScoreThreshold"
    space: ClassVar[ParameterSpace] = ParameterSpace(
        {
            "enter": Float(0.0, 0.5, default=0.1),
            "exit": Float(-0.5, 0.4, default=0.0),
        },
        _BELOW,
    )


@final
@dataclass(frozen=True, eq=False)
class ModelSignal(_ScoreRules):
    """`ScoreThreshold` on a model's side * confidence in [-1, 1], searched with its guards.

    Besides both levels the search moves stop_loss, take_profit (in average true ranges where
    stop_unit says so), max_hold and cooldown.

    Args:
        score: float64, one value per bar: +confidence for long, -confidence for short, NaN where
            the model says nothing.

    Raises:
        ParameterError: as `ScoreThreshold`.
    """

    name: ClassVar[str] = "ModelSignal"
    space: ClassVar[ParameterSpace] = ParameterSpace(
        {
            "enter": Float(0.02, 0.6, default=0.1),
            "exit": Float(-0.3, 0.3, default=0.0),
            "stop_loss": COMMON["stop_loss"],
            "take_profit": COMMON["take_profit"],
            "max_hold": Int(2, 200, log=True, minimum=1, default=None, optional=True),
            "cooldown": Int(0, 12, minimum=0, default=0),
        },
        _BELOW,
    )


def _checked(score: Any) -> Float64Array:
    try:
        array = np.asarray(score, dtype=np.float64)
        if array.flags.writeable:
            array = array.copy()
    except (TypeError, ValueError):
        array = np.empty((0, 0))
    if array.ndim != 1 or len(array) == 0:
        raise ParameterError(
            "a score is a flat array of numbers, one per bar", value=np.shape(score), where="score"
        )
    if np.isinf(array).any():
        raise ParameterError(
            "a score must be finite, or NaN where it is undefined",
            value=int(np.flatnonzero(np.isinf(array))[0]),
            where="score: first infinite bar",
        )
    if np.isnan(array).all():
        raise ParameterError("a score must be defined somewhere", value=np.nan, where="score")
    readonly(array)
    return array
