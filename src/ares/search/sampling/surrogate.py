"""Where to look next: two Gaussian processes over the told points propose a generation.

The wide one sees the best points and an even sample of the rest; the near one only what lies around
the best point, where it can follow a landscape that is rough from afar (trust regions, Eriksson et
al. 2019). Each proposes half. Candidates spread from the best points along their covariance and
along single parameters, in rounds: the next round starts where the mean is best. The choice is by
upper confidence bounds of growing and falling boldness, each pick as if those before it were known
(GP-BUCB, Desautels et al. 2014).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ares.search.sampling.process import Process, covariance_of, root_of

if TYPE_CHECKING:
    from ares.core.types import Float64Array
    from ares.search.sampling.coordinates import Coordinates
    from ares.search.sampling.told import Told

_BEST: Final = 96  # told points the wide process sees: the best, and ...
_OTHERS: Final = 32  # ... evenly ranked ones of the others
_NEAR: Final = 40  # told points the near process sees
_REACH: Final = 4096  # best points among which it looks for them
_NEAR_SHARE: Final = 0.5
_CHOSEN: Final = 64  # points of one generation that are chosen with care; more are only drawn
_PARENTS: Final = 16
_ROUNDS: Final = 4
_ROUND: Final = 100  # candidates of one round
_POOL: Final = 256
_ELITE: Final = 0.12  # share of the told points whose covariance is taken
_MOST_ELITE: Final = 256
_TIMID: Final = 0.1
_BOLD: Final = 2.0
_GOLDEN: Final = 0.618034


class Surrogate:
    """Proposes points of a space from what was told; a function of it, the seed and its own past.

    Args:
        coordinates: Of the space.
    """

    def __init__(self, coordinates: Coordinates) -> None:
        self._coordinates = coordinates
        self._numbers = np.flatnonzero(~coordinates.categorical)
        self._wide = Process(coordinates)
        self._near = Process(coordinates)

    def propose(self, told: Told, count: int, rng: np.random.Generator) -> Float64Array:
        """Units of up to `count` points to try together.

        The points meet the constraints as far as float64 can tell, and are none of those that the
        processes saw. None where the scores say nothing: all alike, or all bad.

        Raises:
            ArithmeticError: a process has no numbers.
        """
        least = 2 * len(self._coordinates.names)
        chosen = min(count, _CHOSEN)
        units, worths = told.spread(_BEST, _OTHERS)
        elite, _ = told.best(max(least, min(int(_ELITE * len(told)), _MOST_ELITE)))
        if not self._wide.see(units, worths, elite, len(told)):
            return np.empty((0, units.shape[1]))
        near = int(_NEAR_SHARE * chosen)
        found = [self._chosen(self._wide, units, chosen - near, rng)]
        units, worths = told.best(_REACH)
        closest = np.argsort(self._wide.distances(units, units[0]), kind="stable")[:_NEAR]
        units, worths = units[np.sort(closest)], worths[np.sort(closest)]
        if self._near.see(units, worths, units[: max(least, len(units) // 4)], len(told)):
            found.append(self._chosen(self._near, units, near, rng))
        both = np.concatenate(found)
        both = both[rng.permutation(len(both))]
        return np.concatenate([both, self._drawn(told, count - chosen, rng)])

    def _chosen(
        self, process: Process, seen: Float64Array, count: int, rng: np.random.Generator
    ) -> Float64Array:
        pool = self._pool(process, seen, rng)
        turns = np.mod(np.arange(count) * _GOLDEN, 1.0)
        return pool[process.choose(pool, _TIMID + (_BOLD - _TIMID) * turns)]

    def _drawn(self, told: Told, count: int, rng: np.random.Generator) -> Float64Array:
        """Points around the best ones, for what a generation has beyond those that are chosen."""
        parents, _ = told.best(_PARENTS)
        root, lengths = self._wide.root, self._wide.lengths
        return self._children(parents, root, lengths, rng, count)

    def _pool(self, process: Process, seen: Float64Array, rng: np.random.Generator) -> Float64Array:
        """Candidates: the best half by mean, some others, and a few from anywhere."""
        parents = known = seen[:_PARENTS]
        known_means = process.means(known)
        root = process.root
        units, means = np.empty((0, seen.shape[1])), np.empty(0)
        for _ in range(_ROUNDS):
            children = self._children(parents, root, process.lengths, rng, _ROUND)
            units = np.concatenate([units, children])
            means = np.concatenate([means, process.means(children)])
            top = np.argsort(-means, kind="stable")[: 2 * _PARENTS]
            order = np.argsort(-np.concatenate([means[top], known_means]), kind="stable")
            parents = np.concatenate([units[top], known])[order]
            root = root_of(covariance_of(parents[:, self._numbers]))
        order = np.argsort(-means, kind="stable")
        cut = _POOL * 5 // 8
        others = rng.permutation(order[cut:])[: _POOL - cut]
        anywhere = self._feasible(rng.random((_ROUND // 8, seen.shape[1])))
        return np.concatenate([units[order[:cut]], units[others], anywhere])

    def _children(
        self,
        parents: Float64Array,
        root: Float64Array,
        lengths: Float64Array,
        rng: np.random.Generator,
        size: int,
    ) -> Float64Array:
        """Points around the parents: along the covariance, or along a few parameters each."""
        count, numbers = parents.shape[1], self._numbers
        base = parents[(len(parents) * rng.random(size) ** 2).astype(np.int64)]
        together = rng.random(size) < 0.5
        far = 1.5 * 10.0 ** (-1.5 * rng.random((size, 1)))
        along = far * np.einsum("ij,kj->ik", rng.normal(size=(size, len(numbers))), root)
        close = 0.3 * 10.0 ** (-2.0 * rng.random((size, 1)))
        moved = rng.random((size, len(numbers))) < max(0.4, min(1.0, 3.0 / count))
        single = close * lengths * moved * rng.normal(size=(size, len(numbers)))
        children = base.copy()
        children[:, numbers] += np.where(together[:, None], along, single)
        for index in np.flatnonzero(self._coordinates.categorical):
            changed = rng.random(size) < np.where(together, 0.1, 0.25)
            children[:, index] = np.where(changed, rng.random(size), base[:, index])
        return self._feasible(children)

    def _feasible(self, units: Float64Array) -> Float64Array:
        snapped = self._coordinates.snap(units)
        return snapped[self._coordinates.seem_feasible(snapped)]
