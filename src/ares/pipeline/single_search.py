"""One search of a strategy, as a published run folder with a report of its own."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ares.backtest.engine import simulate
from ares.core.errors import InputError, ReplayError
from ares.core.identity import seed_for
from ares.core.settings import shaping_values, to_toml
from ares.market.bars import split_holdout
from ares.pipeline import search_facts as facts
from ares.pipeline.saving import as_json, as_table
from ares.pipeline.search_footprint import admit_search
from ares.pipeline.search_told import told_of
from ares.pipeline.single import common_sections, publish
from ares.pipeline.summaries import iso, plain
from ares.search.failures import told
from ares.search.objective import Objective
from ares.search.strategy_identity import callable_identity
from ares.search.study import request_digest, run_search
from ares.search.trials import storable
from ares.store.locks import FileLock
from ares.store.memo import memo_counts
from ares.store.tables import find_table, table_fallbacks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pandas as pd

    from ares.backtest.result import BacktestResult
    from ares.backtest.space import ParameterSpace
    from ares.core.config import Config
    from ares.market.bars import Bars
    from ares.pipeline.search_told import Told
    from ares.search.result import Progress, SearchResult

_DAY_NS = 86_400 * 10**9


@dataclass(frozen=True)
class SearchRequest:
    """What to search.

    Attributes:
        strategy: What is traded.
        space: What is searched of its parameters.
        objective: What is maximised.
        whole: Search all bars; otherwise the last share of `data.holdout` is held back.
        next_command: From the winner's parameters and the held-back time range, the command that
            tries the winner there (None: there is nothing left to try it on).
    """

    strategy: Any
    space: ParameterSpace
    objective: Objective
    whole: bool
    next_command: Callable[[Mapping[str, Any], str | None], str | None]


@dataclass(frozen=True)
class SingleSearch:
    """A published search.

    Attributes:
        found: What the search found.
        facts: `search.json`.
        bars: Bars searched.
        span: Their first and last day.
        held_back: Time range of the bars that were not looked at; None where there are none.
        next_command: What to run next; None without a winner.
        seconds: Time that the search took.
        cached: Points that the cache answered.
        resumed: Points of an interrupted run before.
        memory: Profile of the memory.
        run_dir: The run's folder.
    """

    found: SearchResult
    facts: dict[str, Any]
    bars: int
    span: tuple[str, str]
    held_back: str | None
    next_command: str | None
    seconds: float
    cached: int
    resumed: int
    memory: dict[str, Any]
    run_dir: Path

    def table(self, stem: str) -> Path | None:
        """The file of one of its tables."""
        return find_table(self.run_dir, stem)

    @property
    def rate(self) -> float:
        """Points per second, those of the ledger left out."""
        fresh = self.found.counts["trials"] - self.resumed
        return fresh / self.seconds if self.seconds > 0 else 0.0


def optimize(
    toolkit: Any, bars: Bars, request: SearchRequest, *, progress: Callable[[Progress], None]
) -> SingleSearch:
    """Search a strategy's space and publish trials, winner and report.

    Args:
        toolkit: `EnhancedTrainingManagerOptimized`, for the tools and their switches.
        bars: The market.
        request: What to search.
        progress: Called after each generation.

    Raises:
        BusyError: another process runs the same search.
        InputError: no point has a number, and some raised; the message says what.
        MemoryBudgetError: it does not fit the memory budget.
        StoreError: the workspace cannot be written.
    """
    config, workspace = toolkit.config, toolkit.workspace
    training = bars if request.whole else split_holdout(bars, config.data.holdout)[0]
    fewer = admit_search(toolkit, bars, training, request.strategy)
    toolkit.use(training, request.strategy, request.objective)
    evaluator = (
        toolkit.progressive_evaluator if toolkit.early_stopping else toolkit.cached_backtester
    )
    seed = seed_for(config.enhanced_training_manager.seed, "search")
    patience = toolkit.patience
    digest = request_digest(evaluator, request.space, config.search, seed=seed, patience=patience)
    with ExitStack() as stack:
        stack.enter_context(toolkit.watched())
        ledger = None if digest is None else _ledger(stack, workspace.work(digest))
        with told_of(progress, kept=ledger is not None) as progressed:
            try:
                found = run_search(
                    evaluator,
                    request.space,
                    config.search,
                    seed=seed,
                    ledger=ledger,
                    patience=patience,
                    progress=progressed,
                )
            except ReplayError:  # its scores are wrong: a second start must not use them
                _forget(ledger)
                raise
        progressed.stop()
        if fewer is not None:
            found = dataclasses.replace(found, fallbacks=(fewer, *found.fallbacks))
        try:
            _check_numbers(found)
        except InputError:
            _forget(ledger)
            raise
        held_back = None if request.whole else _held_back(bars, len(training), config)
        done = _done(toolkit, training, request, found, progressed, held_back)
        done = dataclasses.replace(done, run_dir=_publish(toolkit, training, request, done))
        _forget(ledger)
    return done


def _ledger(stack: ExitStack, folder: Path) -> Path:
    """The ledger of a request, for this process alone."""
    folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(FileLock(folder.with_suffix(".lock")))
    return folder / "ledger.sqlite"


def _forget(ledger: Path | None) -> None:
    if ledger is not None:
        shutil.rmtree(ledger.parent, ignore_errors=True)


def _done(
    toolkit: Any,
    bars: Bars,
    request: SearchRequest,
    found: SearchResult,
    progressed: Told,
    held_back: str | None,
) -> SingleSearch:
    sources = Counter(found.volatile["source"])
    return SingleSearch(
        found=found,
        facts=_facts(toolkit, bars, request, found, held_back),
        bars=len(bars),
        span=(iso(bars.timestamp[0])[:10], iso(bars.timestamp[-1])[:10]),
        held_back=held_back,
        next_command=None if found.best is None else request.next_command(found.best, held_back),
        seconds=progressed.seconds,
        cached=sources["memory"] + sources["store"],
        resumed=progressed.resumed,
        memory=toolkit.memory_manager.profile_memory_usage(),
        run_dir=toolkit.workspace.runs,
    )


def _facts(
    toolkit: Any,
    bars: Bars,
    request: SearchRequest,
    found: SearchResult,
    held_back: str | None,
) -> dict[str, Any]:
    """`search.json` without the winner's own numbers."""
    config, objective = toolkit.config, request.objective
    costs = toolkit.costs_for(bars.calendar)
    point = None if found.best is None else dict(request.strategy.space.normalise(found.best))
    return {
        "objective": {
            "name": objective.name,
            "penalty": 0.0 if callable(objective.statistic) else objective.penalty,
            "min_trades": objective.min_trades,
        },
        "space": facts.of_space(request.space),
        "costs": plain(dataclasses.asdict(costs)),
        "fill": config.search.fill,
        "max_gap": config.data.max_gap,
        "seed": config.enhanced_training_manager.seed,
        "initial": int((found.trials["phase"] == "sobol").sum()),
        "held_back": held_back,
        "best": None
        if found.best is None or found.score is None
        else {
            "params": plain(found.best),
            "point": plain(point),
            "score": plain(found.score.value),
            "error": plain(found.score.error),
        },
        "counts": dict(found.counts),
        "outcomes": facts.of_outcomes(found),
        "failures": facts.of_failures(found, whole=False),
        "stops": facts.of_stops(found, on=toolkit.early_stopping),
        "importance": facts.of_importance(found.trials, request.space),
        "plateau": plain(found.plateau),
        "trials_digest": found.trials_digest,
        "replayed": found.replayed,
    }


