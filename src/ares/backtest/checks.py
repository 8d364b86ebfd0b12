"""The check of what a strategy answered: signals of the right kind, shape and order."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ares.backtest.signals import Events, ScoreRule
from ares.core.errors import ParameterError

if TYPE_CHECKING:
    from ares.backtest.signals import Signals
    from ares.core.types import Float64Array, Int64Array

_NEVER = "What never happens is an empty array."


def checked_signals(signals: Any, n: int, *, where: str) -> Signals:
    """The signals in their canonical types: float64 scores, int64 events.

    Args:
        signals: What a strategy's `signals` answered.
        n: Number of bars.
        where: Names the strategy in messages.

    Raises:
        ParameterError: neither a ScoreRule nor Events; a score that has not one number per bar, is
            infinite somewhere or NaN everywhere; a level that is no number; events that are not
            increasing indices of bars.
    """
    if isinstance(signals, ScoreRule):
        levels = {name: _level(signals, name, where) for name in ("enter", "exit")}
        for name in ("short_enter", "short_exit"):
            if getattr(signals, name) is not None:
                levels[name] = _level(signals, name, where)
        return ScoreRule(_score(signals.array, n, where), **levels)
    if isinstance(signals, Events):
        names = [column.name for column in fields(Events)]
        return Events(**{m: _events(getattr(signals, m), n, f"{where}, {m}") for m in names})
    raise ParameterError(
        "signals must be a ScoreRule or Events",
        value=type(signals).__name__,
        where=where,
        remedy="Both are in ares.backtest.signals.",
    )


def _level(rule: ScoreRule, name: str, where: str) -> float:
    value = getattr(rule, name)
    try:
        level = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        level = math.nan
    if math.isnan(level):
        raise ParameterError(
            f"{name} must be a number", value=str(value), where=f"{where}, ScoreRule"
        )
    return level


def _score(score: Any, n: int, where: str) -> Float64Array:
    where = f"{where}, score"
    if isinstance(score, np.ma.MaskedArray):
        score = score.filled(np.nan)
    array = _flat(score, where, "a score is a flat array of numbers, one per bar")
    if array.dtype.kind not in "fiub":
        raise ParameterError(
            "a score is a flat array of numbers, one per bar", value=_kind(array), where=where
        )
    if len(array) != n:
        raise ParameterError(
            f"a score has one value per bar, that is {n}",
            value=len(array),
            where=where,
            remedy="Where it is undefined it is NaN.",
        )
    numbers = np.asarray(array, dtype=np.float64)
    infinite = np.flatnonzero(np.isinf(numbers))
    if len(infinite):
        raise ParameterError(
            "a score must be finite, or NaN where it is undefined",
            value=float(numbers[infinite[0]]),
            where=f"{where}, bar {infinite[0]}",
        )
    if np.isnan(numbers).all():
        raise ParameterError(
            "a score must be defined somewhere",
            value=math.nan,
            where=f"{where}, all {n} bars",
            remedy="Use shorter periods or more data.",
        )
    return numbers


def _events(events: Any, n: int, where: str) -> Int64Array:
    rule = "events are a flat array of indices of bars"
    if events is None:
        raise ParameterError(rule, value="None", where=where, remedy=_NEVER)
    array = _flat(events, where, rule)
    if len(array) == 0:
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind not in "iu":
        remedy = {
            "b": "np.flatnonzero(mask) makes indices of a mask.",
            "f": "array.astype(np.int64) makes whole numbers of it.",
        }.get(array.dtype.kind, _NEVER)
        raise ParameterError(rule, value=_kind(array), where=where, remedy=remedy)
    outside = np.flatnonzero((array < 0) | (array >= n))
    if len(outside):
        raise ParameterError(
            f"events are indices of the {n} bars, 0 to {n - 1}",
            value=int(array[outside[0]]),
            where=f"{where}[{outside[0]}]",
        )
    bars = array.astype(np.int64)
    late = np.flatnonzero(np.diff(bars) <= 0)
    if len(late):
        at = int(late[0]) + 1
        raise ParameterError(
            "events must increase",
            value=f"{bars[at]} after {bars[at - 1]}",
            where=f"{where}[{at}]",
            remedy="np.unique sorts them and drops duplicates.",
        )
    return bars


def _flat(values: Any, where: str, rule: str) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        raise ParameterError(rule, value=type(values).__name__, where=where) from None
    if array.ndim != 1:
        raise ParameterError(rule, value=_kind(array), where=where)
    return array


def _kind(array: np.ndarray[Any, Any]) -> str:
    return f"{array.dtype.name} of shape {array.shape}"
