"""Splits in time: the forward chain, purged folds, and weights of overlapping labels.

A label made at bar t0 and known at bar t1 touches the closed interval [t0, t1]. Training rows are
purged by that interval, never by row counts. (López de Prado, Advances in Financial Machine
Learning, 2018, chapters 4, 7 and 12.)
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ares.core.errors import DataError
from ares.core.types import readonly
from ares.store.codecs import register

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ares.core.config import SplitConfig
    from ares.core.types import BoolArray, Float64Array, Int64Array
    from ares.market.bars import Bars


@register(schema=1)
@dataclass(frozen=True, eq=False)
class Chain:
    """A forward chain: chunk j is predicted by what was fitted before it.

    Attributes:
        borders: int64 (chunks + 1,), strictly increasing bar indices; chunk j is
            [borders[j], borders[j + 1]), and the last border is the end of the training range.
        embargo: Bars before a chunk in which no training label may end.
    """

    borders: Int64Array
    embargo: int

    def __post_init__(self) -> None:
        readonly(self.borders)

    def __len__(self) -> int:
        return len(self.borders) - 1

    def chunk(self, j: int) -> slice:
        """The bars of chunk `j`."""
        return slice(int(self.borders[j]), int(self.borders[j + 1]))

    def training_stop(self, j: int) -> int:
        """First bar that what is fitted for chunk `j` may not know."""
        return max(int(self.borders[j]) - self.embargo, 0)

    def training_rows(self, j: int, t1: Int64Array) -> BoolArray:
        """Which rows may train what predicts chunk `j`: their labels, known at `t1`, end before."""
        return np.asarray(t1 < self.training_stop(j))


def stretches(bars: Bars, max_gap: int | None) -> Iterator[slice]:
    """The contiguous bars between gaps of more than `max_gap` expected bars, oldest first."""
    borders = [*bars.segments(max_gap).tolist(), len(bars)]
    for start, stop in itertools.pairwise(borders):
        yield slice(start, stop)


@dataclass(frozen=True, eq=False)
class Fold:
    """Row numbers of one split.

    Attributes:
        train: int64, rows that are left after purge and embargo.
        test: int64, rows that are scored.
        paths: For each tested group the backtest path that its score belongs to.
    """

    train: Int64Array
    test: Int64Array
    paths: tuple[int, ...]


def forward_chain(n: int, config: SplitConfig) -> Chain:
    """Cut `n` bars into chunks: the first begins at `first`, the last at `final`, others between.

    Raises:
        DataError: too few bars for that many chunks.
    """
    start, last = math.floor(config.first * n), math.floor(config.final * n)
    steps = np.arange(config.chunks, dtype=np.int64)
    borders = np.append(start + steps * (last - start) // (config.chunks - 1), n)
    embargo = math.ceil(config.embargo * n)
    if n < 1 or start <= embargo or (np.diff(borders) < 1).any():
        raise DataError(
            f"a forward chain of {config.chunks} chunks needs bars in each and before the first",
            value=n,
            where="splits",
            remedy="Load more data or set fewer splits.chunks.",
        )
    return Chain(borders.astype(np.int64), embargo)


def uniqueness(t0: Int64Array, t1: Int64Array) -> Float64Array:
    """Average uniqueness of each label: mean over its bars of 1 / labels alive (AFML 4.2).

    Args:
        t0: int64 (n,), first bar of each label, at least 0, in any order.
        t1: int64 (n,), last bar, at least `t0`.

    Returns:
        float64 (n,) in (0, 1].
    """
    _check_intervals(t0, t1)
    if not len(t0):
        return np.empty(0)
    first = int(t0.min())
    length = int(t1.max()) - first + 2
    alive = np.zeros(length, dtype=np.int32)
    np.add.at(alive, t0 - first, 1)
    np.subtract.at(alive, t1 - first + 1, 1)
    np.cumsum(alive, out=alive)
    share = np.zeros(length + 1)
    np.divide(1.0, np.maximum(alive, 1, out=alive), out=share[1:])
    np.cumsum(share, out=share)
    mean = (share[t1 - first + 1] - share[t0 - first]) / (t1 - t0 + 1)
    return np.asarray(np.minimum(mean, 1.0), dtype=np.float64)


def thin(rows: Int64Array, max_rows: int) -> Int64Array:
    """At most `max_rows` of `rows`, evenly spaced in their order; all where they fit."""
    if len(rows) <= max_rows:
        return rows
    return np.asarray(rows[np.arange(max_rows, dtype=np.int64) * len(rows) // max_rows])


def purged_folds(
    t0: Int64Array, t1: Int64Array, folds: int, *, embargo: int = 0
) -> tuple[Fold, ...]:
    """K-fold splits in time, purged and embargoed; for scores, never for traded predictions."""
    return combinatorial_folds(t0, t1, folds, 1, embargo=embargo)


def combinatorial_folds(
    t0: Int64Array, t1: Int64Array, groups: int, tested: int, *, embargo: int = 0
) -> tuple[Fold, ...]:
    """Combinatorial purged cross-validation: every choice of `tested` out of `groups` groups.

    There are C(groups, tested) splits, and every group is tested in `n_paths` of them: its q-th
    test belongs to path q.

    Args:
        t0: int64 (n,), first bar of each row's label, not decreasing.
        t1: int64 (n,), last bar of each row's label.
        groups: Contiguous groups of rows.
        tested: Groups tested at once.
        embargo: Bars after a tested group's last label in which no training label may begin.

    Raises:
        DataError: rows out of order, or fewer rows than groups.
    """
    _check_intervals(t0, t1)
    if not 1 <= tested < groups or groups > len(t0):
        raise DataError(
            "cross-validation needs 1 <= tested < groups <= rows",
            value=(tested, groups, len(t0)),
        )
    if (np.diff(t0) < 0).any():
        raise DataError("rows must be in the order of time", where="t0")
    parts = np.array_split(np.arange(len(t0), dtype=np.int64), groups)
    seen = [0] * groups
    made = []
    for choice in itertools.combinations(range(groups), tested):
        keep = np.ones(len(t0), dtype=np.bool_)
        for group in choice:
            rows = parts[group]
            begin, end = t0[rows[0]], t1[rows].max()
            keep &= (t1 < begin) | (t0 > end + embargo)
        made.append(
            Fold(
                train=np.flatnonzero(keep).astype(np.int64),
                test=np.concatenate([parts[group] for group in choice]),
                paths=tuple(seen[group] for group in choice),
            )
        )
        for group in choice:
            seen[group] += 1
    return tuple(made)


def n_paths(groups: int, tested: int) -> int:
    """Backtest paths of combinatorial cross-validation: C(groups, tested) tested / groups."""
    return math.comb(groups, tested) * tested // groups


def _check_intervals(t0: Int64Array, t1: Int64Array) -> None:
    if t0.shape != t1.shape or t0.ndim != 1 or (t1 < t0).any() or (t0 < 0).any():
        raise DataError("labels are intervals 0 <= t0 <= t1", where="t0, t1", value=t0.shape)
