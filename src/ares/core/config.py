"""The configuration: frozen, strict sections with ranges, one per step group.

Every field is marked: `shapes_result` fields enter digests, `config.toml` and the manifest;
`volatile` ones (paths, worker counts, memory) never do. How values come in (command line,
environment, file, mode preset, defaults) is `ares.core.settings`.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ares.core.types import Fill, Mode


def _shapes(default: Any, description: str, **limits: Any) -> Any:
    """Declare a field that shapes results."""
    return Field(
        default=default,
        description=description,
        json_schema_extra={"effect": "shapes_result"},
        **limits,
    )


def _volatile(default: Any, description: str, **limits: Any) -> Any:
    """Declare a field that never shapes a result."""
    return Field(
        default=default, description=description, json_schema_extra={"effect": "volatile"}, **limits
    )


class Section(BaseModel):
    """Base of all sections: frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )


class ManagerConfig(Section):
    """The main pipeline: mode, seed and the four switches of the toolkit."""

    mode: Mode = _shapes("full", "quick: small search and 3 windows, for a first look; or full")
    seed: int = _shapes(0, "every random stream is derived from it", ge=0, lt=2**63)
    enable_caching: bool = _volatile(True, "reuse stored results; never changes one")
    enable_parallelization: bool = _volatile(True, "use several workers; never changes a result")
    enable_early_stopping: bool = _shapes(True, "stop losing points early (a policy, reported)")
    enable_memory_management: bool = _volatile(True, "watch the memory budget")


class CachingConfig(Section):
    """Caching of backtest results."""

    enabled: bool = _volatile(True, "second switch of enable_caching")
    max_cache_size: int = _volatile(1000, "entries kept in memory", ge=1)


class ParallelizationConfig(Section):
    """Workers."""

    enabled: bool = _volatile(True, "second switch of enable_parallelization")
    max_workers: int | None = _volatile(None, "worker count; default: the processors", ge=1)
    workers: Literal["threads", "processes", "dask"] = _volatile("threads", "kind of workers")
    scheduler: str | None = _volatile(
        None, "address of a Dask scheduler, tcp://host:port; default: a cluster on this machine"
    )


class EarlyStoppingConfig(Section):
    """Stopping of single points (blocks) and of the whole search (patience)."""

    enabled: bool = _shapes(True, "second switch of enable_early_stopping")
    patience: int | None = _shapes(
        None, "end the search after this many generations without improvement", ge=1
    )


class MemoryConfig(Section):
    """The memory budget."""

    enabled: bool = _volatile(True, "second switch of enable_memory_management")
    memory_threshold: float = _volatile(0.8, "share of memory that may be used", gt=0, le=1)
    budget: str | None = _volatile(
        None, "explicit budget, for example 2GiB", pattern=r"(?i)^\d+(\.\d+)?\s*([KMGT]i?B?|B)?$"
    )


class ComputationConfig(Section):
    """The toolkit: a tool is on when its switch here and in `enhanced_training_manager` is."""

    caching: CachingConfig = CachingConfig()
    parallelization: ParallelizationConfig = ParallelizationConfig()
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    memory_management: MemoryConfig = MemoryConfig()


class DataConfig(Section):
    """Step 1: which bars, and how faults in them are treated."""

    symbol: str = _shapes("IXIC", "as the exchange writes it", min_length=1, max_length=40)
    exchange: str = _shapes("nasdaq", "name of the exchange", min_length=1, max_length=40)
    timeframe: str = _shapes("1d", "length of a base bar: 1m 5m 15m 1h 4h 1d ...")
    data: tuple[str, ...] = _volatile((), "files or folders; default: dataset store, then sample")
    columns: tuple[str, ...] | None = _volatile(None, "order of the columns of a file")
    timerange: str | None = _shapes(None, "20200101-20210101, either side may be empty")
    calendar: str | None = _shapes(None, "24/7, 24/5 or session:<zone> hh:mm-hh:mm; else inferred")
    adjusted: Literal["none", "split", "total"] = _shapes("none", "price adjustment of the data")
    bad_prints: Literal["drop", "keep", "error"] = _shapes("drop", "what to do with bad prints")
    max_print: float = _shapes(2.0, "factor off the recent median that makes a bad print", gt=1)
    max_gap: int = _shapes(60, "longest gap, in expected bars, that features may span", ge=1)
    base_url: str | None = _volatile(
        None,
        "address in place of an exchange's own, for `ares load`: a mirror, or a test server",
        pattern=r"^https?://[^\s@?#]+$",
    )
    http_timeout: float = _volatile(20.0, "seconds without an answer that `ares load` waits", gt=0)
    holdout: float = _shapes(0.2, "last share of the bars, opened only by step 15", gt=0, lt=0.9)


