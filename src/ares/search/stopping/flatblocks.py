"""Flat-start blocks of early stopping: how many there are, and whether they tell the truth.

A flat-start block is a run that begins without a position. On data with few trades that is another
strategy than the continuous run: where its ranks differ, nothing may be stopped by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.backtest.engine import simulate
from ares.backtest.space import COMMON
from ares.search.blocks import MAX_FLAT_BLOCKS, MIN_FLAT_BLOCKS, BlockTable, interleaved_order
from ares.search.objective import BAD
from ares.search.stopping.ranks import spearman

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ares.search.blocks import BlockResults
    from ares.search.evaluator import BacktestEvaluator, Point, Problem
    from ares.search.objective import Score

LEAST_SAMPLE: Final = 8
"""Points with a value that a rank correlation needs."""
AGREEMENT: Final = 0.9
FIRST_TEST: Final = 8
_STAGES: Final = (4, 8, 16)
_LENGTH: Final = 10
_HELD_SAMPLE: Final = 3


@dataclass(frozen=True)
class Plan:
    """What a race reveals.

    Attributes:
        count: Flat-start blocks in the range.
        order: Their indices, in the order in which all points reveal them.
    """

    count: int
    order: tuple[int, ...]

    @staticmethod
    def of(count: int, seed: int) -> Plan:
        """The plan of `count` blocks in the order that `seed` gives."""
        return Plan(count, interleaved_order(count, seed))

    @property
    def stages(self) -> tuple[int, ...]:
        """How many blocks are revealed at the end of each stage."""
        return (*(s for s in _STAGES if s < self.count), self.count)

    def reveal(
        self,
        inner: BacktestEvaluator,
        points: Sequence[Point],
        known: Sequence[BlockResults],
        until: int,
    ) -> list[Score]:
        """Scores of the first `until` blocks; only what is not `known` runs.

        Args:
            inner: Who runs it.
            points: Parameters.
            known: Earlier results of each point, all of equally many blocks; empty for none.
            until: Blocks that shall be revealed.
        """
        have = len(known[0]) if known else 0
        fresh = inner.evaluate(points, self.order[have:until], of=self.count)
        if not have:
            return fresh
        both = BlockTable.beside(
            [BlockTable.of(known), BlockTable.of([score.blocks for score in fresh])]
        )
        return inner.problem.scores(both, flat=True)


@dataclass(frozen=True)
class Calibration:
    """What was found about flat-start blocks.

    Attributes:
        plan: What races reveal; None where early stopping is off.
        agreements: Block counts that were tried, with their rank correlations.
        lookback: Longest lookback of the sample in bars.
        holding: Typical bars held per trade.
        off: Why early stopping is off, a clause; None where it is on.
        runs: Runs over the whole range that the calibration took.
    """

    plan: Plan | None
    agreements: tuple[tuple[int, float], ...]
    lookback: int
    holding: float
    off: str | None
    runs: int


def merit(problem: Problem, score: Score, *, whole: bool) -> float:
    """What a point is ranked by: the statistic of its revealed blocks.

    With all blocks revealed it is the objective itself, less its penalty; of a few blocks the
    jackknife is noise, which kept no better points when it was tried.

    A point that has not traded there is last where a score needs trades: the zero that it earned
    would rank it above every loser, and it would be run in full only to have too few trades.

    Args:
        problem: What is evaluated.
        score: Score of the revealed blocks.
        whole: Whether these are all blocks.
    """
    objective, blocks = problem.objective, score.blocks
    if objective.min_trades > 0 and not blocks.trades.any():
        return BAD
    if not (whole and objective.penalty and math.isfinite(score.value)):
        return score.value
    if not math.isfinite(score.error):
        return score.value
    return score.value - objective.penalty * score.error


def calibrate(
    inner: BacktestEvaluator, points: Sequence[Point], scores: Sequence[Score], seed: int
) -> Calibration:
    """Choose how many flat-start blocks there are; none where they do not tell the truth.

    The count is the largest up to 32 whose blocks are ten times as long as the longest lookback
    and the typical holding time together, at least 9. Where the ranks of the points by their
    blocks correlate with those by their values at less than 0.9, it is halved.

    Args:
        inner: Who runs the blocks.
        points: Points that have a value; the extreme lookback counts, as it is the slow points that
            flat starts misrepresent.
        scores: Their continuous scores.
        seed: Seed of the order of the blocks.
    """
    problem = inner.problem
    lookback = max(_lookback(problem, point) for point in points)
    holding = _typical_holding(problem, points, scores)
    runs = min(_HELD_SAMPLE, len(points))
    count, short = _largest_count(problem, lookback, holding)
    if short is not None:
        return Calibration(None, (), lookback, holding, short, runs)
    values = np.array([score.value for score in scores])
    agreements: list[tuple[int, float]] = []
    while count >= MIN_FLAT_BLOCKS:
        flat = inner.evaluate(points, tuple(range(count)), of=count)
        runs += len(points)
        agreement = spearman(
            values, np.array([merit(problem, score, whole=True) for score in flat])
        )
        agreements.append((count, agreement))
        if agreement >= AGREEMENT:
            plan = Plan.of(count, seed)
            return Calibration(plan, tuple(agreements), lookback, holding, None, runs)
        count //= 2
    tried = ", ".join(f"{_correlation(found)} with {n} blocks" for n, found in agreements)
    why = (
        f"flat-start blocks rank {len(points)} points otherwise than the continuous run does: rank"
        f" correlation {tried}, and {AGREEMENT} is needed"
    )
    return Calibration(None, tuple(agreements), lookback, holding, why, runs)


def _largest_count(problem: Problem, lookback: int, holding: float) -> tuple[int, str | None]:
    """Largest block count whose shortest block has the bars needed, or why there is none."""
    days = len(problem.flat_borders(MAX_FLAT_BLOCKS)) - 1
    if days < MIN_FLAT_BLOCKS:
        least = f"{MIN_FLAT_BLOCKS} are needed for as many flat-start blocks"
        return 0, f"the range has {days} day{'s' * (days != 1)}, and {least}"
    needed = _LENGTH * (max(lookback, 1) + holding)
    most = min(days, int((problem.stop - problem.start) // needed))
    for count in range(most, MIN_FLAT_BLOCKS - 1, -1):
        if _shortest(problem, count) >= needed:
            return count, None
    return 0, (
        f"the shortest of {MIN_FLAT_BLOCKS} blocks has {_shortest(problem, MIN_FLAT_BLOCKS)} bars,"
        f" and {_LENGTH} x (longest lookback {lookback} + typical holding {holding:.1f}) ="
        f" {needed:.0f} are needed"
    )


def _shortest(problem: Problem, count: int) -> int:
    return int(np.diff(problem.flat_borders(count)).min())


def _lookback(problem: Problem, point: Point) -> int:
    """Bars that a point looks back; for a strategy that does not say, its largest whole number."""
    params = problem.normalise(point)
    says = getattr(problem.strategy, "lookback", None)
    bars = int(says(params)) if says is not None else 0
    return bars or _largest_period(params)


def _largest_period(params: Mapping[str, Any]) -> int:
    own = (value for name, value in params.items() if name not in COMMON and type(value) is int)
    return max(own, default=0)


def _typical_holding(problem: Problem, points: Sequence[Point], scores: Sequence[Score]) -> float:
    """Mean bars held per trade, median over the points with the middle trade counts.

    Blocks do not say how long trades last, so these few points run once more, with their trades.
    """
    order = np.argsort([int(score.blocks.trades.sum()) for score in scores], kind="stable")
    first = max(0, (len(order) - _HELD_SAMPLE) // 2)
    held = [_bars_held(problem, points[i]) for i in order[first : first + _HELD_SAMPLE]]
    return float(np.median(held))


def _bars_held(problem: Problem, point: Point) -> float:
    result = problem.simulated(point, simulate)
    held = (result.trades["exit_bar"] - result.trades["entry_bar"]).to_numpy(dtype=np.float64)
    return float(held.mean()) if len(held) else 0.0


def _correlation(found: float) -> str:
    return "undefined" if math.isnan(found) else f"{math.floor(found * 1e3) / 1e3:.3f}"
