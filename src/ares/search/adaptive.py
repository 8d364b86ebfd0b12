"""AdaptiveSampler: scrambled Sobol points first, then generations that a surrogate proposes.

The Sobol points show the landscape (and serve the overfitting statistics); then a Gaussian process
over what was told chooses each generation (`ares.search.sampling.surrogate`). Bad points are no trouble: they
lie at the floor of what it sees. No trial is spent on a point that was asked before.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import ConfigError, InputError, ParameterError
from ares.core.identity import fingerprint, seed_for
from ares.search.sampling.coordinates import Coordinates, Key
from ares.search.sampling.streams import Stream
from ares.search.sampling.surrogate import Surrogate
from ares.search.sampling.told import Told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ares.backtest.space import ParameterSpace
    from ares.search.objective import Score

_log = logging.getLogger("ares.search")

_SPARE: Final = 8  # proposals more than a generation needs: some may be known, or not feasible
_FIRST: Final = 64  # Sobol points of one generation, where the generations after it are smaller
_SMALL: Final = 512  # points after which generations grow faster: then a process costs too much


class _Parts:
    """What a sampler makes when it learns its space."""

    def __init__(self, space: ParameterSpace, seed: int) -> None:
        self.coordinates = Coordinates(space)
        self.told = Told(self.coordinates)
        self.sobol = Stream(self.coordinates, seed)
        self.surrogate = Surrogate(self.coordinates)


class AdaptiveSampler:
    """Ask/tell sampler; a policy: it chooses what runs and never changes a value.

    Args:
        initial_samples: Sobol points before the first proposed generation.
        space: What to search; otherwise the first `suggest_parameters` sets it.
        seed: Run seed; every stream derives from (seed, generation).
        generation: Points proposed together, at first: fewer learn faster, more keep more workers
            busy. They grow with what is known, so that a long search costs little to steer.

    Raises:
        ConfigError: a count below 1.
    """

    def __init__(
        self,
        initial_samples: int = 128,
        *,
        space: ParameterSpace | None = None,
        seed: int = 0,
        generation: int = 16,
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
        self._parts: _Parts | None = None
        self._bounds: str | None = None
        self._early: list[tuple[Mapping[str, Any], float | Score]] = []
        self._queue: deque[Key] = deque()
        self._given = 0
        self._generation = 0
        if space is not None:
            self._set_space(space)

    @property
    def exhausted(self) -> bool:
        """Whether new feasible points could no longer be found: asked points may repeat."""
        return self._parts is not None and self._parts.sobol.exhausted

    @property
    def batch(self) -> int:
        """As `Sampler.batch`."""
        left = self.initial_samples - self._given
        if left > 0:
            return min(left, max(self.generation_size, _FIRST))
        known = 0 if self._parts is None else self._parts.told.known
        return max(self.generation_size, known // 16, (known - _SMALL) // 3)

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
        if self._parts is None:
            self._set_space(ParameterSpace.from_bounds(dict(bounds)))
            self._bounds = digest
        elif self._bounds is None:
            self._bounds = digest
            names = Coordinates(ParameterSpace.from_bounds(dict(bounds))).names
            if names != self._known().coordinates.names:
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
        if self._parts is None:
            self._early.append((dict(params), score))
        else:
            self.tell([params], [score])

    def ask(self, n: int) -> list[dict[str, Any]]:
        """The next `n` points; new ones as long as the space has any.

        Raises:
            InputError: no space is known yet.
        """
        parts = self._known()
        points = []
        for _ in range(n):
            if not self._queue:
                self._refill(parts)
            points.append(parts.coordinates.point(self._queue.popleft()))
        return points

    def tell(self, points: Sequence[Mapping[str, Any]], scores: Sequence[float | Score]) -> None:
        """Tell scores (floats, -inf or NaN for bad points, or `Score`); the order is irrelevant.

        Raises:
            InputError: as many scores as points are needed.
            ParameterError: a point is not of the space.
        """
        parts = self._known()
        if len(points) != len(scores):
            raise InputError(
                "tell needs one score per point", value=(len(points), len(scores)), where="tell"
            )
        for point, score in zip(points, scores, strict=True):
            parts.told.tell(parts.coordinates.key(point), score)

    def _known(self) -> _Parts:
        if self._parts is None:
            raise InputError(
                "the sampler needs a space before it is asked",
                where="AdaptiveSampler",
                remedy="Give `space=`, or call suggest_parameters(bounds) first.",
            )
        return self._parts

    def _set_space(self, space: ParameterSpace) -> None:
        self._parts = _Parts(space, self.seed)
        for params, score in self._early:
            self.tell([params], [score])
        self._early.clear()

    def _refill(self, parts: _Parts) -> None:
        """Queue what comes next: Sobol points, or a generation of proposals."""
        if self._given < self.initial_samples:
            self._given += 1
            self._explore(parts)
        elif parts.told.waiting or self.fallbacks or not parts.coordinates.names:
            self._explore(parts)
        else:
            try:
                self._propose(parts)
            except (ArithmeticError, ValueError, IndexError, np.linalg.LinAlgError) as error:
                note = f"sampler failed ({type(error).__name__}: {error}): Sobol points instead"
                _log.warning(note)
                self.fallbacks.append(note)
                self._explore(parts)

    def _explore(self, parts: _Parts) -> None:
        self._queue_up(parts, parts.sobol.next(parts.told.knows))

    def _propose(self, parts: _Parts) -> None:
        """Queue a generation: proposals that are new, and Sobol points where these do not reach."""
        parts.told.settle()
        self._generation += 1
        rng = np.random.default_rng(seed_for(self.seed, f"generation {self._generation}"))
        wanted = self.batch
        proposed = parts.surrogate.propose(parts.told, wanted + _SPARE, rng)
        for key in parts.coordinates.keys(proposed):
            if len(self._queue) < wanted and parts.coordinates.feasible(key):
                self._queue_up(parts, key, unless_known=True)
        while len(self._queue) < wanted:
            self._explore(parts)

    def _queue_up(self, parts: _Parts, key: Key, *, unless_known: bool = False) -> None:
        if not (unless_known and parts.told.knows(key)):
            parts.told.ask(key)
            self._queue.append(key)
