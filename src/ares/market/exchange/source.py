"""What a source of bars is: it knows the time, and it gives the next page of bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from ares.core.errors import DataError

if TYPE_CHECKING:
    from ares.core.types import Float64Array

MS: Final = 1_000_000
"""Nanoseconds in a millisecond, the unit in which exchanges tell time."""
SETTLE_MS: Final = 2000
"""A bar counts as closed this long after its close: exchanges finish it a moment later."""


@dataclass(frozen=True, eq=False)
class Page:
    """All closed bars that a source has in [start, stop).

    Attributes:
        start: First open time that the page speaks of, Unix ms UTC.
        stop: First open time after it; above `start`.
        rows: float64 (n, 6): open time in ms, open, high, low, close, volume; times ascend and
            are distinct.
    """

    start: int
    stop: int
    rows: Float64Array


class Source(Protocol):
    """Where bars come from."""

    @property
    def name(self) -> str:
        """Its name: "ccxt" or "dumps"."""
        ...

    @property
    def earliest(self) -> int:
        """Unix ms before which it is not asked for anything."""
        ...

    def closed(self, wanted: int) -> int:
        """Unix ms: bars that open before it have closed, by the server's clock.

        `wanted` is the first time (Unix ms) that will be asked for: to learn the time, a source
        that has to ask for something asks for that.
        """
        ...

    def page(self, cursor: int, end: int) -> Page:
        """Bars from `cursor` on: `page.start <= cursor < page.stop`; `end` is where interest ends.

        Raises:
            DataError: They cannot be had.
            OutageError: The server does not answer.
        """
        ...

    def older(self, first: int) -> tuple[str, int] | None:
        """What shows that there are bars before `first` (Unix ms), the first one that it sent.

        Returns:
            A longer timeframe and the time of its first bar, which ended before; None where nothing
            shows it.

        Raises:
            DataError: As `page`.
            OutageError: As `page`.
        """
        ...


@dataclass(frozen=True)
class Market:
    """What is asked for, and how.

    Attributes:
        symbol: As the exchange writes it, or as ccxt does.
        exchange: Id of the exchange.
        timeframe: Interval of a bar.
        base_url: Address in place of the exchange's own: a mirror, or a test server.
        timeout: Seconds without an answer after which a request has failed.
    """

    symbol: str
    exchange: str
    timeframe: str
    base_url: str | None = None
    timeout: float = 20.0


def as_rows(values: object, where: str) -> Float64Array:
    """Rows of a page from nested numbers: sorted by time, the last of equal times kept.

    Raises:
        DataError: They are not rows of six numbers, or a time is no whole millisecond.
    """
    try:
        rows = np.array(values, dtype=np.float64).reshape(-1, 6)
    except (ValueError, TypeError):
        raise DataError(
            "a bar has a time and five numbers",
            where=where,
            remedy="Try again later, or use another --source.",
        ) from None
    times = rows[:, 0]
    if not (np.isfinite(times).all() and (times == np.rint(times)).all()):
        raise DataError(
            "the open time of a bar is a whole number of milliseconds",
            where=where,
            remedy="Try again later, or use another --source.",
        )
    order = np.argsort(times, kind="stable")
    last = np.diff(times[order], append=np.inf) != 0
    return np.ascontiguousarray(rows[order[last]])
