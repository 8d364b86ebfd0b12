"""Bad prints: prices beyond a factor of the recent median close, judged by past bars only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import DataError
from ares.market.checking.tallies import Tally
from ares.market.quality import time_text
from ares.market.raw import COLUMNS, PRICES
from ares.market.timeframe import HOUR

if TYPE_CHECKING:
    from collections.abc import Callable

    from ares.core.types import Int64Array

_REMEMBERED: Final = 60


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
        self._first: tuple[str, float, float, str | None] | None = None
        self.tally = Tally()

    def push(
        self, columns: dict[str, Any], place: Callable[[int, str], tuple[str, str]]
    ) -> Int64Array:
        """Positions of the bad prints among the next bars.

        Args:
            columns: The bars, distinct and by time.
            place: Where bar k, column c stands, in short and in full.
        """
        from ares.kernels.quality import judge_prints  # numba costs a second, a dataset needs none

        arrays = [columns[name] for name in COLUMNS[:5]]
        reference, self._held = judge_prints(
            *arrays, self._window, self._factor, self._times, self._closes, self._held
        )
        bad = np.flatnonzero(~np.isnan(reference))

        def describe(k: int) -> str:
            name, value = _worst(columns, k, float(reference[k]))
            time = time_text(int(arrays[0][k]))
            where = place(k, name)[0]
            return f"{time} {name} {value!r}, recent median close {float(reference[k])!r} ({where})"

        self.tally.add(bad, describe)
        if len(bad) and self._first is None:
            median = float(reference[bad[0]])
            name, value = _worst(columns, int(bad[0]), median)
            time = time_text(int(arrays[0][bad[0]]))
            self._first = (place(int(bad[0]), name)[1], value, median, time)
        return bad

    def refuse(self) -> None:
        """Raise where there was a bad print.

        Raises:
            DataError: there was; it names the first.
        """
        if self._first is None:
            return
        where, value, median, time = self._first
        raise DataError(
            f"prices must be within a factor {self._factor:g} of the recent median close"
            f" ({median!r}); {self.tally.count} bars are not, the first of {time}",
            value=value,
            where=where,
            remedy="Correct or remove the rows, or choose bad_prints drop or keep.",
        )


def _worst(columns: dict[str, Any], k: int, median: float) -> tuple[str, float]:
    """Name and value of the price that is farthest off."""
    prices = {name: float(columns[name][k]) for name in PRICES}
    with np.errstate(all="ignore"):  # the smallest and largest floats
        name = max(prices, key=lambda n: abs(np.log(prices[n] / median)))
    return name, prices[name]
