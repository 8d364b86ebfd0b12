"""What `ares precompute` computes ahead: step 1, step 4 and the feature matrices of both tracks.

Steps and matrices lie in the store under the keys that a training run asks for, so it finds them;
another bar, feature parameter or line of code is another key. Of a strategy's columns those are
kept that take longer to make than to read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ares.backtest.strategies import slow_columns
from ares.backtest.strategy import Prepared
from ares.core.errors import ConfigError, StoreError
from ares.learn.feature_memo import KeptFeatures, keep_features
from ares.learn.track import analyst_track, tactician_track, view_track
from ares.pipeline import steps
from ares.pipeline.footprint import admission, admit_all, preload
from ares.pipeline.program import recipe_of, refuse_few_bars, refuse_timeframes
from ares.pipeline.source import find_source
from ares.pipeline.step import Runner, StepRecord
from ares.store.memo import remembering
from ares.store.store import Store
from ares.validate.walk_forward import windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from ares.backtest.strategy import Strategy
    from ares.learn.track import Track
    from ares.market.bars import Bars
    from ares.pipeline.values import MarketData


@dataclass(frozen=True)
class Precomputed:
    """What was made and what was there.

    Attributes:
        bars: Bars of the training range.
        features: Matrices by scope ("" is the whole range) and track.
        steps: Steps by scope.
        columns: Columns of the strategy, and how many of them were made now.
        column_bytes: Their size.
        store_bytes: Size of all objects in the store.
        added_bytes: What this call added to it.
    """

    bars: int
    features: tuple[tuple[str, KeptFeatures], ...]
    steps: tuple[StepRecord, ...]
    columns: tuple[int, int]
    column_bytes: int
    store_bytes: int
    added_bytes: int


def precompute(
    toolkit: Any,
    strategy: Strategy | None = None,
    *,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Precomputed:
    """Keep what a training run of this configuration, or a search, needs of the bars alone.

    What training would refuse before it begins is refused here, too: nothing is made for it.

    Args:
        toolkit: `EnhancedTrainingManagerOptimized` of the configuration.
        strategy: Its slow columns are kept, too, for the bars that `ares optimize` searches.
        progress: Called with (what, done, total).

    Raises:
        ConfigError: caching is switched off.
        MemoryBudgetError: training is predicted not to fit into the memory budget.
        DataError: the data have too few bars for training, or cannot be read.
        StoreError: the store cannot be written.
    """
    _check_caching(toolkit)
    preload()
    toolkit.memory_manager.measure_base()
    toolkit.initialize()
    with toolkit.watched():
        return _precomputed(toolkit, strategy, progress)


def _precomputed(
    toolkit: Any, strategy: Strategy | None, progress: Callable[[str, int, int], None]
) -> Precomputed:
    config, data = toolkit.config, toolkit.config.data
    store = Store(toolkit.workspace.store)
    before = store.stats().total_bytes
    memory = toolkit.memory_manager
    runner = Runner(store, memory=memory, admit=admission(memory))
    market = _market(toolkit, runner)
    training = market.bars
    recipe = recipe_of(config, toolkit.costs_for(training.calendar))
    refuse_timeframes(training.timeframe, recipe)
    if not runner.records[0].cached:
        admit_all(memory, market, recipe)
    refuse_few_bars(market, recipe, config.walk_forward)
    analyst = analyst_track(training.timeframe, recipe.analyst, recipe.max_gap)
    tracks = (analyst, tactician_track(training.timeframe, recipe.tactician, recipe.max_gap))
    scopes = [("", training)] + [
        (f"window {window.index}", training[: window.train_stop])
        for window in windows(len(training), config.walk_forward)
    ]
    kept: list[tuple[str, KeptFeatures]] = []
    with remembering(store) as memo:
        if memo is None:
            raise AssertionError("unreachable")
        whole = [view_track(training, track).bars for track in tracks]
        for done, (scope, bars) in enumerate(scopes):
            progress("features", done, len(scopes))
            for track, longest in zip(tracks, whole, strict=True):
                view = longest if not scope else view_track(bars, track).bars
                kept.append((scope, keep_features(memo, view, track, longest if scope else None)))
            _label(runner, scope, bars, analyst, recipe)
        progress("features", len(scopes), len(scopes))
        searched = toolkit.load_bars(data.symbol, data.exchange, data.timeframe)
        if not data.timerange:
            searched = searched[: len(training)]
        wanted = [] if strategy is None else slow_columns(strategy)
        made = _columns(searched, wanted, data.max_gap, progress)
    if runner.fallbacks:
        raise StoreError(runner.fallbacks[0], where=str(store.root))
    after = store.stats().total_bytes
    return Precomputed(
        len(training),
        tuple(kept),
        tuple(runner.records),
        (len(wanted), made),
        8 * len(searched) * len(wanted),
        after,
        after - before,
    )


def _check_caching(toolkit: Any) -> None:
    if not toolkit.caching:
        raise ConfigError(
            "what is computed ahead is kept in the cache, which is switched off",
            where="computational_optimization.caching.enabled",
            remedy="Switch it on; enhanced_training_manager.enable_caching, too.",
        )


def _market(toolkit: Any, runner: Runner) -> MarketData:
    """The training range and the holdout, by step 1."""
    data = toolkit.config.data
    source = find_source(
        data,
        toolkit.workspace,
        lambda: toolkit.load_bars(data.symbol, data.exchange, data.timeframe),
    )
    return runner.run(steps.collect_data, source.loader, source.identity, data.holdout)


def _label(runner: Runner, scope: str, bars: Bars, analyst: Track, recipe: Any) -> None:
    inner = runner.scoped(scope) if scope else runner
    inner.run(steps.label_analyst, bars, analyst, recipe.costs, recipe.search.fill)


def _columns(
    bars: Bars,
    wanted: list[tuple[str, int]],
    max_gap: int | None,
    progress: Callable[[str, int, int], None],
) -> int:
    """Keep columns of bars, and say how many had to be made."""
    prepared = Prepared.of(bars, max_gap=max_gap)
    made = 0
    for done, (name, period) in enumerate(wanted):
        progress("columns", done, len(wanted))
        made += prepared.keep_column(name, period)
    return made
