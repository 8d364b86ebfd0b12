"""Scoring blocks and flat-start blocks: where a range is cut, and what is kept of each piece.

Scoring blocks cut the daily returns of *one continuous run*; their borders depend on nothing but
the days of the range. Flat-start blocks are separate runs that begin without a position; they are
a different strategy in miniature and serve only to stop losing points early.
"""

from __future__ import annotations

import functools
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.backtest.metrics import DAY_NS, INITIAL_CASH
from ares.core.errors import ArtifactError, InputError
from ares.core.identity import seed_for
from ares.core.types import Float64Array, Int64Array, readonly
from ares.kernels.blocks import MEASURES, measure_run, measure_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_FLAT_BLOCKS: Final = 32
MIN_FLAT_BLOCKS: Final = 9
"""With 8 or fewer the stages take as many bars as running all points in full, or more."""
_GOLDEN: Final = 0.6180339887498949


@dataclass(frozen=True, eq=False, slots=True)
class BlockResults:
    """What is kept of a run, one column per block.

    Attributes:
        n: Days, shape (blocks,).
        measures: One row per measure in the order of `MEASURES`, shape (7, blocks); each is a
            property, too.
        trades: Trades that were closed in the block, shape (blocks,).
    """

    n: Int64Array
    measures: Float64Array
    trades: Int64Array

    def __post_init__(self) -> None:
        for array in (self.n, self.measures, self.trades):
            readonly(array)

    def __len__(self) -> int:
        return len(self.n)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockResults) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    @property
    def sum(self) -> Float64Array:
        """Sum of daily returns."""
        return self._measure("sum")

    @property
    def sum_sq(self) -> Float64Array:
        """Sum of squared daily returns."""
        return self._measure("sum_sq")

    @property
    def downside_sq(self) -> Float64Array:
        """Sum of squared negative daily returns."""
        return self._measure("downside_sq")

    @property
    def log_growth(self) -> Float64Array:
        """Sum of log(1 + r); -inf where equity went to zero."""
        return self._measure("log_growth")

    @property
    def drawdown(self) -> Float64Array:
        """Largest drop of the daily marks inside the block, as a fraction of their high."""
        return self._measure("drawdown")

    @property
    def trough(self) -> Float64Array:
        """Lowest mark relative to the mark before the block, at most 1."""
        return self._measure("trough")

    @property
    def peak(self) -> Float64Array:
        """Highest mark relative to the mark before the block, at least 1."""
        return self._measure("peak")

    def _measure(self, name: str) -> Float64Array:
        row: Float64Array = self.measures[MEASURES.index(name)]
        return row

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return int(self.n.nbytes + self.measures.nbytes + self.trades.nbytes)

    def take(self, rows: Sequence[int] | Int64Array) -> BlockResults:
        """The blocks `rows`, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        return BlockResults(
            self.n[index], np.ascontiguousarray(self.measures[:, index]), self.trades[index]
        )

    def to_bytes(self) -> bytes:
        """Little-endian 64-bit words, field by field: equal results are equal bytes."""
        arrays: tuple[Any, ...] = (self.n, self.measures, self.trades)
        if sys.byteorder == "big":
            arrays = tuple(array.byteswap() for array in arrays)
        return b"".join([array.tobytes() for array in arrays])

    @classmethod
    def from_bytes(cls, data: bytes) -> BlockResults:
        """Inverse of `to_bytes`.

        Raises:
            ArtifactError: the length is not that of nine equal columns.
        """
        columns = len(MEASURES) + 2
        if len(data) % (8 * columns):
            raise ArtifactError("block results must be nine columns of 64-bit words")
        count = len(data) // (8 * columns)
        floats = np.frombuffer(data, "<f8", len(MEASURES) * count, offset=8 * count)
        return cls(
            np.frombuffer(data, "<i8", count).astype(np.int64, copy=False),
            floats.astype(np.float64, copy=False).reshape(len(MEASURES), count),
            np.frombuffer(data, "<i8", count, offset=8 * count * (columns - 1)).astype(
                np.int64, copy=False
            ),
        )


@dataclass(frozen=True, eq=False, slots=True)
class BlockTable:
    """Block results of several runs over the same blocks.

    Attributes:
        n: Days, shape (blocks,).
        measures: Shape (runs, 7, blocks).
        trades: Shape (runs, blocks).
    """

    n: Int64Array
    measures: Float64Array
    trades: Int64Array

    def __post_init__(self) -> None:
        for array in (self.n, self.measures, self.trades):
            readonly(array)

    def __len__(self) -> int:
        return len(self.measures)

    def results(self) -> list[BlockResults]:
        """Each run by itself."""
        return [
            BlockResults(self.n, measures, trades)
            for measures, trades in zip(self.measures, self.trades, strict=True)
        ]

    @staticmethod
    def of(results: Sequence[BlockResults]) -> BlockTable:
        """Runs over the same blocks, at least one, as one table."""
        return BlockTable(
            results[0].n,
            np.stack([one.measures for one in results]),
            np.stack([one.trades for one in results]),
        )

    @staticmethod
    def beside(parts: Sequence[BlockTable]) -> BlockTable:
        """The same runs over several stretches, as blocks side by side."""
        if len(parts) == 1:
            return parts[0]
        return BlockTable(
            np.concatenate([part.n for part in parts]),
            np.concatenate([part.measures for part in parts], axis=2),
            np.concatenate([part.trades for part in parts], axis=1),
        )


def even_borders(length: int, count: int) -> Int64Array:
    """Borders, shape (blocks + 1,), that cut `length` items into at most `count` even pieces."""
    if length < 1 or count < 1:
        raise InputError(
            "a range needs at least one item and one block", value=(length, count), where="blocks"
        )
    blocks = min(length, count)
    return (np.arange(blocks + 1, dtype=np.int64) * length) // blocks


def block_results(
    returns: Float64Array, trade_days: Int64Array, borders: Int64Array
) -> BlockResults:
    """Cut the daily returns of one run into blocks.

    Args:
        returns: Daily net returns, shape (days,); after ruin 0.
        trade_days: Index into `returns` of the day on which each trade was closed.
        borders: Increasing, from 0 to `days`, shape (blocks + 1,).
    """
    closed = np.bincount(trade_days, minlength=len(returns)).astype(np.int64)
    count = len(borders) - 1
    measures, trades = np.empty((len(MEASURES), count)), np.empty(count, dtype=np.int64)
    with np.errstate(all="ignore"):  # a run that left the range of floats has NaN here
        measure_run(
            np.ascontiguousarray(returns, dtype=np.float64), closed, borders, measures, trades
        )
    return BlockResults(np.diff(borders), measures, trades)


def table_of_runs(equity: Float64Array, closed: Int64Array, borders: Int64Array) -> BlockTable:
    """Cut many runs into the same blocks, by their daily returns.

    Args:
        equity: Daily marks, shape (runs, days).
        closed: Trades closed on each day, shape (runs, days).
        borders: Increasing, from 0 to `days`, shape (blocks + 1,).
    """
    runs, count = len(equity), len(borders) - 1
    measures = np.empty((runs, len(MEASURES), count))
    trades = np.empty((runs, count), dtype=np.int64)
    with np.errstate(all="ignore"):  # a run that left the range of floats has NaN here
        measure_runs(np.ascontiguousarray(equity), closed, borders, INITIAL_CASH, measures, trades)
    return BlockTable(np.diff(borders), measures, trades)


def flat_borders(timestamp: Int64Array, start: int, stop: int, count: int) -> Int64Array:
    """Bar indices, shape (blocks + 1,), of at most `count` day-aligned contiguous blocks.

    Args:
        timestamp: Open times of all bars, int64 ns UTC.
        start: First bar of the range.
        stop: One past its last bar.
        count: Blocks wanted; fewer come back where the range has fewer days.
    """
    days = timestamp[start:stop] // DAY_NS
    opens = np.flatnonzero(np.concatenate(([True], days[1:] != days[:-1])))
    cuts = even_borders(len(opens), count)
    return np.concatenate((opens[cuts[:-1]] + start, [stop])).astype(np.int64)


def interleaved_order(count: int, seed: int) -> tuple[int, ...]:
    """The order in which blocks are revealed: equal steps round the range, the same for all.

    Any prefix is spread over the whole range, because a stretch at its beginning is another
    population and not an early estimate. Steps whose ratio to the round has small partial quotients
    spread best (Niederreiter 1992, theorem 3.4); a step next to the golden section need not: 21 of
    32 returns beside where it began after three steps. A round of one more, left out, serves
    counts that have no such step, as 4 and 6.
    """
    rounds, step = _lattice(count)
    offset = seed_for(seed, "block order") % rounds
    places = ((offset + i * step) % rounds for i in range(rounds))
    return tuple(place for place in places if place < count)


@functools.cache
def _lattice(count: int) -> tuple[int, int]:
    """Places of a round, `count` or one more, and the step that spreads best over it."""
    lattices = [
        (_largest_quotient(step, rounds), rounds, abs(step - rounds * _GOLDEN), step)
        for rounds in (count, count + 1)
        for step in range(1, rounds + 1)
        if math.gcd(step, rounds) == 1
    ]
    _, rounds, _, step = min(lattices)
    return rounds, step


def _largest_quotient(step: int, count: int) -> int:
    """Largest partial quotient of the continued fraction of step / count."""
    largest = 0
    while step:
        quotient, rest = divmod(count, step)
        largest = max(largest, quotient)
        count, step = step, rest
    return largest
