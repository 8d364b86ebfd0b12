"""Bad prints: prices beyond a factor of the recent median close, judged by past bars only."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from ares.core.errors import DataError
from ares.market.checking.tallies import EXAMPLES
from ares.market.quality import Finding, time_text
from ares.market.raw import COLUMNS, PRICES
from ares.market.timeframe import HOUR

if TYPE_CHECKING:
    from collections.abc import Callable

    from ares.core.types import Int64Array
    from ares.market.checking.faults import Place

_REMEMBERED: Final = 60


class _Print(NamedTuple):
    """One bad print: when, by how much, and where it stands once somebody asks."""

    file: int
    time: str | None
    name: str
    value: float
    median: float
    place: Place


class PrintJudge:
    """Finds bad prints piece by piece; the accepted bars that the next piece needs are carried.

    Args:
        interval: Length of a bar in ns; prices are compared with max(6 hours, 3 intervals) before.
        factor: What is beyond this factor of the median is a bad print.
    """

    def __init__(self, interval: int, factor: float) -> None:
        self._window = max(6 * HOUR, 3 * interval)
        self._factor = factor
        self._times = np.zeros(_REMEMBERED, dtype=np.int64)
        self._closes = np.zeros(_REMEMBERED)
        self._held = 0
        self._first: list[_Print] = []  # those of each file
        self._counts: Counter[int] = Counter()

    @property
    def count(self) -> int:
        """Bad prints so far."""
        return self._counts.total()

    def push(
        self,
        columns: dict[str, Any],
        place: Callable[[int, str], Place],
        file: Callable[[int], int],
    ) -> Int64Array:
        """Positions of the bad prints among the next bars.

        Args:
            columns: The bars, distinct and by time.
            place: Where bar k, column c stands; what it returns is asked once all bars were pushed.
            file: Which of the files bar k is of.
        """
        from ares.kernels.quality import judge_prints  # numba costs a second, a dataset needs none

        arrays = [columns[name] for name in COLUMNS[:5]]
        reference, self._held = judge_prints(
            *arrays, self._window, self._factor, self._times, self._closes, self._held
        )
        bad = np.flatnonzero(~np.isnan(reference))

        for k in bad.tolist():
            own, median = file(k), float(reference[k])
            self._counts[own] += 1
            if self._counts[own] <= EXAMPLES:
                name, value = _worst(columns, k, median)
                time = time_text(int(arrays[0][k]))
                self._first.append(_Print(own, time, name, value, median, place(k, name)))
        return bad

    def refuse(self) -> None:
        """Raise where there was a bad print.

        Raises:
            DataError: there was; it names the first.
        """
        if not self._first:
            return
        first = self._first[0]
        raise DataError(
            f"prices must be within a factor {self._factor:g} of the recent median close"
            f" ({first.median!r}); {self.count} bars are not, the first of {first.time}",
            value=first.value,
            where=first.place()[1],
            remedy="Correct or remove the rows, or choose bad_prints drop or keep.",
        )

    def finding(self, action: str, file: int | None = None) -> list[Finding]:
        """The finding in all files or in one of them; nothing where there was none."""
        count = self.count if file is None else self._counts[file]
        examples = [
            f"{p.time} {p.name} {p.value!r}, recent median close {p.median!r} ({p.place()[0]})"
            for p in [p for p in self._first if file in {None, p.file}][:EXAMPLES]
        ]
        return [Finding("bad_prints", count, action, tuple(examples))] if count else []


def _worst(columns: dict[str, Any], k: int, median: float) -> tuple[str, float]:
    """Name and value of the price that is farthest off."""
    prices = {name: float(columns[name][k]) for name in PRICES}
    with np.errstate(all="ignore"):  # the smallest and largest floats
        name = max(prices, key=lambda n: abs(np.log(prices[n] / median)))
    return name, prices[name]
