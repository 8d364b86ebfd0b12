"""Which parameters decided the score: permutation importance of a random forest.

A forest (Breiman 2001) learns the *rank* of the score from the parameters; the importance of a
parameter is by how much the forest's R2 on points it has not seen falls when that parameter's
values are shuffled among them, averaged over repeats and folds. Ranks make it robust: points
without a score share the last rank, and a few terrible scores do not drown the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.backtest.space import Categorical

if TYPE_CHECKING:
    import pandas as pd

    from ares.backtest.space import ParameterSpace
    from ares.core.types import Float64Array

_FOLDS: Final = 5
_TREES: Final = 40
_REPEATS: Final = 3
_LEAST: Final = 25
_MOST: Final = 2000


@dataclass(frozen=True)
class Importance:
    """What the forest found.

    Attributes:
        names: Parameters, the most important first.
        shares: Loss of R2 on unseen points when a parameter is shuffled; noise may be negative.
        r2: R2 on unseen points: how much of the ranks the parameters explain at all.
        points: Points that the forest learned from.
    """

    names: tuple[str, ...]
    shares: tuple[float, ...]
    r2: float
    points: int


def parameter_importance(trials: pd.DataFrame, space: ParameterSpace) -> Importance | None:
    """Importance of the searched parameters over the points that were run in full.

    Points stopped early are left out, as their scores say less; those of them that were run to
    the end as an audit count. With more than 2000 points an even selection is taken. Every random
    choice has a fixed seed, so that equal trials have equal answers.

    Args:
        trials: As `SearchResult.trials`.
        space: What was searched.

    Returns:
        None with fewer than two searched parameters, fewer than 25 points, or equal scores.
    """
    names = [name for name in space.parameters if _varies(trials, name)]
    value = trials["value"].to_numpy(np.float64)
    audit = trials["audit"].to_numpy(np.float64)
    audited = (trials["stage"].to_numpy(np.int64) > 0) & ~np.isnan(audit)
    value = np.where(audited, audit, value)
    chosen = np.flatnonzero((trials["stage"].to_numpy(np.int64) == 0) | audited)
    if len(chosen) > _MOST:
        chosen = chosen[np.linspace(0, len(chosen) - 1, _MOST).astype(np.int64)]
    ranks = _ranks(value[chosen])
    if len(names) < 2 or len(chosen) < _LEAST or np.ptp(ranks) == 0:
        return None
    table = np.column_stack([_coordinate(trials, name, space)[chosen] for name in names])
    shares, r2 = _forest(table, ranks)
    order = sorted(range(len(names)), key=lambda i: (-shares[i], names[i]))
    return Importance(
        tuple(names[i] for i in order), tuple(float(shares[i]) for i in order), r2, len(chosen)
    )


def _forest(table: Float64Array, ranks: Float64Array) -> tuple[Float64Array, float]:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    losses, fits = [], []
    for fold, (seen, unseen) in enumerate(KFold(_FOLDS, shuffle=True, random_state=0).split(table)):
        forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=fold, n_jobs=1)
        forest.fit(table[seen], ranks[seen])
        found = permutation_importance(
            forest, table[unseen], ranks[unseen], n_repeats=_REPEATS, random_state=fold
        )
        losses.append(found.importances_mean)
        fits.append(float(forest.score(table[unseen], ranks[unseen])))
    return np.mean(losses, axis=0), float(np.mean(fits))


def _varies(trials: pd.DataFrame, name: str) -> bool:
    return f"param_{name}" in trials and len(set(trials[f"param_{name}"].astype(str))) > 1


def _coordinate(trials: pd.DataFrame, name: str, space: ParameterSpace) -> Float64Array:
    """Numbers as they are (trees do not mind the scale), choices as their place in the list."""
    column = trials[f"param_{name}"]
    known = space.parameters[name]
    if isinstance(known, Categorical):
        places = {str(choice): float(i) for i, choice in enumerate(known.choices)}
        return np.array([places[str(value)] for value in column])
    return column.to_numpy(np.float64)


def _ranks(value: Float64Array) -> Float64Array:
    """Mean ranks scaled to 0 to 1; what is not finite shares the lowest."""
    from scipy.stats import rankdata

    filled = np.where(np.isfinite(value), value, -np.inf)
    ranks = np.asarray(rankdata(filled), dtype=np.float64)
    return ranks / len(ranks)
