"""One raced generation: flat-start blocks are revealed in stages, and losers stop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ares.search.objective import BAD, block_ratios
from ares.search.stopping.flatblocks import FIRST_TEST, merit
from ares.search.stopping.ranks import pocock_level, signed_rank_p

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ares.core.types import BoolArray, Float64Array
    from ares.search.blocks import BlockResults
    from ares.search.evaluator import BacktestEvaluator, Point
    from ares.search.objective import Score
    from ares.search.stopping.flatblocks import Plan


@dataclass
class Incumbent:
    """The best point of the generations before, with what was revealed of it.

    Attributes:
        point: Its parameters.
        value: Its full value.
        blocks: Flat-start results in the order of the plan, as far as a race needed them.
    """

    point: dict[str, object]
    value: float
    blocks: BlockResults | None = None

    def ratios(self, inner: BacktestEvaluator, plan: Plan, until: int) -> Float64Array:
        """Block ratios over the first `until` blocks, shape (until,); runs what is new."""
        known = [] if self.blocks is None else [self.blocks]
        if self.blocks is None or len(self.blocks) < until:
            self.blocks = plan.reveal(inner, [self.point], known, until)[0].blocks
        shown = self.blocks if len(self.blocks) == until else self.blocks.take(range(until))
        return block_ratios(shown)


def race(
    inner: BacktestEvaluator, points: Sequence[Point], plan: Plan, incumbent: Incumbent
) -> dict[int, Score]:
    """Who is stopped, by index; the others go on to their full evaluation.

    Each stage stops the worse half of who is left; equal merits go by index, as equal runs have
    them. From 8 blocks on it also stops who has no merit at all (a point with enough trades has
    some in a quarter of the range) and who loses the paired test against the incumbent.

    Args:
        inner: Who runs the blocks.
        points: The generation.
        plan: What is revealed, and when.
        incumbent: Whom to beat.
    """
    problem = inner.problem
    alive = list(range(len(points)))
    known: list[BlockResults] = []
    stopped: dict[int, Score] = {}
    for stage, until in enumerate(plan.stages, start=1):
        if not alive:
            break
        scores = plan.reveal(inner, [points[i] for i in alive], known, until)
        whole = until == plan.count
        merits = np.array([merit(problem, score, whole=whole) for score in scores])
        kept = np.zeros(len(alive), dtype=np.bool_)
        kept[np.argsort(-merits, kind="stable")[: (len(alive) + 1) // 2]] = True
        if until >= FIRST_TEST:
            kept &= merits > BAD
            ratios = incumbent.ratios(inner, plan, until)
            kept[kept] = ~_beaten(ratios, [scores[at].blocks for at in np.flatnonzero(kept)], plan)
        for at in np.flatnonzero(~kept):
            stopped[alive[at]] = replace(
                scores[at], value=BAD, stage=stage, revealed=float(merits[at])
            )
        known = [score.blocks for score, keep in zip(scores, kept, strict=True) if keep]
        alive = [i for i, keep in zip(alive, kept, strict=True) if keep]
    return stopped


def _beaten(best: Float64Array, rivals: list[BlockResults], plan: Plan) -> BoolArray:
    """Who loses the paired signed-rank test on block mean daily return over pooled deviation."""
    if not rivals:
        return np.zeros(0, dtype=np.bool_)
    ratios = np.array([block_ratios(blocks) for blocks in rivals])
    looks = sum(stage >= FIRST_TEST for stage in plan.stages)
    return np.asarray(signed_rank_p(best - ratios) < pocock_level(looks), dtype=np.bool_)
