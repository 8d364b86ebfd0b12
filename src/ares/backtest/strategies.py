"""The built-in strategies. A value that is undefined at t (or t-1, for crossings) signals nothing.

All take the common parameters as well: direction, stop_loss, take_profit, stop_unit, max_hold,
size and cooldown (see `ares.backtest.space.COMMON`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

import numpy as np

from ares.backtest.batch import SignalBatch, address
from ares.backtest.indicators import MAX_EXACT_PERIOD
from ares.backtest.scores import ModelSignal, ScoreThreshold
from ares.backtest.signals import Events, ScoreRule
from ares.backtest.space import Float, Int, LessThan, ParameterSpace
from ares.backtest.strategy import Prepared, Strategy
from ares.kernels import events as kernels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ares.core.types import Float64Array, Int64Array
    from ares.market.bars import Bars

__all__ = [
    "BATCHED",
    "BUILT_IN",
    "BollingerReversion",
    "DonchianBreakout",
    "EmaCross",
    "ModelSignal",
    "Prepared",
    "RsiReversion",
    "ScoreThreshold",
    "SmaCross",
    "Strategy",
]


_NO_SUMS: Final = np.empty(0, dtype=np.int64)


def _cross_space(fast: int, slow: int) -> ParameterSpace:
    return ParameterSpace(
        {
            "fast": Int(3, 60, log=True, minimum=1, default=fast),
            "slow": Int(10, 250, log=True, minimum=2, default=slow),
        },
        (LessThan("fast", "slow"),),
    )


def _crossings(fast: Float64Array, slow: Float64Array) -> Events:
    """Edges: up where fast > slow now and fast <= slow one bar before; down is the mirror."""
    up = np.flatnonzero((fast[1:] > slow[1:]) & (fast[:-1] <= slow[:-1])) + 1
    down = np.flatnonzero((fast[1:] < slow[1:]) & (fast[:-1] >= slow[:-1])) + 1
    return Events(long_entry=up, long_exit=down, short_entry=down, short_exit=up)


def _crossings_of(
    prepared: Prepared, column: str, points: Sequence[Mapping[str, Any]]
) -> SignalBatch:
    """Crossings of `fast` and `slow` of all points; means are made from sums where they can be."""
    pairs = np.array([(p["fast"], p["slow"]) for p in points], dtype=np.int64).reshape(-1, 2)
    periods, places = np.unique(pairs, return_inverse=True)
    sums = _deciding_sums(prepared, pairs) if column == "sma" else None
    addresses, columns = np.zeros(len(periods), dtype=np.int64), []
    if sums is None:
        columns = [prepared.column(column, int(period)) for period in periods]
        addresses = np.array([address(one) for one in columns], dtype=np.int64)
        sums = _NO_SUMS
    n = len(prepared.close)
    with np.errstate(over="ignore"):  # words wrap; differences of sums that wrapped are exact
        edges = kernels.crossings(
            addresses, periods, sums, prepared.starts, places.reshape(-1, 2), n
        )
    return SignalBatch.of_edges(*edges)


def _deciding_sums(prepared: Prepared, pairs: Int64Array) -> Int64Array | None:
    """Running sums of the closes, where sums of windows compare as the means do, which are rounded.

    Means of p and q values of at most k units that differ do so by at least 1 / (p * q) units; so
    k * p * q < 2**52 keeps their floats apart.
    """
    if prepared.sums is None or pairs.max(initial=0) > MAX_EXACT_PERIOD:
        return None
    sums, largest = prepared.sums
    products = pairs[:, 0].astype(np.float64) * pairs[:, 1]
    return sums if largest * products.max(initial=0.0) < 2.0**52 else None


def _rsi_levels(params: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Levels of the negated index; the next float makes >= out of >."""
    low, high = params["low"], params["high"]
    return (
        float(np.nextafter(-low, np.inf)),
        float(np.nextafter(-high, -np.inf)),
        float(np.nextafter(-(100.0 - low), -np.inf)),
        float(np.nextafter(-(100.0 - high), np.inf)),
    )


def _breakouts(prepared: Prepared, params: Mapping[str, Any]) -> tuple[Int64Array, ...]:
    """The closes beyond a channel of the bars before them, in the order of `Events`."""
    entry, leave = params["entry_period"], params["exit_period"]
    return (
        prepared.beyond("highest", entry, 1),
        prepared.beyond("lowest", leave, -1),
        prepared.beyond("lowest", entry, -1),
        prepared.beyond("highest", leave, 1),
    )


