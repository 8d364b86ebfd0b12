"""Gaussian process regression on a few hundred points, without BLAS.

Rows are points in scaled coordinates; two points at squared distance d are as alike as
(1 + d / 4) ** -2 (rational quadratic, alpha = 2; Rasmussen and Williams 2006, equation 4.19). Loops
of one thread give the same bits whatever number of threads a BLAS would take, and small matrices do
not wait for any. A likeness matrix plus noise that is not positive definite gives NaN.
"""

from __future__ import annotations

import math
from typing import Final

import numba
import numpy as np
import numpy.typing as npt

from ares.kernels.compiling import compiled

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

_F1: Final = numba.types.Array(numba.float64, 1, "C", readonly=True)
_F2: Final = numba.types.Array(numba.float64, 2, "C", readonly=True)
_O1: Final = numba.float64[::1]
_O2: Final = numba.float64[:, ::1]
_SAME: Final = 1.0 - 1e-12  # likeness from which two points are one


def log_likelihood(x: Float64Array, y: Float64Array, noise: float) -> float:
    """Log marginal likelihood of `y`, its scale at its best value, without constants.

    Args:
        x: float64 (n, d), scaled coordinates.
        y: float64 (n,), mean 0.
        noise: Variance of the noise over that of the process.
    """
    return float(_likelihood(x, np.ascontiguousarray(x.T), y, noise))


def condition(
    x: Float64Array, y: Float64Array, noise: float
) -> tuple[Float64Array, Float64Array, float]:
    """What predictions need: the factor, the weights of the points and the variance.

    Returns:
        The upper factor U of the likeness plus noise (n, n), entries below the diagonal are of no
        meaning; U^-T y (n,); and the variance of the process.
    """
    n = len(y)
    upper = np.empty((n, n))
    _alike(x, np.ascontiguousarray(x.T), upper)
    upper[np.diag_indices(n)] += noise
    white = y.reshape(n, 1).copy()
    _factor(upper)
    _forward(upper, white)
    return upper, white[:, 0].copy(), float(white[:, 0] @ white[:, 0]) / n


def predict(
    x: Float64Array, upper: Float64Array, white: Float64Array, points: Float64Array
) -> Float64Array:
    """Posterior means at `points`, float64 (m, d); the other arguments are `condition`'s."""
    weights = white.copy()
    out = np.zeros(len(points))
    _backward(upper, weights)
    _mean(x, weights, np.ascontiguousarray(points.T), out)
    return out


def choose(
    x: Float64Array,
    upper: Float64Array,
    white: Float64Array,
    points: Float64Array,
    *,
    variance: float,
    noise: float,
    boldness: Float64Array,
) -> Int64Array:
    """Rows of `points` to try together, best first.

    Each pick has the greatest mean + boldness * deviation; the deviations shrink as if the picks
    before it had been measured, so that a batch spreads out (GP-BUCB, Desautels et al. 2014). A
    point like a known or a picked one is left out.

    Args:
        x: float64 (n, d), known points.
        upper: Of `condition`.
        white: Of `condition`.
        points: float64 (m, d), candidates.
        variance: Of `condition`.
        noise: As in `condition`.
        boldness: float64 (count,), of each pick.

    Returns:
        int64, at most `count` rows.
    """
    n, m, count = len(x), len(points), len(boldness)
    across = np.empty((n + count, m))
    columns = np.ascontiguousarray(points.T)
    _alike(x, columns, across[:n])
    picked = np.empty(count, dtype=np.int64)
    done = _choose(upper, white, points, columns, across, variance, noise, boldness, picked)
    return picked[:done]


@compiled(numba.void(_F2, _F2, _O2), allocates=False)
def _alike(rows: Float64Array, columns: Float64Array, out: Float64Array) -> None:
    """Likeness of each row (n, d) with each column (d, m)."""
    n, d = rows.shape
    m = columns.shape[1]
    for i in range(n):
        line = out[i]
        for j in range(m):
            line[j] = 0.0
        for e in range(d):
            at = rows[i, e]
            column = columns[e]
            for j in range(m):
                gap = column[j] - at
                line[j] += gap * gap
        for j in range(m):
            near = 1.0 / (1.0 + 0.25 * line[j])
            line[j] = near * near


@compiled(numba.void(_O1, _F2, _F1, numba.int64, numba.int64), allocates=False, inlined=True)
def _subtract(
    line: Float64Array, rows: Float64Array, factors: Float64Array, count: int, first: int
) -> None:
    """From `line` the first `count` rows from column `first` on, each by its factor.

    Four rows at a time: the loop is bound by memory.
    """
    m = len(line)
    k = 0
    while k + 3 < count:
        f0, f1, f2, f3 = factors[k], factors[k + 1], factors[k + 2], factors[k + 3]
        r0, r1 = rows[k, first:], rows[k + 1, first:]
        r2, r3 = rows[k + 2, first:], rows[k + 3, first:]
        for j in range(m):
            line[j] -= f0 * r0[j] + f1 * r1[j] + f2 * r2[j] + f3 * r3[j]
        k += 4
    while k < count:
        factor, row = factors[k], rows[k, first:]
        for j in range(m):
            line[j] -= factor * row[j]
        k += 1