def _publish(toolkit: Any, bars: Bars, request: SearchRequest, done: SingleSearch) -> Path:
    """Add the winner's run to the facts, and publish all of it."""
    from ares.report.search_page import render_search

    found, config = done.found, toolkit.config
    best = {"params": plain(found.best), "score": plain(found.score.value if found.score else None)}
    files = {
        "config.toml": _config_toml(config, request).encode(),
        "params.json": as_json(best),
        **as_table("trials", storable(found.trials)),
    }
    metrics: dict[str, Any] = {"score": best["score"]}
    if found.best is not None and found.score is not None:
        settings: dict[str, Any] = {"fill": config.search.fill, "max_gap": config.data.max_gap}
        costs = toolkit.costs_for(bars.calendar)
        result = simulate(bars, request.strategy, found.best, costs=costs, **settings)
        curve = _add_winner(done, result, request.space, bars, config)
        files |= as_table("equity", curve)
        metrics |= plain(result.metrics)
    files["search.json"] = as_json(plain(done.facts))
    sections = {
        **common_sections("optimize", bars, config),
        "strategy": request.strategy.name,
        "objective": request.objective.name,
        "objective_identity": callable_identity(request.objective.statistic),
        "metrics": metrics,
        "best": best,
        "counts": found.counts,
        "trials_digest": found.trials_digest,
        "replayed": found.replayed,
    }
    volatile = {
        "fallbacks": [*found.fallbacks, *table_fallbacks()],
        "policies": plain(found.policies),
        "next": done.next_command,
        "seconds": round(done.seconds, 3),
        "trials_per_second": round(done.rate, 2),
        "cached": done.cached,
        "resumed": done.resumed,
        "jobs": toolkit.jobs,
        "columns": memo_counts(),
        "memory": {k: done.memory[k] for k in ("peak_bytes", "budget_bytes", "evictions")},
    }
    return publish(toolkit.workspace, files, sections, volatile, render_search)


