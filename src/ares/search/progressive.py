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
from ares.core.errors import ConfigError, said_by
from ares.core.identity import seed_for
from ares.market.bars import Bars
from ares.search.blocks import interleaved_order
from ares.search.evaluator import EngineEvaluator, fallbacks_of
from ares.search.frames import bars_from, reveal
from ares.search.objective import BAD
from ares.search.stopping.account import StopAccount
from ares.search.stopping.flatblocks import LEAST_SAMPLE, calibrate
from ares.search.stopping.race import Incumbent, race

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd

    from ares.backtest.costs import Costs
    from ares.core.types import Float64Array
    from ares.search.evaluator import BacktestEvaluator, Point, Problem
    from ares.search.frames import Subsets
    from ares.search.objective import Objective, Score
    from ares.search.stopping.flatblocks import Calibration

_log = logging.getLogger("ares.search")

Stages: TypeAlias = "Sequence[tuple[float, float]]"
STAGES: Final = ((0.1, 0.3), (0.3, 0.5), (1.0, 1.0))
_AUDITED: Final = 0.05
OFF: Final = "early stopping is off"
"""Begins the note of a search in which nothing is stopped; the reason follows.

Every search of a training may say so, with other numbers: its log record has this as `once`."""


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
        self.seed = seed
        self._revealed: Subsets | None = None
        self._best: _Completed | None = None
        self._counts = {"full": 0, "stopped": 0, "failed": 0}
        self.begin()

    def begin(self) -> None:
        """Forget all generations: a search begins, and must not depend on the one before it.

        What `evaluate_progressively` knows stays.
        """
        self._incumbent: Incumbent | None = None
        self._calibration: Calibration | None = None
        self._sample: list[tuple[dict[str, Any], Score]] = []
        self._seen = 0
        self._generation = 0
        self._account = StopAccount()

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
        subsets = self._subsets()
        borders = subsets.borders(self._n_blocks)
        order = interleaved_order(len(borders) - 1, self.seed)
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

        Nothing is stopped before the blocks are calibrated (on the first points that were run in
        full), where they do not tell the truth, and in a generation of one point, which has no
        worse half. With `blocks`: as `inner`.
        """
        if blocks is not None:
            return self._inner.evaluate(points, blocks, of=of)
        plan = None if self._calibration is None else self._calibration.plan
        if plan is None or self._incumbent is None or len(points) < 2:
            return self.evaluate_full(points)
        stopped = race(self._inner, points, plan, self._incumbent)
        draws = np.random.default_rng(seed_for(self.seed, f"audit {self._generation}"))
        chosen = draws.random(len(points)) < _AUDITED
        audited = [i for i in sorted(stopped) if chosen[i]]
        wanted = [*(i for i in range(len(points)) if i not in stopped), *audited]
        full = self._inner.evaluate([points[i] for i in wanted]) if wanted else []
        found = dict(zip(wanted, full, strict=True))
        for i in audited:
            stopped[i] = replace(stopped[i], audit=found[i].value)
        scores = [stopped.get(i) or found[i] for i in range(len(points))]
        self.learn(points, scores)
        return scores

    def evaluate_full(self, points: Sequence[Point]) -> list[Score]:
        """Continuous runs of all points."""
        scores = self._inner.evaluate(points)
        self.learn(points, scores)
        return scores

    def daily_returns(self, points: Sequence[Point]) -> Float64Array:
        """As `BacktestEvaluator.daily_returns`."""
        return self._inner.daily_returns(points)

    def learn(self, points: Sequence[Point], scores: Sequence[Score]) -> None:
        """Take in one generation: calibration, the next incumbent, false stops.

        `evaluate` and `evaluate_full` do this themselves; a resumed search does it with the
        results that its ledger holds, and ends up where it was.
        """
        if self._calibration is None:
            self._calibrate(points, scores)
        plan = None if self._calibration is None else self._calibration.plan
        self._account.generation(scores, self.problem, plan)
        self._generation += 1
        for point, score in zip(points, scores, strict=True):
            if not (score.full and math.isfinite(score.value)):
                continue
            if self._incumbent is None or score.value > self._incumbent.value:
                self._incumbent = Incumbent(dict(point), score.value)
                self._account.replaced()
        if self._incumbent is not None:
            self._account.audits(scores, self._incumbent.value)

    def stats(self) -> dict[str, Any]:
        """What early stopping did, for reports; the same after a resume.

        Returns:
            `full`, `stopped`: points; `raced`, `raced_generations`: points and generations in which
            something could be stopped; `failed`: calls of `evaluate_progressively` without a value.
            `flat_blocks`: blocks in use or None; `off`: a sentence that says why none are, or None;
            `agreements`: (block count, rank correlation) as tried; `lookback`, `holding`: bars that
            set the least length of a block, NaN before the calibration.
            `stages`: per stage the `blocks` revealed and the points `stopped` there.
            `audited`: stopped points that ran to the end anyway; `false_stops`: those above the
            best value known after their generation; `false_stop_rate` with its 95 % interval
            `false_stop_low`, `false_stop_high` (Wilson); `audit_largest`, `audit_median`: value of
            the audited points less that best (positive: what the false stops cost).
            `bars`: simulated in continuous runs (`full`), races (`flat`), `calibration` and
            `audit`, and `without` early stopping; `cost_raced`: full and flat bars of the raced
            generations over what running them in full takes; `saved`: share of all bars saved,
            calibration and audit included, negative where they cost more.
            `fallbacks`: notes. Rates and ratios are NaN where there is nothing to divide by.
        """
        counts = self._account.stats()
        counts["full"] += self._counts["full"]
        counts["stopped"] += self._counts["stopped"]
        found = self._calibration
        off = self._why_off()
        return {
            **counts,
            "failed": self._counts["failed"],
            "flat_blocks": None if found is None or found.plan is None else found.plan.count,
            "off": off,
            "agreements": [] if found is None else list(found.agreements),
            "lookback": math.nan if found is None else found.lookback,
            "holding": math.nan if found is None else found.holding,
            "fallbacks": [*([] if off is None else [off]), *fallbacks_of(self._given)],
        }

    def _calibrate(self, points: Sequence[Point], scores: Sequence[Score]) -> None:
        """Collect points with a value; the first 8 or more say what the blocks are worth."""
        self._seen += len(points)
        pairs = zip(points, scores, strict=True)
        self._sample += [(dict(p), s) for p, s in pairs if s.full and math.isfinite(s.value)]
        if len(self._sample) < LEAST_SAMPLE:
            return
        sample, self._sample = self._sample, []
        self._calibration = calibrate(
            self._inner, [p for p, _ in sample], [s for _, s in sample], self.seed
        )
        self._account.calibrated(self._calibration, self.problem)
        off = self._why_off()
        if off is not None:
            _log.warning(off, extra={"once": OFF})

    def _why_off(self) -> str | None:
        """A sentence where nothing is stopped though generations were evaluated."""
        if self._calibration is not None:
            why = self._calibration.off
        elif self._seen:
            why = (
                f"{len(self._sample)} of the {self._seen} points run so far have a value, and"
                f" {LEAST_SAMPLE} are needed to compare flat-start blocks with continuous runs"
            )
        else:
            why = None
        return None if why is None else f"{OFF}: {why}; all points run in full"

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

    def _subsets(self) -> Subsets:
        """The market as a frame; made once of `Bars`, taken as it is now where it is a frame."""
        if self._data is not None and not isinstance(self._data, Bars):
            return reveal(self._data)
        if self._revealed is None:
            self._revealed = reveal(self.problem.bars if self._data is None else self._data)
        return self._revealed

    def _called(
        self,
        function: Callable[[pd.DataFrame, Mapping[str, Any]], float],
        frame: pd.DataFrame,
        params: Mapping[str, Any],
    ) -> float:
        try:
            value = float(function(frame, params))
        except Exception as error:  # noqa: BLE001  # a user's function may raise anything
            said = "the evaluator function raised %s: %s: the point has no value"
            _log.warning(said, type(error).__name__, said_by(error))
            value = math.nan
        if not math.isfinite(value):
            self._counts["failed"] += 1
        return value

    def _loses(self, stage: int, quantity: float, values: list[float]) -> bool:
        if self._best is None or len(values) < 2:
            return False
        error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        return quantity < self._best.quantities[stage] - error


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
