"""Labels of bars: the golden table, gaps, costs, and one label == one simulated trade."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.backtest.costs import Costs
from ares.core.errors import DataError
from ares.learn.labels import barrier_width, triple_barrier
from ares.market.bars import Bars

HOUR = 3_600_000_000_000
FREE = Costs(fee=0.0, slippage=0.0)


def market(opening, high, low, closing, gaps=()):
    n = len(closing)
    timestamp = np.arange(n, dtype=np.int64) * HOUR
    rows = []
    for before, missing in gaps:
        timestamp[before + 1 :] += missing * HOUR
        rows.append((before, before + 1, missing))
    return Bars(
        timestamp=timestamp,
        open=opening,
        high=high,
        low=low,
        close=closing,
        volume=np.ones(n),
        symbol="X",
        exchange="x",
        timeframe="1h",
        gaps=np.array(rows, dtype=np.int64).reshape(-1, 3),
    )


def walk(seed, n=80, gaps=(), scale=0.01):
    rng = np.random.default_rng(seed)
    closing = 100 * np.exp(np.cumsum(rng.normal(0, scale, n)))
    opening = np.concatenate([[100.0], closing[:-1]]) * np.exp(rng.normal(0, scale / 3, n))
    high = np.maximum(opening, closing) * np.exp(np.abs(rng.normal(0, scale / 2, n)))
    low = np.minimum(opening, closing) * np.exp(-np.abs(rng.normal(0, scale / 2, n)))
    return market(opening, high, low, closing, gaps)


@pytest.fixture
def seven():
    return market(
        [100, 100, 101, 102, 99, 97, 100],
        [100, 101, 103, 102.5, 99.5, 101, 100],
        [100, 99, 100.5, 98.9, 96.9, 96, 100],
        [100, 101, 102, 99, 97, 100, 100],
    )


def label(bars, row, up, down, horizon, **options):
    return triple_barrier(
        bars, np.array([row]), options.pop("side", 1), up=up, down=down, horizon=horizon,
        costs=options.pop("costs", FREE), **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("row", "up", "down", "horizon", "expected"),
    [
        (0, 0.02, 0.02, 5, (1, 2, 0.02, 1)),
        (0, 0.03, 0.03, 5, (1, 2, 0.03, 1)),
        (0, 0.05, 0.05, 3, (0, 3, -0.01, 0)),
        (0, 0.03, 0.01, 5, (-1, 1, -0.01, 0)),
        (2, 0.01, 0.03, 4, (-1, 3, -0.03, 0)),
        (4, 0.10, 0.10, 2, (0, 6, 0.0309278, 1)),
        (4, 0.10, 0.10, 3, None),
        (0, 0.01, 0.01, 5, (-1, 1, -0.01, 0)),
    ],
)
def test_golden_table(seven, row, up, down, horizon, expected):
    labels = label(seven, row, up, down, horizon, fill="close")
    if expected is None:
        assert len(labels) == 0
        return
    outcome, t1, net, y = expected
    assert (labels.outcome[0], labels.t1[0], labels.y[0]) == (outcome, t1, y)
    assert labels.net_return[0] == pytest.approx(net, abs=5e-8)


def test_next_open_counts_from_the_fill_and_leaves_at_an_open(seven):
    # Decided at the close of bar 0, bought at the open of bar 1 at 100 * 1.001, sold by time at
    # the open of bar 3 at 102 * 0.999; two fees of 0.2 %.
    costs = Costs(fee=0.002, slippage=0.001)
    labels = label(seven, 0, 0.5, 0.5, 2, costs=costs)
    buy, sell = 100 * 1.001, 102 * 0.999
    assert (labels.outcome[0], labels.t1[0]) == (0, 3)
    assert labels.net_return[0] == pytest.approx(
        (sell - buy - 0.002 * (buy + sell)) / buy, abs=1e-14
    )


def test_a_stop_inside_the_slippage_leaves_at_the_entry_open(seven):
    labels = label(seven, 0, 0.5, 0.001, 3, costs=Costs(fee=0.0, slippage=0.01))
    assert (labels.outcome[0], labels.t1[0]) == (-1, 1)
    assert labels.net_return[0] == pytest.approx(0.99 / 1.01 - 1, abs=1e-14)


def test_y_counts_a_barrier_as_won_even_when_costs_eat_it(seven):
    labels = label(seven, 0, 0.02, 0.02, 5, fill="close", costs=Costs(fee=0.05, slippage=0.0))
    assert labels.y[0] == 1
    assert labels.net_return[0] < 0
    assert not labels.paid[0]


@pytest.mark.parametrize("fill", ["next_open", "close"])
def test_no_label_spans_a_long_gap(fill):
    bars = walk(1, gaps=[(40, 61), (60, 60)])
    rows = np.arange(80)
    labels = triple_barrier(
        bars, rows, 1, up=0.5, down=0.5, horizon=5, costs=FREE, fill=fill, max_gap=60
    )
    assert not ((labels.t0 <= 40) & (labels.t1 > 40)).any()
    assert ((labels.t0 <= 60) & (labels.t1 > 60)).any()
    free = triple_barrier(
        bars, rows, 1, up=0.5, down=0.5, horizon=5, costs=FREE, fill=fill, max_gap=None
    )
    assert ((free.t0 <= 40) & (free.t1 > 40)).any()


@given(seed=st.integers(0, 10**6), cut=st.integers(2, 79), side=st.sampled_from([-1, 1]))
def test_a_label_depends_on_nothing_after_its_end(seed, cut, side):
    bars = walk(seed)
    options = {"up": 0.015, "down": 0.01, "horizon": 6, "costs": Costs(fee=0.001, slippage=0.0005)}
    whole = triple_barrier(bars, np.arange(80), side, **options)
    part = triple_barrier(bars[:cut], np.arange(cut), side, **options)
    known = whole.t1 < cut
    for name in ("t0", "t1", "outcome", "net_return", "y", "side"):
        assert getattr(part, name).tobytes() == getattr(whole, name)[known].tobytes()


@given(seed=st.integers(0, 10**6), horizon=st.integers(1, 10))
def test_labels_know_their_shape(seed, horizon):
    labels = triple_barrier(
        walk(seed), np.arange(80), 1, up=0.01, down=0.01, horizon=horizon, costs=FREE
    )
    assert (labels.t1 > labels.t0).all()
    assert (labels.t1 <= labels.t0 + 1 + horizon).all()
    assert set(labels.outcome) <= {-1, 0, 1}
    assert ((labels.y == 1) == (labels.net_return > 0)).all()  # without costs they agree


@pytest.mark.parametrize("fill", ["next_open", "close"])
@given(
    seed=st.integers(0, 10**6),
    row=st.integers(0, 40),
    side=st.sampled_from([-1, 1]),
    up=st.sampled_from([0.004, 0.02, 0.3]),
    down=st.sampled_from([0.0004, 0.01, 0.3]),
    horizon=st.integers(1, 12),
    borrow=st.sampled_from([0.0, 5.0]),
    funded=st.booleans(),
)
def test_one_label_is_one_simulated_trade(fill, seed, row, side, up, down, horizon, borrow, funded):
    from ares.backtest.engine import simulate
    from ares.backtest.strategies import ScoreThreshold

    bars = walk(seed, gaps=[(20, 3)])
    funding = tuple((k * 8 * HOUR, 0.0007 * (-1) ** k) for k in range(11)) if funded else None
    costs = Costs(fee=0.001, slippage=0.0007, borrow=borrow, funding=funding)
    score = np.zeros(len(bars))
    score[row] = side
    result = simulate(
        bars,
        ScoreThreshold(score),
        {
            "enter": 0.5, "exit": -0.5, "direction": "both", "stop_loss": down, "take_profit": up,
            "max_hold": horizon,
        },
        costs=costs,
        fill=fill,
        max_gap=60,
    )  # fmt: skip
    labels = label(bars, row, up, down, horizon, side=side, costs=costs, fill=fill)
    (trade,) = result.trades.to_dict("records")
    assert labels.t1[0] == trade["exit_bar"]
    assert labels.net_return[0] == pytest.approx(trade["return"], abs=1e-12)
    names = {"stop": -1, "gap": -1, "target": 1, "time": 0}
    assert labels.outcome[0] == names[str(trade["reason"])]


def test_barrier_width_is_the_deviation_of_returns_over_the_horizon():
    bars = walk(4, gaps=[(40, 100)])
    width = barrier_width(bars, 10, 9, 60)
    for t in range(80):
        start = 0 if t <= 40 else 41
        if t - start < 10:
            assert np.isnan(width[t])
        else:
            moves = np.diff(np.log(bars.close[t - 10 : t + 1]))
            assert width[t] == pytest.approx(3 * moves.std(), rel=1e-9)


def test_rows_without_a_width_or_a_side_have_no_label():
    bars = walk(5)
    up = np.full(80, 0.01)
    up[:10] = np.nan
    side = np.ones(80, dtype=np.int8)
    side[30:] = 0
    labels = triple_barrier(bars, np.arange(80), side, up=up, down=0.01, horizon=3, costs=FREE)
    assert labels.t0.tolist() == list(range(10, 30))


def test_wrong_arguments_are_refused(seven):
    for rows, options in (
        ([7], {}),
        ([-1], {}),
        ([0, 1], {"up": np.array([0.1])}),
        ([0], {"horizon": 0}),
        ([0], {"fill": "now"}),
    ):
        arguments = {"up": 0.1, "down": 0.1, "horizon": 2, "costs": FREE} | options
        with pytest.raises(DataError):
            triple_barrier(seven, np.array(rows), 1, **arguments)


def test_no_rows_give_no_labels(seven):
    labels = triple_barrier(
        seven, np.empty(0, dtype=np.int64), 1, up=0.1, down=0.1, horizon=2, costs=FREE
    )
    assert len(labels) == 0
