"""Scoring blocks and flat-start blocks: where a range is cut, and what is kept of each piece.

Scoring blocks cut the daily returns of *one continuous run*; their borders depend on nothing but
the days of the range. Flat-start blocks are separate runs that begin without a position; they are
a different strategy in miniature and serve only to stop losing points early.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.backtest.metrics import DAY_NS
from ares.core.errors import ArtifactError, InputError
from ares.core.identity import seed_for
from ares.core.types import Float64Array, Int64Array, readonly
from ares.kernels.blocks import MEASURES, measure_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_FLAT_BLOCKS: Final = 32
MIN_FLAT_BLOCKS: Final = 9
"""With 8 or fewer the stages take as many bars as running all points in full, or more."""
_GOLDEN: Final = 0.6180339887498949


@dataclass(frozen=True, eq=False)
class BlockResults:
    """What is kept of a run, one row per block; all arrays have shape (blocks,).

    Attributes:
        n: Days.
        sum: Sum of daily returns.
        sum_sq: Sum of squared daily returns.
        downside_sq: Sum of squared negative daily returns.
        log_growth: Sum of log(1 + r); -inf where equity went to zero.
        drawdown: Largest drop of the daily marks inside the block, as a fraction of their high.
        trough: Lowest mark relative to the mark before the block, at most 1.
        peak: Highest mark relative to the mark before the block, at least 1.
        trades: Trades that were closed in the block.
    """

    n: Int64Array
    sum: Float64Array
    sum_sq: Float64Array
    downside_sq: Float64Array
    log_growth: Float64Array
    drawdown: Float64Array
    trough: Float64Array
    peak: Float64Array
    trades: Int64Array

    def __post_init__(self) -> None:
        for field in fields(self):
            readonly(getattr(self, field.name))

    def __len__(self) -> int:
        return len(self.n)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockResults) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(int(getattr(self, f.name).nbytes) for f in fields(self))

    def take(self, rows: Sequence[int] | Int64Array) -> BlockResults:
        """The blocks `rows`, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        return BlockResults(*(getattr(self, f.name)[index] for f in fields(self)))

    def to_bytes(self) -> bytes:
        """Little-endian 64-bit words, field by field: equal results are equal bytes."""
        return b"".join(
            np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
            for array in (getattr(self, f.name) for f in fields(self))
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> BlockResults:
        """Inverse of `to_bytes`.

        Raises:
            ArtifactError: the length is not that of nine equal columns.
        """
        names = [f.name for f in fields(cls)]
        if len(data) % (8 * len(names)):
            raise ArtifactError("block results must be nine columns of 64-bit words")
        width = len(data) // len(names)
        columns = []
        for at, name in enumerate(names):
            dtype = "<i8" if name in {"n", "trades"} else "<f8"
            column = np.frombuffer(data[at * width : (at + 1) * width], dtype=dtype)
            columns.append(column.astype(dtype[1:]))
        return cls(*columns)


def join(parts: Sequence[BlockResults]) -> BlockResults:
    """Concatenate block results in the order given."""
    return BlockResults(
        *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(BlockResults))
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
    return results_of_runs(np.atleast_2d(returns), np.atleast_2d(closed), borders)[0]


def results_of_runs(
    returns: Float64Array, closed: Int64Array, borders: Int64Array
) -> list[BlockResults]:
    """Cut the daily returns of many runs into the same blocks.

    Args:
        returns: Daily net returns, shape (runs, days); after ruin 0.
        closed: Trades closed on each day, shape (runs, days).
        borders: Increasing, from 0 to `days`, shape (blocks + 1,).
    """
    runs, count = len(returns), len(borders) - 1
    out = np.empty((runs, len(MEASURES), count))
    trades = np.empty((runs, count), dtype=np.int64)
    lengths = np.diff(borders)
    with np.errstate(all="ignore"):  # a run that left the range of floats has NaN here
        measure_blocks(
            np.ascontiguousarray(returns, dtype=np.float64), closed, borders, out, trades
        )
    return [
        BlockResults(n=lengths, trades=trades[run], **dict(zip(MEASURES, out[run], strict=True)))
        for run in range(runs)
    ]


def max_drawdown(blocks: BlockResults) -> float:
    """Largest drop of the daily marks over the chained blocks, as a fraction of their high."""
    level, top, worst = 1.0, 1.0, 0.0
    growth = np.exp(blocks.log_growth)
    for i in range(len(blocks)):
        worst = max(worst, float(blocks.drawdown[i]), 1.0 - level * float(blocks.trough[i]) / top)
        top = max(top, level * float(blocks.peak[i]))
        level *= float(growth[i])
    return worst


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
