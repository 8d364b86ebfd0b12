"""Search: evaluators that wrap one another, a sampler, a ledger, and the study that ties them.

`ProgressiveEvaluator(inner=CachedBacktester(inner=ParallelBacktester(inner=EngineEvaluator(...))))`
is the usual nesting: only misses are dispatched, only survivors are looked up in full.
"""

from __future__ import annotations

from ares.search.adaptive import AdaptiveSampler as AdaptiveSampler
from ares.search.blocks import BlockResults as BlockResults
from ares.search.cached import CachedBacktester as CachedBacktester
from ares.search.evaluator import EngineEvaluator as EngineEvaluator
from ares.search.evaluator import Evaluator as Evaluator
from ares.search.evaluator import Problem as Problem
from ares.search.ledger import Ledger as Ledger
from ares.search.objective import Objective as Objective
from ares.search.objective import Score as Score
from ares.search.parallel import ParallelBacktester as ParallelBacktester
from ares.search.progressive import ProgressiveEvaluator as ProgressiveEvaluator
from ares.search.result import SearchResult as SearchResult
from ares.search.study import objective_of as objective_of
from ares.search.study import run_search as run_search

__all__ = [
    "AdaptiveSampler",
    "BlockResults",
    "CachedBacktester",
    "EngineEvaluator",
    "Evaluator",
    "Ledger",
    "Objective",
    "ParallelBacktester",
    "Problem",
    "ProgressiveEvaluator",
    "Score",
    "SearchResult",
    "objective_of",
    "run_search",
]
