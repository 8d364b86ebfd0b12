"""Typical user code, checked by mypy and never run: every answer has the type that it shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ares
from ares import (
    AdaptiveSampler,
    Bars,
    CachedBacktester,
    EnhancedTrainingManager,
    EnhancedTrainingManagerOptimized,
    IncrementalTrainer,
    MemoryEfficientDataManager,
    MemoryManager,
    ParallelBacktester,
    ProgressiveEvaluator,
    StreamingDataProcessor,
)
from ares.backtest import BacktestResult, Costs, simulate, simulate_reference
from ares.backtest.strategies import ScoreThreshold, SmaCross
from ares.core.identity import fingerprint
from ares.enhanced_training_manager import Observer, TrainingResult
from ares.enhanced_training_manager_optimized import OptimizationResult

if TYPE_CHECKING:
    import pandas as pd

    from ares.model.trading_model import TradingModel


def train(home: Path) -> TrainingResult:
    manager: EnhancedTrainingManager = EnhancedTrainingManager(
        {"enhanced_training_manager": {"mode": "quick"}},
        home=home,
        until=None,
        observer=Observer(progress=lambda what, done, total: None),
    )
    ready: bool = manager.initialize()
    result: TrainingResult = manager.execute_enhanced_training(
        {"symbol": "IXIC", "exchange": "nasdaq", "timeframe": "1d"}
    )
    verdict: str = result.verdict
    folder: Path | None = result.run_dir
    edge: bool = result.edge
    sharpe: float = result.metrics["sharpe"]
    cached: list[bool] = [step.cached for step in result.steps]
    again: TrainingResult = manager.execute_optimized_training("IXIC", "nasdaq", "1d")
    del ready, verdict, folder, edge, sharpe, cached
    return again


def predict(run_dir: Path, csv: Path) -> pd.DataFrame:
    model: TradingModel = ares.load(run_dir)
    window: TradingModel = ares.load(run_dir, window=0)
    bars: Bars = ares.load_bars(csv, symbol="IXIC", exchange="nasdaq", timeframe="1d")
    first: Bars = bars[:100]
    count: int = len(first)
    inside: pd.DataFrame = window.predict(bars, in_sample=True)
    del count, inside
    return model.predict(bars)


def backtest(bars: Bars) -> BacktestResult:
    costs = Costs(fee=0.001, slippage=0.0005)
    parameters: dict[str, Any] = {"fast": 10, "slow": 50}
    fast: BacktestResult = simulate(bars, SmaCross(), parameters, costs=costs)
    slow: BacktestResult = simulate_reference(bars, SmaCross(), parameters, costs=costs)
    scored: BacktestResult = simulate(
        bars, ScoreThreshold(bars.close), {"enter": 1.0, "exit": 0.0}, costs=costs, fill="close"
    )
    sharpe: float = fast.metrics["sharpe"]
    trades: pd.DataFrame = slow.trades
    equity: pd.Series[float] = scored.equity
    del sharpe, trades, equity
    return scored


def mean_return(subset: pd.DataFrame, params: Mapping[str, Any]) -> float:
    return float(subset["close"].pct_change().mean()) * float(params["scale"])


def tools(bars: Bars, frame: pd.DataFrame, path: Path) -> str:
    cached = CachedBacktester(bars, max_cache_size=10)
    value: float = cached.run_cached_backtest({"fast": 10, "slow": 50})
    progressive = ProgressiveEvaluator(bars, inner=cached)
    mean: float = progressive.evaluate_progressively({"scale": 1.0}, mean_return)
    with ParallelBacktester(2) as pool:
        values: list[float] = pool.evaluate_batch([{"fast": 10, "slow": 50}], frame)
    sampler = AdaptiveSampler(16, seed=1)
    point: dict[str, Any] = sampler.suggest_parameters(
        {"fast": (2, 50), "rate": (1e-4, 1.0, "log")}
    )
    sampler.update_trial_history(point, value)
    smaller: pd.DataFrame = MemoryEfficientDataManager().optimize_dataframe(frame)
    cleaned: bool = MemoryManager(0.8).check_memory_usage()
    whole: pd.DataFrame = StreamingDataProcessor(1000).process_data_stream(path)
    trainer = IncrementalTrainer({"leaves": 15})
    del mean, values, smaller, cleaned, whole, trainer
    return fingerprint({"value": value})


def quick_loop(home: Path) -> OptimizationResult:
    toolkit = EnhancedTrainingManagerOptimized(home=home)
    result: OptimizationResult = toolkit.execute_optimized_training("IXIC", "nasdaq", "1d")
    best: dict[str, Any] | None = result.best_params
    stats: dict[str, Any] = toolkit.get_optimization_stats()
    profile: dict[str, Any] = toolkit.get_memory_profile()
    toolkit.cleanup()
    del best, stats, profile
    return result
