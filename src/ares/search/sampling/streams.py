"""Points that need no scores: a scrambled Sobol sequence, and plain chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ares.core.errors import ConfigError
from ares.core.identity import seed_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from ares.core.types import Float64Array
    from ares.search.sampling.coordinates import Coordinates, Key

_BATCH: Final = 64
_DRAWS: Final = 4096


class Stream:
    """Feasible points of one sequence, new ones first.

    Args:
        coordinates: Of the space.
        seed: Run seed.
        kind: "sobol" (Owen scrambling) or "random" (independent and even in the unit cube).
    """

    def __init__(
        self, coordinates: Coordinates, seed: int, kind: Literal["sobol", "random"] = "sobol"
    ) -> None:
        self._coordinates = coordinates
        self._kind = kind
        self._seed = seed
        self._engine: Any = None
        self._rows: list[Float64Array] = []
        self.exhausted = False

    def next(self, seen: Callable[[Key], bool]) -> Key:
        """Next feasible point that is not `seen`; a seen one where 4,096 draws found no new one.

        Raises:
            ConfigError: no feasible point was found at all.
        """
        known: Key | None = None
        for _ in range(1 if self.exhausted else _DRAWS):
            key = self._coordinates.from_unit(self._draw())
            if not self._coordinates.feasible(key):
                continue
            if not seen(key):
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
                self._engine = _engine(self._kind, dimensions, self._seed)
            self._rows = list(self._engine.random(_BATCH)[::-1])
        return self._rows.pop()


def _engine(kind: str, dimensions: int, seed: int) -> Any:
    """Something whose `random(n)` gives n rows of the unit cube."""
    rng = np.random.default_rng(seed_for(seed, kind))
    if kind == "sobol":
        from scipy.stats import qmc

        return qmc.Sobol(dimensions, scramble=True, seed=rng)
    return _Chance(rng, dimensions)


class _Chance:
    def __init__(self, rng: np.random.Generator, dimensions: int) -> None:
        self._rng = rng
        self._dimensions = dimensions

    def random(self, count: int) -> Float64Array:
        return self._rng.random((count, self._dimensions))
