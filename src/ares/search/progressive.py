"""ProgressiveEvaluator: losers stop early. A policy: the value of a full result never changes.

Flat-start blocks are revealed in one seeded interleaved order, the same for all points; a prefix
in time would be another population, not an early estimate. After 4, 8, 16, ... blocks the worse
half of a generation stops; from 8 blocks on also whatever loses a paired Wilcoxon test against the
incumbent. Survivors get the continuous run, which alone has a value.
"""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from ares.backtest.strategies import SmaCross
from ares.core.errors import ConfigError
from ares.core.identity import seed_for
from ares.search.blocks import MAX_FLAT_BLOCKS, MIN_FLAT_BLOCKS, interleaved_order
from ares.search.evaluator import EngineEvaluator, fallbacks_of
from ares.search.frames import bars_from, reveal
from ares.search.objective import BAD, Score, block_ratios
from ares.search.ranks import pocock_level, signed_rank_p, spearman

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd

    from ares.backtest.costs import Costs
    from ares.core.types import Float64Array
    from ares.market.bars import Bars
    from ares.search.evaluator import BacktestEvaluator, Point, Problem
    from ares.search.objective import Objective

_log = logging.getLogger("ares.search")

Stages: TypeAlias = "Sequence[tuple[float, float]]"
STAGES: Final = ((0.1, 0.3), (0.3, 0.5), (1.0, 1.0))
_FLAT_STAGES: Final = (4, 8, 16)
_FIRST_TEST: Final = 8
_AUDITED: Final = 0.05
_AGREEMENT: Final = 0.9
_LEAST_SAMPLE: Final = 8


@dataclass(frozen=True)
class _Completed:
    """The best completed point of `evaluate_progressively`: value, and quantity per stage."""

    value: float
    quantities: tuple[float, ...]


