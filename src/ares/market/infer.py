"""The timeframe that rows of bars seem to have, for reports on files nobody described."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ares.core.errors import DataError
from ares.market.files import read_raw
from ares.market.raw import NO_TIME
from ares.market.timeframe import TIMEFRAMES

if TYPE_CHECKING:
    from ares.market.columns import Columns
    from ares.market.files import Paths


def infer_timeframe(path: Paths, *, columns: Columns | None = None) -> str:
    """Name of the timeframe whose length is the most common distance between rows.

    Raises:
        DataError: fewer than two times, or the most common distance is no timeframe.
    """
    times = read_raw(path, columns=columns).timestamp
    known = np.unique(times[times != NO_TIME])
    if len(known) < 2:
        raise DataError(
            "a timeframe is only seen between two rows",
            value=len(known),
            where=str(path),
            remedy="Name it: --timeframe 1m.",
        )
    steps, counts = np.unique(np.diff(known), return_counts=True)
    common = int(steps[np.argmax(counts)])
    for name, length in TIMEFRAMES.items():
        if length == common:
            return name
    raise DataError(
        "the most common distance between rows is no timeframe that Ares knows",
        value=f"{common / 1e9:g} s",
        where=str(path),
        remedy=f"Name it with --timeframe: one of {', '.join(TIMEFRAMES)}.",
    )
