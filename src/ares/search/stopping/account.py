"""What early stopping did: points stopped per stage, audits, and bars that were simulated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ares.search.stopping.flatblocks import FIRST_TEST
from ares.search.stopping.ranks import wilson_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ares.core.types import Int64Array
    from ares.search.evaluator import Problem
    from ares.search.objective import Score
    from ares.search.stopping.flatblocks import Calibration, Plan


class StopAccount:
    """Counts that follow from the scores alone, so that a resumed search has the same ones."""

    def __init__(self) -> None:
        self._points = {"full": 0, "stopped": 0, "raced": 0}
        self._generations = 0
        self._stages: dict[int, int] = {}
        self._margins: list[float] = []
        self._bars = {"without": 0, "full": 0, "flat": 0, "calibration": 0, "audit": 0}
        self._raced = {"without": 0, "full": 0}
        self._incumbent_shown = 0
        self._shown: Int64Array | None = None  # bars of the first so many blocks

    def calibrated(self, found: Calibration, problem: Problem) -> None:
        """Take in what the calibration took."""
        self._bars["calibration"] += found.runs * (problem.stop - problem.start)

    def replaced(self) -> None:
        """The incumbent is another point: its blocks are revealed anew."""
        self._incumbent_shown = 0

    def generation(self, scores: Sequence[Score], problem: Problem, plan: Plan | None) -> None:
        """Take in one generation, before its best becomes the incumbent."""
        span = problem.stop - problem.start
        full = sum(score.full for score in scores)
        self._points["full"] += full
        self._points["stopped"] += len(scores) - full
        self._bars["without"] += span * len(scores)
        self._bars["full"] += span * full
        self._bars["audit"] += span * sum(score.audit is not None for score in scores)
        if plan is None or full == len(scores):
            return
        self._generations += 1
        self._points["raced"] += len(scores)
        self._raced["without"] += span * len(scores)
        self._raced["full"] += span * full
        if self._shown is None:
            lengths = np.diff(problem.flat_borders(plan.count))[list(plan.order)]
            self._shown = np.concatenate(([0], np.cumsum(lengths)))
        shown = self._shown
        reached = [plan.stages[-1 if s.stage is None else s.stage - 1] for s in scores]
        for score, blocks in zip(scores, reached, strict=True):
            self._bars["flat"] += int(shown[blocks])
            if score.stage is not None:
                self._stages[blocks] = self._stages.get(blocks, 0) + 1
        furthest = max(reached)
        if furthest >= FIRST_TEST and furthest > self._incumbent_shown:
            self._bars["flat"] += int(shown[furthest] - shown[self._incumbent_shown])
            self._incumbent_shown = furthest

    def audits(self, scores: Sequence[Score], best: float) -> None:
        """Compare what audited points would have been with the best known after the generation."""
        self._margins += [score.audit - best for score in scores if score.audit is not None]

    def stats(self) -> dict[str, Any]:
        """See `ProgressiveEvaluator.stats`."""
        audited = len(self._margins)
        false = sum(margin > 0.0 for margin in self._margins)
        low, high = wilson_interval(false, audited)
        values = [margin for margin in self._margins if math.isfinite(margin)]
        bars, raced = self._bars, self._raced["without"]
        without = bars["without"]
        taken = bars["full"] + bars["flat"] + bars["calibration"] + bars["audit"]
        return {
            **self._points,
            "raced_generations": self._generations,
            "stages": [{"blocks": b, "stopped": n} for b, n in sorted(self._stages.items())],
            "audited": audited,
            "false_stops": false,
            "false_stop_rate": false / audited if audited else math.nan,
            "false_stop_low": low,
            "false_stop_high": high,
            "audit_largest": max(values, default=math.nan),
            "audit_median": float(np.median(values)) if values else math.nan,
            "bars": dict(bars),
            "cost_raced": (self._raced["full"] + bars["flat"]) / raced if raced else math.nan,
            "saved": 1.0 - taken / without if without else math.nan,
        }
