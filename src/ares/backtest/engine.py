"""The backtest: signals and stops in, trades and marks out.

One position at a time. A decision uses bars up to and including t and is filled at the open of bar
t+1 (`fill="next_open"`) or at the close of bar t (`fill="close"`). The order of events inside a bar
is that of `ares.kernels.simulate.walk`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args

import numpy as np

from ares.backtest import indicators
from ares.backtest.metrics import DAY_NS, Marks, TradeArrays
from ares.backtest.result import BacktestResult, Outcome, RunMarks, full_result, run_marks
from ares.backtest.signals import Signals, Stops, flags_of
from ares.core.errors import ParameterError
from ares.core.types import BoolArray, Fill, Float64Array, Int64Array
from ares.kernels import simulate as kernel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ares.backtest.costs import Costs
    from ares.backtest.strategy import Strategy
    from ares.market.bars import Bars

ATR_PERIOD: Final = 14
_YEAR_NS: Final = 365.25 * DAY_NS
_NO_LEVELS: Final = np.empty(0)


@dataclass(frozen=True, eq=False)
class Arena:
    """A market with the rules of one series of backtests: everything but strategy and parameters.

    Build it with `Arena.of`, which checks. It is reused for all points of a search.

    Attributes:
        bars: The market; indicators see all of it.
        costs: Costs of trading.
        fill: Where orders fill.
        max_gap: Longest gap, in expected bars, that indicators and entries may span; None: any.
        start: First bar that may decide.
        stop: One past the last bar, where an open position ends.
    """

    bars: Bars
    costs: Costs
    fill: Fill
    max_gap: int | None
    start: int
    stop: int

    @staticmethod
    def of(
        bars: Bars,
        *,
        costs: Costs,
        fill: Fill = "next_open",
        max_gap: int | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> Arena:
        """Check and bind.

        Raises:
            ParameterError: no bars, an unknown fill rule, a negative `max_gap`, or a range outside
                the bars.
        """
        n = len(bars)
        if n == 0:
            raise ParameterError("a backtest needs at least one bar", value=n, where="bars")
        if fill not in get_args(Fill):
            raise ParameterError("fill must be next_open or close", value=fill, where="fill")
        if max_gap is not None and max_gap < 0:
            raise ParameterError("max_gap counts bars", value=max_gap, where="max_gap")
        end = n if stop is None else stop
        if not 0 <= start < end <= n:
            raise ParameterError(
                f"start and stop must be a range of the {n} bars", value=(start, stop)
            )
        return Arena(bars, costs, fill, max_gap, int(start), int(end))

    @functools.cached_property
    def _starts(self) -> Int64Array:
        return self.bars.segments(self.max_gap)

    @functools.cached_property
    def _stale(self) -> BoolArray:
        stale = np.zeros(len(self.bars), dtype=np.bool_)
        stale[self._starts[1:]] = True
        return stale

    @functools.cached_property
    def _atr(self) -> Float64Array:
        bars = self.bars
        return indicators.atr(bars.high, bars.low, bars.close, ATR_PERIOD, starts=self._starts)

    @functools.cached_property
    def _day_ends(self) -> tuple[Int64Array, Int64Array]:
        """For each day to mark: the traded bar whose close marks it (counted from `start`)."""
        day = self.bars.timestamp[self.start : self.stop] // DAY_NS
        ends = np.flatnonzero(np.append(day[1:] != day[:-1], True))
        days = present = day[ends]
        if self.bars.calendar == "24/7":
            days = np.arange(present[0], present[-1] + 1, dtype=np.int64)
        return ends[np.searchsorted(present, days, side="right") - 1], days

    @functools.cached_property
    def _funding(self) -> tuple[Int64Array, Float64Array]:
        pairs = self.costs.funding or ()
        times = np.array([time for time, _ in pairs], dtype=np.int64)
        return times, np.array([rate for _, rate in pairs], dtype=np.float64)

    def walk(
        self, signals: Signals, stops: Stops
    ) -> tuple[TradeArrays, Marks, Float64Array, Outcome]:
        """Trades, daily marks, the equity at every close, outcome."""
        bars, span = self.bars, self.stop - self.start
        flags = flags_of(signals, len(bars), stops.direction)
        closes = np.empty(span)
        floats, integers = np.empty((span, 5)), np.empty((span, 4), dtype=np.int64)
        with np.errstate(all="ignore"):  # values beyond the floats become an outcome
            n, drawdown, ruined, held = kernel.walk(
                (bars.open, bars.high, bars.low, bars.close, bars.timestamp),
                flags,
                self._stale.view(np.uint8),
                self._atr if stops.needs_atr else _NO_LEVELS,
                (self._rates(stops), self._plan(stops), *self._funding),
                closes,
                floats,
                integers,
            )
        ends, days = self._day_ends
        elapsed = int(bars.timestamp[self.stop - 1]) + bars.interval_ns
        elapsed -= int(bars.timestamp[self.start])
        marks = Marks(
            days=days,
            equity=closes[ends],
            drawdown=float(drawdown),
            closes_held=int(held),
            n_bars=span,
            elapsed_days=elapsed / DAY_NS,
            days_per_year=bars.days_per_year,
        )
        outcome = Outcome.of(marks.equity, ruined=bool(ruined))
        return _trade_arrays(floats[:n], integers[:n]), marks, closes, outcome

    def _rates(self, stops: Stops) -> Float64Array:
        rates = np.empty(kernel.N_RATES)
        rates[kernel.STOP_LOSS] = math.nan if stops.stop_loss is None else stops.stop_loss
        rates[kernel.TAKE_PROFIT] = math.nan if stops.take_profit is None else stops.take_profit
        rates[kernel.SIZE] = stops.size
        rates[kernel.FEE] = self.costs.fee
        rates[kernel.SLIPPAGE] = self.costs.slippage
        rates[kernel.BORROW] = self.costs.borrow / _YEAR_NS
        return rates

    def _plan(self, stops: Stops) -> Int64Array:
        plan = np.empty(kernel.N_PLAN, dtype=np.int64)
        plan[kernel.FIRST] = self.start
        plan[kernel.LAST] = self.stop
        plan[kernel.AT_CLOSE] = self.fill == "close"
        plan[kernel.MAX_HOLD] = stops.max_hold or 0
        plan[kernel.COOLDOWN] = stops.cooldown
        plan[kernel.USE_ATR] = stops.needs_atr
        plan[kernel.INTERVAL] = self.bars.interval_ns
        return plan


def _trade_arrays(floats: Float64Array, integers: Int64Array) -> TradeArrays:
    return TradeArrays(
        entry_bar=integers[:, kernel.T_ENTRY_BAR].copy(),
        exit_bar=integers[:, kernel.T_EXIT_BAR].copy(),
        side=integers[:, kernel.T_SIDE].astype(np.int8),
        reason=integers[:, kernel.T_REASON].astype(np.int8),
        entry_price=floats[:, kernel.T_ENTRY].copy(),
        exit_price=floats[:, kernel.T_EXIT].copy(),
        units=floats[:, kernel.T_UNITS].copy(),
        fees=floats[:, kernel.T_FEES].copy(),
        pnl=floats[:, kernel.T_PNL].copy(),
    )


def _checked_point(strategy: Strategy, params: Mapping[str, Any], n: int) -> dict[str, Any]:
    point = strategy.space.normalise(params)
    lookback = getattr(strategy, "lookback", None)
    needed = lookback(point) if lookback is not None else 0
    if needed > n:
        raise ParameterError(
            f"{strategy.name} needs {needed} bars to warm up",
            value=n,
            where="bars",
            remedy="Use shorter periods or more data.",
        )
    return point


def simulate_reference(
    bars: Bars,
    strategy: Strategy,
    params: Mapping[str, Any],
    *,
    costs: Costs,
    fill: Fill = "next_open",
    max_gap: int | None = None,
    start: int = 0,
    stop: int | None = None,
) -> BacktestResult:
    """One backtest by the plain bar-by-bar loop, the readable definition.

    Args:
        bars: The market; indicators warm up on all of it.
        strategy: Where signals come from.
        params: Its parameters and the common ones.
        costs: Costs; free trading must be asked for with zeros.
        fill: "next_open" or "close".
        max_gap: After a longer gap indicators start anew and pending entries are dropped.
        start: First bar that may decide.
        stop: One past the last bar traded; an open position ends at bar stop-1. None: all.

    Raises:
        ParameterError: parameters, costs or range that are not valid, or too few bars.
    """
    arena = Arena.of(bars, costs=costs, fill=fill, max_gap=max_gap, start=start, stop=stop)
    point = _checked_point(strategy, params, len(bars))
    signals = strategy.signals(strategy.prepare(bars, max_gap=max_gap), point)
    trades, marks, closes, outcome = arena.walk(signals, Stops.of(point))
    close_time = bars.close_time[arena.start : arena.stop]
    return full_result(bars, trades, marks, closes, close_time, outcome)


def simulate(
    bars: Bars,
    strategy: Strategy,
    params: Mapping[str, Any],
    *,
    costs: Costs,
    fill: Fill = "next_open",
    max_gap: int | None = None,
    start: int = 0,
    stop: int | None = None,
) -> BacktestResult:
    """One backtest; arguments and errors as `simulate_reference`, and the same result."""
    return simulate_reference(
        bars, strategy, params, costs=costs, fill=fill, max_gap=max_gap, start=start, stop=stop
    )


def run_points(
    bars: Bars,
    prepared: Any,
    strategy: Strategy,
    points: Sequence[Mapping[str, Any]],
    *,
    costs: Costs,
    fill: Fill = "next_open",
    max_gap: int | None = None,
    start: int = 0,
    stop: int | None = None,
    arena: Arena | None = None,
) -> list[RunMarks]:
    """Backtests of many points, in their order, without tables; kernels release the GIL.

    Args:
        bars: The market.
        prepared: `strategy.prepare(bars, max_gap=max_gap)`, made once.
        strategy: Where signals come from.
        points: Parameters, normalised or not.
        costs: As in `simulate`.
        fill: As in `simulate`.
        max_gap: As in `simulate`.
        start: As in `simulate`.
        stop: As in `simulate`.
        arena: The same arguments bound once by `Arena.of`, to save that for every batch.

    Raises:
        ParameterError: as `simulate`.
    """
    place = arena or Arena.of(bars, costs=costs, fill=fill, max_gap=max_gap, start=start, stop=stop)
    runs = []
    for params in points:
        point = _checked_point(strategy, params, len(bars))
        signals = strategy.signals(prepared, point)
        trades, marks, _, outcome = place.walk(signals, Stops.of(point))
        runs.append(run_marks(bars, trades, marks, outcome))
    return runs
