"""Ridge logistic regression by Newton's method, summed over rows in a fixed order.

The sums come from a kernel, not from BLAS: a fit does not depend on the number of its threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ares.core.errors import AresError
from ares.kernels.rowwise import logistic_moments

if TYPE_CHECKING:
    from ares.core.types import Float64Array

_STEPS: Final = 200
_HALVINGS: Final = 40
_TOLERANCE: Final = 1e-10


def fit_logistic(
    rows: Float64Array, target: Float64Array, weight: Float64Array, *, l2: float
) -> Float64Array:
    """Minimise sum of weight * log loss + l2/2 * |coefficients|^2; the intercept is free.

    Args:
        rows: (rows, k) inputs, finite.
        target: (rows,) values in [0, 1]; not only classes, so that smoothed targets fit.
        weight: (rows,) positive weights.
        l2: Strength of the ridge; 0 is allowed where the data bound the solution.

    Returns:
        (k + 1,) coefficients, the last one is the intercept.

    Raises:
        AresError: no finite minimum (separable data without a ridge).
    """
    rows = np.ascontiguousarray(rows, dtype=np.float64)
    ridge = np.full(rows.shape[1] + 1, float(l2))
    ridge[-1] = 0.0
    beta = np.zeros(len(ridge))
    loss, gradient, hessian = _penalised(rows, target, weight, beta, ridge)
    scale = max(1.0, float(weight.sum()))
    for _ in range(_STEPS):
        if np.abs(gradient).max() <= _TOLERANCE * scale:
            return beta
        step = np.linalg.solve(hessian + 1e-12 * scale * np.eye(len(beta)), gradient)
        for halving in range(_HALVINGS):
            trial = beta - step * 0.5**halving
            new = _penalised(rows, target, weight, trial, ridge)
            if new[0] < loss:
                break
        else:
            return beta  # no descent left within floating point
        beta, (loss, gradient, hessian) = trial, new
    raise AresError("a logistic regression must converge", value=float(np.abs(gradient).max()))


def _penalised(
    rows: Float64Array,
    target: Float64Array,
    weight: Float64Array,
    beta: Float64Array,
    ridge: Float64Array,
) -> tuple[float, Float64Array, Float64Array]:
    loss, gradient, hessian = logistic_moments(rows, target, weight, beta)
    penalty = 0.5 * float((ridge * beta * beta).sum())
    return loss + penalty, gradient + ridge * beta, hessian + np.diag(ridge)
