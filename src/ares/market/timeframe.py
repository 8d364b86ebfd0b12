"""Timeframes: names, lengths, and which coarser ones a base timeframe works with."""

from __future__ import annotations

import difflib
from typing import Final

from ares.core.errors import ConfigError

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY

TIMEFRAMES: Final[dict[str, int]] = {
    "1m": MINUTE,
    "3m": 3 * MINUTE,
    "5m": 5 * MINUTE,
    "15m": 15 * MINUTE,
    "30m": 30 * MINUTE,
    "1h": HOUR,
    "2h": 2 * HOUR,
    "4h": 4 * HOUR,
    "6h": 6 * HOUR,
    "8h": 8 * HOUR,
    "12h": 12 * HOUR,
    "1d": DAY,
    "3d": 3 * DAY,
    "1w": WEEK,
}

_COARSER: Final[dict[str, tuple[str, str]]] = {
    "1m": ("15m", "4h"),
    "3m": ("30m", "4h"),
    "5m": ("1h", "4h"),
    "15m": ("4h", "1d"),
    "30m": ("4h", "1d"),
    "1h": ("1d", "1d"),
    "2h": ("1d", "1d"),
    "4h": ("1d", "1d"),
    "6h": ("1d", "1d"),
    "8h": ("1d", "1d"),
    "12h": ("1d", "1d"),
    "1d": ("1d", "1d"),
    "3d": ("3d", "3d"),
    "1w": ("1w", "1w"),
}


def timeframe_ns(timeframe: str) -> int:
    """Length of one bar of `timeframe` ("1m" to "1w") in nanoseconds.

    Raises:
        ConfigError: the timeframe is not one of `TIMEFRAMES`.
    """
    length = TIMEFRAMES.get(str(timeframe))
    if length is None:
        near = difflib.get_close_matches(str(timeframe), TIMEFRAMES, n=1, cutoff=0.5)
        raise ConfigError(
            f"a timeframe must be one of {', '.join(TIMEFRAMES)}",
            value=timeframe,
            where="timeframe",
            remedy=f"Did you mean {near[0]}?" if near else "Choose one of these.",
        )
    return length


def timeframe_name(length_ns: int) -> str:
    """Name of the timeframe of `length_ns` nanoseconds, or the length in plain words."""
    for name, length in TIMEFRAMES.items():
        if length == length_ns:
            return name
    for unit, length in (("d", DAY), ("h", HOUR), ("m", MINUTE)):
        if length_ns % length == 0:
            return f"{length_ns // length}{unit}"
    return f"{length_ns / SECOND:g}s"


def coarser(base: str) -> tuple[str, str]:
    """Timeframes of the analyst and of the regimes that go with the base timeframe `base`.

    Raises:
        ConfigError: `base` is not a timeframe.
    """
    timeframe_ns(base)
    return _COARSER[base]


def default_horizons(base: str) -> tuple[int | None, int | None]:
    """Default label horizons in bars of (analyst, tactician); None leaves the configured ones.

    Where analyst and tactician share one timeframe only their horizons tell them apart.

    Raises:
        ConfigError: `base` is not a timeframe.
    """
    analyst, _ = coarser(base)
    return (10, 3) if analyst == base else (None, None)