@compiled(numba.void(_O2))
def _factor(a: Float64Array) -> None:
    """Cholesky's factor U, A = U'U, in the place of the upper half of A."""
    n = len(a)
    factors = np.empty(n)
    for i in range(n):
        line = a[i, i:]
        for k in range(i):
            factors[k] = a[k, i]
        _subtract(line, a, factors, i, i)
        root = math.sqrt(line[0]) if line[0] > 0.0 else math.nan
        for j in range(len(line)):
            line[j] /= root


@compiled(numba.void(_F2, _O2))
def _forward(upper: Float64Array, b: Float64Array) -> None:
    """U^-T b in the place of the first n rows of b (n or more, m)."""
    n = len(upper)
    factors = np.empty(n)
    for i in range(n):
        for k in range(i):
            factors[k] = upper[k, i]
        line = b[i]
        _subtract(line, b, factors, i, 0)
        pivot = upper[i, i]
        for j in range(len(line)):
            line[j] /= pivot


@compiled(numba.void(_F2, _O1), allocates=False)
def _backward(upper: Float64Array, b: Float64Array) -> None:
    """U^-1 b in the place of b (n,)."""
    n = len(upper)
    for k in range(n - 1, -1, -1):
        total = b[k]
        for j in range(k + 1, n):
            total -= upper[k, j] * b[j]
        b[k] = total / upper[k, k]


@compiled(numba.void(_F2, _F1, _F2, _O1))
def _mean(x: Float64Array, weights: Float64Array, columns: Float64Array, out: Float64Array) -> None:
    n, d = x.shape
    m = columns.shape[1]
    far = np.empty(m)
    for i in range(n):
        far[:] = 0.0
        for e in range(d):
            at = x[i, e]
            for j in range(m):
                gap = columns[e, j] - at
                far[j] += gap * gap
        weight = weights[i]
        for j in range(m):
            near = 1.0 / (1.0 + 0.25 * far[j])
            out[j] += weight * near * near


@compiled(numba.float64(_F2, _F2, _F1, numba.float64))
def _likelihood(x: Float64Array, columns: Float64Array, y: Float64Array, noise: float) -> float:
    n = len(y)
    a = np.empty((n, n))
    b = np.empty((n, 1))
    _alike(x, columns, a)
    for i in range(n):
        a[i, i] += noise
        b[i, 0] = y[i]
    _factor(a)
    _forward(a, b)
    squares, logs = 0.0, 0.0
    for i in range(n):
        squares += b[i, 0] * b[i, 0]
        logs += math.log(a[i, i])
    return -0.5 * n * math.log(squares / n) - logs


@compiled(
    numba.int64(
        _F2, _F1, _F2, _F2, _O2, numba.float64, numba.float64, _F1, numba.int64[::1]
    )
)  # fmt: skip
def _choose(
    upper: Float64Array,
    white: Float64Array,
    points: Float64Array,
    columns: Float64Array,
    across: Float64Array,
    variance: float,
    noise: float,
    boldness: Float64Array,
    picked: Int64Array,
) -> int:
    n = len(upper)
    m = len(points)
    mean = np.zeros(m)
    left = np.full(m, 1.0)
    free = np.ones(m, dtype=np.bool_)
    alike = np.empty((1, m))
    factors = np.empty(len(across))
    for i in range(n):
        for j in range(m):
            free[j] &= across[i, j] < _SAME
    _forward(upper, across)
    for i in range(n):
        for j in range(m):
            mean[j] += white[i] * across[i, j]
            left[j] -= across[i, j] * across[i, j]
    for pick in range(len(boldness)):
        best, found = -math.inf, -1
        for j in range(m):
            if free[j]:
                value = mean[j] + boldness[pick] * math.sqrt(variance * max(left[j], 0.0))
                if value > best:
                    best, found = value, j
        if found < 0:
            return pick
        picked[pick] = found
        _alike(points[found : found + 1], columns, alike)
        row = n + pick
        for j in range(m):
            free[j] &= alike[0, j] < _SAME
            across[row, j] = alike[0, j]
        line = across[row]
        for i in range(row):
            factors[i] = across[i, found]
        _subtract(line, across, factors, row, 0)
        scale = 1.0 / math.sqrt(max(left[found], 0.0) + noise)
        for j in range(m):
            line[j] *= scale
            left[j] -= line[j] * line[j]
    return len(boldness)
