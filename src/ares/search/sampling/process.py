"""A Gaussian process over points of a space: its metric, its hyperparameters, its choices.

The squared distance weighs each parameter by itself and, besides, all numbers together in the
metric of the best points (the inverse of their covariance, as CMA-ES learns it), so that valleys
that run across the axes are seen. The weights and the noise climb their posterior.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.kernels import gaussian

if TYPE_CHECKING:
    from ares.core.types import Float64Array, Int64Array
    from ares.search.sampling.coordinates import Coordinates

_SHRINKAGE: Final = 0.1  # of the covariance towards its diagonal
_FLOOR: Final = 3.0  # worths below the median by more than so many (best - median) are one
_EVALUATIONS: Final = 24  # of the likelihood in one fit
_GROWTH: Final = 1.2  # the next fit comes when there are so many times more points, or, ...
_MANY: Final = 512
_SLOWER: Final = 2.0  # ... from `_MANY` points on, so many times
_NUGGET: Final = 1e-6
# Priors of the logarithms: mean and deviation.
_WEIGHT: Final = (math.log(10.0), 2.0)
_METRIC: Final = (math.log(0.05), 2.0)
_NOISE: Final = (math.log(0.02), 1.5)


class Process:
    """Sees some points and their worths, then judges others.

    Args:
        coordinates: Of the space.
    """

    def __init__(self, coordinates: Coordinates) -> None:
        self._coordinates = coordinates
        self._numbers = np.flatnonzero(~coordinates.categorical)
        count = len(coordinates.names)
        prior = np.array([_WEIGHT] * count + [_METRIC, _NOISE])
        self._middle, self._spread = prior.T.copy()
        self._logs = self._middle.copy()
        self._owners = np.concatenate([coordinates.owners, np.full(len(self._numbers), count)])
        self._turn = 0
        self._next_fit = 0.0
        self.root = np.empty((0, 0))

    @property
    def lengths(self) -> Float64Array:
        """Over what distance each number matters, float64 (numbers,), relative to one another."""
        lengths: Float64Array = np.exp(-0.5 * self._logs[self._numbers])
        return (
            np.clip(lengths / np.exp(np.log(lengths).mean()), 0.2, 5.0) if len(lengths) else lengths
        )

    def distances(self, units: Float64Array, centre: Float64Array) -> Float64Array:
        """Squared distances to `centre`, by the weights of the parameters alone."""
        features = self._coordinates.features(np.vstack([centre, units]))
        weights = np.exp(self._logs[self._coordinates.owners])
        gaps = features[1:] - features[0]
        found: Float64Array = (gaps * gaps * weights).sum(axis=1)
        return found

    def see(
        self, units: Float64Array, worths: Float64Array, elite: Float64Array, told: int
    ) -> bool:
        """Take the points to learn from; False where their worths say nothing.

        Args:
            units: float64 (n, parameters).
            worths: float64 (n,), -inf for bad ones.
            elite: float64 (m, parameters), best first: their covariance is the common metric.
            told: Points told so far: the hyperparameters are fitted when there are many more.

        Raises:
            ArithmeticError: the process has no numbers.
        """
        targets = targets_of(worths)
        if not targets.any():
            return False
        self.root = root_of(covariance_of(elite[:, self._numbers]))
        self._metric = np.asarray(np.linalg.inv(self.root)) if len(self.root) else self.root
        features = self._features(units)
        if told >= self._next_fit:
            self._fit(features, targets)
            self._next_fit = (_GROWTH if told < _MANY else _SLOWER) * told
        self._x = self._scaled(features, self._logs)
        self._upper, self._white, self._variance = gaussian.condition(
            self._x, targets, self._noise(self._logs)
        )
        if not math.isfinite(self._variance):
            raise ArithmeticError("the likeness of the points is not positive definite")
        return True

    def means(self, units: Float64Array) -> Float64Array:
        """Expected worths, in deviations of those that were seen."""
        scaled = self._scaled(self._features(units), self._logs)
        return gaussian.predict(self._x, self._upper, self._white, scaled)

    def choose(self, units: Float64Array, boldness: Float64Array) -> Int64Array:
        """Rows to try together (`gaussian.choose`)."""
        return gaussian.choose(
            self._x,
            self._upper,
            self._white,
            self._scaled(self._features(units), self._logs),
            variance=self._variance,
            noise=self._noise(self._logs),
            boldness=boldness,
        )

    def _features(self, units: Float64Array) -> Float64Array:
        turned = np.einsum("ij,kj->ik", units[:, self._numbers], self._metric)
        return np.hstack([self._coordinates.features(units), turned])

    def _scaled(self, features: Float64Array, logs: Float64Array) -> Float64Array:
        scaled: Float64Array = np.ascontiguousarray(features * np.exp(0.5 * logs[self._owners]))
        return scaled

    def _noise(self, logs: Float64Array) -> float:
        return math.exp(logs[-1]) + _NUGGET

    def _posterior(
        self, features: Float64Array, targets: Float64Array, logs: Float64Array
    ) -> float:
        value = gaussian.log_likelihood(self._scaled(features, logs), targets, self._noise(logs))
        off = (logs - self._middle) / self._spread
        return value - 0.5 * float((off * off).sum())

    def _fit(self, features: Float64Array, targets: Float64Array) -> None:
        """Climb, one hyperparameter at a time, from where they are."""
        best = self._posterior(features, targets, self._logs)
        tried = 1
        while tried < _EVALUATIONS:
            step = 1.0 if (self._turn // len(self._logs)) % 2 == 0 else 0.6
            for move in (step, -step):
                logs = self._logs.copy()
                logs[self._turn % len(logs)] += move
                value = self._posterior(features, targets, logs)
                tried += 1
                if value > best:
                    best, self._logs = value, logs
                    break
            self._turn += 1


def targets_of(worths: Float64Array) -> Float64Array:
    """Worths as numbers of mean 0 and deviation 1; bad and very low ones alike at the floor.

    All 0 where no worth is finite, or all are equal.
    """
    finite = worths[np.isfinite(worths)]
    if not len(finite):
        return np.zeros(len(worths))
    middle, best = float(np.median(finite)), float(finite.max())
    scale = (best - middle) or 1.0
    found = np.maximum(worths / scale - middle / scale, -_FLOOR)
    found -= found.mean()
    deviation = float(found.std())
    return found / deviation if deviation > 0.0 else np.zeros(len(worths))


def covariance_of(rows: Float64Array) -> Float64Array:
    """Covariance of rows (n, d), the first weighing most (CMA-ES), shrunk towards its diagonal."""
    weights = math.log(len(rows) + 0.5) - np.log(np.arange(1, len(rows) + 1))
    weights /= weights.sum()
    gaps = (rows - np.einsum("i,ij->j", weights, rows)) * np.sqrt(weights)[:, None]
    covariance = np.einsum("ij,ik->jk", gaps, gaps)
    own = np.diag(np.diag(covariance))
    shrunk: Float64Array = (1.0 - _SHRINKAGE) * covariance + _SHRINKAGE * own
    shrunk[np.diag_indices(len(own))] += 1e-10
    return shrunk


def root_of(covariance: Float64Array) -> Float64Array:
    """Lower triangular root L, covariance = LL'."""
    return np.asarray(np.linalg.cholesky(covariance)) if len(covariance) else covariance
