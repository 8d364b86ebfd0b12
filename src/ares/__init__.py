"""Ares: a training pipeline for trading models, from market bars to a validated artifact.

Everything here is loaded when it is first used, so that `import ares` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ares import backtest as backtest
    from ares.core.identity import _make_hashable as _make_hashable
    from ares.enhanced_training_manager import EnhancedTrainingManager as EnhancedTrainingManager
    from ares.enhanced_training_manager_optimized import AdaptiveSampler as AdaptiveSampler
    from ares.enhanced_training_manager_optimized import CachedBacktester as CachedBacktester
    from ares.enhanced_training_manager_optimized import (
        EnhancedTrainingManagerOptimized as EnhancedTrainingManagerOptimized,
    )
    from ares.enhanced_training_manager_optimized import IncrementalTrainer as IncrementalTrainer
    from ares.enhanced_training_manager_optimized import (
        MemoryEfficientDataManager as MemoryEfficientDataManager,
    )
    from ares.enhanced_training_manager_optimized import MemoryManager as MemoryManager
    from ares.enhanced_training_manager_optimized import ParallelBacktester as ParallelBacktester
    from ares.enhanced_training_manager_optimized import (
        ProgressiveEvaluator as ProgressiveEvaluator,
    )
    from ares.enhanced_training_manager_optimized import (
        StreamingDataProcessor as StreamingDataProcessor,
    )
    from ares.market.bars import Bars as Bars
    from ares.market.files import load_bars as load_bars
    from ares.model.artifact import load_model as load

_HOMES = {
    "AdaptiveSampler": "ares.search.adaptive",
    "Bars": "ares.market.bars",
    "CachedBacktester": "ares.search.cached",
    "EnhancedTrainingManager": "ares.enhanced_training_manager",
    "EnhancedTrainingManagerOptimized": "ares.enhanced_training_manager_optimized",
    "IncrementalTrainer": "ares.learn.incremental",
    "MemoryEfficientDataManager": "ares.market.memory",
    "MemoryManager": "ares.market.memory_manager",
    "ParallelBacktester": "ares.search.parallel",
    "ProgressiveEvaluator": "ares.search.progressive",
    "StreamingDataProcessor": "ares.market.streaming",
    "_make_hashable": "ares.core.identity",
    "load": "ares.model.artifact",
    "load_bars": "ares.market.files",
}

__all__ = [
    "AdaptiveSampler",
    "Bars",
    "CachedBacktester",
    "EnhancedTrainingManager",
    "EnhancedTrainingManagerOptimized",
    "IncrementalTrainer",
    "MemoryEfficientDataManager",
    "MemoryManager",
    "ParallelBacktester",
    "ProgressiveEvaluator",
    "StreamingDataProcessor",
    "backtest",
    "load",
    "load_bars",
]


def __getattr__(name: str) -> Any:
    if name == "backtest":
        return importlib.import_module("ares.backtest")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ares' has no attribute {name!r}")
    return getattr(importlib.import_module(home), "load_model" if name == "load" else name)


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__"]