class ProgressiveEvaluator:
    """Stops points that will not win.

    Args:
        full_data: A frame of bars or `Bars`; None where `inner` knows the market.
        stages: `(fraction of blocks, weight)` of `evaluate_progressively`; the last fraction is 1.
        inner: Evaluator of `evaluate`; default: the plain engine on `full_data`.
        strategy: What to backtest, where `inner` is not given.
        costs: Per side; None gives the calendar's defaults. Only without `inner`.
        objective: What is maximised. Only without `inner`.
        n_blocks: Blocks of `evaluate_progressively`; fewer where there are fewer rows.
        warmup: Rows before a block that `evaluate_progressively` hands along, where there are any.
        seed: Seed of the order of the blocks and of the choice of audited points.

    Raises:
        ConfigError: stages whose fractions do not increase to 1, or weights that are not positive.
    """

    def __init__(
        self,
        full_data: pd.DataFrame | Bars | None = None,
        *,
        stages: Stages = STAGES,
        inner: BacktestEvaluator | None = None,
        strategy: Any = None,
        costs: Costs | None = None,
        objective: Objective | None = None,
        n_blocks: int = 20,
        warmup: int = 200,
        seed: int = 0,
    ) -> None:
        self.stages = _checked_stages(stages)
        if n_blocks < 1 or warmup < 0:
            raise ConfigError("n_blocks must be positive, warmup not negative", where="progressive")
        self._data = full_data
        self._given = inner
        self._strategy, self._costs, self._objective = strategy, costs, objective
        self._n_blocks = n_blocks
        self._warmup = warmup
        self._seed = seed
        self._best: _Completed | None = None
        self._incumbent: tuple[dict[str, Any], float] | None = None
        self._flat: int | None = None
        self._calibrated = False
        self._generation = 0
        self._counts = {"full": 0, "stopped": 0, "audited": 0, "false_stops": 0, "failed": 0}
        self._agreements: list[tuple[int, float]] = []
        self._fallbacks: list[str] = []

    @property
    def problem(self) -> Problem:
        """What is evaluated."""
        return self._inner.problem

    def evaluate_progressively(
        self,
        params: Mapping[str, Any],
        evaluator_func: Callable[[pd.DataFrame, Mapping[str, Any]], float],
    ) -> float:
        """Value of one point by a function of contiguous blocks, stopped where it is losing.

        Args:
            params: Handed to `evaluator_func` as they are.
            evaluator_func: `f(subset, params) -> float`, called once per newly revealed block;
                the first `subset.attrs["warmup"]` rows come before the block.

        Returns:
            The plain mean over all blocks; -inf where the point was stopped, or where the function
            raised or gave a value that is not finite. It stops at a stage where the weighted mean
            of the stage means so far is below that of the best completed point of this instance
            by more than the standard error over the blocks seen.
        """
        subsets = reveal(self._data if self._data is not None else self.problem.bars)
        borders = subsets.borders(self._n_blocks)
        order = interleaved_order(len(borders) - 1, self._seed)
        values: list[float] = []
        quantities: list[float] = []
        weighted = weights = 0.0
        for stage, (fraction, weight) in enumerate(self.stages):
            until = max(len(values), math.ceil(fraction * len(order) - 1e-9))
            fresh = order[len(values) : until]
            for block in fresh:
                frame = subsets.block(borders, block, self._warmup)
                value = self._called(evaluator_func, frame, params)
                if not math.isfinite(value):
                    return BAD
                values.append(value)
            if fresh:
                weighted += weight * float(np.mean(values[-len(fresh) :]))
                weights += weight
            quantities.append(weighted / weights if weights else math.nan)
            if until < len(order) and self._loses(stage, quantities[-1], values):
                self._counts["stopped"] += 1
                return BAD
        result = float(np.mean(values))
        self._counts["full"] += 1
        if self._best is None or result > self._best.value:
            self._best = _Completed(result, tuple(quantities))
        return result

    def evaluate(
        self, points: Sequence[Point], blocks: Sequence[int] | None = None, *, of: int | None = None
    ) -> list[Score]:
        """One generation: full scores of the survivors, stopped scores (-inf) of the rest.

        Stops nothing before a generation was completed (that one also calibrates the blocks) and
        where flat-start blocks do not agree with continuous runs. With `blocks`: as `inner`.
        """
        if blocks is not None:
            return self._inner.evaluate(points, blocks, of=of)
        if self._incumbent is None or self._flat is None:
            return self.evaluate_full(points)
        scores = self._race(points, self._flat)
        self.learn(points, scores)
        return scores

    def evaluate_full(self, points: Sequence[Point]) -> list[Score]:
        """Continuous runs of all points; the first sufficient call calibrates the blocks."""
        scores = self._inner.evaluate(points)
        self.learn(points, scores)
        return scores

    def daily_returns(self, points: Sequence[Point]) -> Float64Array:
        """As `BacktestEvaluator.daily_returns`."""
        return self._inner.daily_returns(points)

    def calibrate(self, points: Sequence[Point], scores: Sequence[Score]) -> None:
        """Choose how many flat-start blocks there are; none where they do not tell the truth.

        The count is the largest up to 32 whose blocks are ten times as long as the longest
        lookback, at least 6. Where the rank correlation of block and continuous statistics over
        `points` is below 0.9 it is halved.
        """
        self._calibrated = True
        self._flat = None
        days = float(self.problem.bars.days_per_year)
        whole = [self.problem.objective.pooled(s.blocks, days) for s in scores]
        count = self._largest_count(points)
        while count >= MIN_FLAT_BLOCKS:
            flat = self._inner.evaluate(points, tuple(range(count)), of=count)
            pairs = [(a, b.value) for a, b in zip(whole, flat, strict=True)]
            kept = np.array([p for p in pairs if all(map(math.isfinite, p))]).reshape(-1, 2)
            agreement = spearman(kept[:, 0], kept[:, 1]) if len(kept) >= _LEAST_SAMPLE else math.nan
            self._agreements.append((count, agreement))
            if agreement >= _AGREEMENT:
                self._flat = count
                return
            count //= 2
        note = (
            "early stopping is off for this search, as short pieces of this market rank the points"
            " otherwise than the whole does: every point is run in full, which only takes longer"
        )
        _log.warning(note)
        self._fallbacks.append(note)

    def learn(self, points: Sequence[Point], scores: Sequence[Score]) -> None:
        """Take in one generation: calibration, the next incumbent, false stops.

        `evaluate` and `evaluate_full` do this themselves; a resumed search does it with the
        results that its ledger holds.
        """
        if not self._calibrated and len(points) >= _LEAST_SAMPLE:
            self.calibrate(points, scores)
        self._generation += 1
        for point, score in zip(points, scores, strict=True):
            if score.full:
                self._counts["full"] += 1
                if math.isfinite(score.value) and (
                    self._incumbent is None or score.value > self._incumbent[1]
                ):
                    self._incumbent = (dict(point), score.value)
            else:
                self._counts["stopped"] += 1
        for score in scores:
            if score.audit is not None and self._incumbent is not None:
                self._counts["audited"] += 1
                self._counts["false_stops"] += score.audit > self._incumbent[1]

    def stats(self) -> dict[str, Any]:
        """Counts, the block count in use, rank agreements, the measured false-stop rate."""
        audited = self._counts["audited"]
        return {
            **self._counts,
            "flat_blocks": self._flat,
            "agreements": list(self._agreements),
            "false_stop_rate": self._counts["false_stops"] / audited if audited else math.nan,
            "fallbacks": [*self._fallbacks, *fallbacks_of(self._given)],
        }

    @property
    def _inner(self) -> BacktestEvaluator:
        if self._given is None:
            self._given = EngineEvaluator(
                bars_from(self._data),
                self._strategy or SmaCross(),
                costs=self._costs,
                objective=self._objective,
            )
        return self._given

    def _called(
        self,
        function: Callable[[pd.DataFrame, Mapping[str, Any]], float],
        frame: pd.DataFrame,
        params: Mapping[str, Any],
    ) -> float:
        try:
            value = float(function(frame, params))
        except Exception as error:  # noqa: BLE001  # a user's function may raise anything
            _log.warning("the evaluator function raised %r: the point has no value", error)
            value = math.nan
        if not math.isfinite(value):
            self._counts["failed"] += 1
        return value

    def _loses(self, stage: int, quantity: float, values: list[float]) -> bool:
        if self._best is None or len(values) < 2:
            return False
        error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        return quantity < self._best.quantities[stage] - error

    def _largest_count(self, points: Sequence[Point]) -> int:
        """Largest block count whose blocks are ten lookbacks long, and a day at least."""
        problem = self.problem
        lookback = getattr(problem.strategy, "lookback", _largest_period)
        longest = max((int(lookback(problem.normalise(p))) for p in points), default=1)
        days = len(problem.flat_borders(MAX_FLAT_BLOCKS)) - 1
        return min(days, (problem.stop - problem.start) // (10 * max(longest, 1)))

    def _race(self, points: Sequence[Point], count: int) -> list[Score]:
        order = interleaved_order(count, self._seed)
        stages = [*(s for s in _FLAT_STAGES if s < count), count]
        alive = list(range(len(points)))
        stopped: dict[int, Score] = {}
        for stage, revealed in enumerate(stages, start=1):
            seen = order[:revealed]
            flat = self._inner.evaluate([points[i] for i in alive], seen, of=count)
            ranked = sorted(
                zip(alive, flat, strict=True), key=lambda pair: (-pair[1].value, pair[0])
            )
            kept = {i for i, _ in ranked[: (len(ranked) + 1) // 2]}
            if revealed >= _FIRST_TEST:
                kept -= self._beaten(flat, alive, seen, count, stages)
            for i, score in ranked:
                if i not in kept:
                    stopped[i] = replace(score, value=BAD, stage=stage, revealed=score.value)
            alive = [i for i in alive if i in kept]
        audits = [i for i in sorted(stopped) if self._audits(i)]
        full = self._inner.evaluate([points[i] for i in (*alive, *audits)])
        found = dict(zip((*alive, *audits), full, strict=True))
        for i in audits:
            stopped[i] = replace(stopped[i], audit=found[i].value)
        return [stopped[i] if i in stopped else found[i] for i in range(len(points))]

    def _beaten(
        self,
        flat: list[Score],
        alive: list[int],
        seen: Sequence[int],
        count: int,
        stages: list[int],
    ) -> set[int]:
        """Points that lose the paired test against the incumbent of the generations before."""
        if self._incumbent is None:
            return set()
        best = self._inner.evaluate([self._incumbent[0]], seen, of=count)[0]
        theirs = block_ratios(best.blocks)
        level = pocock_level(sum(s >= _FIRST_TEST for s in stages))
        return {
            i
            for i, score in zip(alive, flat, strict=True)
            if not math.isfinite(score.value)
            or signed_rank_p(theirs - block_ratios(score.blocks)) < level
        }

    def _audits(self, index: int) -> bool:
        draw = seed_for(self._seed, f"audit {self._generation} {index}")
        return draw < _AUDITED * 2**63


def _largest_period(params: Mapping[str, Any]) -> int:
    """A guess for strategies that do not say: their largest whole number."""
    return max((v for v in params.values() if type(v) is int), default=1)


def _checked_stages(stages: Stages) -> tuple[tuple[float, float], ...]:
    checked = tuple((float(f), float(w)) for f, w in stages)
    fractions = [0.0, *(f for f, _ in checked)]
    rising = all(a < b for a, b in itertools.pairwise(fractions))
    if not rising or fractions[-1] != 1.0 or any(not 0 < w < math.inf for _, w in checked):
        raise ConfigError(
            "stages are (fraction of blocks, weight): fractions rise to 1, weights are positive",
            value=checked,
            where="stages",
        )
    return checked
