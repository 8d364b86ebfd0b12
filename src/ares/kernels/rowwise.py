"""Row-wise kernels of the predict path: each row alone, sums in a fixed order.

A matrix product may add in another order for other numbers of rows, so that a row's result depends
on the rows beside it. Here it never does: `f(rows[:k]) == f(rows)[:k]`, bit for bit. NaN in a row
gives NaN for that row.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numba
import numpy as np
import numpy.typing as npt

_Array: TypeAlias = npt.NDArray[np.float64]

_F1 = numba.types.Array(numba.float64, 1, "C", readonly=True)
_F2 = numba.types.Array(numba.float64, 2, "C", readonly=True)
_OUT = numba.float64[::1]


@numba.njit(_OUT(_F2, _F1, numba.float64), cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def logistic_rows(rows: _Array, coefficients: _Array, intercept: float) -> _Array:
    """Return 1 / (1 + exp(-(intercept + sum of coefficient * value, left to right)))."""
    n, k = rows.shape
    out = np.empty(n)
    for i in range(n):
        z = intercept
        for j in range(k):
            z += coefficients[j] * rows[i, j]
        if z >= 0.0:
            out[i] = 1.0 / (1.0 + math.exp(-z))
        else:  # also NaN
            e = math.exp(z)
            out[i] = e / (1.0 + e)
    return out


@numba.njit(_OUT(_F1, numba.float64), cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def logit_rows(p: _Array, eps: float) -> _Array:
    """Return log(p / (1 - p)) with p clipped to [eps, 1 - eps]."""
    out = np.empty(p.size)
    for i in range(p.size):
        q = p[i]
        if q < eps:
            q = eps
        elif q > 1.0 - eps:
            q = 1.0 - eps
        out[i] = math.log(q / (1.0 - q))
    return out


@numba.njit(_OUT(_F2, _F2), cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def gate_rows(predictions: _Array, probabilities: _Array) -> _Array:
    """Return each row's mean of `predictions` weighted by `probabilities` (0 weight: NaN)."""
    n, k = predictions.shape
    out = np.empty(n)
    for i in range(n):
        total = 0.0
        weight = 0.0
        for j in range(k):
            total += probabilities[i, j] * predictions[i, j]
            weight += probabilities[i, j]
        out[i] = total / weight if weight > 0.0 else np.nan
    return out


@numba.njit(_OUT(_F1, _F1, _F1), cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def interpolate_rows(x: _Array, knots: _Array, values: _Array) -> _Array:
    """Interpolate linearly between rising `knots`, constant beyond the first and last."""
    out = np.empty(x.size)
    last = knots.size - 1
    for i in range(x.size):
        v = x[i]
        if not (v == v):  # noqa: PLR0124, SIM201  # NaN
            out[i] = np.nan
        elif v <= knots[0]:
            out[i] = values[0]
        elif v >= knots[last]:
            out[i] = values[last]
        else:
            low = 0
            high = last
            while high - low > 1:
                middle = (low + high) // 2
                if knots[middle] <= v:
                    low = middle
                else:
                    high = middle
            share = (v - knots[low]) / (knots[high] - knots[low])
            mixed = values[low] + share * (values[high] - values[low])
            out[i] = min(mixed, values[high])  # rounding must not break monotonicity
    return out


@numba.njit(_OUT(_F1, _F1), cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def isotonic_rows(y: _Array, weight: _Array) -> _Array:
    """Weighted least-squares rising fit of `y` by pooling adjacent violators; weights positive."""
    n = y.size
    level = np.empty(n)
    mass = np.empty(n)
    size = np.empty(n, dtype=np.int64)
    blocks = 0
    for i in range(n):
        level[blocks] = y[i]
        mass[blocks] = weight[i]
        size[blocks] = 1
        blocks += 1
        while blocks > 1 and level[blocks - 2] >= level[blocks - 1]:
            a = blocks - 2
            b = blocks - 1
            total = mass[a] + mass[b]
            level[a] = (mass[a] * level[a] + mass[b] * level[b]) / total
            mass[a] = total
            size[a] += size[b]
            blocks -= 1
    out = np.empty(n)
    at = 0
    for block in range(blocks):
        for _ in range(size[block]):
            out[at] = level[block]
            at += 1
    return out


@numba.njit(  # type: ignore[untyped-decorator]
    numba.types.Tuple((numba.float64, _OUT, numba.float64[:, ::1]))(_F2, _F1, _F1, _F1),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def logistic_moments(
    rows: _Array, target: _Array, weight: _Array, coefficients: _Array
) -> tuple[float, _Array, _Array]:
    """Weighted log loss, its gradient and Hessian at `coefficients`, summed over rows in order.

    The last coefficient is the intercept. Targets lie in [0, 1].
    """
    n, k = rows.shape
    loss = 0.0
    gradient = np.zeros(k + 1)
    hessian = np.zeros((k + 1, k + 1))
    for i in range(n):
        z = coefficients[k]
        for j in range(k):
            z += coefficients[j] * rows[i, j]
        small = math.exp(-abs(z))
        p = 1.0 / (1.0 + small) if z >= 0.0 else small / (1.0 + small)
        cost = math.log1p(small) - target[i] * z  # log(1 + exp(z)) without overflow
        if z > 0.0:
            cost += z
        loss += weight[i] * cost
        slope = weight[i] * (p - target[i])
        curve = weight[i] * p * (1.0 - p)
        for a in range(k + 1):
            left = rows[i, a] if a < k else 1.0
            gradient[a] += slope * left
            for b in range(a + 1):
                right = rows[i, b] if b < k else 1.0
                hessian[a, b] += curve * left * right
    for a in range(k + 1):
        for b in range(a):
            hessian[b, a] = hessian[a, b]
    return loss, gradient, hessian