def _add_winner(
    done: SingleSearch,
    result: BacktestResult,
    space: ParameterSpace,
    bars: Bars,
    config: Config,
) -> pd.DataFrame:
    """The winner's metrics, blocks and overfitting statistics into `done.facts`; its curve."""
    found, days = done.found, float(bars.days_per_year)
    curve = facts.winner_curve(bars, result)
    if found.score is None:
        raise AssertionError("unreachable")
    done.facts["best"]["metrics"] = plain(result.metrics)
    done.facts["benchmark"] = facts.of_benchmark(curve, days)
    done.facts["cautions"] = facts.of_cautions(
        found.best or {}, space, result.metrics, done.facts["benchmark"]
    )
    done.facts["blocks"] = facts.of_blocks(found.score.blocks, curve, days)
    done.facts["overfitting"] = facts.of_overfitting(
        found,
        curve["daily_return"].to_numpy(np.float64),
        days_per_year=days,
        seed=config.enhanced_training_manager.seed,
    )
    return curve


def _config_toml(config: Config, request: SearchRequest) -> str:
    """The settings; what options said otherwise stands in a comment, as it is no setting."""
    values = shaping_values(config)
    notes = [f"# Searched: {name}" for name in sorted(request.space.parameters)]
    # The configuration's default is that of training; a strategy's direction is long by default.
    values["search"].pop("direction", None)
    sides: tuple[Any, ...] = getattr(request.space.parameters.get("direction"), "choices", ())
    if len(sides) == 1:
        values["search"]["direction"] = sides[0]
    if callable(request.objective.statistic):
        values["search"].pop("objective", None)
        notes.append(f"# Objective: the function {request.objective.name}")
    return "\n".join([*notes, "", to_toml(values)])


def _held_back(bars: Bars, start: int, config: Config) -> str:
    """Time range, as `--timerange` takes it, of the bars from `start` on."""
    first = int(bars.timestamp[start])
    end = (config.data.timerange or "").partition("-")[2]
    seconds = str(first // 10**9)
    whole_day = first % _DAY_NS == 0
    if whole_day or len(seconds) != 10 or first % 10**9:
        day = first if whole_day else (first // _DAY_NS + 1) * _DAY_NS
        return f"{iso(day)[:10].replace('-', '')}-{end}"
    return f"{seconds}-{end}"


def _check_numbers(found: SearchResult) -> None:
    """Refuse to publish a search in which no run gave numbers.

    Raises:
        InputError: so it is, and something raised: with the most frequent reason.
    """
    if found.failures and set(found.trials["outcome"]) == {"NOT_FINITE"}:
        raise InputError(
            f"none of the {len(found.trials):,} points has a score: {told(found.failures)}".rstrip(
                "."
            ),
            remedy="Mend that code, then run the same command again.",
        )


def request_of(
    strategy: Any,
    space: ParameterSpace,
    config: Config,
    statistic: Any,
    *,
    direction: str | None,
    whole: bool,
    next_command: Callable[[Mapping[str, Any], str | None], str | None],
) -> SearchRequest:
    """The request of a configuration.

    Args:
        strategy: What is traded.
        space: What is searched of it.
        config: Its `search` section gives penalty and least number of trades.
        statistic: Name or function of the objective.
        direction: Side that the configuration names explicitly; a searched one takes precedence.
        whole: As in `SearchRequest`.
        next_command: As in `SearchRequest`.
    """
    if direction is not None and "direction" not in space.parameters:
        space = space.with_bounds({"direction": [direction]})
    objective = Objective(statistic, config.search.penalty, config.search.min_trades)
    return SearchRequest(strategy, space, objective, whole, next_command)
