"""Enhancement of one fit: which features, which trees, and how many of them.

All choices are made inside the fit's own training rows: their last quarter in time validates, and
rows whose label reaches into it are purged. The default takes part, so the choice is never worse
than the default on the validating part. Then everything is fitted again on all rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import DataError
from ares.core.identity import seed_for
from ares.learn.calibration import log_loss
from ares.learn.incremental import IncrementalTrainer
from ares.learn.specialists import (
    Specialists,
    TreeChoice,
    checked_rows,
    fit_specialists,
    positions,
    train,
)
from ares.store.codecs import register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ares.core.config import TrackConfig
    from ares.core.types import BoolArray, Float64Array

_VALIDATING: Final = 0.25
_STAGES: Final = (0.25, 0.5, 0.75, 1.0)
_MIN_ROWS: Final = 40
_MIN_CLASS: Final = 5


@register(schema=1)
@dataclass(frozen=True)
class Candidate:
    """One candidate with its best number of trees and its log loss on the validating part."""

    choice: TreeChoice
    score: float


@register(schema=1)
@dataclass(frozen=True)
class Enhancement:
    """What was chosen for one fit.

    Attributes:
        choice: Columns and hyperparameters.
        before: Log loss of the default on the validating part (all columns, configured trees).
        after: Log loss of the choice there; never above `before`.
        candidates: All that were tried; the first is the default.
        train_rows: Rows before the validating part, purged.
        validating_rows: Rows that chose.
        reason: Why nothing was tried; empty where it was.
    """

    choice: TreeChoice
    before: float
    after: float
    candidates: tuple[Candidate, ...]
    train_rows: int
    validating_rows: int
    reason: str

    def describe(self) -> str:
        """One line for people."""
        if self.reason:
            return f"default kept: {self.reason}"
        c = self.choice
        return (
            f"{len(c.features)} features, {c.trees} trees of {c.leaves} leaves, at least"
            f" {c.min_leaf} rows in a leaf, learning rate {c.learning_rate:.4g};"
            f" log loss {self.before:.5f} -> {self.after:.5f} on {self.validating_rows} rows"
        )


def enhance_specialists(
    X: Any,
    y: Any,
    weight: Any,
    regime_probs: Any,
    names: Sequence[str],
    config: TrackConfig,
    seed: int,
    trainer: IncrementalTrainer | None = None,
    *,
    t0: Any,
    t1: Any,
) -> tuple[Specialists, Enhancement]:
    """Choose by `enhance`, then fit general model and specialists on all rows.

    Args and errors are those of `fit_specialists` and `enhance`.
    """
    trainer = IncrementalTrainer() if trainer is None else trainer
    enhancement = enhance(X, y, weight, names, config, seed, trainer, t0=t0, t1=t1)
    specialists = fit_specialists(
        X, y, weight, regime_probs, names, config, seed, trainer, choice=enhancement.choice
    )
    return specialists, enhancement


def enhance(
    X: Any,
    y: Any,
    weight: Any,
    names: Sequence[str],
    config: TrackConfig,
    seed: int,
    trainer: IncrementalTrainer | None = None,
    *,
    t0: Any,
    t1: Any,
) -> Enhancement:
    """Choose features and hyperparameters of one fit on a later part of its own rows.

    Features are ranked by the gain that the default model finds in them on the earlier rows; the
    best `config.features` are kept. `config.candidates` candidates (the configured hyperparameters,
    then a seeded Sobol sequence around them) are grown to 25, 50, 75 and 100 % of `config.trees`.

    Args:
        X: (rows, features) matrix of defined features, rows in time order.
        y: (rows,) labels 0 or 1.
        weight: (rows,) weights; None: ones.
        names: Names of the columns.
        config: The default hyperparameters and the size of the search.
        seed: Seed of the Sobol sequence and of the trees.
        trainer: Where models are grown; None: a fresh one.
        t0: (rows,) when the decision of a row is made, not falling.
        t1: (rows,) when its label is known, same unit, not before `t0`.

    Raises:
        DataError: shapes that do not fit together, rows out of order, undefined features, labels
            other than 0 and 1.
    """
    none = np.zeros((len(np.asarray(y)), 0))
    matrix, labels, mass, _ = checked_rows(X, y, weight, none, names)
    early, late = _cut(np.asarray(t0), np.asarray(t1), mass)
    default = TreeChoice.default(names, config)
    reason = _too_small(labels, early, late)
    if reason:
        nan = float("nan")
        counts = int(early.sum()), int(late.sum())
        return Enhancement(default, nan, nan, (), *counts, reason)
    scorer = _Scorer(
        IncrementalTrainer() if trainer is None else trainer,
        seed, tuple(names), matrix, labels, mass, early, late,
    )  # fmt: skip
    tried = _try_all(scorer, default, config)
    best = min(tried, key=lambda candidate: candidate.score)  # the first of equals
    counts = int(early.sum()), int(late.sum())
    return Enhancement(best.choice, tried[0].score, best.score, tuple(tried), *counts, "")


@dataclass(frozen=True)
class _Scorer:
    """Trains on the early rows and scores on the late ones."""

    trainer: IncrementalTrainer
    seed: int
    names: tuple[str, ...]
    X: Float64Array
    y: Float64Array
    weight: Float64Array
    early: BoolArray
    late: BoolArray

    def loss(self, choice: TreeChoice) -> float:
        columns = positions(self.names, choice.features)
        model = self._train(choice)
        p = model.predict(self.X[self.late][:, columns])
        return log_loss(p, self.y[self.late], self.weight[self.late])

    def best_stage(self, choice: TreeChoice) -> Candidate:
        """Grow the trees in stages; the number with the least loss."""
        counts = sorted({max(1, math.ceil(stage * choice.trees)) for stage in _STAGES})
        stages = [replace(choice, trees=count) for count in counts]
        return min((Candidate(s, self.loss(s)) for s in stages), key=lambda item: item.score)

    def select(self, choice: TreeChoice, count: int) -> tuple[str, ...]:
        """The `count` features with the largest positive gain, in their given order."""
        gains = self._train(choice).importance()
        ranked = np.argsort(-gains, kind="stable")[:count]
        useful = sorted(int(index) for index in ranked if gains[index] > 0)
        return tuple(self.names[index] for index in useful) or self.names

    def _train(self, choice: TreeChoice) -> Any:
        columns = positions(self.names, choice.features)
        rows = self.early
        return train(
            self.trainer,
            choice,
            self.seed,
            self.X[rows][:, columns],
            self.y[rows],
            self.weight[rows],
        )


def _try_all(scorer: _Scorer, default: TreeChoice, config: TrackConfig) -> list[Candidate]:
    """The default on all columns, then every candidate on the selected ones."""
    base = replace(default, features=scorer.select(default, config.features))
    choices = _candidates(base, config, scorer.seed)
    return [
        Candidate(default, scorer.loss(default)),
        *(scorer.best_stage(choice) for choice in choices),
    ]


def _cut(t0: Any, t1: Any, weight: Float64Array) -> tuple[BoolArray, BoolArray]:
    """Rows before the validating quarter whose labels end before it, and the rows of it."""
    if t0.shape != weight.shape or t1.shape != weight.shape:
        raise DataError("times must have one value per row", value=(t0.shape, t1.shape))
    if (np.diff(t0) < 0).any() or (t1 < t0).any():
        raise DataError("rows must be in time order, and labels end after they start", where="t0")
    if not len(t0):
        return np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.bool_)
    border = t0[int(len(t0) * (1.0 - _VALIDATING))]
    return (t1 < border) & (weight > 0), (t0 >= border) & (weight > 0)


def _too_small(y: Float64Array, early: BoolArray, late: BoolArray) -> str:
    for name, rows in (("training", early), ("validating", late)):
        ones, count = int(y[rows].sum()), int(rows.sum())
        if count < _MIN_ROWS or min(ones, count - ones) < _MIN_CLASS:
            return f"{count} rows of the {name} part, {ones} of them 1, are too few to choose on"
    return ""


def _candidates(base: TreeChoice, config: TrackConfig, seed: int) -> list[TreeChoice]:
    """The base, then points of a scrambled Sobol sequence around the configured values."""
    count = config.candidates - 1
    if count == 0:
        return [base]
    from scipy.stats import qmc

    generator = np.random.default_rng(seed_for(seed, "enhancement"))
    sequence = qmc.Sobol(3, scramble=True, seed=generator)
    points = sequence.random_base2(max(1, math.ceil(math.log2(count))))[:count]
    return [base, *(_at(point, base) for point in points)]


def _at(point: Float64Array, base: TreeChoice) -> TreeChoice:
    def between(u: float, low: float, high: float) -> float:
        return low * math.pow(high / low, u)

    return replace(
        base,
        leaves=round(between(point[0], max(2, base.leaves / 4), max(3, base.leaves * 2))),
        min_leaf=max(1, round(between(point[1], base.min_leaf / 2, base.min_leaf * 4))),
        learning_rate=min(1.0, between(point[2], base.learning_rate / 3, base.learning_rate * 2)),
    )