class RegimeConfig(Section):
    """Step 2: the causal regime model."""

    timeframe: str | None = _shapes(None, "default: by the table of base timeframes")
    volatility_window: int = _shapes(20, "bars of realised volatility", ge=2)
    max_iterations: int = _shapes(100, "EM iterations", ge=1)
    tolerance: float = _shapes(1e-6, "stop when the mean log likelihood gains less", gt=0)
    restarts: int = _shapes(3, "EM starts, best kept", ge=1)


class SplitConfig(Section):
    """Step 3: the forward chain."""

    chunks: int = _shapes(8, "chained chunks, the last one from `final` on", ge=3)
    first: float = _shapes(0.30, "share of the training range before the first chunk", gt=0, lt=1)
    final: float = _shapes(0.85, "share that the final models see; the rest calibrates", gt=0, lt=1)
    embargo: float = _shapes(0.005, "share of the range left out after purging", ge=0, lt=0.2)

    @model_validator(mode="after")
    def _ordered(self) -> SplitConfig:
        if not self.first < self.final:
            raise ValueError("first must be below final")
        return self


class TrackConfig(Section):
    """Labels, features and models of one track: the analyst or the tactician."""

    timeframe: str | None = _shapes(None, "default: by the table of base timeframes")
    horizon: int | None = _shapes(None, "bars to the vertical barrier; default by timeframe", ge=1)
    upper: float = _shapes(1.0, "upper barrier in volatilities of the horizon", gt=0)
    lower: float = _shapes(1.0, "lower barrier in volatilities of the horizon", gt=0)
    volatility_window: int = _shapes(50, "bars of the barriers' volatility", ge=2)
    max_rows: int = _shapes(50_000, "training rows; more are thinned evenly in time", ge=500)
    min_effective_sample: int = _shapes(300, "below it a specialist is the general model", ge=1)
    trees: int = _shapes(150, "boosting rounds at most", ge=1)
    learning_rate: float = _shapes(0.05, "shrinkage per tree", gt=0, le=1)
    leaves: int = _shapes(15, "leaves of a tree at most", ge=2)
    min_leaf: int = _shapes(40, "rows in a leaf at least", ge=1)
    features: int = _shapes(16, "features kept by the enhancement", ge=1)
    candidates: int = _shapes(6, "hyperparameter candidates that the enhancement tries", ge=1)


class EnsembleConfig(Section):
    """Steps 7 and 10: gating and stacking."""

    min_rows: int = _shapes(300, "chained rows that a stacker needs; fewer: gating alone", ge=10)
    l2: float = _shapes(1.0, "strength of the stacker's ridge", gt=0)


class CalibrationConfig(Section):
    """Step 11: probability calibration."""

    min_rows: int = _shapes(200, "rows that a calibrator needs; fewer: identity", ge=10)
    min_isotonic: int = _shapes(1000, "rows below which Platt is always chosen", ge=10)
    bins: int = _shapes(10, "bins of the expected calibration error", ge=2)


class CostsConfig(Section):
    """Costs per side as fractions of traded value; none given: the calendar's defaults."""

    fee: float | None = _shapes(None, "fee rate per side", ge=0, lt=0.5)
    slippage: float | None = _shapes(None, "slippage rate per side", ge=0, lt=0.5)
    borrow: float = _shapes(0.0, "annual rate on a short's value", ge=0, lt=10)


