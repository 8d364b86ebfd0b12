"""The toolkit that makes training fast and bounded in memory: its public names in one place.

| name | home |
| --- | --- |
| `CachedBacktester` | `ares.search.cached` |
| `ProgressiveEvaluator` | `ares.search.progressive` |
| `ParallelBacktester` | `ares.search.parallel` |
| `AdaptiveSampler` | `ares.search.adaptive` |
| `IncrementalTrainer` | `ares.learn.incremental` |
| `StreamingDataProcessor` | `ares.backtest.streaming` |
| `MemoryEfficientDataManager` | `ares.market.dataframes` |
| `MemoryManager` | `ares.market.memory` |
| `_make_hashable` | `ares.core.identity` |

`EnhancedTrainingManagerOptimized` puts them together: the quick loop (load, indicators, search,
train, ensemble) without validation. The whole pipeline is `ares.enhanced_training_manager`.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ares.backtest.costs import Costs, default_costs
from ares.backtest.strategies import SmaCross
from ares.backtest.streaming import StreamingDataProcessor
from ares.core.identity import _make_hashable, seed_for
from ares.core.settings import Settings, load_settings
from ares.learn.incremental import IncrementalTrainer
from ares.market.bars import split_holdout
from ares.market.dataframes import MemoryEfficientDataManager
from ares.market.memory import MemoryManager
from ares.market.sources import resolve
from ares.search.adaptive import AdaptiveSampler
from ares.search.cached import CachedBacktester, EvictableCache
from ares.search.evaluator import EngineEvaluator
from ares.search.parallel import ParallelBacktester
from ares.search.progressive import ProgressiveEvaluator
from ares.search.study import objective_of, run_search
from ares.store.memo import remembering
from ares.store.store import Store
from ares.store.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from ares.core.config import Config
    from ares.market.bars import Bars
    from ares.search.objective import Objective
    from ares.search.workers.pools import Workers

__all__ = [
    "AdaptiveSampler",
    "CachedBacktester",
    "EnhancedTrainingManagerOptimized",
    "IncrementalTrainer",
    "MemoryEfficientDataManager",
    "MemoryManager",
    "OptimizationResult",
    "ParallelBacktester",
    "ProgressiveEvaluator",
    "StreamingDataProcessor",
    "_make_hashable",
]

_log = logging.getLogger("ares.toolkit")


@dataclass(frozen=True)
class OptimizationResult:
    """What the quick loop found. Nothing here is validated out of sample.

    Attributes:
        symbol: What was traded; so are `exchange` and `timeframe`.
        best_params: The winner's parameters; None where no point had enough trades.
        best_score: Its objective in sample; -inf where there is none.
        trials: One row per point that was looked at.
        trials_digest: Digest of the same.
        model: Boosted trees on the analyst's labels, trained incrementally.
        ensemble_weight: Weight of the model beside the base rate in the blended probability,
            chosen on the last fifth of the labelled rows.
        log_loss: Of base rate, model and blend on those rows.
        fallbacks: Every fallback taken.
        memory: Profile of the memory at the end.
    """

    symbol: str
    exchange: str
    timeframe: str
    best_params: dict[str, Any] | None
    best_score: float
    trials: pd.DataFrame
    trials_digest: str
    model: Any
    ensemble_weight: float
    log_loss: dict[str, float]
    fallbacks: tuple[str, ...]
    memory: dict[str, Any]


class EnhancedTrainingManagerOptimized:
    """Holds the tools of one configuration and runs the quick loop.

    Args:
        config: Dict of sections, TOML or JSON file, `Config`, or checked `Settings`; None: defaults.
        home: Workspace; default: `ARES_HOME`, else the working folder.

    Raises:
        ConfigError: an unknown key or a value out of its range.
    """

    def __init__(
        self,
        config: Config | Settings | Mapping[str, Any] | str | Path | None = None,
        *,
        home: str | Path | None = None,
    ) -> None:
        settings = config if isinstance(config, Settings) else load_settings(config)
        self.config = settings.config
        self.workspace = Workspace.locate(home)
        options = self.config.computational_optimization
        memory = options.memory_management
        self.memory_manager = MemoryManager(
            memory.memory_threshold, budget=memory.budget, enforced=self.memory_management
        )
        self.data_manager = MemoryEfficientDataManager()
        self.fallbacks: list[str] = []
        self.cached_backtester: CachedBacktester | None = None
        self.progressive_evaluator: ProgressiveEvaluator | None = None
        self._bars: Bars | None = None
        self._workers: ParallelBacktester | None = None
        self._evictable: EvictableCache | None = None  # the memory manager holds it weakly
        self._stats: dict[str, Any] = {}
        self.admitted: int | None = None  # workers that the memory budget has room for

    def initialize(self) -> bool:
        """Make the workspace's folders. True when the manager is ready.

        Raises:
            MemoryBudgetError: the process alone takes more than the memory budget.
        """
        if self.memory_management:
            self.memory_manager.check_base()
        self.workspace.create()
        return True

    def watched(self) -> AbstractContextManager[object]:
        """Keep the memory budget while work goes on, where both switches are on."""
        return self.memory_manager.watch() if self.memory_management else nullcontext()

    def remembering(self) -> AbstractContextManager[object]:
        """Find what `ares precompute` kept, where both switches of caching are on."""
        return remembering(Store(self.workspace.store) if self.caching else None)

    @property
    def jobs(self) -> int:
        """Workers: 1 where parallelization is switched off, and no more than were admitted."""
        from ares.search.parallel import processors

        options = self.config.computational_optimization.parallelization
        on = self.config.enhanced_training_manager.enable_parallelization and options.enabled
        wanted = (options.max_workers or processors()) if on else 1
        return wanted if self.admitted is None else min(wanted, self.admitted)

    @property
    def workers(self) -> Workers:
        """What the workers are: threads where parallelization is switched off."""
        options = self.config.computational_optimization.parallelization
        on = self.config.enhanced_training_manager.enable_parallelization and options.enabled
        return options.workers if on else "threads"

    @property
    def caching(self) -> bool:
        """Whether both switches of caching are on."""
        options = self.config.computational_optimization.caching
        return self.config.enhanced_training_manager.enable_caching and options.enabled

    @property
    def early_stopping(self) -> bool:
        """Whether early stopping is on (`Config.stops_early`)."""
        return self.config.stops_early

    @property
    def memory_management(self) -> bool:
        """Whether both switches of memory management are on."""
        options = self.config.computational_optimization.memory_management
        return self.config.enhanced_training_manager.enable_memory_management and options.enabled

    @property
    def costs_given(self) -> bool:
        """Whether the configuration names fee and slippage."""
        return self.config.costs.fee is not None and self.config.costs.slippage is not None

    def costs_for(self, calendar: str) -> Costs:
        """The configured costs; what is not given comes from the calendar's defaults."""
        given, default = self.config.costs, default_costs(calendar)
        return Costs(
            fee=default.fee if given.fee is None else given.fee,
            slippage=default.slippage if given.slippage is None else given.slippage,
            borrow=given.borrow,
        )

    def load_bars(self, symbol: str, exchange: str, timeframe: str) -> Bars:
        """The checked bars of a market: given files, else the dataset store, else the sample."""
        data = self.config.data
        return resolve(
            symbol,
            exchange,
            timeframe,
            data=list(data.data) or None,
            workspace=self.workspace,
            columns=data.columns,
            timerange=data.timerange,
            calendar=data.calendar,
            adjusted=data.adjusted,
            bad_prints=data.bad_prints,
            max_print=data.max_print,
        )

    def _load_and_optimize_data(self, symbol: str, exchange: str, timeframe: str) -> pd.DataFrame:
        """The market as a frame in its smallest exact types.

        The tools are built on its training range: no parameter point is tried on the holdout.
        """
        bars = self.load_bars(symbol, exchange, timeframe)
        self.use(split_holdout(bars, self.config.data.holdout)[0])
        return self.data_manager.optimize_dataframe(bars.to_frame())

    def use(self, bars: Bars, strategy: Any = None, objective: Objective | None = None) -> None:
        """Build the cached backtester and the progressive evaluator on `bars`."""
        self._close()
        self._bars = bars
        strategy = strategy or SmaCross()
        engine = EngineEvaluator(
            bars,
            strategy,
            costs=self.costs_for(bars.calendar),
            fill=self.config.search.fill,
            max_gap=self.config.data.max_gap,
            objective=objective or objective_of(self.config.search),
            n_blocks=self.config.search.blocks,
        )
        if self.jobs > 1 or self.workers != "threads":
            options = self.config.computational_optimization.parallelization
            self._workers = ParallelBacktester(
                self.jobs, inner=engine, workers=self.workers, scheduler=options.scheduler
            )
        inner: Any = self._workers or engine
        self.cached_backtester = CachedBacktester(
            bars,
            inner=inner,
            max_cache_size=self.config.computational_optimization.caching.max_cache_size,
            store=self.workspace.cache_db if self.caching else None,
        )
        self.progressive_evaluator = ProgressiveEvaluator(
            bars, inner=self.cached_backtester, seed=self._seed("progressive")
        )
        if self.memory_management:
            self._evictable = EvictableCache(self.cached_backtester)
            self.memory_manager.register(self._evictable)

    def execute_optimized_training(
        self, symbol: str, exchange: str, timeframe: str
    ) -> OptimizationResult:
        """The quick loop: load, indicators, search, train, ensemble. No validation.

        The search sees the training range only (`data.holdout` is left out).

        Raises:
            AresError: as the steps it takes.
        """
        self.initialize()
        bars = self.load_bars(symbol, exchange, timeframe)
        training, _ = split_holdout(bars, self.config.data.holdout)
        self.use(training)
        if self.cached_backtester is None or self.progressive_evaluator is None:
            raise AssertionError("unreachable")
        evaluator: Any = (
            self.progressive_evaluator if self.early_stopping else self.cached_backtester
        )
        with self.watched(), self.remembering():
            found = run_search(
                evaluator,
                SmaCross().space,
                self.config.search,
                seed=self._seed("search"),
                patience=self.patience,
            )
            model, weight, losses = self._train(training)
        self.fallbacks += found.fallbacks
        self._stats = {**found.counts, "cache": self.cached_backtester.stats()}
        return OptimizationResult(
            symbol=symbol,
            exchange=exchange,
            timeframe=timeframe,
            best_params=found.best,
            best_score=found.score.value if found.score else float("-inf"),
            trials=found.trials,
            trials_digest=found.trials_digest,
            model=model,
            ensemble_weight=weight,
            log_loss=losses,
            fallbacks=tuple(dict.fromkeys(self.fallbacks)),
            memory=self.get_memory_profile(),
        )

    def _train(self, bars: Bars) -> tuple[Any, float, dict[str, float]]:
        """Train on the first four fifths of the labels, weigh the model on the last fifth."""
        import numpy as np

        from ares.learn.calibration import log_loss
        from ares.learn.incremental import tree_parameters
        from ares.learn.track import analyst_track, make_dataset

        config = self.config
        track = analyst_track(bars.timeframe, config.analyst, config.data.max_gap)
        costs = self.costs_for(bars.calendar)
        data = make_dataset(bars, track, costs=costs, fill=config.search.fill)
        border = int(0.8 * len(data.t0))
        early = np.flatnonzero(data.t1 < data.t0[border])
        late = np.arange(border, len(data.t0))
        trainer = IncrementalTrainer(tree_parameters(config.analyst))
        model: Any = None
        for trees in sorted({max(1, config.analyst.trees // 2), config.analyst.trees}):
            model = trainer.train_incrementally(
                {"trees": trees}, data.X[early], data.y[early], data.weight[early]
            )
        base = np.full(len(late), float(np.average(data.y[early], weights=data.weight[early])))
        p = np.asarray(model.predict(data.X[late]), dtype=np.float64)
        y, w = data.y[late], data.weight[late]
        grid = np.linspace(0.0, 1.0, 21)
        losses = [log_loss(share * p + (1 - share) * base, y, w) for share in grid]
        best = int(np.argmin(losses))
        return (
            model,
            float(grid[best]),
            {"base_rate": losses[0], "model": losses[-1], "blend": losses[best]},
        )

    def get_memory_profile(self) -> dict[str, Any]:
        """Resident memory, budget, base and caches, in bytes."""
        return self.memory_manager.profile_memory_usage()

    def get_optimization_stats(self) -> dict[str, Any]:
        """Counts of the last search, and what the cache answered."""
        stats = dict(self._stats)
        if self.cached_backtester is not None:
            stats["cache"] = self.cached_backtester.stats()
        stats["fallbacks"] = list(dict.fromkeys(self.fallbacks))
        return stats

    def cleanup(self) -> None:
        """Let go of caches and bars, and close the cache's file."""
        self._close()
        self.cached_backtester = None
        self.progressive_evaluator = None
        self._bars = None
        self.memory_manager.cleanup()

    def _close(self) -> None:
        if self.cached_backtester is not None:
            self.cached_backtester.close()
        if self._workers is not None:
            self._workers.close()

    @property
    def patience(self) -> int | None:
        """Generations without improvement that end a search; None without early stopping."""
        options = self.config.computational_optimization.early_stopping
        return options.patience if self.early_stopping else None

    def _seed(self, name: str) -> int:
        return seed_for(self.config.enhanced_training_manager.seed, name)
