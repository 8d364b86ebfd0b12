"""Where an engine could be misled: arrays that are written again, subclasses, numbers at the end."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ares.backtest import Arena, Costs, run_batch, simulate, simulate_reference
from ares.backtest.signals import Events, ScoreRule
from ares.backtest.space import Int, ParameterSpace
from ares.backtest.strategies import (
    BollingerReversion,
    DonchianBreakout,
    EmaCross,
    RsiReversion,
    SmaCross,
)
from ares.core.errors import ParameterError
from ares.market.bars import Bars
from backtest_cases import Fixed, bars_of_closes, make_bars, random_bars
from engine_checks import assert_same

FREE = Costs(0.0, 0.0)


class Reusing:
    """Writes each answer into the same array."""

    name = "Reusing"
    space = ParameterSpace({"lag": Int(1, 50, minimum=1)})

    def prepare(self, bars, *, max_gap=None):
        return bars.close, np.empty(len(bars))

    def signals(self, prepared, params):
        close, room = prepared
        room[:] = np.nan
        room[params["lag"] :] = close[params["lag"] :] / close[: -params["lag"]] - 1
        return ScoreRule(room, 0.03, 0.0)


def test_a_strategy_may_reuse_its_array():
    bars = random_bars(2_000, 4, step=0.02)
    points = [{"lag": lag} for lag in (1, 5, 20)]
    together = run_batch(Arena.of(bars, costs=FREE), Reusing(), points)
    alone = [simulate_reference(bars, Reusing(), point, costs=FREE) for point in points]
    assert together.total_return.tolist() == [r.metrics["total_return"] for r in alone]
    assert len(set(together.total_return)) == 3


class Turned(SmaCross):
    """A subclass with signals of its own."""

    def signals(self, prepared, params):
        made = super().signals(prepared, params)
        return Events(made.long_exit, made.long_entry, made.short_exit, made.short_entry)


def test_a_subclass_has_its_own_signals():
    bars = random_bars(800, 5)
    params = {"fast": 3, "slow": 9}
    reference = simulate_reference(bars, Turned(), params, costs=FREE)
    assert_same(simulate(bars, Turned(), params, costs=FREE), reference)
    assert reference.metrics != simulate(bars, SmaCross(), params, costs=FREE).metrics


@pytest.mark.parametrize("name", ["max_hold", "cooldown"])
@pytest.mark.parametrize("value", [2**62, 2**63 - 1024, 10**21])
def test_numbers_of_bars_beyond_all_bars(name, value):
    bars = random_bars(300, 6)
    events = {"long_entry": {20, 200}, "long_exit": {100}}
    (first, *others) = (
        engine(bars, Fixed(events), {name: value}, costs=FREE)
        for engine in (simulate, simulate_reference)
    )
    assert_same(first, others[0])
    assert first.trades.entry_bar.tolist() == ([21] if name == "cooldown" else [21, 201])


def test_ruin_is_found_where_cash_has_no_digits_left():
    closes = np.concatenate([np.full(100, 1.0), 0.8 ** np.arange(300)])
    turns = range(0, 94, 2)
    events = {"long_entry": {*turns, 98}, "long_exit": {t + 1 for t in turns}}
    rules = {"costs": Costs(0.9999997255294428, 0.0), "fill": "close"}
    bars = bars_of_closes(closes, tick=0.0)
    assert_same(
        simulate(bars, Fixed(events), {}, **rules),
        simulate_reference(bars, Fixed(events), {}, **rules),
    )


def test_a_size_without_units_pays_no_slippage_backwards():
    bars = make_bars([100.0] * 4, [101.0] * 4, [99.0] * 4, [100.0] * 4)
    events = {"long_entry": {0}, "long_exit": {1}}
    result = simulate(bars, Fixed(events), {"size": 5e-324}, costs=Costs(0.0, 0.1))
    assert result.trades.exit_price.tolist() == [pytest.approx(90.0)]


def test_an_index_that_is_nowhere_defined_signals_nothing_in_either_engine():
    bars = random_bars(60, 7, missing=np.full(60, 90))
    for engine in (simulate, simulate_reference):
        result = engine(bars, RsiReversion(), {"period": 3}, costs=FREE, max_gap=60)
        assert len(result.trades) == 0


def test_a_range_is_checked_however_it_is_made():
    arena = Arena.of(random_bars(50, 1), costs=FREE)
    with pytest.raises(ParameterError, match="range of the 50 bars"):
        dataclasses.replace(arena, stop=5_000_000)
    with pytest.raises(ParameterError, match="marks must be days or end"):
        run_batch(arena, SmaCross(), [{"fast": 2, "slow": 4}], marks="weeks")
    with pytest.raises(ParameterError, match="a batch runs in an Arena"):
        run_batch(arena.bars, SmaCross(), [{"fast": 2, "slow": 4}])


def test_a_batch_without_points_is_empty():
    arena = Arena.of(random_bars(50, 1), costs=FREE)
    for strategy in (SmaCross(), RsiReversion(), BollingerReversion(), Reusing()):
        assert len(run_batch(arena, strategy, [])) == 0


@pytest.mark.parametrize(
    ("strategy", "params"),
    [
        (SmaCross(), {"fast": 3, "slow": 9}),
        (EmaCross(), {"fast": 3, "slow": 9}),
        (BollingerReversion(), {"period": 10, "width": 1.0}),
        (DonchianBreakout(), {"entry_period": 10, "exit_period": 5}),
        (RsiReversion(), {"period": 5}),
    ],
)
def test_batches_that_need_much_room_go_in_parts(monkeypatch, strategy, params):
    arena = Arena.of(random_bars(500, 8), costs=FREE)
    points = [{**params, "size": size} for size in (0.1, 0.2, 0.5, 0.7, 1.0)]
    whole = run_batch(arena, strategy, points)
    monkeypatch.setattr("ares.backtest.engine.BATCH_BYTES", 20_000)
    parts = run_batch(arena, strategy, points)
    assert parts.equity.tobytes() == whole.equity.tobytes()
    assert parts.n_trades.tolist() == whole.n_trades.tolist()


def test_a_last_close_beside_its_step_changes_no_signal_before_it():
    bars = random_bars(1_000, 9, step=0.001)
    close = bars.close.copy()
    close[-1] = np.nextafter(close[-1], 0.0)
    columns = [getattr(bars, name) for name in ("timestamp", "open", "high", "low")]
    names = {"symbol": "T", "exchange": "t", "timeframe": "1h", "tick": 0.01}
    beside = Bars(*columns, close, bars.volume, **names)
    for strategy in (SmaCross(), BollingerReversion()):
        whole = simulate(beside, strategy, {}, costs=FREE).equity.to_numpy()
        part = simulate(beside[:-1], strategy, {}, costs=FREE).equity.to_numpy()
        assert part[:-1].tobytes() == whole[:-2].tobytes()


SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ares.backtest import Arena, Costs, run_batch
from ares.backtest.strategies import BUILT_IN
from backtest_cases import random_bars
arena = Arena.of(random_bars(300, 3), costs=Costs(0.001, 0.0))
points = [{"stop_loss": 0.02}, {"direction": "both", "take_profit": 0.03}]
found = {name: run_batch(arena, s, points).total_return.tolist() for name, s in BUILT_IN.items()}
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.compiled
def test_kernels_as_plain_python_give_the_same():
    here = str(Path(__file__).parents[1])
    found = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", SCRIPT, here],
                env={**os.environ, "NUMBA_DISABLE_JIT": disabled},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for disabled in ("0", "1")
    ]
    assert found[0] == found[1]
