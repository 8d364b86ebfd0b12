"""What plots show: thinned series keep their extremes, marks lie where orders filled."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.backtest import Costs, simulate
from ares.backtest.curves import buy_and_hold, decimate, drawdown, fill_marks, marked
from backtest_cases import Fixed, bars_of_closes, random_bars


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=400),
    st.integers(4, 60),
)
def test_decimation_keeps_order_ends_and_extremes(values: list[float], limit: int) -> None:
    array = np.array(values)
    kept = decimate(array, limit)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1
    assert len(kept) <= max(limit + 4, 1)
    known = [v for v in values if not math.isnan(v)]
    if known:
        shown = array[kept]
        assert np.nanmin(shown) == min(known)
        assert np.nanmax(shown) == max(known)


@given(st.lists(st.floats(0.01, 5.0), min_size=1, max_size=60))
def test_drawdown_is_the_fall_from_the_highest_so_far(equity: list[float]) -> None:
    expected = [v / max(1.0, *equity[: i + 1]) - 1.0 for i, v in enumerate(equity)]
    np.testing.assert_allclose(drawdown(np.array(equity)), expected, atol=1e-15)


EVENTS = {"long_entry": {3, 90}, "long_exit": {50}, "short_entry": {60}, "short_exit": {90}}


def test_every_fill_is_marked_once_at_its_time_and_price() -> None:
    bars = random_bars(120, 3)
    point = {"direction": "both"}
    trades = simulate(bars, Fixed(EVENTS), point, costs=Costs(0.001, 0.001)).trades
    found = {marks.kind: marks for marks in fill_marks(trades)}
    assert list(found) == ["Exit", "Long entry", "Short entry"]
    for kind, side in (("Long entry", 1), ("Short entry", -1)):
        mine = trades[trades["side"] == side]
        assert found[kind].times.tolist() == bars.timestamp[mine["entry_bar"]].tolist()
        assert found[kind].prices.tolist() == mine["entry_price"].tolist()
    assert found["Exit"].times.tolist() == bars.timestamp[trades["exit_bar"]].tolist()
    assert found["Exit"].prices.tolist() == trades["exit_price"].tolist()
    first = trades.iloc[0]
    assert found["Exit"].notes[0] == f"signal {first['return']:+.2%}"
    assert fill_marks(trades.head(0)) == ()


def test_marked_trades_are_spread_evenly_from_first_to_last() -> None:
    trades = pd.DataFrame({"number": range(1001)})
    assert marked(trades, 2000) is trades
    assert marked(trades, 11)["number"].tolist() == list(range(0, 1001, 100))


def test_holding_starts_at_the_first_open_that_is_traded() -> None:
    bars = bars_of_closes([10, 20, 40, 30])
    whole = simulate(bars, Fixed(), {}, costs=Costs(0, 0))
    assert buy_and_hold(bars, whole.equity).tolist() == [1.0, 2.0, 4.0, 3.0]
    part = simulate(bars, Fixed(), {}, costs=Costs(0, 0), start=2)
    assert buy_and_hold(bars, part.equity).tolist() == pytest.approx([2.0, 1.5])
