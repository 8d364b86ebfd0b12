"""The names that users import are pinned: a change here is a change of the interface."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import ares

TOOLKIT = {
    "AdaptiveSampler",
    "CachedBacktester",
    "EnhancedTrainingManagerOptimized",
    "IncrementalTrainer",
    "MemoryEfficientDataManager",
    "MemoryManager",
    "ParallelBacktester",
    "ProgressiveEvaluator",
    "StreamingDataProcessor",
}
PUBLIC = {
    "ares": TOOLKIT | {"Bars", "EnhancedTrainingManager", "backtest", "load", "load_bars"},
    "ares.enhanced_training_manager_optimized": TOOLKIT | {"OptimizationResult", "_make_hashable"},
}
REACHABLE = {
    "ares": {"_make_hashable"},
    "ares.enhanced_training_manager": {
        "STEPS", "EnhancedTrainingManager", "Observer", "TrainingResult",
    },
    "ares.backtest": {
        "Arena", "BacktestResult", "BatchMarks", "Costs", "run_batch", "simulate",
        "simulate_reference", "strategies",
    },
    "ares.backtest.strategies": {
        "BollingerReversion", "DonchianBreakout", "EmaCross", "ModelSignal", "RsiReversion",
        "ScoreThreshold", "SmaCross",
    },
    "ares.core.identity": {"_make_hashable", "fingerprint"},
}  # fmt: skip


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_all_is_what_is_promised(module: str) -> None:
    found = importlib.import_module(module)
    assert set(found.__all__) == PUBLIC[module]
    assert len(found.__all__) == len(set(found.__all__))
    for name in found.__all__:
        assert getattr(found, name) is not None


@pytest.mark.parametrize("module", sorted(REACHABLE))
def test_further_names_are_reachable(module: str) -> None:
    found = importlib.import_module(module)
    for name in REACHABLE[module]:
        assert getattr(found, name) is not None, name


def test_both_doors_give_one_object() -> None:
    toolkit = importlib.import_module("ares.enhanced_training_manager_optimized")
    for name in TOOLKIT | {"_make_hashable"}:
        assert getattr(ares, name) is getattr(toolkit, name)


def test_names_are_listed_and_others_refused() -> None:
    assert PUBLIC["ares"] <= set(dir(ares))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ares.nonsense  # type: ignore[attr-defined]


def test_importing_ares_loads_nothing_heavy() -> None:
    code = (
        "import sys, ares\n"
        "heavy = {'numpy', 'pandas', 'numba', 'lightgbm', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
