"""Rank statistics of early stopping, without scipy: they must be small beside an evaluation."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.core.types import readonly

if TYPE_CHECKING:
    from ares.core.types import Float64Array, Int64Array

_POCOCK: Final = {1: 0.05, 2: 0.0294, 3: 0.0221, 4: 0.0182, 5: 0.0158}
_NORMAL_95: Final = 1.959963984540054


def pocock_level(looks: int) -> float:
    """One-sided level per look that keeps 0.025 over up to five looks (Pocock 1977, table 1)."""
    return _POCOCK[min(max(looks, 1), 5)] / 2


def midranks(values: Float64Array) -> Float64Array:
    """Ranks from 1; equal values share their mean rank."""
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(1.0, len(values) + 1)
    _, group = np.unique(values, return_inverse=True)
    sums = np.bincount(group, weights=ranks)
    return np.asarray(sums[group] / np.bincount(group)[group], dtype=np.float64)


def spearman(a: Float64Array, b: Float64Array) -> float:
    """Spearman's rank correlation, -inf being the lowest rank; NaN where one side is constant."""
    x, y = midranks(a), midranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0.0 else math.nan


def signed_rank_p(differences: Float64Array) -> Float64Array:
    """P(signed-rank sum >= the one seen) under symmetry: the exact one-sided Wilcoxon test.

    Args:
        differences: One row per test, shape (tests, pairs). Zeros and what is not finite are left
            out, ties share their mean rank.

    Returns:
        Shape (tests,); 1 where nothing is left.
    """
    rows = np.atleast_2d(differences)
    sizes = np.abs(rows)
    order = np.argsort(sizes, axis=1)
    ordered = np.take_along_axis(sizes, order, axis=1)
    # Without zeros and ties the ranks are 1 to n, and all rows share one distribution.
    plain = (ordered > 0.0).all(axis=1) & np.isfinite(rows).all(axis=1)
    plain &= (np.diff(ordered, axis=1) > 0.0).all(axis=1)
    positive = np.take_along_axis(rows, order, axis=1) > 0.0
    seen = positive @ np.arange(1, rows.shape[1] + 1)
    shared = _tail(tuple(range(1, rows.shape[1] + 1)))
    found = np.ones(len(rows))
    found[plain] = shared[seen[plain]]
    for row in np.flatnonzero(~plain):
        found[row] = _with_ties(rows[row])
    return found


def _with_ties(differences: Float64Array) -> float:
    kept = differences[np.isfinite(differences) & (differences != 0.0)]
    if not len(kept):
        return 1.0
    doubled: Int64Array = np.rint(2.0 * midranks(np.abs(kept))).astype(np.int64)
    return float(_tail(tuple(np.sort(doubled).tolist()))[int(doubled[kept > 0].sum())])


@functools.lru_cache(maxsize=256)
def _tail(ranks: tuple[int, ...]) -> Float64Array:
    """P(sum of the ranks with a plus >= k) for each k, when all signs are equally likely."""
    ways = np.zeros(sum(ranks) + 1)
    ways[0] = 1.0
    for rank in ranks:
        ways[rank:] = ways[rank:] + ways[: len(ways) - rank]
    tail = np.cumsum(ways[::-1])[::-1] / 2.0 ** len(ranks)
    readonly(tail)
    return tail


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a rate (Wilson 1927); 0 to 1 without trials."""
    if trials == 0:
        return 0.0, 1.0
    z2 = _NORMAL_95**2
    rate = hits / trials
    middle = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2))
    half = _NORMAL_95 * spread / (1 + z2 / trials)
    low = 0.0 if hits == 0 else middle - half
    high = 1.0 if hits == trials else middle + half
    return low, high
