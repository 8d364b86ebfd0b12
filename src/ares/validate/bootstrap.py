"""The stationary bootstrap (Politis and Romano 1994) of daily returns, and a paired test on it.

Blocks of geometric length keep autocorrelation and volatility clustering; the index generator is
seeded and gives the same paths on every machine, in chunks that bound its memory.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ares.core.types import Float64Array, Int64Array

_CHUNK_VALUES: Final = 1 << 19


def checked_returns(values: Any, name: str, *, length: int | None = None) -> Float64Array:
    """One finite float64 vector, of `length` values where that is given.

    Raises:
        InputError: another rank or length, or a value that is not finite.
    """
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise InputError("returns must be one vector", value=array.shape, where=name)
    if length is not None and len(array) != length:
        raise InputError(
            "paired returns must cover the same days",
            value=(len(array), length),
            where=name,
            remedy="Align both series by date first.",
        )
    if not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array)))
        raise InputError("returns must be finite", value=float(array[row]), where=f"{name}[{row}]")
    return array


def checked_matrix(values: Any) -> Float64Array:
    """A finite float64 matrix of (days, trials).

    Raises:
        InputError: another rank, or a value that is not finite.
    """
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2:
        raise InputError("returns must be a matrix of days and trials", value=matrix.shape)
    if not np.isfinite(matrix).all():
        raise InputError("returns must be finite")
    return matrix


def stationary_chunks(
    n: int, *, mean_block: float, resamples: int, seed: int
) -> Iterator[Int64Array]:
    """Resampled positions, some resamples at a time: each chunk is (rows, n) in [0, n).

    A resample starts anywhere; each next position is its successor (the end wraps to the start)
    or, with probability 1 / `mean_block`, a fresh uniform start. The rows of a chunk depend on `n`
    alone, so the paths are a function of the four arguments.

    Raises:
        InputError: `n` or `resamples` below 1, or `mean_block` below 1.
    """
    if n < 1 or resamples < 1:
        raise InputError("a bootstrap needs data and resamples", value=(n, resamples))
    if not mean_block >= 1:
        raise InputError("a mean block has at least one observation", value=mean_block)
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK_VALUES // n)
    steps = np.arange(n)
    for first in range(0, resamples, rows):
        shape = (min(rows, resamples - first), n)
        starts = generator.integers(n, size=shape)
        fresh = generator.random(shape) * mean_block < 1.0
        fresh[:, 0] = True
        since = np.maximum.accumulate(np.where(fresh, steps, 0), axis=1)
        yield (np.take_along_axis(starts, since, axis=1) + steps - since) % n


def stationary_indices(n: int, *, mean_block: float, resamples: int, seed: int) -> Int64Array:
    """All chunks of `stationary_chunks` as one (resamples, n) array."""
    chunks = stationary_chunks(n, mean_block=mean_block, resamples=resamples, seed=seed)
    return np.concatenate(list(chunks))


def optimal_block(values: Float64Array) -> float:
    """Mean block of the stationary bootstrap by Politis and White (2004, corrected 2009), >= 1.

    1.0 where the rule says less, has too little data (under 10 values) or none to say (constant
    values).
    """
    values = checked_returns(values, "values")
    if len(values) < 10 or values.min() == values.max():
        return 1.0
    from arch.bootstrap import optimal_block_length

    # A scale of one: the squares of tiny returns would underflow.
    scaled = (values - values.mean()) / np.abs(values).max()
    # A part without variance has no correlation: it counts as none, or as a perfect one.
    with np.errstate(divide="ignore", invalid="ignore"):
        block = float(optimal_block_length(scaled)["stationary"].iloc[0])
    return max(1.0, block) if math.isfinite(block) else 1.0


def bootstrap_means(
    values: Float64Array, *, mean_block: float, resamples: int, seed: int
) -> Float64Array:
    """Means of the resampled `values`, one per resample."""
    chunks = stationary_chunks(len(values), mean_block=mean_block, resamples=resamples, seed=seed)
    return np.concatenate([values[rows].mean(axis=1) for rows in chunks])


def paired_bootstrap_p(
    difference: Float64Array, *, mean_block: float, resamples: int, seed: int
) -> float:
    """One-sided p-value of H0 "the mean daily difference is at most zero".

    The difference of two return series of the same days is resampled as one series (which is what
    pairs them), recentred at zero, and p = (1 + resamples with a mean at or above the observed
    one) / (1 + resamples): never zero, and 1 where both series are equal.

    Returns:
        p in (0, 1]; NaN with fewer than two days.

    Raises:
        InputError: values that are not finite, a mean block below 1.
    """
    difference = checked_returns(difference, "difference")
    if len(difference) < 2:
        return math.nan
    observed = float(difference.mean())
    means = bootstrap_means(
        difference - observed, mean_block=mean_block, resamples=resamples, seed=seed
    )
    return (1 + int(np.count_nonzero(means >= observed))) / (1 + resamples)
