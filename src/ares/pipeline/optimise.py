"""Step 12: the search for trading parameters on chained scores, its account, and the size."""

from __future__ import annotations

import functools
import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from ares.backtest.engine import simulate_reference
from ares.backtest.strategies import ModelSignal
from ares.core.errors import DataError
from ares.core.identity import seed_for
from ares.learn.labels import barrier_width
from ares.pipeline.values import Plan
from ares.pipeline.walk import daily
from ares.search.cached import CachedBacktester, EvictableCache
from ares.search.evaluator import EngineEvaluator
from ares.search.parallel import ParallelBacktester
from ares.search.progressive import ProgressiveEvaluator
from ares.search.study import objective_of, request_digest, run_search

if TYPE_CHECKING:
    from ares.backtest.costs import Costs
    from ares.backtest.space import ParameterSpace
    from ares.core.config import SearchConfig
    from ares.learn.track import Track
    from ares.market.bars import Bars
    from ares.pipeline.values import Calibrated, Tools
    from ares.search.result import SearchResult

_MAX_SIZE = 1.0
_MIN_SCORES = 50


def optimise(
    bars: Bars,
    signals: Calibrated,
    track: Track,
    config: SearchConfig,
    costs: Costs,
    *,
    early_stopping: bool,
    patience: int | None,
    seed: int,
    tools: Tools,
) -> Plan:
    """Search entries, exits, stops and holding times; then choose the size.

    The search sees chained scores only. Where no point has enough trades, the plan is the middle
    of the space with an outcome that says so: such a model trades little, and is judged all the
    same.

    Raises:
        DataError: the chain left almost no scores to search on.
    """
    scored = int(np.isfinite(signals.score[signals.first_row :]).sum())
    if scored < _MIN_SCORES:
        raise DataError(
            f"the search needs {_MIN_SCORES} bars with a chained score",
            value=scored,
            where=f"{bars.symbol} {bars.exchange} {bars.timeframe}, {len(bars)} training bars",
            remedy="Load more data, or lower splits.first.",
        )
    strategy = ModelSignal(signals.score)
    search_seed = seed_for(seed, "search")
    space = search_space(bars, signals, track, config)
    with ExitStack() as stack:
        evaluator = _stack_of(bars, strategy, config, costs, signals.first_row, track, stack, tools)
        if early_stopping:
            evaluator = ProgressiveEvaluator(inner=evaluator, seed=seed_for(seed, "progressive"))
        ledger = None
        if tools.ledger_dir is not None:
            request = request_digest(evaluator, space, config, seed=search_seed, patience=patience)
            ledger = tools.ledger_dir / f"{request}.sqlite" if request else None
        found = run_search(
            evaluator,
            space,
            config,
            seed=search_seed,
            ledger=ledger,
            patience=patience,
            progress=lambda now: tools.progress("trials", now.trials, now.budget),
        )
        for note in found.fallbacks:
            tools.note(note)
    return _plan(bars, strategy, space, found, signals.first_row, track, config, costs)


def search_space(
    bars: Bars, signals: Calibrated, track: Track, config: SearchConfig
) -> ParameterSpace:
    """Ranges in the units of this market: quantiles of the score, volatilities of the horizon."""
    strength = np.abs(signals.score[signals.first_row :])
    strength = strength[np.isfinite(strength)]
    low, high = (float(np.quantile(strength, q)) for q in (0.05, 0.97))
    high = min(max(high, low + 1e-3), 1.0)
    widths = barrier_width(bars, track.config.volatility_window, track.horizon, track.max_gap)
    width = float(np.nanmedian(widths[signals.first_row :]))
    return ModelSignal.space.with_bounds(
        {
            "enter": (low, high),
            "exit": (-high, low),
            "stop_loss": (min(0.5 * width, 0.4), min(6.0 * width, 0.8), "log"),
            "take_profit": (0.5 * width, 8.0 * width, "log"),
            "max_hold": (max(1, track.horizon // 2), 10 * track.horizon, "log"),
            "cooldown": (0, max(1, track.horizon)),
            "direction": [config.direction],
        }
    )


def _stack_of(
    bars: Bars,
    strategy: ModelSignal,
    config: SearchConfig,
    costs: Costs,
    start: int,
    track: Track,
    stack: ExitStack,
    tools: Tools,
) -> Any:
    """The engine, inside workers, inside the cache, as the tools say. None changes a result."""
    evaluator: Any = EngineEvaluator(
        bars,
        strategy,
        costs=costs,
        fill=config.fill,
        max_gap=track.max_gap,
        objective=objective_of(config),
        n_blocks=config.blocks,
        start=start,
    )
    if tools.jobs > 1 or tools.pool is not None:
        pool = None if tools.pool is None else tools.pool.get()
        evaluator = stack.enter_context(
            ParallelBacktester(tools.jobs, executor=pool, inner=evaluator)
        )
    if tools.cache_path is not None:
        cached = CachedBacktester(
            inner=evaluator, max_cache_size=tools.cache_size, store=tools.cache_path
        )
        stack.callback(cached.close)
        if tools.memory is not None:
            evictable = EvictableCache(cached)
            tools.memory.register(evictable)
            stack.callback(lambda: evictable)  # the manager holds it weakly
        evaluator = cached
    return evaluator


def _plan(
    bars: Bars,
    strategy: ModelSignal,
    space: ParameterSpace,
    found: SearchResult,
    start: int,
    track: Track,
    config: SearchConfig,
    costs: Costs,
) -> Plan:
    params = dict(found.best or middle(space))
    params = space.normalise(params)
    replay = functools.partial(
        simulate_reference, bars, strategy, costs=costs, fill=config.fill, max_gap=track.max_gap,
        start=start,
    )  # fmt: skip
    metrics = dict(replay(params).metrics)  # two curves at once would be twice the memory
    params["size"] = _size(metrics["volatility"], config.target_volatility)
    sized = replay(params)
    full_runs = np.ascontiguousarray(found.initial_returns.T)
    return Plan(
        params=params,
        score=found.score.value if found.score else -math.inf,
        outcome=found.score.outcome.name if found.score else "no point had enough trades",
        metrics=metrics,
        trials=found.trials,
        trials_digest=found.trials_digest,
        daily_returns=daily(sized)[1],
        full_runs=full_runs,
        notes=_notes(found),
    )


def middle(space: ParameterSpace) -> dict[str, Any]:
    """The centre of the searched ranges."""
    point: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        choices = getattr(parameter, "choices", None)
        if choices:
            point[name] = choices[0]
            continue
        low, high = float(parameter.low), float(parameter.high)  # type: ignore[union-attr]
        value = math.sqrt(low * high) if parameter.log else (low + high) / 2  # type: ignore[union-attr]
        point[name] = round(value) if type(parameter).__name__ == "Int" else value
    return point


def _size(volatility: float, target: float) -> float:
    """Fraction of equity at which the winner's volatility is the target; at most all of it."""
    if not volatility > 0:
        return _MAX_SIZE
    return min(_MAX_SIZE, target / volatility)


def _notes(found: SearchResult) -> tuple[str, ...]:
    counts = found.counts
    account = (
        f"{counts['trials']} points: {counts['full']} in full ({counts['failed']} of them without a"
        f" score), {counts['stopped']} stopped early"
    )
    off = found.policies.get("off")
    notes = [account] if off is None else [account, str(off)]
    if found.best is None:
        notes.append("no point had enough trades; the middle of the space was taken")
    return tuple(notes)
