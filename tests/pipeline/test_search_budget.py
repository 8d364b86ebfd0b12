"""Admission of a search: workers by memory, a refusal that says what fits, one answer for all."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.backtest.strategies import BollingerReversion, SmaCross
from ares.backtest.user import load_strategy
from ares.core.errors import MemoryBudgetError
from ares.core.settings import load_settings
from ares.enhanced_training_manager_optimized import EnhancedTrainingManagerOptimized
from ares.market.bars import split_holdout
from ares.market.memory import MemoryManager
from ares.pipeline import single_search
from ares.pipeline.search_footprint import admit_search, demand_of_search
from ares.search.user_objective import load_objective
from small_runs import MARKET, small_bars

if TYPE_CHECKING:
    from ares.market.bars import Bars

MIB = 1 << 20
TOOLS = "computational_optimization.parallelization"
_MEMORY = "computational_optimization.memory_management"
_HOME = Path("nowhere")  # nothing is written
_BARS = small_bars()
SEARCH: dict[str, Any] = {
    "search.trials": 48,
    "search.initial_samples": 32,
    "search.generation": 16,
    "search.min_trades": 5,
    "enhanced_training_manager.enable_caching": False,
}


def toolkit_of(
    home: Path, workers: int, kind: str = "threads", **more: Any
) -> EnhancedTrainingManagerOptimized:
    options = {f"data.{name}": value for name, value in MARKET.items()}
    given_ = {**options, **SEARCH, f"{TOOLS}.max_workers": workers, f"{TOOLS}.workers": kind}
    return EnhancedTrainingManagerOptimized(
        load_settings(None, overrides=given_ | more, environ={}), home=home
    )


def with_budget(toolkit: EnhancedTrainingManagerOptimized, budget: int, used: int = 0) -> None:
    """A manager that thinks the process takes `used` bytes."""
    toolkit.memory_manager = MemoryManager(budget=budget, usage=lambda: used)


def searched(toolkit: EnhancedTrainingManagerOptimized, bars: Bars) -> single_search.SingleSearch:
    strategy = load_strategy("sma_cross")
    request = single_search.request_of(
        strategy,
        strategy.space,
        toolkit.config,
        load_objective("sharpe"),
        direction=None,
        whole=False,
        next_command=lambda *_: None,
    )
    toolkit.initialize()
    try:
        return single_search.optimize(toolkit, bars, request, progress=lambda _: None)
    finally:
        toolkit.cleanup()


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_fewer_workers_where_fewer_fit_with_one_note_and_the_same_answer(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bars = small_bars()
    training = split_holdout(bars, 0.2)[0]
    free = toolkit_of(tmp_path / "free", 3, kind)
    demand = demand_of_search(free, bars, training, SmaCross())
    assert demand.worker_bytes > 0
    tight = toolkit_of(tmp_path / "tight", 3, kind)
    with_budget(tight, demand.total(2) + demand.worker_bytes // 2)
    with caplog.at_level(logging.WARNING, logger="ares.run"):
        found = searched(tight, bars)
    notes = [record.getMessage() for record in caplog.records if "workers" in record.getMessage()]
    assert notes == ["2 of 3 workers, for which the memory budget has room"]
    assert found.found.fallbacks[0] == notes[0]
    assert tight.jobs == 2
    whole = searched(free, bars)
    assert not any("workers" in note for note in whole.found.fallbacks)
    assert found.found.trials_digest == whole.found.trials_digest
    assert found.found.best == whole.found.best
    alone = searched(toolkit_of(tmp_path / "alone", 1), bars)
    assert alone.found.trials_digest == whole.found.trials_digest


def test_a_search_that_does_not_fit_is_refused_and_told_what_would(tmp_path: Path) -> None:
    bars = small_bars()
    toolkit = toolkit_of(tmp_path, 2)
    demand = demand_of_search(toolkit, bars, split_holdout(bars, 0.2)[0], SmaCross())
    with_budget(toolkit, demand.total() - 1)
    with pytest.raises(MemoryBudgetError) as caught:
        searched(toolkit, bars)
    text = str(caught.value)
    assert "the search is predicted to need" in text
    assert f"--memory {-(-demand.total() // MIB)}MiB" in text
    assert "--timerange" in text
    with_budget(toolkit, demand.total())
    searched(toolkit, bars)  # what was said would fit does


def test_switched_off_the_budget_takes_no_worker(tmp_path: Path) -> None:
    bars = small_bars()
    off = {"enhanced_training_manager.enable_memory_management": False}
    toolkit = toolkit_of(tmp_path, 3, **off, **{f"{_MEMORY}.budget": "1MiB"})
    assert admit_search(toolkit, bars, bars[:1000], SmaCross()) is None
    assert toolkit.jobs == 3


def test_workers_elsewhere_take_nothing_here(tmp_path: Path) -> None:
    bars = small_bars()
    own = toolkit_of(tmp_path, 3, "dask")
    remote = toolkit_of(tmp_path, 3, "dask", **{f"{TOOLS}.scheduler": "tcp://127.0.0.1:1"})
    there = demand_of_search(remote, bars, bars[:1900], SmaCross())
    assert there.worker_bytes == 0
    assert demand_of_search(own, bars, bars[:1900], SmaCross()).total() > there.total()


@given(rows=st.integers(2, 2400), workers=st.integers(1, 64), room=st.integers(0, 40_000))
def test_the_admitted_workers_are_the_most_that_fit(rows: int, workers: int, room: int) -> None:
    bars = _BARS[:rows]
    toolkit = toolkit_of(_HOME, workers)
    demand = demand_of_search(toolkit, bars, bars, BollingerReversion())
    budget = room * MIB
    with_budget(toolkit, budget)
    try:
        admit_search(toolkit, bars, bars, BollingerReversion())
    except MemoryBudgetError:
        assert demand.total() > budget
        return
    assert demand.total(toolkit.jobs) <= budget
    assert toolkit.jobs == workers or demand.total(toolkit.jobs + 1) > budget


def test_more_bars_points_or_columns_are_never_predicted_to_take_less(tmp_path: Path) -> None:
    bars = small_bars()
    toolkit = toolkit_of(tmp_path, 2)
    few, many = (demand_of_search(toolkit, bars[:n], bars[:n], SmaCross()) for n in (500, 2000))
    assert many.total(2) > few.total(2)
    columns = demand_of_search(toolkit, bars, bars, BollingerReversion())
    sums = demand_of_search(toolkit, bars, bars, SmaCross())
    assert columns.total(2) > sums.total(2)
    untidy = dataclasses.replace(bars, tick=0.0, close=bars.close * 1.0000001)
    assert demand_of_search(toolkit, untidy, untidy, SmaCross()).total() > sums.total()
    more = toolkit_of(tmp_path, 2, **{"search.generation": 512})
    assert demand_of_search(more, bars, bars, SmaCross()).total(2) > sums.total(2)