@final
@dataclass(frozen=True)
class SmaCross:
    """Crossings of two simple means. After a stop there is no entry before the next crossing."""

    name: ClassVar[str] = "SmaCross"
    space: ClassVar[ParameterSpace] = _cross_space(20, 50)

    def prepare(self, bars: Bars, *, max_gap: int | None = None) -> Prepared:
        """Means are made when asked for and kept."""
        return Prepared.of(bars, max_gap=max_gap)

    def signals(self, prepared: Prepared, params: Mapping[str, Any]) -> Events:
        """Crossings of `fast` and `slow`."""
        fast, slow = (prepared.column("sma", params[name]) for name in ("fast", "slow"))
        return _crossings(fast, slow)

    def signals_batch(self, prepared: Prepared, points: Sequence[Mapping[str, Any]]) -> SignalBatch:
        """The crossings of all points, found in one pass over the bars."""
        return _crossings_of(prepared, "sma", points)

    def lookback(self, params: Mapping[str, Any]) -> int:
        """Bars that the slower mean needs."""
        return int(params["slow"])


@final
@dataclass(frozen=True)
class EmaCross:
    """Crossings of two exponential means. After a stop no entry before the next crossing."""

    name: ClassVar[str] = "EmaCross"
    space: ClassVar[ParameterSpace] = _cross_space(12, 26)

    def prepare(self, bars: Bars, *, max_gap: int | None = None) -> Prepared:
        """Means are made when asked for and kept."""
        return Prepared.of(bars, max_gap=max_gap)

    def signals(self, prepared: Prepared, params: Mapping[str, Any]) -> Events:
        """Crossings of `fast` and `slow`."""
        fast, slow = (prepared.column("ema", params[name]) for name in ("fast", "slow"))
        return _crossings(fast, slow)

    def signals_batch(self, prepared: Prepared, points: Sequence[Mapping[str, Any]]) -> SignalBatch:
        """The crossings of all points, found in one pass over the bars."""
        return _crossings_of(prepared, "ema", points)

    def lookback(self, params: Mapping[str, Any]) -> int:
        """Bars until the slower mean is seeded."""
        return int(params["slow"])


@final
@dataclass(frozen=True)
class RsiReversion:
    """Long below `low` until above `high`; short is the mirror at 50. Levels, not edges."""

    name: ClassVar[str] = "RsiReversion"
    space: ClassVar[ParameterSpace] = ParameterSpace(
        {
            "period": Int(3, 50, log=True, minimum=2, default=14),
            "low": Float(10.0, 45.0, minimum=0.0, maximum=100.0, default=30.0),
            "high": Float(50.0, 90.0, minimum=0.0, maximum=100.0, default=70.0),
        }
    )

    def prepare(self, bars: Bars, *, max_gap: int | None = None) -> Prepared:
        """The index is made when asked for and kept."""
        return Prepared.of(bars, max_gap=max_gap)

    def signals(self, prepared: Prepared, params: Mapping[str, Any]) -> ScoreRule:
        """The score is the negated index."""
        return ScoreRule(prepared.column("minus_rsi", params["period"]), *_rsi_levels(params))

    def signals_batch(self, prepared: Prepared, points: Sequence[Mapping[str, Any]]) -> SignalBatch:
        """The levels of all points, each on the index of its period."""
        scores = [prepared.score("minus_rsi", params["period"]) for params in points]
        levels = np.array([_rsi_levels(params) for params in points]).reshape(-1, 4)
        return SignalBatch.of_scores(scores, levels)

    def lookback(self, params: Mapping[str, Any]) -> int:
        """Bars until the index is seeded."""
        return int(params["period"]) + 1


