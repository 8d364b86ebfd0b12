"""Ensembles: specialists gated by regime probability, and a stacker over all of them.

The stacker is a ridge logistic regression on the log odds of [general, specialists, gated] and on
the regime probabilities, fitted on chained predictions and kept as plain numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from ares.core.errors import DataError
from ares.core.types import readonly
from ares.kernels.rowwise import gate_rows, logistic_rows, logit_rows
from ares.learn.logistic import fit_logistic
from ares.store.codecs import register

if TYPE_CHECKING:
    from ares.core.config import EnsembleConfig
    from ares.core.types import BoolArray, Float64Array, Int8Array, Int64Array

    AnyArray: TypeAlias = Float64Array | Int64Array | Int8Array | BoolArray

EPS: Final = 1e-6
"""Probabilities are kept this far from 0 and 1 before their log odds are taken."""


def gate(predictions: Float64Array, regime_probs: Float64Array) -> Float64Array:
    """Mean of the specialists' probabilities, weighted by the filtered regime probabilities.

    Args:
        predictions: (rows, 1 + regimes) of [general, specialists]; the first column is not used.
        regime_probs: (rows, regimes), not negative.

    Returns:
        (rows,) probability; NaN where a specialist or the regime is undefined. Row by row.

    Raises:
        DataError: shapes that do not fit together.
    """
    predictions, regime_probs = _checked(predictions, regime_probs)
    specialists = np.ascontiguousarray(predictions[:, 1:])
    gated: Float64Array = gate_rows(specialists, regime_probs)
    return gated


@register(schema=1)
@dataclass(frozen=True)
class Stacker:
    """Logistic regression on log odds and regime probabilities, as plain numbers.

    Attributes:
        coefficients: (2 + 2 * regimes,): general, each specialist, gated, each regime probability.
        intercept: Constant term.
    """

    coefficients: Float64Array
    intercept: float

    def predict(self, predictions: Float64Array, regime_probs: Float64Array) -> Float64Array:
        """Stacked probability of each row, alone and in a fixed order of sums.

        Args:
            predictions: (rows, 1 + regimes) of [general, specialists].
            regime_probs: (rows, regimes).

        Returns:
            (rows,); NaN where any input is NaN.

        Raises:
            DataError: shapes that do not fit together.
        """
        rows = _stacked_inputs(predictions, regime_probs)
        if rows.shape[1] != len(self.coefficients):
            raise DataError("a stacker needs its own number of regimes", value=rows.shape)
        p: Float64Array = logistic_rows(rows, self.coefficients, self.intercept)
        return p


@register(schema=1)
@dataclass(frozen=True)
class Ensemble:
    """What combines the models of one track.

    Attributes:
        stacker: None where gating alone is used.
        reason: Why there is no stacker; empty where there is one.
        rows: Chained rows that were available.
    """

    stacker: Stacker | None
    reason: str
    rows: int

    def predict(self, predictions: Float64Array, regime_probs: Float64Array) -> Float64Array:
        """Stacked probability, or the gated one where there is no stacker: (rows,)."""
        if self.stacker is None:
            return gate(predictions, regime_probs)
        return self.stacker.predict(predictions, regime_probs)


def fit_ensemble(
    predictions: Float64Array,
    regime_probs: Float64Array,
    y: AnyArray,
    weight: Float64Array | None,
    config: EnsembleConfig,
) -> Ensemble:
    """Fit the stacker on chained predictions, or fall back to gating and say why.

    Args:
        predictions: (rows, 1 + regimes) chained predictions of [general, specialists].
        regime_probs: (rows, regimes) filtered probabilities of the same rows.
        y: (rows,) labels 0 or 1.
        weight: (rows,) weights in independent observations (average uniqueness); None: ones.
        config: Rows needed and strength of the ridge.

    Returns:
        The ensemble. Rows with NaN do not count.

    Raises:
        DataError: shapes that do not fit together, or labels other than 0 and 1.
    """
    rows = _stacked_inputs(predictions, regime_probs)
    target = np.ascontiguousarray(y, dtype=np.float64)
    mass = np.ones(len(rows)) if weight is None else np.ascontiguousarray(weight, dtype=np.float64)
    if target.shape != (len(rows),) or mass.shape != (len(rows),):
        raise DataError("labels and weights must have one value per row", value=target.shape)
    use = np.isfinite(rows).all(axis=1) & np.isfinite(mass) & (mass > 0) & np.isfinite(target)
    rows, target, mass = rows[use], target[use], mass[use]
    if not np.isin(target, (0.0, 1.0)).all():
        raise DataError("labels of a stacker must be 0 and 1", where="y")
    if len(rows) < config.min_rows:
        return Ensemble(None, f"{len(rows)} chained rows, {config.min_rows} needed", len(rows))
    if target.min() == target.max():
        return Ensemble(None, "the chained rows have one class only", len(rows))
    return Ensemble(_fit(rows, target, mass, config.l2), "", len(rows))


def _fit(rows: Float64Array, target: Float64Array, weight: Float64Array, l2: float) -> Stacker:
    """Fit on standardised inputs, so that the ridge treats them alike; fold the scales back."""
    total = weight.sum()
    mean = (rows * weight[:, None]).sum(axis=0) / total
    scale = np.sqrt((((rows - mean) ** 2) * weight[:, None]).sum(axis=0) / total)
    scale[scale < 1e-9] = np.inf  # a constant input says nothing: coefficient 0
    beta = fit_logistic((rows - mean) / scale, target, weight, l2=l2)
    coefficients = beta[:-1] / scale
    intercept = float(beta[-1])
    for j, coefficient in enumerate(coefficients):
        intercept -= float(coefficient) * float(mean[j])
    readonly(coefficients)
    return Stacker(coefficients, intercept)


def _stacked_inputs(predictions: Float64Array, regime_probs: Float64Array) -> Float64Array:
    predictions, regime_probs = _checked(predictions, regime_probs)
    n, k = predictions.shape
    inputs = np.empty((n, 2 * k))
    for j in range(k):
        inputs[:, j] = logit_rows(np.ascontiguousarray(predictions[:, j]), EPS)
    inputs[:, k] = logit_rows(gate(predictions, regime_probs), EPS)
    inputs[:, k + 1 :] = regime_probs
    return inputs


def _checked(
    predictions: Float64Array, regime_probs: Float64Array
) -> tuple[Float64Array, Float64Array]:
    predictions = np.ascontiguousarray(predictions, dtype=np.float64)
    regime_probs = np.ascontiguousarray(regime_probs, dtype=np.float64)
    fits = predictions.ndim == regime_probs.ndim == 2 and len(predictions) == len(regime_probs)
    if not fits or predictions.shape[1] != regime_probs.shape[1] + 1:
        raise DataError(
            "predictions must be (rows, 1 + regimes), probabilities (rows, regimes)",
            value=(predictions.shape, regime_probs.shape),
        )
    return predictions, regime_probs
