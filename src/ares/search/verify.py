"""Does the cache tell the truth? Stored results are computed again and compared bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ares.search.cached import cache_prefix, key_head, key_of
from ares.search.evaluator import engine_of
from ares.search.points import point_of

if TYPE_CHECKING:
    from ares.search.evaluator import Problem
    from ares.search.scorestore import Request, ScoreStore


@dataclass(frozen=True)
class CacheReport:
    """What `verify_sample` found.

    Attributes:
        damaged: Rows of the whole file whose digest does not fit them; they left the file.
        entries: Rows of this problem, in this environment.
        checked: How many of them were computed again.
        wrong: Parameters of those that differ; they left the file.
        others: Rows of other problems, other code or another machine, which cannot be computed
            again here.
    """

    damaged: int
    entries: int
    checked: int
    wrong: tuple[dict[str, Any], ...]
    others: int


def verify_sample(store: ScoreStore, problem: Problem, sample: int, seed: int) -> CacheReport:
    """Check all digests, and compute a random sample of a problem's results again, cold.

    Args:
        store: The persistent level of the cache.
        problem: What was evaluated.
        sample: How many results to compute again.
        seed: Seed of the sample.
    """
    damaged = store.check_digests()
    prefix = cache_prefix(problem)
    entries = 0 if prefix is None else store.rows(prefix)
    chosen = [] if prefix is None else store.sample(prefix, sample, seed)
    engine = engine_of(problem)
    wrong = []
    for request, stored in chosen:
        blocks, of = _blocks(request)
        score = engine.evaluate([point_of(request.params)], blocks, of=of)[0]
        mine = key_of(key_head(prefix or "", request.blocks), request.params) == request.key
        if not mine or score.blocks != stored:
            store.quarantine(request.key)
            wrong.append(point_of(request.params))
    others = store.rows() - (entries - len(wrong))
    return CacheReport(damaged, entries, len(chosen), tuple(wrong), others)


def _blocks(request: Request) -> tuple[tuple[int, ...] | None, int | None]:
    if not request.blocks:
        return None, None
    of, _, blocks = request.blocks.partition(":")
    return tuple(int(block) for block in blocks.split(",")), int(of)
