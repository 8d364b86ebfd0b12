"""`run_search`: generations of points, a ledger of all of them, and proof of the winner."""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.environment import code_digest
from ares.core.errors import ArtifactError
from ares.core.identity import fingerprint
from ares.core.interrupts import interruptible
from ares.core.types import readonly
from ares.search.evaluator import problem_of
from ares.search.failures import Failures
from ares.search.ledger import Ledger, Trial
from ares.search.objective import BAD, Objective
from ares.search.plateau import plateau_of
from ares.search.points import point_bytes
from ares.search.progressive import ProgressiveEvaluator
from ares.search.replay import replay_proof
from ares.search.result import Progress, SearchResult
from ares.search.sampling.samplers import sampler_of, sampler_version
from ares.search.strategy_identity import callable_identity
from ares.search.trials import read_columns, table_digest, tables_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ares.backtest.space import ParameterSpace
    from ares.core.config import SearchConfig
    from ares.core.types import Float64Array
    from ares.search.evaluator import Evaluator
    from ares.search.objective import Score

_log = logging.getLogger("ares.search")

SOBOL: Final = "sobol"
ADAPTIVE: Final = "adaptive"
CACHED: Final = frozenset({"memory", "store"})
"""Sources of a score that came from the cache."""


def objective_of(config: SearchConfig) -> Objective:
    """The objective that a configuration names."""
    return Objective(config.objective, config.penalty, config.min_trades)


def request_digest(
    evaluator: Evaluator,
    space: ParameterSpace,
    config: SearchConfig,
    *,
    seed: int = 0,
    patience: int | None = None,
) -> str | None:
    """Digest of all that shapes a search; None where something in it has no identity."""
    problem = problem_of(evaluator)
    if problem is None or problem.identity is None:
        return None
    objective = problem.objective
    statistic = callable_identity(objective.statistic)
    if statistic is None:
        return None
    what = (problem.identity, statistic, objective.penalty, objective.min_trades)
    stopping = evaluator.seed if isinstance(evaluator, ProgressiveEvaluator) else None
    version = sampler_version(config)
    return fingerprint((what, space, config, seed, stopping, patience, version, code_digest()))


@interruptible()
def run_search(
    evaluator: Evaluator,
    space: ParameterSpace,
    config: SearchConfig,
    *,
    seed: int = 0,
    ledger: Ledger | str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    patience: int | None = None,
) -> SearchResult:
    """Search `space`: Sobol points, then generations of CMA-ES, until the budget is used.

    The same request gives the same trials, whatever the workers, the cache and the interruptions
    were. A search that was killed resumes from its ledger by replaying ask and tell.

    Args:
        evaluator: What puts a value on points, with its own objective and scoring blocks
            (`objective_of` makes the one that `config` names); a `ProgressiveEvaluator` stops losers early, but
            never a Sobol point.
        space: What to search.
        config: Trials, Sobol points and generation size are used here.
        seed: Run seed.
        ledger: An open ledger, or the path of one; None keeps it in memory.
        progress: Called after each generation.
        patience: End after so many generations that did not improve the best value by more than
            its standard error; None uses the budget.

    Raises:
        ReplayError: the winner's cold run by `simulate_reference` differs from what was seen.
        ArtifactError: the ledger belongs to another search.
        StoreError: the ledger cannot be written.
    """
    mine = not isinstance(ledger, Ledger)
    notes: list[str] = []
    if isinstance(ledger, Ledger):
        book = ledger
    else:
        request = request_digest(evaluator, space, config, seed=seed, patience=patience)
        if request is None and ledger is not None:
            notes.append("no ledger file: the evaluator, strategy or objective has no identity")
            _log.warning(notes[0])
        book = Ledger(None if request is None else ledger, request or "")
    try:
        study = _Study(evaluator, space, config, seed, book, patience)
        study.fallbacks = notes
        study.run(progress)
        return study.result()
    finally:
        if mine:
            book.close()


