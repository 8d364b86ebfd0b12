"""What the door remembers of the bars that have passed: counts, first examples, carried windows.

Everything here is fed piece by piece, oldest bar first, and ends the same however the bars were cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ares.core.errors import DataError
from ares.market.quality import Finding, time_text
from ares.market.timeframe import DAY, TIMEFRAMES, timeframe_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ares.core.types import BoolArray, Float64Array, Int64Array

EXAMPLES: Final = 10
STALE_WINDOW: Final = 250
STALE_SHARE: Final = 0.2
_ENOUGH: Final = 20
"""Distances needed before rows that are too far apart mean that the timeframe is another one."""

_MOST_DISTANCES: Final = 1 << 16
"""Different distances that are counted, the first in time: bars have few, and noise has no mode."""

_MAX_DECIMALS: Final = 12
_MOST_UNITS: Final = 1e13


class Tally:
    """How many of one kind, and the first examples in words."""

    def __init__(self) -> None:
        self.count = 0
        self.examples: list[str] = []

    def add(
        self,
        found: Sequence[int] | Int64Array,
        describe: Callable[[int], str],
        *,
        count: int | None = None,
    ) -> None:
        """Count `found` (or take `count`) and describe those for which there is room."""
        self.count += len(found) if count is None else count
        room = EXAMPLES - len(self.examples)
        if room:
            self.examples += [describe(int(k)) for k in found[:room]]

    def finding(self, kind: str, action: str) -> list[Finding]:
        """The finding; nothing where nothing was found."""
        return [Finding(kind, self.count, action, tuple(self.examples))] if self.count else []


class Stretches:
    """Runs of bars with one property, over the borders of pieces."""

    def __init__(self) -> None:
        self.bars = self.stretches = 0
        self._examples: list[tuple[str, int]] = []
        self._open = False

    def add(self, mask: BoolArray, describe: Callable[[int], str]) -> None:
        """Look at the next bars: True where they have the property."""
        if len(mask) == 0:
            return
        starts, lengths = runs(mask)
        self.bars += int(lengths.sum())
        if self._open and mask[0]:
            if self.stretches <= len(self._examples):
                text, length = self._examples[-1]
                self._examples[-1] = (text, length + int(lengths[0]))
            starts, lengths = starts[1:], lengths[1:]
        for start, length in zip(starts[: EXAMPLES - len(self._examples)], lengths, strict=False):
            self._examples.append((describe(int(start)), int(length)))
        self.stretches += len(starts)
        self._open = bool(mask[-1])

    def finding(self, kind: str, action: str, *, lengths: bool) -> list[Finding]:
        """The finding; its examples are where the stretches start, with their lengths or not."""
        if not self.bars:
            return []
        texts = (f"{text}: {n} bars" if lengths else text for text, n in self._examples)
        return [Finding(kind, self.bars, action, tuple(texts))]


class StaleOpens:
    """Which bars stand at the end of 250 of which over 20 % open at the previous close."""

    def __init__(self) -> None:
        self._same = np.zeros(0, dtype=np.bool_)  # of at most the last 249 bars
        self._close: float | None = None

    def push(self, open_: Float64Array, close: Float64Array) -> BoolArray:
        """The next bars: True for stale ones."""
        stale = np.zeros(len(open_), dtype=np.bool_)
        if len(open_) == 0:
            return stale
        first = self._close is not None and bool(open_[0] == self._close)
        same = np.concatenate([self._same, [first], open_[1:] == close[:-1]])
        if len(same) >= STALE_WINDOW:
            total = np.concatenate([[0], np.cumsum(same)])
            in_window = total[STALE_WINDOW:] - total[:-STALE_WINDOW]
            stale[len(stale) - len(in_window) :] = in_window > STALE_SHARE * STALE_WINDOW
        self._same = same[-(STALE_WINDOW - 1) :]
        self._close = float(close[-1])
        return stale


class DecimalStep:
    """Largest power of ten, 1 to 1e-12, that all values are whole multiples of; 0.0 for none.

    A value counts as a multiple where it is within the rounding of a few operations of one, and
    small enough for that to mean something.
    """

    def __init__(self) -> None:
        self._decimals = 0
        self._largest = 0.0

    def push(self, columns: Sequence[Float64Array]) -> None:
        """Look at the next values, all positive."""
        for column in columns:
            if len(column):
                self._largest = max(self._largest, float(column.max()))
        # A multiple of a step is one of all finer steps, so one number is all that is carried.
        while self._decimals <= _MAX_DECIMALS and not self._fits(columns):
            self._decimals += 1

    @property
    def step(self) -> float:
        """The step of all values so far."""
        scale = 10.0**self._decimals
        fine = self._decimals > _MAX_DECIMALS or np.rint(self._largest * scale) >= _MOST_UNITS
        return 0.0 if fine else 1.0 / scale

    def _fits(self, columns: Sequence[Float64Array]) -> bool:
        from ares.kernels.quality import on_step  # numba costs a second

        scale = 10.0**self._decimals
        return all(on_step(column[:512], scale, _MOST_UNITS) for column in columns) and all(
            on_step(column, scale, _MOST_UNITS) for column in columns
        )


class Distances:
    """The distances between neighbouring open times, and whether they fit the timeframe."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self.first: int | None = None
        self.last: int | None = None
        self._count = self._close = self._regular = 0
        self._least = int(np.iinfo(np.int64).max)
        self._values = self._counts = np.zeros(0, dtype=np.int64)

    def push(self, times: Int64Array) -> Int64Array:
        """Look at the next of the ascending, distinct times.

        Returns:
            Each one's distance from the time before it; the first of all has none.
        """
        if len(times) == 0:
            return times
        distance = np.diff(times) if self.last is None else np.diff(times, prepend=self.last)
        self.first = int(times[0]) if self.first is None else self.first
        self.last = int(times[-1])
        if len(distance):
            self._count += len(distance)
            self._least = min(self._least, int(distance.min()))
            self._close += int(np.count_nonzero(distance < shortest_distance(self._interval)))
            other = distance[distance != self._interval]
            self._regular += len(distance) - len(other)
            self._note(other)
        return distance

    @property
    def common(self) -> int | None:
        """The most common distance, the shortest of several; None where there is none.

        Beyond the first 65,536 different ones, distances that did not occur before do not count.
        """
        return self._usual()[0] if self._count else None

    def _usual(self) -> tuple[int, int]:
        """The same, and how often it occurs."""
        values = np.append(self._values, self._interval)
        counts = np.append(self._counts, self._regular)
        best = int(counts.max())
        return int(values[counts == best].min()), best

    def refuse(self, where: str) -> None:
        """Raise where the distances say another timeframe.

        Raises:
            DataError: most bars open before the bar above them has closed, or no two bars are
                neighbours and many are apart by one same longer time.
        """
        if self._count == 0:
            return
        too_close = 2 * self._close > self._count
        if not too_close and not (self._count >= _ENOUGH and self._least > self._interval):
            return
        usual, often = self._usual()
        known = usual in TIMEFRAMES.values()
        every_second = usual == 2 * self._interval and not known  # thin, as far as one can tell
        if not too_close and (every_second or 5 * often <= 2 * self._count):
            return
        own, name = timeframe_name(self._interval), timeframe_name(usual)
        raise DataError(
            f"the rows must be bars of the timeframe {own}, but most open {name} apart"
            f" (from {time_text(self.first)})",
            value=own,
            where=where,
            remedy=f"Is the timeframe {name}?"
            if known
            else f"Timeframes: {', '.join(TIMEFRAMES)}.",
        )

    def _note(self, distance: Int64Array) -> None:
        """Count distances other than the interval; new ones as they come, up to a limit."""
        if len(distance) == 0:
            return
        values, first, counts = np.unique(distance, return_index=True, return_counts=True)
        place = np.searchsorted(self._values, values)
        known = np.zeros(len(values), dtype=np.bool_)
        within = place < len(self._values)
        known[within] = self._values[place[within]] == values[within]
        self._counts[place[known]] += counts[known]
        new = np.flatnonzero(~known)
        new = np.sort(new[np.argsort(first[new])][: _MOST_DISTANCES - len(self._values)])
        if len(new):
            self._values = np.insert(self._values, place[new], values[new])
            self._counts = np.insert(self._counts, place[new], counts[new])


def changes(values: Int64Array) -> BoolArray:
    """True for the first value, and for each that differs from the one before it."""
    changed = np.ones(len(values), dtype=np.bool_)
    changed[1:] = values[1:] != values[:-1]
    return changed


def runs(mask: BoolArray) -> tuple[Int64Array, Int64Array]:
    """Start index and length of every run of True."""
    if not mask.any():
        none = np.zeros(0, dtype=np.int64)
        return none, none
    edges = np.diff(np.concatenate([[0], mask.astype(np.int8), [0]]))
    starts = np.flatnonzero(edges == 1)
    return starts, np.flatnonzero(edges == -1) - starts


def shortest_distance(interval: int) -> int:
    """Bars closer than this overlap; days of 23 hours do not."""
    return interval - interval // 4 if interval >= DAY else interval
