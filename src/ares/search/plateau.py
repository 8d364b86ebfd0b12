"""The plateau choice: the trial whose neighbourhood is good beats a lone spike.

A neighbourhood is the trial's own cell and the nearest other cells in the unit cube (categories are
one unit apart). A cell is 1/20 of each axis and has one vote, the median of its trials: a search
that has sampled one spike a hundred times does not make a plateau of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import InputError
from ares.search.sampling.coordinates import Coordinates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ares.backtest.space import ParameterSpace
    from ares.core.types import Float64Array, Int64Array

_CELLS: Final = 20
_LEAST: Final = 5
_CANDIDATES: Final = 1000  # best trials that are looked at: a tree of many dimensions is slow
_EQUAL: Final = 1.0 + 1e-9


@dataclass(frozen=True)
class Plateau:
    """What the neighbourhoods say.

    Attributes:
        index: The trial of the best neighbourhood median among those with a value of their own;
            of equal ones the better own value, then the lower index. None: no trial has a value.
        medians: float64 (trials,), neighbourhood median of each of the best 1,000 trials, NaN for
            the others; -inf where most neighbours are bad.
        neighbours: Cells in a neighbourhood, at least; fewer where there are no more.
    """

    index: int | None
    medians: Float64Array
    neighbours: int


def plateau_of(space: ParameterSpace, columns: Mapping[str, Any], values: Any) -> Plateau:
    """Neighbourhood medians of fully evaluated trials, and the plateau choice.

    The neighbourhood has 2 d + 1 cells in d searched parameters (a step either way along each, and
    itself), at least 5, and all cells that are as near as the last of them, up to twice as many.

    Args:
        space: What was searched.
        columns: One sequence per parameter, by name, with a value per trial.
        values: float64 (trials,); -inf and NaN are bad trials, which count as -inf.

    Raises:
        InputError: a value of +inf.
        ParameterError: a parameter is missing, or not of the space.
    """
    own = np.array(values, dtype=np.float64)
    own[np.isnan(own)] = -math.inf
    if np.isposinf(own).any():
        raise InputError("values must be below infinity", where="plateau")
    coordinates = Coordinates(space)
    count = max(2 * len(coordinates.names) + 1, _LEAST)
    if not len(own):
        return Plateau(None, own, count)
    units = coordinates.units_of(columns, len(own))
    places, cells = _cells(coordinates, units)
    votes = _group_medians(own, cells)
    best = np.argsort(-own, kind="stable")[:_CANDIDATES]
    asked, back = np.unique(cells[best], return_inverse=True)
    medians = np.full(len(own), math.nan)
    medians[best] = _around(places, votes, count, asked)[back]
    order = best[np.lexsort((best, -own[best], -medians[best]))]
    alive = order[np.isfinite(own[order])]
    return Plateau(int(alive[0]) if len(alive) else None, medians, count)


def _cells(coordinates: Coordinates, units: Float64Array) -> tuple[Float64Array, Int64Array]:
    """Mean features of each cell that holds trials, and the cell of each trial."""
    features = coordinates.features(units)
    grid = np.minimum(np.floor(features * _CELLS), _CELLS - 1).astype(np.uint8)
    if not features.shape[1]:
        return np.zeros((1, 1)), np.zeros(len(units), dtype=np.int64)
    _, cells = np.unique(grid, axis=0, return_inverse=True)
    cells = cells.reshape(-1).astype(np.int64)
    sizes = np.bincount(cells)
    columns = [np.bincount(cells, weights=column) / sizes for column in features.T]
    return np.column_stack(columns), cells


def _group_medians(values: Float64Array, groups: Int64Array) -> Float64Array:
    """Lower median of each group."""
    order = np.lexsort((values, groups))
    sizes = np.bincount(groups)
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    found: Float64Array = values[order[first + (sizes - 1) // 2]]
    return found


def _around(
    places: Float64Array, votes: Float64Array, count: int, asked: Int64Array
) -> Float64Array:
    """Lower median of the votes in the neighbourhoods of the cells `asked`."""
    from scipy.spatial import KDTree

    near = min(count, len(places))
    reach = min(2 * count, len(places))
    distances, found = KDTree(places).query(places[asked], k=np.arange(1, reach + 1))
    inside = distances <= distances[:, near - 1 : near] * _EQUAL
    ballots = np.where(inside, votes[found], math.inf)
    ballots.sort(axis=1)
    middle = (inside.sum(axis=1) - 1) // 2
    medians: Float64Array = ballots[np.arange(len(asked)), middle]
    return medians