class _Study:
    """One search: what was asked, what was told, and when it ends."""

    def __init__(
        self,
        evaluator: Evaluator,
        space: ParameterSpace,
        config: SearchConfig,
        seed: int,
        ledger: Ledger,
        patience: int | None,
    ) -> None:
        self.evaluator = evaluator
        self.config = config
        self.ledger = ledger
        self.patience = patience
        self.space = space
        self.sampler = sampler_of(config, space, seed)
        self.best: Trial | None = None
        names = ("trials", "full", "stopped", "raised", "audited", "failed")
        self.counts = dict.fromkeys(names, 0)
        self.failures = Failures()
        self.cached = 0
        self.generations = 0
        self.fallbacks: list[str] = []
        self.waited = 0
        self.began = time.perf_counter()
        self._reference: Score | None = None
        self._seen: set[bytes] = set()

    def run(self, progress: Callable[[Progress], None] | None) -> None:
        """Replay what the ledger holds, then go on."""
        if isinstance(self.evaluator, ProgressiveEvaluator):
            self.evaluator.begin()
        for stored in self.ledger.replay():
            self._resume(stored)
            self._report(progress, resumed=True)
        while not self._done():
            points, packed, phase = self._ask()
            if not points:
                break
            began = time.perf_counter()
            scores = self._evaluate(points, phase)
            seconds = (time.perf_counter() - began) / len(points)
            first = self.counts["trials"]
            trials = [
                Trial(first + i, self.generations, phase, point, score, seconds, key)
                for i, (point, score, key) in enumerate(zip(points, scores, packed, strict=True))
            ]
            self.ledger.append(trials)
            self._tell(trials)
            self._report(progress, resumed=False)

    def result(self) -> SearchResult:
        """Prove the winner and put the tables together."""
        columns, params = read_columns(self.ledger)
        table, volatile = tables_of(columns, params)
        winner, plateau = self._choice(columns, params)
        problem = problem_of(self.evaluator)
        replayed = winner is not None and problem is not None
        if winner is not None and problem is not None:
            replay_proof(problem, winner.params, winner.score)
        returns, numbers = self._initial_returns()
        stats: dict[str, Any] = getattr(self.evaluator, "stats", dict)()
        return SearchResult(
            best=None if winner is None else dict(winner.params),
            score=None if winner is None else winner.score,
            trials=table,
            volatile=volatile,
            trials_digest=table_digest(table),
            initial_returns=returns,
            initial_numbers=numbers,
            counts={**self.counts, "generations": self.generations},
            policies=stats if isinstance(self.evaluator, ProgressiveEvaluator) else {},
            fallbacks=(*self.fallbacks, *self.sampler.fallbacks, *stats.get("fallbacks", ())),
            replayed=replayed,
            plateau=plateau,
            failures=self.failures.result(),
        )

    def _choice(
        self, columns: dict[str, list[Any]], params: dict[str, list[Any]]
    ) -> tuple[Trial | None, dict[str, Any] | None]:
        """The winner as `config.choice` says, and what is known of best point and plateau."""
        best = self.best
        if best is None:
            return None, None
        full = [n for n, status in enumerate(columns["status"]) if status in {"full", "failed"}]
        points = {name: [values[n] for n in full] for name, values in params.items()}
        found = plateau_of(self.space, points, [columns["value"][n] for n in full])
        if found.index is None:
            return best, None
        trial = self.ledger.trial(full[found.index])
        place = full.index(best.number)
        report = {
            "params": trial.params,
            "value": trial.score.value,
            "median": float(found.medians[found.index]),
            "best_params": best.params,
            "best_value": best.score.value,
            "best_median": float(found.medians[place]),
            "chosen": self.config.choice,
        }
        return (trial if self.config.choice == "plateau" else best), report

    def _resume(self, stored: list[Trial]) -> None:
        """Ask again for the points of a stored generation, and tell what is known of them."""
        points, packed, phase = self._ask()
        if packed != [trial.packed for trial in stored] or phase != stored[0].phase:
            raise ArtifactError(
                "resuming must ask for the points that the ledger holds",
                where=f"{self.ledger.path}, generation {stored[0].generation}",
                remedy="The ledger comes from other code: move it away to search anew.",
            )
        if isinstance(self.evaluator, ProgressiveEvaluator):
            self.evaluator.learn(points, [trial.score for trial in stored])
        self._tell(stored)

    def _ask(self) -> tuple[list[dict[str, Any]], list[bytes], str]:
        """Points of the next generation that were not asked before, in bytes, and its phase."""
        given, budget = self.counts["trials"], self.config.trials
        initial = self.config.initial_samples
        limit = initial if given < initial else budget
        size = min(self.sampler.batch, limit - given, budget - given)
        points, packed = [], []
        for point in self.sampler.ask(size):
            data = point_bytes(point)
            key = hashlib.blake2b(data, digest_size=12).digest()
            if key not in self._seen:
                self._seen.add(key)
                points.append(point)
                packed.append(data)
        return points, packed, SOBOL if given < initial else ADAPTIVE

    def _evaluate(self, points: list[dict[str, Any]], phase: str) -> list[Score]:
        if phase == SOBOL and isinstance(self.evaluator, ProgressiveEvaluator):
            scores = self.evaluator.evaluate_full(points)
        else:
            scores = self.evaluator.evaluate(points)
        # Whatever an evaluator of the user's calls a value: one that is not finite is bad.
        return [s if math.isfinite(s.value) else replace(s, value=BAD) for s in scores]

    def _tell(self, trials: Sequence[Trial]) -> None:
        self.sampler.tell([t.params for t in trials], [t.score for t in trials])
        self.generations += 1
        for trial in trials:
            self._count(trial)
            value = trial.score.value
            better = self.best is None or value > self.best.score.value
            if trial.score.full and math.isfinite(value) and better:
                self.best = trial
        self._count_patience()

    def _count(self, trial: Trial) -> None:
        score = trial.score
        raised = score.reason if score.full else None
        if raised is not None:
            self.failures.add(trial.number, raised, trial.params)
        self.counts["trials"] += 1
        self.counts["raised" if raised is not None else "full" if score.full else "stopped"] += 1
        self.counts["audited"] += score.audit is not None
        self.counts["failed"] += score.full and not math.isfinite(score.value)
        self.cached += score.source in CACHED

    def _report(self, progress: Callable[[Progress], None] | None, *, resumed: bool) -> None:
        if progress is None:
            return
        names = ("trials", "full", "stopped", "raised", "failed")
        counts = {name: self.counts[name] for name in names}
        progress(
            Progress(
                generation=self.generations,
                budget=self.config.trials,
                best=-math.inf if self.best is None else self.best.score.value,
                cached=self.cached,
                seconds=time.perf_counter() - self.began,
                resumed=resumed,
                **counts,
            )
        )

    def _count_patience(self) -> None:
        """A generation improves where the best gains more than the noise of the earlier best."""
        best, reference = self.best, self._reference
        if best is None:
            return
        noise = 0.0 if reference is None or math.isnan(reference.error) else reference.error
        if reference is None or best.score.value > reference.value + noise:
            self._reference, self.waited = best.score, 0
        elif self.counts["trials"] > self.config.initial_samples:
            self.waited += 1

    def _done(self) -> bool:
        out = self.patience is not None and self.waited >= self.patience
        return out or self.counts["trials"] >= self.config.trials

    def _initial_returns(self) -> tuple[Float64Array, tuple[int, ...]]:
        initial = [
            trial
            for stored in itertools.takewhile(
                lambda trials: trials[0].phase == SOBOL, self.ledger.replay()
            )
            for trial in stored
        ]
        curves = getattr(self.evaluator, "daily_returns", None)
        if curves is None or not initial:
            returns = np.empty((0, 0))
        else:
            returns = np.asarray(curves([t.params for t in initial]), dtype=np.float64)
        good = np.all(np.isfinite(returns), axis=1)
        kept = returns[good]
        readonly(kept)
        numbers = [t.number for t, fine in zip(initial, good, strict=False) if fine]
        return kept, tuple(numbers)
