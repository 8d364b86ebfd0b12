"""The backtest: signals and stops in, trades and marks out.

One position at a time. A decision uses bars up to and including t and is filled at the open of bar
t+1 (`fill="next_open"`) or at the close of bar t (`fill="close"`). What happens inside a bar is
written in `ares.kernels.position`. `simulate_reference` walks every bar; `simulate` and `run_batch`
go from one bar at which something can happen to the next, and give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ares.backtest.arena import Arena, Walked
from ares.backtest.batch import SignalAnswers, SignalBatch
from ares.backtest.checks import checked_signals
from ares.backtest.metrics import DAY_NS, Marks
from ares.backtest.result import BacktestResult, Outcome, full_result
from ares.backtest.signals import Signals, Stops, StopTable
from ares.backtest.strategies import BATCHED, columns_per_point
from ares.core.errors import ParameterError
from ares.core.types import BoolArray, Fill, Float64Array, Int64Array, readonly

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ares.backtest.costs import Costs
    from ares.backtest.strategy import Strategy
    from ares.market.bars import Bars

BATCH_BYTES: Final = 256 << 20  # of columns that are held for the points of one call


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

    @staticmethod
    def join(parts: Sequence[BatchMarks]) -> BatchMarks:
        """The points of several batches on the same days."""
        if len(parts) == 1:
            return parts[0]
        rows = ("equity", "closed", "n_trades", "ruined")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in rows}
        return BatchMarks(days=parts[0].days, **joined)

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
    marks: Literal["days", "end"] = "days",
) -> BatchMarks:
    """Backtests of many points in one call, without tables; kernels release the GIL.

    The strategies that are built in run without Python between the points.

    Args:
        arena: Market and rules, bound once by `Arena.of`.
        strategy: Where signals come from.
        points: Parameters; what they lack has its default.
        marks: "days" marks every day, "end" the last one only.

    Raises:
        ParameterError: as `simulate`; or another word for `marks`.
    """
    if not isinstance(arena, Arena):
        raise ParameterError(
            "a batch runs in an Arena",
            value=type(arena).__name__,
            where="arena",
            remedy="Arena.of(bars, costs=...) makes one.",
        )
    wanted = [_checked_point(strategy, params, len(arena.bars)) for params in points]
    prepared = strategy.prepare(arena.bars, max_gap=arena.max_gap)
    return run_ranges([arena], strategy, prepared, wanted, marks=marks)[0]


def run_ranges(
    arenas: Sequence[Arena],
    strategy: Strategy,
    prepared: Any,
    points: Sequence[Mapping[str, Any]],
    *,
    marks: Literal["days", "end"] = "days",
) -> list[BatchMarks]:
    """The same points on several ranges of one market; their signals are made once.

    Args:
        arenas: Ranges of the same bars under the same `max_gap`.
        strategy: Where signals come from.
        prepared: What `strategy.prepare` makes of these bars and this `max_gap`.
        points: Normalised parameters.
        marks: As in `run_batch`.
    """
    if marks not in {"days", "end"}:
        raise ParameterError("marks must be days or end", value=marks, where="marks")
    n = len(arenas[0].bars)
    size = max(1, BATCH_BYTES // (columns_per_point(strategy, prepared) * 8 * n + 1))
    parts: list[list[BatchMarks]] = [[] for _ in arenas]
    for begin in range(0, len(points) or 1, size):
        some = points[begin : begin + size]
        batch = _signals(strategy, prepared, some, n)
        stops = StopTable.of(some)
        for arena, part in zip(arenas, parts, strict=True):
            ends, days = arena.day_ends if marks == "days" else arena.last_day
            equity, closed, totals = arena.sweep(batch, stops, ends)
            part.append(BatchMarks(days, equity, closed, totals[:, 0].copy(), totals[:, 1] != 0))
    return [BatchMarks.join(part) for part in parts]


def _signals(
    strategy: Strategy, prepared: Any, points: Sequence[Mapping[str, Any]], n: int
) -> SignalBatch:
    if type(strategy) in BATCHED:
        batch: SignalBatch = strategy.signals_batch(prepared, points)  # type: ignore[attr-defined]
        return batch
    answers = SignalAnswers()
    for point in points:
        answers.add(_answer(strategy, prepared, point, n))
    return answers.batch()


def _answer(strategy: Strategy, prepared: Any, point: Mapping[str, Any], n: int) -> Signals:
    signals = strategy.signals(prepared, point)
    if type(strategy) in BATCHED:
        return signals
    where = getattr(strategy, "where", f"{strategy.name}.signals")
    return checked_signals(signals, n, where=where)


def _checked_point(strategy: Strategy, params: Mapping[str, Any], n: int) -> dict[str, Any]:
    if isinstance(strategy, type) or not hasattr(strategy, "space"):
        raise ParameterError(
            "a strategy is an object with name, space, prepare and signals",
            value=strategy,
            where="strategy",
            remedy="For example SmaCross(), or load_strategy('my_file.py:MyStrategy').",
        )
    point = strategy.space.normalise(params)
    check_lookback(strategy, point, n)
    return point


def check_lookback(strategy: Strategy, point: Mapping[str, Any], n: int) -> None:
    """Whether n bars are enough for the slowest signal of a point.

    Raises:
        ParameterError: they are not.
    """
    lookback = getattr(strategy, "lookback", None)
    needed = lookback(point) if lookback is not None else 0
    if needed > n:
        raise ParameterError(
            f"{strategy.name} needs {needed} bars to warm up",
            value=n,
            where="bars",
            remedy="Use shorter periods or more data.",
        )


def _result(arena: Arena, walked: Walked) -> BacktestResult:
    """Tables and metrics, by one function for both engines."""
    bars, (ends, days) = arena.bars, arena.day_ends
    opens = bars.timestamp[arena.start : arena.stop]
    elapsed = int(opens[-1]) + bars.interval_ns - int(opens[0])
    marks = Marks.of(
        walked.trades,
        walked.closes,
        days=days,
        ends=ends - arena.start,
        elapsed_days=elapsed / DAY_NS,
        days_per_year=bars.days_per_year,
    )
    outcome = Outcome.of(marks.equity, ruined=walked.ruined)
    return full_result(bars, walked.trades, marks, walked.closes, opens + bars.interval_ns, outcome)
