"""Backtests: trading semantics, costs, metrics, strategies and their parameters."""

from __future__ import annotations

from ares.backtest import strategies as strategies
from ares.backtest.costs import Costs as Costs
from ares.backtest.costs import default_costs as default_costs
from ares.backtest.engine import simulate as simulate
from ares.backtest.engine import simulate_reference as simulate_reference
from ares.backtest.result import BacktestResult as BacktestResult
from ares.backtest.result import Outcome as Outcome

__all__ = [
    "BacktestResult",
    "Costs",
    "Outcome",
    "default_costs",
    "simulate",
    "simulate_reference",
    "strategies",
]
