"""The timeframe that rows of bars seem to have, for reports on files nobody described."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ares.core.errors import DataError
from ares.market.raw import NO_TIME
from ares.market.timeframe import TIMEFRAMES

if TYPE_CHECKING:
    from ares.market.raw import RawBars


def infer_timeframe(raw: RawBars) -> str:
    """Name of the timeframe whose length is the most common distance between rows.

    Raises:
        DataError: fewer than two times, or the most common distance is no timeframe.
    """
    known = np.unique(raw.timestamp[raw.timestamp != NO_TIME])
    steps, counts = np.unique(np.diff(known), return_counts=True)
    common = int(steps[np.argmax(counts)]) if len(steps) else None
    return timeframe_of_distance(common, ", ".join(raw.files) or "data")


def timeframe_of_distance(common: int | None, where: str) -> str:
    """Name of the timeframe of the most common distance in ns; None: there is no distance.

    Raises:
        DataError: it is no timeframe.
    """
    if common is None:
        raise DataError(
            "a timeframe is only seen between two rows",
            where=where,
            remedy="Name it: --timeframe 1m.",
        )
    for name, length in TIMEFRAMES.items():
        if length == common:
            return name
    raise DataError(
        "the most common distance between rows is no timeframe that Ares knows",
        value=f"{common / 1e9:g} s",
        where=where,
        remedy=f"Name it with --timeframe: one of {', '.join(TIMEFRAMES)}.",
    )