@final
@dataclass(frozen=True)
class DonchianBreakout:
    """Long above the highest high of `entry_period` bars, out below the lowest low of the other."""

    name: ClassVar[str] = "DonchianBreakout"
    space: ClassVar[ParameterSpace] = ParameterSpace(
        {
            "entry_period": Int(5, 200, log=True, minimum=1, default=20),
            "exit_period": Int(3, 100, log=True, minimum=1, default=10),
        }
    )

    def prepare(self, bars: Bars, *, max_gap: int | None = None) -> Prepared:
        """Channels are made when asked for and kept."""
        return Prepared.of(bars, max_gap=max_gap)

    def signals(self, prepared: Prepared, params: Mapping[str, Any]) -> Events:
        """The close beyond a channel of the bars before it."""
        return Events(*_breakouts(prepared, params))

    def signals_batch(self, prepared: Prepared, points: Sequence[Mapping[str, Any]]) -> SignalBatch:
        """The breakouts of all points; those of one period are found once."""
        return SignalBatch.of_events([_breakouts(prepared, params) for params in points])

    def lookback(self, params: Mapping[str, Any]) -> int:
        """Bars of the longer channel and the one that leaves it."""
        return max(int(params["entry_period"]), int(params["exit_period"])) + 1


@final
@dataclass(frozen=True)
class BollingerReversion:
    """Long below mean - width * std until above the mean; short is the mirror."""

    name: ClassVar[str] = "BollingerReversion"
    space: ClassVar[ParameterSpace] = ParameterSpace(
        {
            "period": Int(5, 100, log=True, minimum=2, default=20),
            "width": Float(0.5, 4.0, minimum=0.0, without_minimum=True, default=2.0),
        }
    )

    def prepare(self, bars: Bars, *, max_gap: int | None = None) -> Prepared:
        """Means and deviations (ddof 0) are made when asked for and kept."""
        return Prepared.of(bars, max_gap=max_gap)

    def signals(self, prepared: Prepared, params: Mapping[str, Any]) -> Events:
        """The close beyond a band, or back across the mean."""
        close = prepared.close
        mean = prepared.column("sma", params["period"])
        reach = params["width"] * prepared.column("std", params["period"])
        return Events(
            np.flatnonzero(close < mean - reach),
            prepared.beyond("sma", params["period"], 1),
            np.flatnonzero(close > mean + reach),
            prepared.beyond("sma", params["period"], -1),
        )

    def signals_batch(self, prepared: Prepared, points: Sequence[Mapping[str, Any]]) -> SignalBatch:
        """The bands of all points in one call; crossings of a mean are found once."""
        periods = [params["period"] for params in points]
        columns = [(prepared.column("sma", p), prepared.column("std", p)) for p in periods]
        addresses = np.array([[address(a) for a in pair] for pair in columns], dtype=np.int64)
        widths = np.array([params["width"] for params in points], dtype=np.float64)
        with np.errstate(over="ignore"):  # the words of a kernel wrap
            below, above, borders = kernels.outside_bands(
                prepared.close, addresses.reshape(-1, 2), widths
            )
        ends = borders.reshape(-1, 2)
        return SignalBatch.of_events(
            [
                (
                    below[ends[i, 0] : ends[i + 1, 0]],
                    prepared.beyond("sma", period, 1),
                    above[ends[i, 1] : ends[i + 1, 1]],
                    prepared.beyond("sma", period, -1),
                )
                for i, period in enumerate(periods)
            ]
        )

    def lookback(self, params: Mapping[str, Any]) -> int:
        """Bars of the window."""
        return int(params["period"])


BATCHED: Final = (
    SmaCross,
    EmaCross,
    RsiReversion,
    DonchianBreakout,
    BollingerReversion,
    ScoreThreshold,
    ModelSignal,
)
"""Classes whose `signals_batch` the engine calls: it hands addresses to kernels unchecked."""


def columns_per_point(strategy: Strategy, prepared: Any) -> int:
    """Columns of bars that a batch of a strategy may hold for each point."""
    match strategy:
        case ScoreThreshold() | ModelSignal():
            return 0
        case SmaCross() if prepared.sums is not None:
            return 0
        case SmaCross() | EmaCross() | RsiReversion():
            return 2
    return 4


def slow_columns(strategy: Strategy) -> list[tuple[str, int]]:
    """Name and period of the columns in a strategy's space that take longer to make than to read."""
    period = strategy.space.parameters["period"] if strategy == BollingerReversion() else None
    if not isinstance(period, Int):
        return []
    return [("std", each) for each in range(period.low, period.high + 1)]


BUILT_IN: Final[Mapping[str, Strategy]] = {
    strategy.name: strategy
    for strategy in (
        SmaCross(),
        EmaCross(),
        RsiReversion(),
        DonchianBreakout(),
        BollingerReversion(),
    )
}
