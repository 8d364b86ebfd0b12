"""Signals of many points as the engine takes them: addresses of arrays, and levels."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ares.backtest.signals import (
    IndexedScore,
    ScoreRule,
    Signals,
)
from ares.kernels import sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ares.core.types import Float64Array, Int64Array

_EVENT_COLUMNS = (
    sweep.LONG_ENTRIES,
    sweep.LONG_EXITS,
    sweep.SHORT_ENTRIES,
    sweep.SHORT_EXITS,
)


@dataclass(frozen=True, eq=False)
class SignalBatch:
    """Signals of several points on one market.

    Attributes:
        sources: Addresses and lengths, see `ares.kernels.sweep`, shape (points, 14).
        levels: Levels of each point's score, shape (points, 4); NaN where it has none.
        keep: The arrays at those addresses, held as long as the batch is.
    """

    sources: Int64Array
    levels: Float64Array
    keep: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.sources)

    @staticmethod
    def of_scores(scores: Sequence[IndexedScore], levels: Float64Array) -> SignalBatch:
        """Levels on indexed scores, one of each per point; a single score serves all points."""
        sources = np.zeros((len(levels), sweep.N_SOURCES), dtype=np.int64)
        if len(scores) == 1:
            _note_score(sources, scores[0])
        else:
            for row, score in zip(sources, scores, strict=True):
                _note_score(row, score)
        return SignalBatch(sources, np.ascontiguousarray(levels, dtype=np.float64), tuple(scores))

    @staticmethod
    def of_events(lists: Sequence[Sequence[Int64Array]]) -> SignalBatch:
        """Four lists of bars per point, in the order of `Events`, known to be sorted."""
        sources = np.zeros((len(lists), sweep.N_SOURCES), dtype=np.int64)
        for row, four in enumerate(lists):
            _note_events(sources[row], four)
        return SignalBatch(sources, np.full((len(lists), 4), np.nan), tuple(lists))

    @staticmethod
    def of_edges(ups: Int64Array, downs: Int64Array, borders: Int64Array) -> SignalBatch:
        """Crossings as `ares.kernels.events.crossings` gives them: up is long, down is short."""
        firsts = borders.reshape(-1, 2)
        sources = np.zeros((len(firsts) - 1, sweep.N_SOURCES), dtype=np.int64)
        for side, (array, long, short) in enumerate(
            (
                (ups, sweep.LONG_ENTRIES, sweep.SHORT_EXITS),
                (downs, sweep.SHORT_ENTRIES, sweep.LONG_EXITS),
            )
        ):
            place = address(array) + array.itemsize * firsts[:-1, side]
            for column in (long, short):
                sources[:, column] = place
                sources[:, column + 1] = np.diff(firsts[:, side])
        return SignalBatch(sources, np.full((len(sources), 4), np.nan), (ups, downs))


def address(array: npt.NDArray[Any]) -> int:
    """Where the first element of a contiguous array lies."""
    place: int = array.__array_interface__["data"][0]
    return place


def _note_score(rows: Int64Array, score: IndexedScore) -> None:
    """Note where a score and its extremes lie, in one row or in several."""
    for column, array in (
        (sweep.SCORE, score.array),
        (sweep.MINIMA, score.minima),
        (sweep.MAXIMA, score.maxima),
    ):
        rows[..., column], rows[..., column + 1] = address(array), len(array)


def _note_events(row: Int64Array, lists: Sequence[Int64Array]) -> None:
    """Note where four lists of bars lie."""
    for column, events in zip(_EVENT_COLUMNS, lists, strict=True):
        row[column], row[column + 1] = address(events), len(events)


class SignalAnswers:
    """A batch in the making, answer by answer, of a strategy that knows one point at a time.

    A strategy may write the next answer into the same array, so each score is indexed, and copied
    unless nobody can write to it, as it arrives; one that is read-only is indexed once.
    """

    def __init__(self) -> None:
        self._sources: list[Int64Array] = []
        self._levels: list[tuple[float, float, float, float]] = []
        self._shared: dict[int, tuple[Any, IndexedScore]] = {}
        self._keep: list[Any] = []

    def add(self, signals: Signals) -> None:
        """Take in the next point's signals, as `ares.backtest.checks.checked_signals` gives them."""
        row, levels = np.zeros(sweep.N_SOURCES, dtype=np.int64), (math.nan,) * 4
        if isinstance(signals, ScoreRule):
            score = self._indexed(signals.array)
            _note_score(row, score)
            self._keep.append(score)
            levels = signals.levels
        else:
            lists = [getattr(signals, column.name) for column in fields(signals)]
            _note_events(row, lists)
            self._keep.append(lists)
        self._sources.append(row)
        self._levels.append(levels)

    def batch(self) -> SignalBatch:
        """All that were added."""
        sources = np.array(self._sources, dtype=np.int64).reshape(-1, sweep.N_SOURCES)
        levels = np.array(self._levels, dtype=np.float64).reshape(-1, 4)
        return SignalBatch(sources, levels, tuple(self._keep))

    def _indexed(self, array: Float64Array) -> IndexedScore:
        if _writable(array):
            return IndexedScore.of(array.copy())
        if id(array) not in self._shared:
            # The array is kept beside its index: its identity is not given away meanwhile.
            self._shared[id(array)] = (array, IndexedScore.of(array))
        return self._shared[id(array)][1]


def _writable(array: Any) -> bool:
    """Whether somebody can write to the memory of an array."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return True
        array = array.base
    return array is not None
