"""What a search of a strategy is predicted to take, and how many workers fit the memory budget."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from ares.backtest.engine import BATCH_BYTES
from ares.backtest.indicators import decimals_of_tick
from ares.backtest.strategies import (
    EmaCross,
    ModelSignal,
    RsiReversion,
    ScoreThreshold,
    SmaCross,
)
from ares.backtest.strategy import CACHE_BYTES
from ares.market.memory import Demand
from ares.market.timeframe import DAY

if TYPE_CHECKING:
    from ares.market.bars import Bars

_log = logging.getLogger("ares.run")

_FIXED: Final = 300 << 20
"""Libraries of sampling, statistics and report, tables of trials, and what allocators hold."""
_PROCESS: Final = 230 << 20
"""A worker process: interpreter, libraries, kernels, and its answers on their way."""
_BARS: Final = 48
_ENGINE: Final = 40
"""For each bar: extremes, bars after gaps, running sums; signals and curve of the replay."""
_CALL: Final = 16 << 20
"""A call of the engine, whatever the data."""
_COLUMNS: Final = 4
"""Columns for each point of a batch, of a strategy that is not known here."""
_CURVES: Final = 4
"""Equity of a generation by day, trades, tables of blocks, and what is kept of the first points."""


def demand_of_search(toolkit: Any, bars: Bars, training: Bars, strategy: Any) -> Demand:
    """What a search takes above the base of the process, and each of its workers but the first.

    Args:
        toolkit: `EnhancedTrainingManagerOptimized`, for its configuration.
        bars: All bars in memory.
        training: Those that are searched.
        strategy: What is traded.
    """
    search = toolkit.config.search
    points = max(search.initial_samples, search.generation)
    days = (int(training.timestamp[-1]) - int(training.timestamp[0])) // DAY + 1
    column = 8 * len(training)
    columns = _columns_of(strategy, training)
    batch = min(max(BATCH_BYTES, columns * column), points * columns * column)
    kept = min(CACHE_BYTES, points * columns * column)
    curves = _CURVES * 8 * days * points
    # Events are found in the columns of a batch, and are half as large at most.
    worker = _CALL + batch + batch // 2 + curves + 2 * column
    fixed = _FIXED + kept + worker
    if toolkit.workers != "threads":
        remote = toolkit.config.computational_optimization.parallelization.scheduler is not None
        worker = 0 if remote else worker + kept + _PROCESS + (_BARS + _ENGINE) * len(training)
        fixed += worker + _BARS * len(training)  # bars on their way to the workers
    return Demand(fixed, _BARS + _ENGINE, len(bars), worker)


def _columns_of(strategy: Any, bars: Bars) -> int:
    """Columns of bars that a batch holds for each point."""
    match strategy:
        case ScoreThreshold() | ModelSignal():
            return 0
        case SmaCross():  # means of decimal prices come from one column of sums
            return 2 if decimals_of_tick(bars.tick, bars.close) < 0 else 0
        case EmaCross() | RsiReversion():
            return 2
    return _COLUMNS


def admit_search(toolkit: Any, bars: Bars, training: Bars, strategy: Any) -> str | None:
    """Choose as many workers as fit the budget, at most those that are asked for.

    Returns:
        What is said of it where they are fewer.

    Raises:
        MemoryBudgetError: the search does not fit with one worker; the message says what would.
    """
    asked = toolkit.jobs
    demand = demand_of_search(toolkit, bars, training, strategy)
    toolkit.admitted = toolkit.memory_manager.admit("the search", demand, workers=asked)
    if toolkit.jobs == asked:
        return None
    note = f"{toolkit.jobs} of {asked} workers, for which the memory budget has room"
    _log.warning("%s", note)
    return note
