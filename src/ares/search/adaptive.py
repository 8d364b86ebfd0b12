"""AdaptiveSampler: scrambled Sobol points first, then CMA-ES in several promising regions.

The Sobol points show the landscape (and serve the overfitting statistics); then one CatCMA with
Margin (Hamano et al. 2025) per region takes integers, floats and categories as they are. Scores
enter as ranks, so their scale and their -inf do no harm. No trial is spent on a point that was
asked before: the known score is used again and the next Sobol point takes the slot.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ares.core.errors import ConfigError, InputError, ParameterError
from ares.core.identity import fingerprint
from ares.search.coordinates import Coordinates, Key
from ares.search.objective import Score
from ares.search.regions import Region, SobolStream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ares.backtest.space import ParameterSpace

_log = logging.getLogger("ares.search")

Rank: TypeAlias = tuple[int, int, float]
_WORST: Final[Rank] = (0, 0, 0.0)
_POPULATION: Final = 16
_MAX_REGIONS: Final = 4
_TRIES: Final = 50


def rank_of(score: float | Score) -> Rank:
    """What a score sorts by: full values, then stopped points by stage and value, then bad ones."""
    if isinstance(score, Score):
        if score.full:
            return rank_of(score.value)
        revealed = score.revealed if math.isfinite(score.revealed) else -math.inf
        return (1, score.stage or 0, revealed)
    value = float(score)
    return (2, 0, value) if math.isfinite(value) else _WORST


class AdaptiveSampler:
    """Ask/tell sampler; a policy: it chooses what runs and never changes a value.

    Args:
        initial_samples: Sobol points before the first CMA-ES generation.
        space: What to search; otherwise the first `suggest_parameters` sets it.
        seed: Run seed; every stream derives from (seed, generation, index).
        generation: Points of one CMA-ES generation, over all regions.

    Raises:
        ConfigError: a count below 1.
    """

    def __init__(
        self,
        initial_samples: int = 128,
        *,
        space: ParameterSpace | None = None,
        seed: int = 0,
        generation: int = 64,
    ) -> None:
        if initial_samples < 1 or generation < 1:
            raise ConfigError(
                "initial_samples and generation must be at least 1",
                value=(initial_samples, generation),
                where="AdaptiveSampler",
            )
        self.initial_samples = initial_samples
        self.generation_size = generation
        self.seed = seed
        self.fallbacks: list[str] = []
        self._coordinates: Coordinates | None = None
        self._bounds: str | None = None
        self._early: list[tuple[Mapping[str, Any], float | Score]] = []
        self._queue: deque[Key] = deque()
        self._asked: dict[Key, None] = {}
        self._told: dict[Key, Rank] = {}
        self._waiting: dict[Key, None] = {}
        self._regions: list[Region] = []
        self._centres: list[tuple[float, ...]] = []
        self._given = 0
        self._generation = 0
        self._sobol: SobolStream | None = None
        if space is not None:
            self._set_space(space)

    @property
    def exhausted(self) -> bool:
        """Whether new feasible points could no longer be found: asked points may repeat."""
        return self._sobol is not None and self._sobol.exhausted

    def suggest_parameters(self, bounds: Mapping[str, Any]) -> dict[str, Any]:
        """Next point inside `bounds`, which its first call fixes.

        Args:
            bounds: `(int, int)` an integer, `(float, float)` a float, both inclusive;
                `(low, high, "log")`; a list is categorical.

        Raises:
            ParameterError: other bounds than at the first call.
        """
        from ares.backtest.space import ParameterSpace

        digest = fingerprint({str(k): v for k, v in bounds.items()})
        if self._coordinates is None:
            self._set_space(ParameterSpace.from_bounds(dict(bounds)))
            self._bounds = digest
        elif self._bounds is None:
            self._bounds = digest
            if Coordinates(ParameterSpace.from_bounds(dict(bounds))).names != self._space().names:
                raise ParameterError("the bounds must name the parameters of the sampler's space")
        elif digest != self._bounds:
            raise ParameterError(
                "one sampler searches one space: the bounds must stay what they were",
                where="suggest_parameters",
                remedy="Make a new AdaptiveSampler for other bounds.",
            )
        return self.ask(1)[0]

    def update_trial_history(self, params: Mapping[str, Any], score: float | Score) -> None:
        """Tell the score of one point, also of one that was never asked."""
        if self._coordinates is None:
            self._early.append((dict(params), score))
        else:
            self.tell([params], [score])

    def ask(self, n: int) -> list[dict[str, Any]]:
        """The next `n` points; new ones as long as the space has any.

        Raises:
            InputError: no space is known yet.
        """
        coordinates = self._space()
        keys: list[Key] = []
        while len(keys) < n:
            if not self._queue:
                self._refill()
            keys.append(self._queue.popleft())
            self._waiting[keys[-1]] = None
        return [coordinates.point(key) for key in keys]

    def tell(self, points: Sequence[Mapping[str, Any]], scores: Sequence[float | Score]) -> None:
        """Tell scores (floats, -inf or NaN for bad points, or `Score`); the order is irrelevant.

        Raises:
            InputError: as many scores as points are needed.
        """
        coordinates = self._space()
        if len(points) != len(scores):
            raise InputError(
                "tell needs one score per point", value=(len(points), len(scores)), where="tell"
            )
        for point, score in zip(points, scores, strict=True):
            key = coordinates.key(point)
            self._told[key] = rank_of(score)
            self._asked.setdefault(key)
            self._waiting.pop(key, None)

    def _space(self) -> Coordinates:
        if self._coordinates is None:
            raise InputError(
                "the sampler needs a space before it is asked",
                where="AdaptiveSampler",
                remedy="Give `space=`, or call suggest_parameters(bounds) first.",
            )
        return self._coordinates

    def _set_space(self, space: ParameterSpace) -> None:
        self._coordinates = Coordinates(space)
        self._sobol = SobolStream(self._coordinates, self.seed)
        for params, score in self._early:
            self.tell([params], [score])
        self._early.clear()

    def _refill(self) -> None:
        """Queue what comes next: Sobol points, or a generation of all regions."""
        if self._given < self.initial_samples:
            self._given += 1
            self._explore()
        elif self._waiting or self.fallbacks:
            self._explore()
        else:
            try:
                self._ask_regions()
            except (ArithmeticError, AssertionError, ValueError, IndexError, ImportError) as error:
                note = f"sampler failed ({type(error).__name__}: {error}): Sobol points instead"
                _log.warning(note)
                self.fallbacks.append(note)
                self._queue.clear()
                self._explore()

    def _explore(self) -> None:
        assert self._sobol is not None  # noqa: S101  # set together with the space
        key = self._sobol.next(self._asked)
        self._asked[key] = None
        self._queue.append(key)

    def _ask_regions(self) -> None:
        """Finish the last generation and queue the next one."""
        coordinates = self._space()
        if not coordinates.names:
            self._explore()
            return
        alive = [r for r in self._regions if r.tell(self._told, _WORST)]
        wanted = max(1, min(_MAX_REGIONS, self.generation_size // _POPULATION))
        sizes = [
            self.generation_size // wanted + (i < self.generation_size % wanted)
            for i in range(wanted)
        ]
        self._generation += 1
        regions: list[Region] = []
        for index, size in enumerate(sizes):
            kept = next((r for r in alive if r.index == index), None)
            regions.append(kept or self._new_region(index, max(size, 4)))
        self._regions = regions
        for region in regions:
            region.reseed(self.seed, self._generation)
            for _ in range(region.population):
                self._ask_one(region)

    def _ask_one(self, region: Region) -> None:
        key = region.ask(_TRIES)
        if key is None or key in self._asked:
            self._explore()
        else:
            self._asked[key] = None
            self._queue.append(key)

    def _new_region(self, index: int, population: int) -> Region:
        """Start at the best point of the top quartile that is far from earlier starts."""
        coordinates = self._space()
        ranked = sorted(
            ((rank, at, key) for at, (key, rank) in enumerate(self._ordered())),
            key=lambda item: (item[0], -item[1]),
            reverse=True,
        )
        top = [key for rank, _, key in ranked[: max(1, len(ranked) // 4)] if rank > _WORST]
        best = top[0] if top else ranked[0][2]
        reach = 0.25 * math.sqrt(len(coordinates.names))
        places = ((key, coordinates.unit(key)) for key in top)
        far = next(
            (
                key
                for key, unit in places
                if all(math.dist(unit, centre) > reach for centre in self._centres)
            ),
            None,
        )
        centre = best if far is None else far
        if far is not None:
            self._centres.append(coordinates.unit(far))
        sigma = 0.1 if far is None else 0.2
        return Region(coordinates, index, population, centre=centre, sigma=sigma)

    def _ordered(self) -> list[tuple[Key, Rank]]:
        """Told points in the order in which they were asked."""
        return [(key, self._told[key]) for key in self._asked if key in self._told]
