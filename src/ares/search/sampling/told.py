"""What a sampler remembers: every point asked or told once, in few bytes, and their order by worth.

A point is a number (0, 1, ... in the order of asking), its packed key, its unit coordinates and its
worth: one float64 that sorts as scores do. A full value is its own worth. A stopped point has no
full value: it lies just below the worst full one of its generation, by stage, then revealed value,
because it was among the worse there. A bad point is worth -inf.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from ares.search.objective import Score

if TYPE_CHECKING:
    from ares.core.types import Float64Array, Int64Array
    from ares.search.sampling.coordinates import Coordinates, Key

Rank: TypeAlias = tuple[int, int, float]
_BAD: Final[Rank] = (0, 0, 0.0)
_STOPPED: Final = 1
_FULL: Final = 2
_BELOW: Final = 0.5  # stopped points span this share of (best - median) below their threshold


def rank_of(score: float | Score) -> Rank:
    """What a score sorts by: full values, then stopped points by stage and value, then bad ones."""
    if isinstance(score, Score):
        if score.full:
            return rank_of(score.value)
        revealed = score.revealed if math.isfinite(score.revealed) else -math.inf
        return (_STOPPED, score.stage or 0, revealed)
    value = float(score)
    return (_FULL, 0, value) if math.isfinite(value) else _BAD


class Told:
    """Points by number, and the told ones in order of their worth."""

    def __init__(self, coordinates: Coordinates) -> None:
        self._coordinates = coordinates
        self._numbers: dict[bytes | Key, int] = {}
        self._units = np.empty((64, len(coordinates.names)))
        self._worth = np.full(64, np.nan)
        self._order = np.empty(0, dtype=np.int64)
        self._new: dict[int, Rank] = {}
        self._placeless: dict[int, Key] = {}  # points whose units are not computed yet
        self.waiting = 0

    def __len__(self) -> int:
        """How many told points are in the order."""
        return len(self._order)

    @property
    def known(self) -> int:
        """How many points were asked or told."""
        return len(self._numbers)

    def knows(self, key: Key) -> bool:
        """Whether the point was asked or told."""
        return self._coordinates.packed(key) in self._numbers

    def ask(self, key: Key) -> None:
        """Remember a point that is asked; it waits for its score."""
        self._number(key)

    def tell(self, key: Key, score: float | Score) -> None:
        """Take the score of a point; `settle` lets it count."""
        number = self._number(key)
        if math.isnan(self._worth[number]) and number not in self._new:
            self.waiting -= 1
        self._new[number] = rank_of(score)

    def settle(self) -> None:
        """Let all new scores count at once: the order in which they were told is irrelevant."""
        if not self._new:
            return
        if self._placeless:
            self._units[list(self._placeless)] = self._coordinates.units(
                [*self._placeless.values()]
            )
            self._placeless.clear()
        numbers = np.array(sorted(self._new), dtype=np.int64)
        again = numbers[~np.isnan(self._worth[numbers])]
        if len(again):
            self._order = self._order[~np.isin(self._order, again)]
        self._worth[numbers] = self._worths([self._new[n] for n in numbers.tolist()])
        self._new.clear()
        fresh = numbers[np.argsort(-self._worth[numbers], kind="stable")]
        places = np.searchsorted(-self._worth[self._order], -self._worth[fresh], side="right")
        self._order = np.insert(self._order, places, fresh)

    def best(self, count: int) -> tuple[Float64Array, Float64Array]:
        """Units (n, parameters) and worths (n,) of the best points, best first."""
        return self.of(self._order[:count])

    def of(self, numbers: Int64Array) -> tuple[Float64Array, Float64Array]:
        """Units and worths of these points."""
        return self._units[numbers], self._worth[numbers]

    def spread(self, best: int, others: int) -> tuple[Float64Array, Float64Array]:
        """Units and worths of the best points and of evenly ranked ones of the others."""
        count = len(self._order)
        places = np.arange(min(best + others, count))
        if count > best + others:
            places[best:] = np.linspace(best, count - 1, others).astype(np.int64)
        return self.of(self._order[places])

    def _number(self, key: Key) -> int:
        packed = self._coordinates.packed(key)
        number = self._numbers.get(packed)
        if number is None:
            number = len(self._numbers)
            self._numbers[packed] = number
            if number == len(self._worth):
                self._units = np.concatenate([self._units, np.empty_like(self._units)])
                self._worth = np.concatenate([self._worth, np.full(number, np.nan)])
            self._placeless[number] = key
            self.waiting += 1
        return number

    def _worths(self, ranks: list[Rank]) -> Float64Array:
        """Worths of the points of one generation, by rank."""
        worths = np.array([value if kind == _FULL else -math.inf for kind, _, value in ranks])
        stopped = sorted(
            (at for at, rank in enumerate(ranks) if rank[0] == _STOPPED),
            key=lambda at: ranks[at],
            reverse=True,
        )
        if stopped:
            full = worths[np.isfinite(worths)]
            before = self._worth[self._order]
            known = np.concatenate([before[np.isfinite(before)], full])
            middle, best = (np.median(known), known.max()) if len(known) else (0.0, 0.0)
            top = full.min() if len(full) else middle
            step = _BELOW * ((best - middle) or 1.0) / len(stopped)
            step = max(step, 4.0 * float(np.spacing(abs(top))))  # each below the one before
            worths[stopped] = top - step * np.arange(1, len(stopped) + 1)
        return worths
