"""The one protocol of a search, and the plain engine behind all tools that wrap it."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from ares.backtest.arena import Arena
from ares.backtest.engine import BatchMarks, check_lookback, run_ranges
from ares.backtest.metrics import daily_returns
from ares.core.errors import InputError, said_by
from ares.core.identity import fingerprint
from ares.kernels.blocks import MEASURES
from ares.search.blocks import (
    MAX_FLAT_BLOCKS,
    BlockTable,
    even_borders,
    flat_borders,
    table_of_runs,
)
from ares.search.failures import Reason
from ares.search.objective import Objective, Score
from ares.search.strategy_identity import strategy_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ares.backtest.costs import Costs
    from ares.backtest.result import BacktestResult
    from ares.core.types import Fill, Float64Array, Int64Array
    from ares.market.bars import Bars

_log = logging.getLogger("ares.search")

Point: TypeAlias = "Mapping[str, Any]"


class Evaluator(Protocol):
    """Whatever can put a value on points."""

    def evaluate(
        self, points: Sequence[Point], blocks: Sequence[int] | None = None, *, of: int | None = None
    ) -> list[Score]:
        """Scores of `points`, in their order.

        Args:
            points: Parameters by name.
            blocks: None is the continuous run; otherwise the flat-start results of these block
                indices, in this order.
            of: Into how many flat-start blocks the range is cut; default 32.
        """
        ...


class BacktestEvaluator(Evaluator, Protocol):
    """An evaluator of backtests: it can say what it evaluates, and give whole curves."""

    @property
    def problem(self) -> Problem:
        """What is evaluated."""
        ...

    def daily_returns(self, points: Sequence[Point]) -> Float64Array:
        """Daily net returns of the continuous runs, shape (points, days)."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Everything but the parameters that shapes the result of an evaluation.

    Attributes:
        bars: The market.
        strategy: Its `space` gives the parameters.
        costs: Per side.
        fill: Where decisions are filled.
        max_gap: As in `simulate`.
        objective: What is maximised.
        n_blocks: Scoring blocks of the continuous run, day-aligned.
        start: First bar on which decisions are made; indicators warm up before it.
        stop: One past the last bar that is traded.
    """

    bars: Bars
    strategy: Any
    costs: Costs
    fill: Fill
    max_gap: int | None
    objective: Objective
    n_blocks: int
    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= len(self.bars):
            raise InputError(
                "the traded range must lie inside the bars and not be empty",
                value=(self.start, self.stop, len(self.bars)),
                where="start, stop",
            )

    @functools.cached_property
    def identity(self) -> str | None:
        """Digest of all that shapes block results, without the objective; None: not cacheable."""
        strategy = strategy_identity(self.strategy)
        if strategy is None:
            return None
        market = (self.bars.digest, self.start, self.stop)
        return fingerprint(
            (market, strategy, self.costs, self.fill, self.max_gap, int(self.n_blocks))
        )

    def normalise(self, point: Point) -> dict[str, Any]:
        """The point with the types and defaults of the strategy's space."""
        found: dict[str, Any] = self.strategy.space.normalise(point)
        return found

    def scores(self, table: BlockTable, *, flat: bool, source: str = "engine") -> list[Score]:
        """The scores that these block results mean."""
        days = float(self.bars.days_per_year)
        return self.objective.scores(table, days, source, flat=flat)

    def simulated(self, params: Point, by: Callable[..., BacktestResult]) -> BacktestResult:
        """The continuous run of one point with its trades, by `simulate` or `simulate_reference`."""
        return by(
            self.bars,
            self.strategy,
            params,
            costs=self.costs,
            fill=self.fill,
            max_gap=self.max_gap,
            start=self.start,
            stop=self.stop,
        )

    def flat_borders(self, of: int | None) -> Int64Array:
        """Bar indices of the borders of the flat-start blocks."""
        count = of or MAX_FLAT_BLOCKS
        borders: Int64Array = self.bars.derived(
            ("flat borders", self.start, self.stop, count),
            lambda: flat_borders(self.bars.timestamp, self.start, self.stop, count),
        )
        return borders


