"""Backtests: trading semantics, costs, metrics, strategies and their parameters."""

from __future__ import annotations

from ares.backtest import strategies as strategies
from ares.backtest.arena import Arena as Arena
from ares.backtest.costs import Costs as Costs
from ares.backtest.costs import default_costs as default_costs
from ares.backtest.engine import BatchMarks as BatchMarks
from ares.backtest.engine import run_batch as run_batch
from ares.backtest.engine import simulate as simulate
from ares.backtest.engine import simulate_reference as simulate_reference
from ares.backtest.result import BacktestResult as BacktestResult
from ares.backtest.result import Outcome as Outcome

__all__ = [
    "Arena",
    "BacktestResult",
    "BatchMarks",
    "Costs",
    "Outcome",
    "default_costs",
    "run_batch",
    "simulate",
    "simulate_reference",
    "strategies",
]
