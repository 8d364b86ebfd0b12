"""Probability of backtest overfitting by combinatorially symmetric cross-validation.

Bailey, Borwein, López de Prado and Zhu, "The Probability of Backtest Overfitting" (2017).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.core.errors import InputError
from ares.core.types import Float64Array, readonly
from ares.store.codecs import register
from ares.validate.bootstrap import checked_matrix

if TYPE_CHECKING:
    from ares.core.types import BoolArray, Int64Array

_SPLITS_AT_ONCE: Final = 2048


@register(schema=1)
@dataclass(frozen=True, eq=False)
class Pbo:
    """Probability of backtest overfitting, with its spread.

    Attributes:
        probability: Share of splits whose in-sample winner ends at or below the median out of
            sample; NaN where it is undefined.
        standard_error: Jackknife over pairs of neighbouring blocks. A PBO is noisy: without
            skill its standard deviation is about 0.2.
        mean_logit: Mean of the logits.
        loss_probability: Share of splits whose winner has a negative Sharpe out of sample.
        logits: ln(w / (1 - w)) of each split, w the winner's relative rank out of sample.
        n_trials: Columns.
        n_blocks: S.
    """

    probability: float
    standard_error: float
    mean_logit: float
    loss_probability: float
    logits: Float64Array
    n_trials: int
    n_blocks: int

    def __post_init__(self) -> None:
        readonly(self.logits)


def pbo_cscv(returns: Float64Array, *, blocks: int = 16) -> Pbo:
    """PBO by combinatorially symmetric cross-validation.

    The days are cut into `blocks` contiguous blocks (sizes differ by one day at most); for each
    choice of half of them the column with the best Sharpe ratio (ddof 1) is looked up in the other
    half. Ties: equal values share their mean rank; equal winners share the mean of their ranks; a
    logit of exactly zero counts as overfitting (the share is of logits <= 0). A flat column has no
    Sharpe ratio: it never wins and ranks last.

    Args:
        returns: (days, trials), full runs only: among survivors noise reads too high.
        blocks: S, even.

    Returns:
        The estimate, NaN with fewer than two trials or two days per block.

    Raises:
        InputError: an odd S, or one below 2, values that are not finite.
    """
    matrix = checked_matrix(returns)
    if blocks < 2 or blocks % 2:
        raise InputError("the number of blocks must be even and at least 2", value=blocks)
    days, trials = matrix.shape
    if trials < 2 or days < 2 * blocks:
        empty = np.empty(0)
        return Pbo(math.nan, math.nan, math.nan, math.nan, empty, trials, blocks)
    centre = matrix.mean(axis=0)
    parts = np.array_split(matrix - centre, blocks)
    counts = np.array([len(part) for part in parts])
    first = np.stack([part.sum(axis=0) for part in parts])
    second = np.stack([(part**2).sum(axis=0) for part in parts])
    logits, losses = _all_splits(counts, first, second, centre)
    pairs = [[b for b in range(blocks) if b // 2 != g] for g in range(blocks // 2)]
    left_out = [
        _share(_all_splits(counts[kept], first[kept], second[kept], centre)[0] <= 0)
        for kept in pairs
        if kept
    ]
    groups = len(left_out)
    error = math.sqrt((groups - 1) * float(np.var(left_out))) if groups > 1 else math.nan
    mean = float(logits.mean()) if len(logits) else math.nan
    return Pbo(_share(logits <= 0), error, mean, _share(losses), logits, trials, blocks)


def _share(hits: BoolArray) -> float:
    return float(np.mean(hits)) if len(hits) else math.nan


def _all_splits(
    counts: Int64Array, first: Float64Array, second: Float64Array, centre: Float64Array
) -> tuple[Float64Array, BoolArray]:
    """Logit and loss of each split; a split in which no column has a Sharpe ratio is left out."""
    blocks = len(counts)
    halves = itertools.combinations(range(blocks), blocks // 2)
    logits, losses = [np.empty(0)], [np.empty(0, dtype=np.bool_)]
    while chosen := list(itertools.islice(halves, _SPLITS_AT_ONCE)):
        inside = np.zeros((len(chosen), blocks), dtype=np.bool_)
        inside[np.arange(len(chosen))[:, None], chosen] = True
        seen = _group_sharpe(inside, counts, first, second, centre)
        unseen = _group_sharpe(~inside, counts, first, second, centre)
        best = seen.max(axis=1)
        valid = np.isfinite(best) & np.isfinite(unseen).any(axis=1)
        seen, unseen, best = seen[valid], unseen[valid], best[valid]
        rank, result = _winner(seen == best[:, None], unseen)
        share = rank / (seen.shape[1] + 1)
        logits.append(np.log(share / (1.0 - share)))
        losses.append(result < 0)
    return np.concatenate(logits), np.concatenate(losses)


def _winner(best: BoolArray, unseen: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Mean rank (1 is worst) and mean Sharpe ratio out of sample of each split's winners."""
    value = unseen[np.arange(len(best)), best.argmax(axis=1)]
    below = np.count_nonzero(unseen < value[:, None], axis=1)
    equal = np.count_nonzero(unseen == value[:, None], axis=1)
    rank = below + (equal + 1) / 2
    for row in np.flatnonzero(np.count_nonzero(best, axis=1) > 1):
        winners = unseen[row, best[row]]
        low = np.count_nonzero(unseen[row] < winners[:, None], axis=1)
        same = np.count_nonzero(unseen[row] == winners[:, None], axis=1)
        rank[row] = np.mean(low + (same + 1) / 2)
        value[row] = np.mean(winners)
    return rank, value


def _group_sharpe(
    inside: BoolArray,
    counts: Int64Array,
    first: Float64Array,
    second: Float64Array,
    centre: Float64Array,
) -> Float64Array:
    """Sharpe ratio of each column over the blocks of each row of `inside`; -inf where flat.

    Sums are added block by block: a matrix product may change its bits with the thread count.
    """
    total = np.zeros((len(inside), first.shape[1]))
    squares = np.zeros_like(total)
    for block in range(len(counts)):
        rows = inside[:, block]
        total[rows] += first[block]
        squares[rows] += second[block]
    n = (inside * counts).sum(axis=1)[:, None]
    variance = (squares - total**2 / n) / (n - 1)
    moving = variance > 1e-13 * squares / n  # below it the variance is rounding
    sharpe = np.full_like(total, -np.inf)
    np.divide(centre + total / n, np.sqrt(np.where(moving, variance, 1.0)), sharpe, where=moving)
    return sharpe
