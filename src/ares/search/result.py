"""What a search tells while it runs, and what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from ares.core.types import Float64Array
    from ares.search.failures import Failure
    from ares.search.objective import Score


@dataclass(frozen=True)
class Progress:
    """Where a search is, told after each generation.

    Attributes:
        generation: Generations that are done.
        trials: Points that were looked at, out of `budget`.
        budget: Points that will be looked at.
        best: Best value so far; -inf where there is none.
        full: Points that were run in full.
        stopped: Points that were stopped early.
        raised: Points whose run or objective raised: with the two before, all of them.
        failed: Points without a score that were not stopped: all that raised, and others.
        cached: Points whose answer came from the cache.
        seconds: Time since the search began in this process.
        resumed: Whether this generation was read from the ledger.
    """

    generation: int
    trials: int
    budget: int
    best: float
    full: int
    stopped: int
    raised: int
    failed: int
    cached: int
    seconds: float
    resumed: bool


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        best: Parameters of the winner, chosen as `config.choice` says; None where no point has a
            value.
        score: Score of the winner, or None.
        trials: One row per trial, deterministic columns only.
        volatile: Where each answer came from and how long its generation took.
        trials_digest: Digest of `trials`.
        initial_returns: Daily net returns of the Sobol points that have numbers, shape
            (points, days); they were all run in full and serve the overfitting statistics.
        initial_numbers: Trial numbers of these rows.
        counts: trials, full, stopped, raised, audited, failed, generations, as in `Progress`.
        policies: What early stopping did; empty without it.
        fallbacks: Fallbacks taken.
        replayed: Whether the winner was proved by `simulate_reference`.
        plateau: `params`, `value` and neighbourhood `median` of the point with the best
            neighbourhood, `best_params`, `best_value` and `best_median` of the point with the best
            value, and which was `chosen`; None where no point has a value.
        failures: What points raised, the most frequent kind first.
    """

    best: dict[str, Any] | None
    score: Score | None
    trials: pd.DataFrame
    volatile: pd.DataFrame
    trials_digest: str
    initial_returns: Float64Array
    initial_numbers: tuple[int, ...]
    counts: dict[str, int]
    policies: dict[str, Any] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()
    replayed: bool = False
    plateau: dict[str, Any] | None = None
    failures: tuple[Failure, ...] = ()
