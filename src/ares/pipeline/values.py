"""The frozen values that travel between the steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ares.core.types import readonly
from ares.pipeline.step import Volatile
from ares.store.codecs import register

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

    from ares.backtest.costs import Costs
    from ares.core.config import (
        CalibrationConfig,
        EnsembleConfig,
        RegimeConfig,
        SearchConfig,
        SplitConfig,
        TrackConfig,
    )
    from ares.core.types import Float64Array, Int8Array
    from ares.learn.chain_fit import CalibrationChain, EnsembleChain, TrackFit
    from ares.learn.regime_chain import RegimeChain
    from ares.learn.splits import Chain
    from ares.learn.track import Dataset, Track
    from ares.market.bars import Bars, Holdout
    from ares.market.memory import MemoryManager
    from ares.model.trading_model import TradingModel
    from ares.search.workers.pools import SharedPool
    from ares.validate.evidence import Evidence
    from ares.validate.walk_forward import OutOfSample, WindowResult


@register(schema=2)
@dataclass(frozen=True)
class MarketData:
    """Step 1: the training bars, the sealed holdout, and what the check of the data found."""

    holdout: Holdout
    quality: dict[str, object]

    @cached_property
    def bars(self) -> Bars:
        """The training bars, as views of the market that the holdout is the end of."""
        return self.holdout.training


@register(schema=1)
@dataclass(frozen=True)
class Splits:
    """Step 3: the forward chain and who lives where.

    Attributes:
        chain: Borders of the chunks and the embargo.
        occupancy: float64 (chunks, 3), effective share of each regime among the bars before each
            chunk: the per-regime sample weights summed.
        regime: int8 (n,), most probable regime at each base bar by the model of its chunk; -1
            before the first chunk and in warm-up.
    """

    chain: Chain
    occupancy: Float64Array
    regime: Int8Array

    def __post_init__(self) -> None:
        readonly(self.occupancy)
        readonly(self.regime)


@register(schema=1)
@dataclass(frozen=True)
class Calibrated:
    """Step 11: chained, calibrated signals at every base bar, and the proof of calibration.

    Attributes:
        p_up: float64 (n,), NaN before the chain begins; so are the others.
        confidence: float64 (n,), probability that entering on `side` pays.
        side: int8 (n,), the analyst's side.
        score: float64 (n,), side x confidence.
        first_row: First base bar that the search may trade.
        quality: One row per (track, slice): Brier and ECE before and after.
        reliability: Points of the reliability curves before and after.
        notes: Every fallback taken.
    """

    p_up: Float64Array
    confidence: Float64Array
    side: Int8Array
    score: Float64Array
    first_row: int
    quality: pd.DataFrame
    reliability: pd.DataFrame
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("p_up", "confidence", "side", "score"):
            readonly(getattr(self, name))


@register(schema=1)
@dataclass(frozen=True)
class Plan:
    """Step 12: the chosen trading parameters, and the account of the search.

    Attributes:
        params: Normalised parameters with the size chosen by the volatility target.
        score: Objective of the winner in sample.
        outcome: Why it has that score.
        metrics: In-sample metrics of the winner, at size 1, by the reference loop.
        trials: Every point that was looked at.
        trials_digest: Digest of the same.
        daily_returns: float64 (d,), in-sample net daily returns of the winner.
        full_runs: float64 (d, points), daily returns of the Sobol points, which were all run in
            full: what the overfitting statistics rest on.
        notes: Every fallback taken.
    """

    params: dict[str, object]
    score: float
    outcome: str
    metrics: dict[str, float]
    trials: pd.DataFrame
    trials_digest: str
    daily_returns: Float64Array
    full_runs: Float64Array
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        readonly(self.daily_returns)
        readonly(self.full_runs)


@register(schema=1)
@dataclass(frozen=True, eq=False)
class Predictions:
    """What a window's model said at each of its test bars, as arrays: as a table it is thrice as large.

    Attributes:
        p_up: float64 (n,), as in `TradingModel.predict`; NaN where nothing is said.
        confidence: float64 (n,), likewise.
        regime: int8 (n,), index into `ares.learn.regimes.NAMES`; -1 where it is not known.
        action: int8 (n,), side that the thresholds let in, or 0.
    """

    p_up: Float64Array
    confidence: Float64Array
    regime: Int8Array
    action: Int8Array

    def __post_init__(self) -> None:
        for name in ("p_up", "confidence", "regime", "action"):
            readonly(getattr(self, name))

    def __len__(self) -> int:
        return len(self.p_up)


@register(schema=3)
@dataclass(frozen=True)
class WalkForward:
    """Step 13: the stitched curve, the windows' models, and the verdict.

    Attributes:
        oos: The stitched curve.
        results: What each window made of its test bars.
        models: Each window's model.
        scores: Each window's score at bars [test_start, test_stop).
        predictions: What each window's model said at these bars.
        evidence: The verdict and its numbers.
        trials: Points that the windows' searches looked at.
        notes: What happened inside the windows.
    """

    oos: OutOfSample
    results: tuple[WindowResult, ...]
    models: tuple[TradingModel, ...]
    scores: tuple[Float64Array, ...]
    predictions: tuple[Predictions, ...]
    evidence: Evidence
    trials: int
    notes: tuple[str, ...]


@register(schema=1)
@dataclass(frozen=True)
class Artifact:
    """Step 16: the files of the run that shape identity, by relative path."""

    files: dict[str, bytes]


@register(schema=1)
@dataclass(frozen=True)
class Recipe:
    """What a refit of steps 2 to 12 depends on, beside the bars."""

    regimes: RegimeConfig
    splits: SplitConfig
    analyst: TrackConfig
    tactician: TrackConfig
    ensembles: EnsembleConfig
    calibration: CalibrationConfig
    search: SearchConfig
    costs: Costs
    max_gap: int
    early_stopping: bool
    patience: int | None
    seed: int


@dataclass(frozen=True)
class Trained:
    """Everything that steps 2 to 12 made of some bars."""

    tracks: tuple[Track, Track]
    regimes: RegimeChain
    splits: Splits
    datasets: tuple[Dataset, Dataset]
    fits: tuple[TrackFit, TrackFit, TrackFit]
    ensembles: tuple[EnsembleChain, EnsembleChain]
    calibrations: tuple[CalibrationChain, CalibrationChain]
    calibrated: Calibrated
    plan: Plan
    model: TradingModel


@dataclass(frozen=True)
class Tools(Volatile):
    """What makes steps fast and visible, and never changes what they answer.

    Attributes:
        jobs: Workers.
        cache_path: SQLite file of the backtest cache; None: uncached.
        cache_size: Entries kept in memory.
        ledger_dir: Where unfinished searches keep their ledgers; None: in memory.
        progress: Called with (what, done, total).
        note: Called with every fallback taken.
        memory: What keeps the memory budget, by evicting caches; None: nothing does.
        pool: Workers outside this process, shared by all searches; None: threads, or none.
    """

    jobs: int
    cache_path: Path | None
    cache_size: int
    ledger_dir: Path | None
    progress: Callable[[str, int, int], None]
    note: Callable[[str], None]
    memory: MemoryManager | None = None
    pool: SharedPool | None = None
