"""Signals of many points as the engine takes them: addresses of arrays, and levels."""

from __future__ import annotations

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
    def of(signals: Sequence[Signals]) -> SignalBatch:
        """Signals of each point; a score that several points share is indexed once.

        Args:
            signals: As `ares.backtest.checks.checked_signals` answers them.
        """
        sources = np.zeros((len(signals), sweep.N_SOURCES), dtype=np.int64)
        levels = np.full((len(signals), 4), np.nan)
        scores: dict[int, IndexedScore] = {}
        keep: list[Any] = []
        for row, one in enumerate(signals):
            if isinstance(one, ScoreRule):
                if id(one.array) not in scores:
                    scores[id(one.array)] = IndexedScore.of(one.array)
                score_source(sources[row], scores[id(one.array)])
                levels[row] = one.levels
            else:
                lists = [getattr(one, column.name) for column in fields(one)]
                event_source(sources[row], lists)
                keep += lists
        # The rules keep the identities of their arrays from being given away meanwhile.
        return SignalBatch(sources, levels, (*scores.values(), *keep, *signals))

    @staticmethod
    def of_scores(scores: Sequence[IndexedScore], levels: Float64Array) -> SignalBatch:
        """Levels on indexed scores, one of each per point; a single score serves all points."""
        sources = np.zeros((len(levels), sweep.N_SOURCES), dtype=np.int64)
        if len(scores) == 1:
            score_source(sources, scores[0])
        else:
            for row, score in zip(sources, scores, strict=True):
                score_source(row, score)
        return SignalBatch(sources, np.ascontiguousarray(levels, dtype=np.float64), tuple(scores))

    @staticmethod
    def of_events(lists: Sequence[Sequence[Int64Array]]) -> SignalBatch:
        """Four lists of bars per point, in the order of `Events`, known to be sorted."""
        sources = np.zeros((len(lists), sweep.N_SOURCES), dtype=np.int64)
        for row, four in enumerate(lists):
            event_source(sources[row], four)
        return SignalBatch(sources, np.full((len(lists), 4), np.nan), tuple(lists))

    @staticmethod
    def of_edges(ups: Int64Array, downs: Int64Array, borders: Int64Array) -> SignalBatch:
        """Crossings as `ares.kernels.crossings` gives them: up is long, down is short."""
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


def score_source(rows: Int64Array, score: IndexedScore) -> None:
    """Note where a score and its extremes lie, in one row or in several."""
    for column, array in (
        (sweep.SCORE, score.array),
        (sweep.MINIMA, score.minima),
        (sweep.MAXIMA, score.maxima),
    ):
        rows[..., column], rows[..., column + 1] = address(array), len(array)


def event_source(row: Int64Array, lists: Sequence[Int64Array]) -> None:
    """Note where four lists of bars lie."""
    for column, events in zip(_EVENT_COLUMNS, lists, strict=True):
        row[column], row[column + 1] = address(events), len(events)
