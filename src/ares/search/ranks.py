"""Rank statistics of early stopping, without scipy: they must be small beside an evaluation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from ares.core.types import Float64Array

_POCOCK: Final = {1: 0.05, 2: 0.0294, 3: 0.0221, 4: 0.0182, 5: 0.0158}


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
    """Spearman's rank correlation; NaN where one side is constant."""
    x, y = midranks(a), midranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0.0 else math.nan


def signed_rank_p(differences: Float64Array) -> float:
    """P(signed-rank sum >= the one seen) under symmetry: the exact one-sided Wilcoxon test.

    Zeros are left out, ties share their mean rank. 1 where nothing is left.
    """
    kept = differences[np.isfinite(differences) & (differences != 0.0)]
    if not len(kept):
        return 1.0
    doubled = np.rint(2.0 * midranks(np.abs(kept))).astype(np.int64)
    ways = np.zeros(int(doubled.sum()) + 1)
    ways[0] = 1.0
    for rank in doubled:
        ways[rank:] = ways[rank:] + ways[: len(ways) - rank]
    seen = int(doubled[kept > 0].sum())
    return float(ways[seen:].sum() / ways.sum())
