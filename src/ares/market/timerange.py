"""Time ranges as users write them: `20200101-20210101`, either side may be empty."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

import numpy as np

from ares.core.errors import ConfigError

_SIDE: Final = r"(?:\d{8}|\d{10}|\d{13})?"
_RANGE: Final = re.compile(rf"({_SIDE})-({_SIDE})", re.ASCII)
_SECOND: Final = 1_000_000_000
FOREVER: Final = (int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max))


def parse_timerange(text: str | None) -> tuple[int, int]:
    """Start (inclusive) and end (exclusive) in int64 ns UTC of `YYYYMMDD-YYYYMMDD`.

    A side may also be a Unix time in seconds (10 digits) or milliseconds (13); an empty side, or
    None, is open.

    Raises:
        ConfigError: Another form, no such date, or an end that is not after the start.
    """
    if text is None:
        return FOREVER
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            "a time range is written YYYYMMDD-YYYYMMDD, either side may be empty",
            value=text,
            where="timerange",
            remedy="For example 20200101-20210101, or 20200101- for all since then.",
        )
    start = _moment(match[1], text) if match[1] else FOREVER[0]
    end = _moment(match[2], text) if match[2] else FOREVER[1]
    if start >= end:
        raise ConfigError(
            "a time range must end after its start",
            value=text,
            where="timerange",
            remedy="For example 20200101-20210101; the end is exclusive.",
        )
    return start, end


def _moment(side: str, text: str) -> int:
    if len(side) == 10:
        return int(side) * _SECOND
    if len(side) == 13:
        return int(side) * (_SECOND // 1000)
    try:
        day = dt.date(int(side[:4]), int(side[4:6]), int(side[6:]))
        moment = np.datetime64(day, "D").astype("datetime64[ns]")
    except ValueError as error:
        raise ConfigError(
            str(error), value=text, where="timerange", remedy="For example 20200101-20210101."
        ) from None
    if not dt.date(1678, 1, 1) <= day <= dt.date(2262, 1, 1):
        raise ConfigError(
            "a date must lie in 1678 to 2261",
            value=text,
            where="timerange",
            remedy="For example 20200101-20210101.",
        )
    return int(moment.astype(np.int64))
