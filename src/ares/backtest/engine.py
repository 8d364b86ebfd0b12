"""The backtest: signals and stops in, trades and marks out.

One position at a time. A decision uses bars up to and including t and is filled at the open of bar
t+1 (`fill="next_open"`) or at the close of bar t (`fill="close"`). What happens inside a bar is
written in `ares.kernels.position`. `simulate_reference` walks every bar; `simulate` and `run_batch`
go from one bar at which something can happen to the next, and give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ares.backtest.arena import Arena, Walked
from ares.backtest.batch import SignalBatch
from ares.backtest.checks import checked_signals
from ares.backtest.metrics import DAY_NS, Marks
from ares.backtest.result import BacktestResult, Outcome, full_result
from ares.backtest.signals import Signals, Stops
from ares.backtest.strategies import BATCHED
from ares.core.errors import ParameterError
from ares.core.types import BoolArray, Fill, Float64Array, Int64Array, readonly

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ares.backtest.costs import Costs
    from ares.backtest.strategy import Strategy
    from ares.market.bars import Bars


@dataclass(frozen=True, eq=False)
class BatchMarks:
    """What a search needs of the backtests of many points, without a table of trades.

    Attributes:
        days: Days since 1970-01-01 UTC that are marked, shape (days,).
        equity: Equity at each day's last close, shape (points, days); the initial cash is 1.
        closed: Round trips that ended on each day, shape (points, days).
        n_trades: Round trips of each point, shape (points,).
        ruined: Whether equity of each point reached zero, shape (points,).
    """

    days: Int64Array
    equity: Float64Array
    closed: Int64Array
    n_trades: Int64Array
    ruined: BoolArray

    def __post_init__(self) -> None:
        for array in (self.days, self.equity, self.closed, self.n_trades, self.ruined):
            readonly(array)

    def __len__(self) -> int:
        return len(self.equity)

    @property
    def total_return(self) -> Float64Array:
        """Return of each point over the whole range, a fraction."""
        return self.equity[:, -1] - 1.0

    def outcome(self, point: int) -> Outcome:
        """How the backtest of one point ended."""
        return Outcome.of(self.equity[point], ruined=bool(self.ruined[point]))


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
    signals = _answer(strategy, strategy.prepare(bars, max_gap=max_gap), point, len(bars))
    return _result(arena, arena.by_bars(signals, Stops.of(point)))


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
    """One backtest by event skipping; arguments, errors and result as `simulate_reference`."""
    arena = Arena.of(bars, costs=costs, fill=fill, max_gap=max_gap, start=start, stop=stop)
    point = _checked_point(strategy, params, len(bars))
    batch = _signals(strategy, strategy.prepare(bars, max_gap=max_gap), [point], len(bars))
    return _result(arena, arena.by_events(batch, Stops.of(point)))


def run_batch(
    arena: Arena,
    strategy: Strategy,
    points: Sequence[Mapping[str, Any]],
    *,
    prepared: Any = None,
    marks: Literal["days", "end"] = "days",
) -> BatchMarks:
    """Backtests of many points in one call, without tables; kernels release the GIL.

    The strategies that are built in run without Python between the points.

    Args:
        arena: Market and rules, bound once by `Arena.of`; its `start` and `stop` are the block.
        strategy: Where signals come from.
        points: Parameters, normalised or not.
        prepared: `strategy.prepare(arena.bars, max_gap=arena.max_gap)`; None makes it.
        marks: "days" marks every day, "end" the last one only.

    Raises:
        ParameterError: as `simulate`.
    """
    n = len(arena.bars)
    wanted = [_checked_point(strategy, params, n) for params in points]
    if prepared is None:
        prepared = strategy.prepare(arena.bars, max_gap=arena.max_gap)
    batch = _signals(strategy, prepared, wanted, n)
    ends, days = arena.day_ends if marks == "days" else arena.last_day
    equity, closed, totals = arena.sweep(batch, [Stops.of(point) for point in wanted], ends)
    return BatchMarks(days, equity, closed, totals[:, 0].copy(), totals[:, 1] != 0)


def _signals(
    strategy: Strategy, prepared: Any, points: Sequence[Mapping[str, Any]], n: int
) -> SignalBatch:
    if isinstance(strategy, BATCHED):
        return strategy.signals_batch(prepared, points)
    return SignalBatch.of([_answer(strategy, prepared, point, n) for point in points])


def _answer(strategy: Strategy, prepared: Any, point: Mapping[str, Any], n: int) -> Signals:
    where = getattr(strategy, "where", f"{strategy.name}.signals")
    return checked_signals(strategy.signals(prepared, point), n, where=where)


def _checked_point(strategy: Strategy, params: Mapping[str, Any], n: int) -> dict[str, Any]:
    if isinstance(strategy, type) or not hasattr(strategy, "space"):
        raise ParameterError(
            "a strategy is an object with name, space, prepare and signals",
            value=strategy,
            where="strategy",
            remedy="For example SmaCross(), or load_strategy('my_file.py:MyStrategy').",
        )
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


def _result(arena: Arena, walked: Walked) -> BacktestResult:
    """Tables and metrics, by one function for both engines."""
    bars, (ends, days) = arena.bars, arena.day_ends
    elapsed = int(bars.close_time[arena.stop - 1]) - int(bars.timestamp[arena.start])
    marks = Marks.of(
        walked.trades,
        walked.closes,
        days=days,
        ends=ends - arena.start,
        elapsed_days=elapsed / DAY_NS,
        days_per_year=bars.days_per_year,
    )
    close_time = bars.close_time[arena.start : arena.stop]
    outcome = Outcome.of(marks.equity, ruined=walked.ruined)
    return full_result(bars, walked.trades, marks, walked.closes, close_time, outcome)
