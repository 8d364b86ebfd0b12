"""Windows partition the test range; stitching is compounding, day by day."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ares.core.config import WalkForwardConfig
from ares.core.errors import DataError, InputError
from ares.store.codecs import decode, encode
from ares.validate.monte_carlo import max_drawdowns
from ares.validate.walk_forward import Window, WindowResult, stitch, walk_forward, windows


@given(st.integers(1, 5000), st.integers(1, 30), st.floats(0.01, 0.99))
def test_windows_are_anchored_and_cover_the_rest_once(n, count, first):
    assume(int(first * n) >= 1 and n - int(first * n) >= count)
    found = windows(n, WalkForwardConfig(windows=count, first=first))
    tested = [bar for w in found for bar in range(w.test_start, w.test_stop)]
    assert tested == list(range(int(first * n), n))
    assert [w.index for w in found] == list(range(count))
    assert all(w.train_stop == w.test_start for w in found)
    sizes = [w.test_stop - w.test_start for w in found]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1


@pytest.mark.parametrize(("n", "count", "first"), [(10, 6, 0.5), (10, 1, 0.05), (0, 1, 0.5)])
def test_windows_without_bars_are_refused(n, count, first):
    with pytest.raises(DataError, match="every window needs bars"):
        windows(n, WalkForwardConfig(windows=count, first=first))


def test_each_window_is_refitted_in_order():
    config = WalkForwardConfig(windows=3, first=0.4)
    assert walk_forward(100, config, lambda w: (w.train_stop, w.test_stop)) == [
        (40, 60),
        (60, 80),
        (80, 100),
    ]


def result(index, start, stop, first_day, returns, **more) -> WindowResult:
    returns = np.array(returns, dtype=float)
    given_ = {
        "day": first_day + np.arange(len(returns)),
        "benchmark_returns": returns / 2,
        "exposure": 0.5,
        "train_returns": np.array([0.01, 0.03]),
        "trades": pd.DataFrame({"entry_bar": [start], "return": [0.25]}),
    }
    return WindowResult(
        window=Window(index, start, start, stop), daily_returns=returns, **{**given_, **more}
    )


@given(st.lists(st.lists(st.floats(-0.5, 0.5), max_size=8), min_size=1, max_size=5))
def test_equity_multiplies_on_over_the_windows(parts):
    results, day = [], 20_000
    for k, returns in enumerate(parts):
        results.append(result(k, 10 * k + 1, 10 * k + 11, day, returns))
        day += len(returns)
    found = stitch(results, days_per_year=252)
    equity, curve = 1.0, []
    for value in (r for returns in parts for r in returns):
        equity *= 1 + value
        curve.append(equity)
    assert found.equity == pytest.approx(np.array(curve), rel=1e-12)
    assert found.daily_returns.tolist() == [r for returns in parts for r in returns]
    assert np.all(np.diff(found.day) == 1)
    assert found.n_trades == len(parts)


def test_a_fall_inside_a_day_is_a_drawdown_across_windows_too():
    first = result(0, 1, 5, 20_000, [0.2], closes=np.array([1.1, 0.8, 1.3, 1.2]))
    second = result(1, 5, 8, 20_001, [0.0], closes=np.array([0.9, 0.5, 1.0]))
    # By hand: the peak is 1.3, and the second window begins at 1.2 and falls to 1.2 * 0.5.
    assert stitch([first], days_per_year=365).max_drawdown == pytest.approx(0.3 / 1.1)
    assert stitch([first, second], days_per_year=365).max_drawdown == pytest.approx(1 - 0.6 / 1.3)
    by_day = result(1, 5, 8, 20_001, [-0.25])
    assert stitch([first, by_day], days_per_year=365).max_drawdown == pytest.approx(1 - 0.9 / 1.3)


def test_a_day_cut_by_a_window_border_is_compounded():
    first = result(0, 50, 60, 100, [0.1, 0.2])
    second = result(1, 60, 70, 101, [0.5, -0.1])
    found = stitch([first, second], days_per_year=365)
    assert found.day.tolist() == [100, 101, 102]
    assert found.daily_returns == pytest.approx([0.1, 1.2 * 1.5 - 1, -0.1], rel=1e-15)
    assert found.daily_returns[[0, 2]].tolist() == [0.1, -0.1]  # the same bits
    assert found.equity[-1] == pytest.approx(1.1 * 1.2 * 1.5 * 0.9)
    assert found.benchmark_returns == pytest.approx([0.05, 1.1 * 1.25 - 1, -0.05])


@pytest.mark.parametrize("piece", [1, 3, 1 << 16])
def test_the_drawdown_does_not_depend_on_pieces(piece: int, monkeypatch) -> None:
    monkeypatch.setattr("ares.validate.walk_forward._PIECE", piece)
    rng = np.random.default_rng(4)
    curves = [np.cumprod(1 + rng.normal(0, 0.05, 40)) for _ in range(3)]
    results = [
        result(k, 40 * k, 40 * k + 40, 100 + k, [curve[-1] - 1], closes=curve)
        for k, curve in enumerate(curves)
    ]
    level, whole = 1.0, [np.ones(1)]
    for curve in curves:
        whole.append(level * curve)
        level = float(whole[-1][-1])
    expected = max_drawdowns(np.concatenate(whole)[None, :])[0]
    assert stitch(results, days_per_year=365).max_drawdown == expected


def test_tables_carry_their_window():
    empty = pd.DataFrame({"entry_bar": np.array([], dtype=np.int64), "return": np.array([])})
    found = stitch(
        [
            result(0, 50, 53, 100, [0.1]),
            result(1, 53, 55, 101, [0.1], trades=empty),
            result(2, 55, 56, 102, [0.1]),
        ],
        days_per_year=365,
    )
    assert found.trades["window"].tolist() == [0, 2]
    assert found.trades["entry_bar"].tolist() == [50, 55]
    assert found.trades["entry_bar"].dtype == np.int64
    assert [w.n_trades for w in found.windows] == [1, 0, 1]


def test_no_trades_at_all():
    empty = pd.DataFrame({"entry_bar": np.array([], dtype=np.int64), "return": np.array([])})
    bare = {"trades": empty, "train_returns": np.empty(0)}
    found = stitch(
        [result(0, 5, 6, 10, [0.0], **bare), result(1, 6, 7, 11, [0.0], **bare)], days_per_year=365
    )
    assert found.n_trades == 0
    assert found.trades.dtypes.to_dict() == {
        "window": np.int64,
        "entry_bar": np.int64,
        "return": np.float64,
    }
    assert math.isnan(found.efficiency)
    assert math.isnan(found.windows[0].test_sharpe)


def test_efficiency_is_the_rate_outside_over_the_rate_inside():
    first = result(0, 50, 60, 100, [0.01, 0.01, 0.01, 0.01], train_returns=np.array([0.02, 0.04]))
    second = result(1, 60, 70, 104, [0.03, 0.03], train_returns=np.array([0.06]))
    found = stitch([first, second], days_per_year=252)
    inside = (4 * 0.03 + 2 * 0.06) / 6
    outside = (4 * 0.01 + 2 * 0.03) / 6
    assert found.efficiency == pytest.approx(outside / inside)
    assert [w.efficiency for w in found.windows] == pytest.approx([1 / 3, 0.5])
    losing = result(0, 50, 60, 100, [0.01], train_returns=np.array([-0.02]))
    assert math.isnan(stitch([losing], days_per_year=252).efficiency)


def test_summaries():
    returns = [0.01, -0.02, 0.03]
    found = stitch([result(0, 50, 60, 100, returns)], days_per_year=252).windows[0]
    assert found.test_return == pytest.approx(1.01 * 0.98 * 1.03 - 1)
    assert found.test_sharpe == pytest.approx(
        np.mean(returns) / np.std(returns, ddof=1) * math.sqrt(252)
    )
    assert found.train_sharpe == pytest.approx(0.02 / np.std([0.01, 0.03], ddof=1) * math.sqrt(252))


def test_exposure_is_weighted_by_bars():
    parts = [
        result(0, 50, 60, 100, [0.1], exposure=0.2),
        result(1, 60, 90, 101, [0.1], exposure=0.6),
    ]
    assert stitch(parts, days_per_year=252).exposure == pytest.approx((10 * 0.2 + 30 * 0.6) / 40)


def test_windows_out_of_order_are_refused():
    first, second = result(0, 50, 60, 100, [0.1, 0.2]), result(1, 60, 70, 102, [0.1])
    with pytest.raises(InputError, match="follow each other"):
        stitch([second, first], days_per_year=252)
    with pytest.raises(InputError, match="follow each other"):
        stitch([first, result(1, 60, 70, 100, [0.1])], days_per_year=252)
    with pytest.raises(InputError, match="no window"):
        stitch([], days_per_year=252)


def test_a_window_result_is_checked_at_the_door():
    with pytest.raises(InputError, match="window 3: daily_returns"):
        result(3, 50, 60, 100, [math.nan])
    with pytest.raises(InputError, match="days must increase"):
        result(0, 50, 60, 100, [0.1, 0.2], day=np.array([5, 5]))
    with pytest.raises(InputError, match="same days"):
        result(0, 50, 60, 100, [0.1, 0.2], benchmark_returns=np.array([0.1]))


def test_the_curve_is_read_only_and_survives_storage():
    found = stitch([result(0, 50, 60, 100, [0.1, 0.2])], days_per_year=252)
    with pytest.raises(ValueError, match="read-only"):
        found.equity[0] = 2.0
    stored = decode(encode(found))
    assert encode(stored) == encode(found)
    assert stored.windows == found.windows
    pd.testing.assert_frame_equal(stored.trades, found.trades)


def test_days_without_bars_between_windows_repeat_the_mark_round_the_clock():
    parts = [result(0, 1, 11, 100, [0.1, -0.2]), result(1, 11, 21, 105, [0.3])]
    found = stitch(parts, days_per_year=365)
    assert found.day.tolist() == [100, 101, 102, 103, 104, 105]
    assert found.daily_returns.tolist() == [0.1, -0.2, 0.0, 0.0, 0.0, 0.3]
    assert found.benchmark_returns.tolist() == [0.05, -0.1, 0.0, 0.0, 0.0, 0.15]
    assert found.equity == pytest.approx([1.1, 0.88, 0.88, 0.88, 0.88, 1.144])
    assert stitch(parts, days_per_year=252).day.tolist() == [100, 101, 105]
