"""`EnhancedTrainingManager`: the main pipeline. Sixteen steps from bars to a validated artifact.

The manager calls the steps in order and does what steps may not do: it finds the data, counts the
looks at a holdout, and publishes the finished run folder by one rename.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ares.core.errors import InputError
from ares.core.identity import fingerprint
from ares.core.interrupts import interruptible
from ares.core.settings import Settings, load_settings, shaping_values
from ares.enhanced_training_manager_optimized import EnhancedTrainingManagerOptimized
from ares.market.budget import steady_allocator
from ares.pipeline import steps
from ares.pipeline.footprint import admission, admit_all, preload
from ares.pipeline.program import recipe_of, refit, refuse_few_bars, refuse_timeframes
from ares.pipeline.publish import Publication, Session, publish
from ares.pipeline.source import Source, find_source
from ares.pipeline.step import Runner, StepRecord, UntilReached
from ares.search.progressive import OFF
from ares.store.memo import memo_counts, remembering
from ares.store.scratch import scratching
from ares.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ares.core.config import Config
    from ares.market.bars import Bars
    from ares.market.dataframes import MemoryEfficientDataManager
    from ares.market.memory import MemoryManager
    from ares.pipeline.values import Recipe, Tools, Trained, WalkForward
    from ares.search.cached import CachedBacktester
    from ares.search.progressive import ProgressiveEvaluator

_INPUT_KEYS = ("symbol", "exchange", "timeframe", "data", "columns", "timerange")


@dataclass(frozen=True)
class Observer:
    """Callbacks of a run, for progress bars.

    Attributes:
        step_started: Called with (number, name, scope).
        step_ended: Called with the step's record.
        progress: Called with (what, done, total) inside long steps.
    """

    step_started: Callable[[int, str, str], None] = lambda *_: None
    step_ended: Callable[[StepRecord], None] = lambda _: None
    progress: Callable[[str, int, int], None] = lambda *_: None


@dataclass(frozen=True)
class TrainingResult:
    """What a training run ended with.

    Attributes:
        run_id: Name of the run; empty where `until` ended it before it was published.
        run_dir: Its folder; None as above.
        verdict: One sentence; empty as above.
        edge: Whether there is evidence of edge, the workspace's history counted.
        metrics: Numbers of the stitched out-of-sample curve.
        steps: How each step went, nested refits included.
        fallbacks: What was missing or failed and how it was replaced.
        recommendation: promote, hold or reject; empty as above.
        costs: Fee and slippage that were used, and where they came from.
        features: Feature matrices that were recalled from the store, and those made.
        searches: Searches of step 12, those inside the windows included.
        unstopped: Why each of those ran all points in full though early stopping was on.
    """

    run_id: str
    run_dir: Path | None
    verdict: str
    edge: bool
    metrics: dict[str, float]
    steps: tuple[StepRecord, ...]
    fallbacks: tuple[str, ...]
    recommendation: str = ""
    costs: dict[str, Any] = field(default_factory=dict)
    features: dict[str, int] = field(default_factory=dict)
    searches: int = 0
    unstopped: tuple[str, ...] = ()


class EnhancedTrainingManager:
    """Runs the pipeline of one configuration in one workspace.

    Args:
        config: Dict of sections, TOML or JSON file, `Config`, or checked `Settings`.
        home: Workspace; default: `ARES_HOME`, else the working folder.
        until: End after this step; what is done is kept.
        fresh: Compute every step anew.
        observer: Callbacks for progress.

    Raises:
        ConfigError: an unknown key or a value out of its range.
    """

    def __init__(
        self,
        config: Config | Settings | Mapping[str, Any] | str | Path | None = None,
        *,
        home: str | Path | None = None,
        until: int | None = None,
        fresh: bool = False,
        observer: Observer | None = None,
    ) -> None:
        if until is not None and not 1 <= until <= len(STEPS):
            raise InputError("--until names a step from 1 to 16", value=until)
        self.settings = config if isinstance(config, Settings) else load_settings(config)
        self.config = self.settings.config
        self._home = home
        self._until = until
        self._fresh = fresh
        self._observer = observer or Observer()
        self._optimized: EnhancedTrainingManagerOptimized | None = None

    def initialize(self) -> bool:
        """Make the workspace and the toolkit. True when the manager is ready."""
        self._initialize_optimized_tools()
        return self.get_optimized_manager().initialize()

    @interruptible()
    def execute_enhanced_training(self, training_input: Mapping[str, Any]) -> TrainingResult:
        """Run all sixteen steps on a market and publish the run.

        Args:
            training_input: `symbol`, `exchange`, `timeframe`; optionally `data` (files),
                `columns` and `timerange`.

        Raises:
            AresError: bad input, or anything else that Ares raises on purpose.
        """
        self._take(training_input)
        preload()
        steady_allocator()
        tools = self.get_optimized_manager()
        tools.memory_manager.measure_base()
        self.initialize()
        source = find_source(self.config.data, tools.workspace, self._loader())
        request = fingerprint((shaping_values(self.config), source.identity))
        with Session(
            tools.workspace, request, self._observer.progress, tools, fresh=self._fresh
        ) as session:
            runner = Runner(
                self._store(tools),
                fresh=self._fresh,
                until=self._until,
                on_start=self._observer.step_started,
                on_end=self._observer.step_ended,
                memory=tools.memory_manager,
                admit=admission(tools.memory_manager),
            )
            memory = remembering(None if self._fresh else runner.store)
            with tools.watched(), memory, scratching(runner.store):
                try:
                    return self._run(runner, source, session)
                except UntilReached:
                    notes = (*runner.fallbacks, *session.fallbacks)
                    return TrainingResult(
                        "", None, "", False, {}, tuple(runner.records), notes,
                        features=memo_counts(),
                    )  # fmt: skip

    def execute_optimized_training(
        self, symbol: str, exchange: str, timeframe: str
    ) -> TrainingResult:
        """All sixteen steps with every tool switched on."""
        self._override(
            {
                "enhanced_training_manager.enable_caching": True,
                "enhanced_training_manager.enable_parallelization": True,
                "enhanced_training_manager.enable_early_stopping": True,
                "enhanced_training_manager.enable_memory_management": True,
                "computational_optimization.caching.enabled": True,
                "computational_optimization.parallelization.enabled": True,
                "computational_optimization.early_stopping.enabled": True,
                "computational_optimization.memory_management.enabled": True,
            }
        )
        return self.execute_enhanced_training(
            {"symbol": symbol, "exchange": exchange, "timeframe": timeframe}
        )

    def _run(self, runner: Runner, source: Source, session: Session) -> TrainingResult:
        """The sixteen steps, in order."""
        config, run = self.config, runner.run
        data = run(steps.collect_data, source.loader, source.identity, config.data.holdout)  # 1
        recipe = recipe_of(config, self.get_optimized_manager().costs_for(data.bars.calendar))
        refuse_timeframes(data.bars.timeframe, recipe)
        if not runner.records[0].cached:  # what is kept already needs no memory
            admit_all(session.memory, data, recipe)
        if self._until is None:  # who stops earlier never comes to the windows
            refuse_few_bars(data, recipe, config.walk_forward)
        trained = refit(runner, data.bars, recipe, session.tools)  # 2 to 12
        walk = run(
            steps.validate_walk_forward,
            data.bars,
            recipe,
            config.walk_forward,
            steps.Refit(lambda k, bars: self._window(runner, k, bars, recipe, session.tools)),
        )
        stress = run(steps.validate_monte_carlo, data.bars, walk, recipe, config.monte_carlo)
        rivals = session.rivals(trained.model, data, recipe, config.walk_forward)
        comparison = run(
            steps.compare_ab,
            trained.model, rivals.champion, data.holdout, recipe, config.ab_test, rivals.looks,
        )  # fmt: skip
        artifact = run(
            steps.save,
            data,
            trained,
            walk,
            stress,
            comparison,
            recipe,
            session.config_toml(self.settings),
        )
        done = publish(
            session, runner, artifact, data, walk, stress, comparison, rivals, self.settings
        )
        return self._result(runner, session, trained, walk, done, recipe)

    @staticmethod
    def _window(runner: Runner, index: int, bars: Bars, recipe: Recipe, tools: Tools) -> Trained:
        return refit(runner.scoped(f"window {index}"), bars, recipe, tools)

    def _result(
        self,
        runner: Runner,
        session: Session,
        trained: Trained,
        walk: WalkForward,
        done: Publication,
        recipe: Recipe,
    ) -> TrainingResult:
        given = self.get_optimized_manager().costs_given
        return TrainingResult(
            run_id=done.run_dir.name,
            run_dir=done.run_dir,
            verdict=done.displayed.verdict,
            edge=done.displayed.edge,
            metrics=done.metrics,
            steps=tuple(runner.records),
            fallbacks=tuple(dict.fromkeys((*runner.fallbacks, *session.fallbacks))),
            recommendation=done.recommendation,
            costs={
                "fee": recipe.costs.fee,
                "slippage": recipe.costs.slippage,
                "source": "configuration" if given else f"default for {walk.models[-1].calendar}",
            },
            features=memo_counts(),
            searches=1 + len(walk.models),
            unstopped=tuple(note for note in (*trained.plan.notes, *walk.notes) if OFF in note),
        )

    def get_cached_backtester(self) -> CachedBacktester:
        """The cached backtester on the configured market's training range."""
        self._ensure_market()
        found = self.get_optimized_manager().cached_backtester
        if found is None:
            raise AssertionError("unreachable")
        return found

    def get_progressive_evaluator(self) -> ProgressiveEvaluator:
        """The progressive evaluator on the configured market's training range."""
        self._ensure_market()
        found = self.get_optimized_manager().progressive_evaluator
        if found is None:
            raise AssertionError("unreachable")
        return found

    def get_memory_manager(self) -> MemoryManager:
        """What keeps the memory budget."""
        return self.get_optimized_manager().memory_manager

    def get_data_manager(self) -> MemoryEfficientDataManager:
        """What keeps frames small."""
        return self.get_optimized_manager().data_manager

    def get_optimized_manager(self) -> EnhancedTrainingManagerOptimized:
        """The toolkit's manager, whose tools this one uses."""
        self._initialize_optimized_tools()
        if self._optimized is None:
            raise AssertionError("unreachable")
        return self._optimized

    def use_cached_backtesting(self, params: Mapping[str, Any]) -> float:
        """The full objective of one SMA crossing; -inf where it has none."""
        return self.get_cached_backtester().run_cached_backtest(params)

    def use_progressive_evaluation(
        self, params: Mapping[str, Any], evaluator_func: Callable[[Any, Any], float]
    ) -> float:
        """Evaluate block by block; -inf where it was stopped."""
        return self.get_progressive_evaluator().evaluate_progressively(params, evaluator_func)

    def generate_cache_key(self, params: Mapping[str, Any]) -> str:
        """Digest of parameters, data, strategy and costs: stable across processes and machines."""
        problem = self.get_cached_backtester().problem
        return fingerprint((problem.identity, problem.normalise(params)))

    def _initialize_optimized_tools(self) -> None:
        if self._optimized is None:
            self._optimized = EnhancedTrainingManagerOptimized(self.settings, home=self._home)

    def _ensure_market(self) -> None:
        from ares.market.bars import split_holdout

        tools = self.get_optimized_manager()
        if tools.cached_backtester is None:
            data = self.config.data
            bars = tools.load_bars(data.symbol, data.exchange, data.timeframe)
            tools.use(split_holdout(bars, data.holdout)[0])

    def _loader(self) -> Callable[[], Bars]:
        data, tools = self.config.data, self.get_optimized_manager()
        return lambda: tools.load_bars(data.symbol, data.exchange, data.timeframe)

    def _store(self, tools: EnhancedTrainingManagerOptimized) -> Store | None:
        return Store(tools.workspace.store) if tools.caching else None

    def _take(self, given: Mapping[str, Any]) -> None:
        unknown = sorted(set(given) - set(_INPUT_KEYS))
        if unknown:
            raise InputError(
                f"the training input has the keys {', '.join(_INPUT_KEYS)}", value=unknown
            )
        values = {f"data.{key}": value for key, value in given.items() if value is not None}
        paths = values.get("data.data")
        if paths is not None:
            several = [paths] if isinstance(paths, str | Path) else list(paths)
            values["data.data"] = tuple(str(path) for path in several)
        columns = values.get("data.columns")
        if isinstance(columns, str):
            values["data.columns"] = tuple(name.strip() for name in columns.split(","))
        self._override(values)

    def _override(self, values: dict[str, Any]) -> None:
        changed = {k: v for k, v in values.items() if _at(self.config, k) != v}
        if not changed:
            return
        checked = load_settings(self.config.model_dump(), overrides=changed, environ={})
        origins = self.settings.origins | dict.fromkeys(changed, "training input")
        self.settings = Settings(checked.config, origins)
        self.config = checked.config
        self._optimized = None


STEPS = (
    steps.collect_data,
    steps.classify_regimes,
    steps.split_by_regime,
    steps.label_analyst,
    steps.train_analysts,
    steps.enhance_analysts,
    steps.ensemble_analysts,
    steps.label_tactician,
    steps.train_tacticians,
    steps.ensemble_tacticians,
    steps.calibrate_confidence,
    steps.optimize_parameters,
    steps.validate_walk_forward,
    steps.validate_monte_carlo,
    steps.compare_ab,
    steps.save,
)
"""All steps in the order in which the pipeline calls them."""


def _at(config: Config, dotted: str) -> object:
    value: Any = config
    for name in dotted.split("."):
        value = getattr(value, name)
    return value