class SearchConfig(Section):
    """Step 12: the search for entries, exits, stops and holding times."""

    trials: int = _shapes(512, "points looked at", ge=1)
    sampler: Literal["adaptive", "sobol", "random", "optuna-tpe", "optuna-cmaes"] = _shapes(
        "adaptive", "which sampler chooses the points; Optuna's need the extra `optuna`"
    )
    choice: Literal["best", "plateau"] = _shapes(
        "best", "the winner: best value, or best neighbourhood median"
    )
    initial_samples: int = _shapes(64, "Sobol points first; never stopped", ge=2)
    generation: int = _shapes(
        16, "points asked together: fewer learn faster, more keep more workers busy", ge=1
    )
    objective: Literal["sharpe", "total_return", "calmar", "sortino"] = _shapes(
        "sharpe", "pooled, less `penalty` standard errors"
    )
    penalty: float = _shapes(1.0, "jackknife standard errors taken off", ge=0)
    blocks: int = _shapes(16, "scoring blocks of the continuous run", ge=2)
    min_trades: int = _shapes(30, "fewer trades have no score", ge=1)
    direction: Literal["long", "short", "both"] = _shapes("both", "sides that may be traded")
    fill: Fill = _shapes("next_open", "where a decision is filled")
    target_volatility: float = _shapes(0.15, "annual, for the size chosen after the search", gt=0)


class WalkForwardConfig(Section):
    """Step 13: refits of the whole pipeline."""

    windows: int = _shapes(5, "test windows", ge=1)
    first: float = _shapes(0.5, "share of the training range before the first window", gt=0, lt=1)


class MonteCarloConfig(Section):
    """Step 14: resampling and stress."""

    paths: int = _shapes(2000, "bootstrap paths", ge=10)
    mean_block: float | None = _shapes(None, "days; default: Politis-White", ge=1)
    stress: tuple[float, ...] = _shapes((2.0, 3.0), "multiples of the costs")
    latency: tuple[int, ...] = _shapes((1, 2), "bars by which decisions come late")
    price_noise: float = _shapes(0.1, "noise on fills, in average bar ranges", ge=0)


class ABTestConfig(Section):
    """Step 15: challenger against champion and baselines."""

    alpha: float = _shapes(
        0.05, "level of the first look; the k-th is at alpha / 2^k", gt=0, lt=0.5
    )
    resamples: int = _shapes(2000, "bootstrap resamples", ge=100)


class Config(Section):
    """The whole configuration."""

    enhanced_training_manager: ManagerConfig = ManagerConfig()
    computational_optimization: ComputationConfig = ComputationConfig()
    data: DataConfig = DataConfig()
    regimes: RegimeConfig = RegimeConfig()
    splits: SplitConfig = SplitConfig()
    analyst: TrackConfig = TrackConfig()
    tactician: TrackConfig = TrackConfig()
    ensembles: EnsembleConfig = EnsembleConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    costs: CostsConfig = CostsConfig()
    search: SearchConfig = SearchConfig()
    walk_forward: WalkForwardConfig = WalkForwardConfig()
    monte_carlo: MonteCarloConfig = MonteCarloConfig()
    ab_test: ABTestConfig = ABTestConfig()

    @property
    def stops_early(self) -> bool:
        """Whether both switches of early stopping are on, and there are points that may stop.

        The Sobol points never do.
        """
        switches = (
            self.enhanced_training_manager.enable_early_stopping
            and self.computational_optimization.early_stopping.enabled
        )
        return switches and self.search.trials > self.search.initial_samples


QUICK: Final[dict[str, dict[str, Any]]] = {
    "analyst": {"trees": 60, "candidates": 3, "max_rows": 20_000},
    "tactician": {"trees": 60, "candidates": 3, "max_rows": 20_000},
    "search": {"trials": 192, "initial_samples": 64},
    "splits": {"chunks": 6},
    "walk_forward": {"windows": 3},
    "monte_carlo": {"paths": 500},
    "ab_test": {"resamples": 1000},
}
"""What `mode = "quick"` changes: a layer between the defaults and the file."""
