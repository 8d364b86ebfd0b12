"""The two streams of points behind `AdaptiveSampler`: Sobol, and CMA-ES in one region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import ConfigError
from ares.core.identity import seed_for

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from ares.core.types import Float64Array
    from ares.search.coordinates import Coordinates, Key

_BATCH: Final = 64
_DRAWS: Final = 4096


class SobolStream:
    """Feasible points of one scrambled Sobol sequence (Owen scrambling), new ones first."""

    def __init__(self, coordinates: Coordinates, seed: int) -> None:
        self._coordinates = coordinates
        self._seed = seed
        self._engine: Any = None
        self._rows: list[Float64Array] = []
        self.exhausted = False

    def next(self, seen: Container[Key]) -> Key:
        """Next feasible point outside `seen`; a known one where 4,096 draws found no new one.

        Raises:
            ConfigError: no feasible point was found at all.
        """
        known: Key | None = None
        for _ in range(1 if self.exhausted else _DRAWS):
            key = self._coordinates.from_unit(self._draw())
            if not self._coordinates.feasible(key):
                continue
            if key not in seen:
                return key
            known = key
        self.exhausted = True
        for _ in range(_DRAWS if known is None else 0):
            key = self._coordinates.from_unit(self._draw())
            if self._coordinates.feasible(key):
                return key
        if known is None:
            raise ConfigError(
                "the search range must hold points that meet the constraints",
                where="space",
                remedy="Widen the bounds.",
            )
        return known

    def _draw(self) -> Float64Array:
        dimensions = len(self._coordinates.names)
        if dimensions == 0:
            return np.empty(0)
        if not self._rows:
            if self._engine is None:
                from scipy.stats import qmc

                rng = np.random.default_rng(seed_for(self._seed, "sobol"))
                self._engine = qmc.Sobol(dimensions, scramble=True, seed=rng)
            self._rows = list(self._engine.random(_BATCH)[::-1])
        return self._rows.pop()


class Region:
    """One CatCMA with Margin around a centre of the unit cube.

    Floats and integers of more than 32 values are continuous, shorter integers are discretised
    with margin, categories and integers of two values are categorical.
    """

    def __init__(
        self, coordinates: Coordinates, index: int, population: int, *, centre: Key, sigma: float
    ) -> None:
        from cmaes import CatCMAwM

        self.index = index
        self.population = population
        self._coordinates = coordinates
        self._solutions: list[tuple[Any, Key | None]] = []
        groups = coordinates.groups
        unit = np.asarray(coordinates.unit(centre))
        order = [*groups.continuous, *groups.discrete]
        options: dict[str, Any] = {"population_size": population, "seed": 0}
        if order:
            options |= {"mean": unit[order], "cov": np.eye(len(order)), "sigma": sigma}
        if groups.continuous:
            options["x_space"] = [[0.0, 1.0]] * len(groups.continuous)
        if groups.discrete:
            options["z_space"] = [coordinates.levels(d) for d in groups.discrete]
        if groups.categorical:
            sizes = [coordinates.size(d) for d in groups.categorical]
            levels = [coordinates.level(d, centre) for d in groups.categorical]
            options |= {"c_space": sizes, "cat_param": _leaning(levels, sizes)}
        self._cma = CatCMAwM(**options)

    def reseed(self, seed: int, generation: int) -> None:
        """Draw this generation from its own stream."""
        self._solutions = []
        name = f"cma generation {generation} region {self.index}"
        self._cma.reseed_rng(seed_for(seed, name) % 2**32)

    def ask(self, tries: int) -> Key | None:
        """One more solution as a point; None where `tries` draws were all infeasible."""
        for _ in range(tries):
            solution = self._cma.ask()
            key = self._key(solution)
            if self._coordinates.feasible(key):
                self._solutions.append((solution, key))
                return key
        self._solutions.append((solution, None))
        return None

    def tell(
        self, told: Mapping[Key, tuple[int, int, float]], worst: tuple[int, int, float]
    ) -> bool:
        """Learn from the finished generation; False where this region is done."""
        ranks = [worst if key is None else told.get(key, worst) for _, key in self._solutions]
        points = {key for _, key in self._solutions}
        if len(set(ranks)) < 2 or len(points) < max(2, self.population // 4):
            return False
        order = sorted(range(len(ranks)), key=lambda i: (ranks[i], -i), reverse=True)
        place = {i: float(at) for at, i in enumerate(order)}
        with np.errstate(all="ignore"):
            self._cma.tell([(s, place[i]) for i, (s, _) in enumerate(self._solutions)])
            probe = self._cma.ask()
        parts = [p for p in (probe.x, probe.z, probe._v_raw) if p is not None]  # noqa: SLF001
        return all(bool(np.isfinite(p).all()) for p in parts)

    def _key(self, solution: Any) -> Key:
        groups = self._coordinates.groups
        unit = np.zeros(len(self._coordinates.names))
        if groups.continuous:
            unit[list(groups.continuous)] = solution.x
        if groups.discrete:
            unit[list(groups.discrete)] = solution.z
        for row, dimension in enumerate(groups.categorical):
            chosen = int(np.argmax(solution.c[row]))
            unit[dimension] = (chosen + 0.5) / self._coordinates.size(dimension)
        return self._coordinates.from_unit(unit)


def _leaning(levels: list[int], sizes: list[int]) -> Float64Array:
    """Category probabilities: even, with half of the weight moved to the centre's category."""
    probabilities = np.zeros((len(sizes), max(sizes)))
    for row, (level, size) in enumerate(zip(levels, sizes, strict=True)):
        probabilities[row, :size] = 0.5 / size
        probabilities[row, level] += 0.5
    return probabilities
