"""One backtest, or one search of a strategy, as a published run folder of its own."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ares.backtest.curves import buy_and_hold
from ares.backtest.engine import simulate
from ares.core.environment import code_digest
from ares.core.identity import fingerprint, seed_for
from ares.core.settings import shaping_values, to_toml
from ares.market.bars import split_holdout
from ares.market.files import source_files
from ares.pipeline.folder import publish_files
from ares.pipeline.saving import as_json, as_parquet
from ares.pipeline.source import without_names
from ares.pipeline.summaries import iso, plain
from ares.search.study import objective_of, request_digest, run_search
from ares.store.locks import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ares.backtest.costs import Costs
    from ares.backtest.result import BacktestResult
    from ares.backtest.strategy import Strategy
    from ares.core.config import Config
    from ares.market.bars import Bars
    from ares.search.study import Progress, SearchResult
    from ares.store.workspace import Workspace


@dataclass(frozen=True)
class SingleBacktest:
    """A published backtest.

    Attributes:
        result: At the given costs.
        twice: At twice the costs.
        costs: The given costs.
        params: The whole point, defaults included.
        held: Return of buying at the first open and holding, before costs.
        run_dir: Its folder.
    """

    result: BacktestResult
    twice: BacktestResult
    costs: Costs
    params: Mapping[str, Any]
    held: float
    run_dir: Path


@dataclass(frozen=True)
class SingleSearch:
    """A published search."""

    found: SearchResult
    bars: int
    seconds: float
    cached: int
    memory: dict[str, Any]
    run_dir: Path


def backtest(
    workspace: Workspace,
    bars: Bars,
    strategy: Strategy,
    params: Mapping[str, Any],
    costs: Costs,
    config: Config,
) -> SingleBacktest:
    """Run one backtest on all bars and publish trades, equity and report.

    Raises:
        ParameterError: parameters that the strategy does not take.
        StoreError: the workspace cannot be written.
    """
    from ares.report.backtest_page import render_backtest

    settings: dict[str, Any] = {"fill": config.search.fill, "max_gap": config.data.max_gap}
    result = simulate(bars, strategy, params, costs=costs, **settings)
    twice = simulate(bars, strategy, params, costs=costs.times(2.0), **settings)
    point = strategy.space.normalise(params)
    title = {"strategy": strategy.name, **point}
    equity = result.equity.rename("equity").rename_axis("time").reset_index()
    files = {
        "config.toml": to_toml(shaping_values(config)).encode(),
        "params.json": as_json(plain(title)),
        "trades.parquet": as_parquet(result.trades),
        "equity.parquet": as_parquet(equity),
        "metrics.json": as_json({"once": plain(result.metrics), "twice": plain(twice.metrics)}),
    }
    sections = {
        **_sections("backtest", bars, config),
        "strategy": strategy.name,
        "params": plain(point),
        "costs": plain(dataclasses.asdict(costs)),
        "metrics": plain(result.metrics),
        "outcome": result.outcome.name,
    }
    bars = without_names(bars, source_files(config.data.data) if config.data.data else [])
    page = render_backtest(title, bars, result, costs, twice, **settings)
    folder = _publish(workspace, files, sections, {}, page)
    held = float(buy_and_hold(bars, result.equity)[-1]) - 1.0
    return SingleBacktest(result, twice, costs, point, held, folder)


def optimize(
    toolkit: Any,
    bars: Bars,
    strategy: Strategy,
    *,
    whole: bool,
    progress: Callable[[Progress], None],
) -> SingleSearch:
    """Search a strategy's space and publish the trial table and the winner.

    Args:
        toolkit: `EnhancedTrainingManagerOptimized`, for the tools and their switches.
        bars: The market.
        strategy: What to search.
        whole: Search all bars; otherwise the last share of `data.holdout` is left out.
        progress: Called after each generation.

    Raises:
        BusyError: another process runs the same search.
        StoreError: the workspace cannot be written.
    """
    config, workspace = toolkit.config, toolkit.workspace
    training = bars if whole else split_holdout(bars, config.data.holdout)[0]
    toolkit.use(training, strategy)
    evaluator = (
        toolkit.progressive_evaluator if toolkit.early_stopping else toolkit.cached_backtester
    )
    seed = seed_for(config.enhanced_training_manager.seed, "search")
    patience = toolkit.patience
    request = request_digest(evaluator, strategy.space, config.search, seed=seed, patience=patience)
    began = time.perf_counter()
    with ExitStack() as stack:
        stack.enter_context(toolkit.watched())
        ledger = None
        if request is not None:
            folder = workspace.work(request)
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder.with_suffix(".lock")))
            ledger = folder / "ledger.sqlite"
        found = run_search(
            evaluator,
            strategy.space,
            config.search,
            seed=seed,
            ledger=ledger,
            patience=patience,
            progress=progress,
        )
        seconds = time.perf_counter() - began
        run_dir = _publish_search(workspace, training, strategy, found, config)
        if ledger is not None:
            shutil.rmtree(ledger.parent, ignore_errors=True)
    cached = int((found.volatile["source"] != "engine").sum()) if len(found.volatile) else 0
    memory = toolkit.memory_manager.profile_memory_usage()
    return SingleSearch(found, len(training), seconds, cached, memory, run_dir)


def _publish_search(
    workspace: Workspace,
    bars: Bars,
    strategy: Strategy,
    found: SearchResult,
    config: Config,
) -> Path:
    best = {"params": plain(found.best), "score": plain(found.score.value if found.score else None)}
    files = {
        "config.toml": to_toml(shaping_values(config)).encode(),
        "params.json": as_json(best),
        "trials.parquet": as_parquet(found.trials),
    }
    sections = {
        **_sections("optimize", bars, config),
        "strategy": strategy.name,
        "objective": objective_of(config.search).name,
        "metrics": {"score": best["score"]},
        "best": best,
        "counts": found.counts,
        "trials_digest": found.trials_digest,
        "replayed": found.replayed,
    }
    volatile = {"fallbacks": list(found.fallbacks), "policies": plain(found.policies)}
    return _publish(workspace, files, sections, volatile, None)


def _publish(
    workspace: Workspace,
    files: Mapping[str, bytes],
    sections: Mapping[str, Any],
    info: Mapping[str, Any],
    page: str | None,
) -> Path:
    """Publish from a working folder of this process's own."""
    now = dt.datetime.now(dt.UTC)
    work = workspace.work(fingerprint((now.isoformat(), os.getpid(), dict(files))))
    render = None if page is None else lambda _: page
    try:
        return publish_files(
            workspace, work / "staging", files, sections, started=now, info=info, render=render
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sections(kind: str, bars: Bars, config: Config) -> dict[str, Any]:
    return {
        "kind": kind,
        "market": {
            "symbol": bars.symbol,
            "exchange": bars.exchange,
            "timeframe": bars.timeframe,
            "calendar": bars.calendar,
        },
        "data": {
            "digest": bars.digest,
            "bars": len(bars),
            "first": iso(bars.timestamp[0]),
            "last": iso(bars.timestamp[-1]),
        },
        "seed": config.enhanced_training_manager.seed,
        "configuration": fingerprint(shaping_values(config)),
        "code": {"digest": code_digest()},
    }