class EngineEvaluator:
    """The plain engine: what every transparent tool must agree with, bit for bit.

    Args:
        bars: The market.
        strategy: A built-in or a user's.
        costs: None gives the calendar's defaults.
        fill: Where decisions are filled.
        max_gap: As in `simulate`.
        objective: What is maximised.
        n_blocks: Scoring blocks.
        start: First bar on which decisions are made.
        stop: One past the last traded bar; None is the end.
    """

    def __init__(
        self,
        bars: Bars,
        strategy: Any,
        *,
        costs: Costs | None = None,
        fill: Fill = "next_open",
        max_gap: int | None = None,
        objective: Objective | None = None,
        n_blocks: int = 16,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        from ares.backtest.costs import default_costs

        self._problem = Problem(
            bars=bars,
            strategy=strategy,
            costs=costs or default_costs(bars.calendar),
            fill=fill,
            max_gap=max_gap,
            objective=objective or Objective(),
            n_blocks=n_blocks,
            start=start,
            stop=len(bars) if stop is None else stop,
        )
        self._market: tuple[Any, Arena] | None = None
        self._warned = False
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process prepares for itself: sending the bars is cheaper than indicators.
        return (engine_of, (self._problem,))

    @property
    def problem(self) -> Problem:
        """What is evaluated."""
        return self._problem

    def evaluate(
        self, points: Sequence[Point], blocks: Sequence[int] | None = None, *, of: int | None = None
    ) -> list[Score]:
        """As `Evaluator.evaluate`. A point whose run raises is NOT_FINITE, with its reason.

        The first one is a warning, too.

        Raises:
            ParameterError: a parameter outside its domain.
        """
        problem = self._problem
        wanted = [problem.normalise(point) for point in points]
        if blocks is None:
            table, why = self._table(wanted, [(problem.start, problem.stop)], problem.n_blocks)
        elif not len(blocks):
            raise InputError("flat-start results need at least one block", where="blocks")
        else:
            borders = problem.flat_borders(of)
            pairs = [(int(borders[b]), int(borders[b + 1])) for b in blocks]
            table, why = self._table(wanted, pairs, 1)
        scores = problem.scores(table, flat=blocks is not None)
        for place, reason in why.items():
            scores[place] = dataclasses.replace(scores[place], reason=reason)
        return scores

    def daily_returns(self, points: Sequence[Point]) -> Float64Array:
        """Daily net returns of the continuous runs, shape (points, days); NaN where one failed."""
        problem = self._problem
        wanted = [problem.normalise(point) for point in points]
        rows = np.full((len(wanted), len(self._prepare()[1].day_ends[0])), np.nan)
        for places, runs in self._runs(wanted, [(problem.start, problem.stop)]):
            if not isinstance(runs, Reason):
                rows[places] = daily_returns(runs[0].equity)
        return rows

    def _table(
        self, points: list[dict[str, Any]], ranges: list[tuple[int, int]], pieces: int
    ) -> tuple[BlockTable, dict[int, Reason]]:
        """Block results of all points: the ranges in order, each cut into `pieces`.

        And why those that failed did, by their place.
        """
        parts, why = [], {}
        for places, runs in self._runs(points, ranges):
            if isinstance(runs, Reason):
                why[places.start] = runs
                parts.append(self._without_numbers(len(points[places]), ranges, pieces))
            else:
                parts.append(BlockTable.beside([cut(run, pieces) for run in runs]))
        if len(parts) == 1:
            return parts[0], why
        table = BlockTable(
            parts[0].n,
            np.concatenate([part.measures for part in parts]),
            np.concatenate([part.trades for part in parts]),
        )
        return table, why

    def _without_numbers(
        self, points: int, ranges: list[tuple[int, int]], pieces: int
    ) -> BlockTable:
        """What a run that failed leaves: NaN, and no trades."""
        lengths = [len(arena.day_ends[0]) for arena in self._arenas(ranges)]
        n = np.concatenate([np.diff(even_borders(length, pieces)) for length in lengths])
        return BlockTable(
            n,
            np.full((points, len(MEASURES), len(n)), np.nan),
            np.zeros((points, len(n)), dtype=np.int64),
        )

    def _arenas(self, ranges: list[tuple[int, int]]) -> list[Arena]:
        whole = self._prepare()[1]
        return [dataclasses.replace(whole, start=start, stop=stop) for start, stop in ranges]

    def _runs(
        self, points: list[dict[str, Any]], ranges: list[tuple[int, int]]
    ) -> list[tuple[slice, list[BatchMarks] | Reason]]:
        """The points as parts that ran in one call; the reason of a point that failed alone."""
        run = functools.partial(self._checked_run, self._arenas(ranges), self._prepare()[0])
        try:
            return [(slice(0, len(points)), run(points))]
        except Exception:  # noqa: BLE001  # a user's strategy may raise anything: find the point
            return [
                (slice(place, place + 1), self._alone(run, point))
                for place, point in enumerate(points)
            ]

    def _checked_run(
        self, arenas: list[Arena], prepared: Any, points: list[dict[str, Any]]
    ) -> list[BatchMarks]:
        problem = self._problem
        for point in points:
            check_lookback(problem.strategy, point, len(problem.bars))
        return run_ranges(arenas, problem.strategy, prepared, points)

    def _alone(
        self, run: Callable[..., list[BatchMarks]], point: dict[str, Any]
    ) -> list[BatchMarks] | Reason:
        try:
            return run([point])
        except Exception as error:  # noqa: BLE001  # the point fails alone, as a value
            level = logging.DEBUG if self._warned else logging.WARNING
            self._warned = True
            said = "a point has no score because its run failed: %s (%r)"
            _log.log(level, said, said_by(error), point)
            return Reason.of(error, "the strategy")

    def _prepare(self) -> tuple[Any, Arena]:
        """What does not depend on the parameters, made once."""
        with self._lock:
            if self._market is None:
                problem = self._problem
                arena = Arena.of(
                    problem.bars,
                    costs=problem.costs,
                    fill=problem.fill,
                    max_gap=problem.max_gap,
                    start=problem.start,
                    stop=problem.stop,
                )
                prepared = problem.strategy.prepare(problem.bars, max_gap=problem.max_gap)
                self._market = (prepared, arena)
            return self._market


def cut(run: BatchMarks, pieces: int) -> BlockTable:
    """Block results of each point's run, cut into at most `pieces` even, day-aligned blocks."""
    borders = even_borders(len(run.days), pieces)
    return table_of_runs(run.equity, run.closed, borders)


def engine_of(problem: Problem) -> EngineEvaluator:
    """The plain engine of a problem."""
    fields = {f.name: getattr(problem, f.name) for f in dataclasses.fields(problem)}
    return EngineEvaluator(fields.pop("bars"), fields.pop("strategy"), **fields)


def problem_of(evaluator: Evaluator) -> Problem | None:
    """What an evaluator evaluates; None for one that does not say."""
    found = getattr(evaluator, "problem", None)
    return found if isinstance(found, Problem) else None


def fallbacks_of(evaluator: Evaluator | None) -> list[str]:
    """Fallbacks that an evaluator, and those inside it, took."""
    stats = getattr(evaluator, "stats", None)
    return [] if stats is None else list(stats().get("fallbacks", ()))
