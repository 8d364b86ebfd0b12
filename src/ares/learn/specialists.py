"""Specialists: one general model, and one model per market regime.

A specialist sees the same rows as the general model, each weighted by the probability of its
regime. Where too little is left to learn from, it is the general model, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ares.core.errors import DataError
from ares.learn.boosting import BoostedTrees, as_matrix
from ares.learn.incremental import IncrementalTrainer
from ares.store.codecs import register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ares.core.config import TrackConfig
    from ares.core.types import BoolArray, Float64Array

_HESSIAN_PER_ROW = 0.1
"""Least curvature of a leaf per row of `min_leaf`; a row of weight 1 at p = 1/2 has 0.25."""
_RIDGE = 1.0
_BINS = 63
"""Features of markets are noise at a finer grain; a quarter of the time is saved."""


@register(schema=1)
@dataclass(frozen=True)
class TreeChoice:
    """Columns and hyperparameters of the models of one fit.

    Attributes:
        features: Names of the columns that are used, in their given order.
        leaves: Leaves of a tree at most.
        min_leaf: Rows in a leaf at least.
        learning_rate: Shrinkage per tree.
        trees: Boosting rounds.
    """

    features: tuple[str, ...]
    leaves: int
    min_leaf: int
    learning_rate: float
    trees: int

    @classmethod
    def default(cls, names: Sequence[str], config: TrackConfig) -> TreeChoice:
        """All columns, and the hyperparameters of the configuration."""
        return cls(tuple(names), config.leaves, config.min_leaf, config.learning_rate, config.trees)

    def parameters(self, seed: int) -> dict[str, Any]:
        """For `IncrementalTrainer.train_incrementally`."""
        return {
            "objective": "binary",
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.min_leaf,
            "min_sum_hessian_in_leaf": _HESSIAN_PER_ROW * self.min_leaf,
            "learning_rate": self.learning_rate,
            "lambda_l2": _RIDGE,
            "max_bin": _BINS,
            "trees": self.trees,
            "seed": seed,
        }


@register(schema=1)
@dataclass(frozen=True)
class Specialists:
    """The models of one track and chunk.

    Attributes:
        names: All columns of the matrix that `predict` takes, in order.
        general: The model of all regimes; None where the rows had one class only (or none were
            given): then `prior` is predicted.
        regimes: One model per regime; None: falls back to the general model.
        prior: Weighted share of label 1 with one success and one failure added.
        effective: Effective sample of [general, each regime]: (sum w)^2 / sum w^2.
        fallbacks: What fell back, and why.
    """

    names: tuple[str, ...]
    general: BoostedTrees | None
    regimes: tuple[BoostedTrees | None, ...]
    prior: float
    effective: tuple[float, ...]
    fallbacks: tuple[str, ...]

    def predict(self, X: Any) -> Float64Array:
        """Probabilities of [general, each regime's specialist].

        Args:
            X: (rows, names) array, or DataFrame with these columns.

        Returns:
            (rows, 1 + regimes). NaN where a feature that the model uses is undefined. Each row
            alone: nothing depends on the rows beside it.

        Raises:
            DataError: other columns than `names`.
        """
        matrix = _columns(X, self.names)
        out = np.empty((len(matrix), 1 + len(self.regimes)))
        out[:, 0] = self._one(self.general, matrix)
        for index, model in enumerate(self.regimes, start=1):
            out[:, index] = out[:, 0] if model is None else self._one(model, matrix)
        return out

    def _one(self, model: BoostedTrees | None, matrix: Float64Array) -> Float64Array:
        if model is None:
            return np.where(np.isfinite(matrix).all(axis=1), self.prior, np.nan)
        return model.predict(matrix[:, positions(self.names, model.feature_names)])


def fit_specialists(
    X: Any,
    y: Any,
    weight: Any,
    regime_probs: Any,
    names: Sequence[str],
    config: TrackConfig,
    seed: int,
    trainer: IncrementalTrainer | None = None,
    *,
    choice: TreeChoice | None = None,
) -> Specialists:
    """Fit the general model and one specialist per regime.

    Args:
        X: (rows, features) matrix of defined features.
        y: (rows,) labels 0 or 1.
        weight: (rows,) weights such as average uniqueness; None: ones.
        regime_probs: (rows, regimes) filtered probabilities; rows with NaN teach only the general
            model.
        names: Names of the columns of `X`, distinct.
        config: Hyperparameters and `min_effective_sample`.
        seed: Seed of the trees.
        trainer: Where models are trained and looked up; None: a fresh one.
        choice: Columns and hyperparameters; None: all columns and the configuration's.

    Raises:
        DataError: shapes that do not fit together, undefined features, labels other than 0 and 1.
    """
    matrix, labels, mass, states = checked_rows(X, y, weight, regime_probs, names)
    choice = choice or TreeChoice.default(names, config)
    trainer = IncrementalTrainer() if trainer is None else trainer
    used = np.ascontiguousarray(matrix[:, positions(names, choice.features)])
    notes: list[str] = []
    effective = [effective_sample(mass)]
    general = None
    if _two_classes(labels, mass > 0):
        general = train(trainer, choice, seed, used, labels, mass)
    else:
        notes.append("general: labels of one class only, the prior is predicted")
    models: list[BoostedTrees | None] = []
    for regime in range(states.shape[1]):
        own = np.where(np.isnan(states[:, regime]), 0.0, states[:, regime]) * mass
        size = effective_sample(own)
        effective.append(size)
        if size < config.min_effective_sample:
            reason = f"effective sample {size:.0f} below {config.min_effective_sample}"
        elif not _two_classes(labels, own > 0):
            reason = "labels of one class only"
        else:
            models.append(train(trainer, choice, seed, used, labels, own))
            continue
        notes.append(f"regime {regime}: {reason}, the general model is used")
        models.append(None)
    prior = (float((mass * labels).sum()) + 1.0) / (float(mass.sum()) + 2.0)
    return Specialists(tuple(names), general, tuple(models), prior, tuple(effective), tuple(notes))


def train(
    trainer: IncrementalTrainer,
    choice: TreeChoice,
    seed: int,
    X: Float64Array,
    y: Float64Array,
    weight: Float64Array,
) -> BoostedTrees:
    """Train on the columns of `choice` and the rows of positive weight, weights scaled to mean 1.

    Rows without weight would still count as rows of a leaf.
    """
    import pandas as pd

    rows = weight > 0
    frame = pd.DataFrame(X[rows], columns=list(choice.features), copy=False)
    scaled = weight[rows] / weight[rows].mean()
    return trainer.train_incrementally(choice.parameters(seed), frame, y[rows], scaled)


def effective_sample(weight: Float64Array) -> float:
    """Kish's effective sample, (sum w)^2 / sum w^2; 0 where all weights are 0."""
    squares = float((weight * weight).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def positions(names: Sequence[str], chosen: Sequence[str]) -> list[int]:
    """Columns of `chosen` among `names`.

    Raises:
        DataError: a chosen name is absent.
    """
    where = {name: index for index, name in enumerate(names)}
    absent = [name for name in chosen if name not in where]
    if absent:
        raise DataError("all features of the model must be given", value=absent[:5])
    return [where[name] for name in chosen]


def checked_rows(
    X: Any, y: Any, weight: Any, regime_probs: Any, names: Sequence[str]
) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
    """Matrix, labels, weights and regime probabilities as float64, checked against each other.

    Raises:
        DataError: shapes that do not fit together, undefined features, labels other than 0 and 1.
    """
    matrix = _columns(X, names)
    n = len(matrix)
    labels = np.asarray(y, dtype=np.float64)
    mass = np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64)
    states = np.asarray(regime_probs, dtype=np.float64)
    if labels.shape != (n,) or mass.shape != (n,) or states.ndim != 2 or len(states) != n:
        shapes = (labels.shape, mass.shape, states.shape)
        raise DataError("labels, weights and regimes must have one row per row", value=shapes)
    if not np.isfinite(matrix).all():
        raise DataError(
            "features must be defined in training", remedy="Leave out rows that still warm up."
        )
    if not np.isin(labels, (0.0, 1.0)).all():
        raise DataError("labels must be 0 and 1", where="y")
    if not np.isfinite(mass).all() or (mass < 0).any():
        raise DataError("must be finite and not negative", where="weight")
    if (states < 0).any():
        raise DataError("must not be negative", where="regime_probs")
    return matrix, labels, mass, states


def _two_classes(labels: Float64Array, rows: BoolArray) -> bool:
    chosen = labels[rows]
    return len(chosen) > 0 and bool(chosen.min() < chosen.max())


def _columns(X: Any, names: Sequence[str]) -> Float64Array:
    if len(set(names)) != len(names):
        raise DataError("feature names must be distinct")
    matrix, given = as_matrix(X)
    if given is not None:
        return np.ascontiguousarray(matrix[:, positions(given, names)])
    if matrix.shape[1] != len(names):
        raise DataError(
            "the matrix must have one column per name", value=matrix.shape[1], where="X"
        )
    return matrix
