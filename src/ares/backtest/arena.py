"""A market with the rules of one series of backtests, as the two engines take it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Final, get_args

import numpy as np

from ares.backtest import indicators
from ares.backtest.costs import Costs
from ares.backtest.metrics import DAY_NS, TradeArrays
from ares.backtest.signals import Signals, Stops, StopTable, flags_of
from ares.core.errors import ParameterError
from ares.core.types import BoolArray, Fill, Float64Array, Int64Array, readonly
from ares.kernels import position, simulate, sweep
from ares.kernels.index import extremes
from ares.market.bars import Bars

if TYPE_CHECKING:
    from ares.backtest.batch import SignalBatch

ATR_PERIOD: Final = 14
_YEAR_NS: Final = 365.25 * DAY_NS
_NO_LEVELS: Final = np.empty(0)
_NO_MARKS: Final = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Walked:
    """What one walk leaves behind.

    Attributes:
        trades: All round trips.
        closes: Equity at every close of the range.
        ruined: Whether equity reached zero.
    """

    trades: TradeArrays
    closes: Float64Array
    ruined: bool


@dataclass(frozen=True, eq=False)
class Arena:
    """Everything of a backtest but strategy and parameters; reused for all points of a search.

    Build it with `Arena.of`, which checks. What depends on the bars alone is kept with them.

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
            ParameterError: something else than bars or costs, no bars, an unknown fill rule, a
                negative `max_gap`, or a range outside the bars.
        """
        if not isinstance(bars, Bars):
            raise ParameterError(
                "a backtest trades Bars",
                value=type(bars).__name__,
                where="bars",
                remedy="ares.load_bars reads them, ares.Bars.from_frame makes them of a DataFrame.",
            )
        if not isinstance(costs, Costs):
            raise ParameterError(
                "costs are Costs(fee=..., slippage=...)",
                value=type(costs).__name__,
                where="costs",
                remedy="Free trading is Costs(0, 0).",
            )
        n = len(bars)
        if n == 0:
            raise ParameterError("a backtest needs at least one bar", value=n, where="bars")
        if fill not in get_args(Fill):
            raise ParameterError("fill must be next_open or close", value=fill, where="fill")
        return Arena(bars, costs, fill, max_gap, start, n if stop is None else stop)

    def __post_init__(self) -> None:
        n = len(self.bars)
        for name in ("max_gap", "start", "stop"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Integral):
                raise ParameterError(f"{name} is a whole number of bars", value=value, where=name)
        if self.max_gap is not None and self.max_gap < 0:
            raise ParameterError("max_gap counts bars", value=self.max_gap, where="max_gap")
        if not 0 <= self.start < self.stop <= n:
            raise ParameterError(
                f"start and stop must be a range of the {n} bars", value=(self.start, self.stop)
            )

    @property
    def day_ends(self) -> tuple[Int64Array, Int64Array]:
        """For each day to mark: the bar whose close marks it, and days since 1970-01-01 UTC."""
        ends: tuple[Int64Array, Int64Array] = self.bars.derived(
            ("day ends", self.start, self.stop), lambda: _day_ends(self.bars, self.start, self.stop)
        )
        return ends

    @property
    def last_day(self) -> tuple[Int64Array, Int64Array]:
        """The last entry of `day_ends`, without the others."""
        last = self.stop - 1
        return np.array([last]), self.bars.timestamp[last : last + 1] // DAY_NS

    def by_bars(self, signals: Signals, stops: Stops) -> Walked:
        """One point by the bar-by-bar loop.

        Raises:
            ParameterError: signals that do not fit the bars.
        """
        flags = flags_of(signals, len(self.bars), stops.direction)
        span = self.stop - self.start
        closes, books = np.empty(span), _books(1, span)
        table = StopTable.of([vars(stops)])
        rules = (self._rates(table)[0], self._plans(table, keep=True)[0], *self._funding)
        atr = self._atr if table.needs_atr else _NO_LEVELS
        with np.errstate(all="ignore"):  # values beyond the floats become an outcome
            n, ruined = simulate.walk(
                self._market,
                flags,
                self._stale.view(np.uint8),
                atr,
                rules,
                (books[0][0], books[1][0], *books[2:]),
                closes,
            )
        return Walked(_trade_arrays(books, n), closes, bool(ruined))

    def by_events(self, batch: SignalBatch, stops: Stops) -> Walked:
        """The one point of a batch by event skipping, with its trades and all closes."""
        books = _books(1, self.stop - self.start)
        closes, _, totals = self.sweep(batch, StopTable.of([vars(stops)]), _NO_MARKS, books)
        return Walked(_trade_arrays(books, int(totals[0, 0])), closes[0], bool(totals[0, 1]))

    def sweep(
        self,
        batch: SignalBatch,
        stops: StopTable,
        marked: Int64Array,
        books: position.Books | None = None,
    ) -> tuple[Float64Array, Int64Array, Int64Array]:
        """All points of a batch by event skipping.

        Args:
            batch: Their signals.
            stops: Their stops.
            marked: Bars at whose closes equity is wanted, not decreasing.
            books: Their tables become the trades of the one point there is, of which every close is
                marked; None: trades are only counted.

        Returns:
            Equity at the marks and trades closed since the mark before, shape (points, marks), and
            number of trades and whether all was lost, shape (points, 2).
        """
        marks = np.empty((len(batch), len(marked) if books is None else self.stop - self.start))
        closed = np.zeros((len(batch), len(marked)), dtype=np.int64)
        keep, books = books is not None, books or _books(len(batch), 1)
        atr = self._atr if stops.needs_atr else _NO_LEVELS
        minima, maxima = self._extremes
        places = (self._stale.view(np.uint8), atr, self._funding_bars, minima, maxima)
        with np.errstate(all="ignore"):  # as in the bar-by-bar loop
            sweep.sweep(
                batch.sources,
                batch.levels,
                self._market,
                places,
                self._rates(stops),
                self._plans(stops, keep=keep),
                self._funding,
                marked,
                marks,
                closed,
                np.zeros((len(batch), 4), dtype=np.int64),
                books,
            )
        return marks, closed, books[1][:, [position.TRADES, position.RUINED]]

    @property
    def _market(self) -> position.Market:
        bars = self.bars
        return bars.open, bars.high, bars.low, bars.close, bars.timestamp

    @property
    def _extremes(self) -> tuple[Float64Array, Float64Array]:
        """Block minima of the lows and block maxima of the highs."""
        bars = self.bars
        found: tuple[Float64Array, Float64Array] = self.bars.derived(
            "extremes", lambda: (extremes(bars.low, -1.0), extremes(bars.high, 1.0))
        )
        return found

    @property
    def _starts(self) -> Int64Array:
        starts: Int64Array = self.bars.derived(
            ("starts", self.max_gap), lambda: self.bars.segments(self.max_gap)
        )
        return starts

    @property
    def _stale(self) -> BoolArray:
        stale: BoolArray = self.bars.derived(
            ("stale", self.max_gap), lambda: _stale(self._starts, len(self.bars))
        )
        return stale

    @property
    def _atr(self) -> Float64Array:
        bars = self.bars
        atr: Float64Array = self.bars.derived(
            ("atr", self.max_gap),
            lambda: indicators.atr(
                bars.high, bars.low, bars.close, ATR_PERIOD, starts=self._starts
            ),
        )
        return atr

    @functools.cached_property
    def _funding(self) -> tuple[Int64Array, Float64Array]:
        pairs = self.costs.funding or ()
        times = np.array([time for time, _ in pairs], dtype=np.int64)
        return times, np.array([rate for _, rate in pairs], dtype=np.float64)

    @functools.cached_property
    def _funding_bars(self) -> Int64Array:
        """For each payment the first bar that is not over when it falls due."""
        times = self._funding[0]
        if not len(times):
            return times
        return np.searchsorted(self.bars.timestamp, times - self.bars.interval_ns).astype(np.int64)

    def _rates(self, stops: StopTable) -> Float64Array:
        rates = np.empty((len(stops.rates), position.N_RATES))
        rates[:, position.FEE] = self.costs.fee
        rates[:, position.SLIPPAGE] = self.costs.slippage
        rates[:, position.BORROW] = self.costs.borrow / _YEAR_NS
        rates[:, [position.STOP_LOSS, position.TAKE_PROFIT, position.SIZE]] = stops.rates
        return rates

    def _plans(self, stops: StopTable, *, keep: bool) -> Int64Array:
        plans = np.empty((len(stops.plans), position.N_PLAN), dtype=np.int64)
        plans[:, position.FIRST] = self.start
        plans[:, position.LAST] = self.stop
        plans[:, position.AT_CLOSE] = self.fill == "close"
        plans[:, position.INTERVAL] = self.bars.interval_ns
        plans[:, position.KEEP] = keep
        plans[:, [position.MAX_HOLD, position.COOLDOWN, position.USE_ATR, position.WATCHED]] = (
            stops.plans
        )
        return plans


def _day_ends(bars: Bars, start: int, stop: int) -> tuple[Int64Array, Int64Array]:
    day = bars.timestamp[start:stop] // DAY_NS
    ends = np.flatnonzero(np.append(day[1:] != day[:-1], True))
    days = present = day[ends]
    if bars.calendar == "24/7":
        days = np.arange(present[0], present[-1] + 1, dtype=np.int64)
    marked = ends[np.searchsorted(present, days, side="right") - 1] + start
    readonly(marked)
    readonly(days)
    return marked, days


def _stale(starts: Int64Array, n: int) -> BoolArray:
    stale = np.zeros(n, dtype=np.bool_)
    stale[starts[1:]] = True
    readonly(stale)
    return stale


def _books(points: int, trades: int) -> position.Books:
    """Room for positions, and for finished trades."""
    return (
        np.empty((points, position.N_BOOK)),
        np.empty((points, position.N_STATE), dtype=np.int64),
        np.empty((trades, 5)),
        np.empty((trades, 4), dtype=np.int64),
    )


def _trade_arrays(books: position.Books, n: int) -> TradeArrays:
    floats, integers = books[2][:n], books[3][:n]
    return TradeArrays(
        entry_bar=integers[:, position.T_ENTRY_BAR].copy(),
        exit_bar=integers[:, position.T_EXIT_BAR].copy(),
        side=integers[:, position.T_SIDE].astype(np.int8),
        reason=integers[:, position.T_REASON].astype(np.int8),
        entry_price=floats[:, position.T_ENTRY].copy(),
        exit_price=floats[:, position.T_EXIT].copy(),
        units=floats[:, position.T_UNITS].copy(),
        fees=floats[:, position.T_FEES].copy(),
        pnl=floats[:, position.T_PNL].copy(),
    )
