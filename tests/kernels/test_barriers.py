"""The barrier walk against published-style golden values and a plain twin."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.kernels.barriers import LOWER, NONE, TIME, UPPER, walk_barriers

OPEN = np.array([100, 100, 101, 102, 99, 97, 100.0])
HIGH = np.array([100, 101, 103, 102.5, 99.5, 101, 100.0])
LOW = np.array([100, 99, 100.5, 98.9, 96.9, 96, 100.0])
CLOSE = np.array([100, 101, 102, 99, 97, 100, 100.0])
NO_FUNDING = (np.empty(0, dtype=np.int64), np.empty(0))


@dataclasses.dataclass(frozen=True)
class Trade:
    outcome: int
    leave: int
    net: float


def walk(
    prices, rows, side, up, down, *, horizon, at_close=True, rates=(0.0, 0.0, 0.0), limit=None
):
    n, m = len(prices[0]), len(rows)
    outcome, leave, net = walk_barriers(
        prices,
        (np.arange(n, dtype=np.int64) * 60, 60),
        np.asarray(rows, dtype=np.int64),
        np.full(m, n if limit is None else limit, dtype=np.int64),
        np.full(m, side, dtype=np.int8),
        np.full(m, up),
        np.full(m, down),
        horizon=horizon,
        at_close=at_close,
        rates=rates,
        funding=NO_FUNDING,
    )
    return [Trade(*t) for t in zip(outcome.tolist(), leave.tolist(), net.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("t0", "up", "down", "horizon", "outcome", "t1", "net"),
    [
        (0, 0.02, 0.02, 5, UPPER, 2, 0.02),
        (0, 0.03, 0.03, 5, UPPER, 2, 0.03),
        (0, 0.05, 0.05, 3, TIME, 3, -0.01),
        (0, 0.03, 0.01, 5, LOWER, 1, -0.01),
        (2, 0.01, 0.03, 4, LOWER, 3, -0.03),
        (4, 0.10, 0.10, 2, TIME, 6, 0.0309278),
        (0, 0.01, 0.01, 5, LOWER, 1, -0.01),
    ],
)
def test_golden_table_filled_at_the_close(t0, up, down, horizon, outcome, t1, net):
    (trade,) = walk((OPEN, HIGH, LOW, CLOSE), [t0], 1, up, down, horizon=horizon)
    assert (trade.outcome, trade.leave) == (outcome, t1)
    assert trade.net == pytest.approx(net, abs=5e-8)


def test_a_label_that_runs_past_the_data_is_none():
    (trade,) = walk((OPEN, HIGH, LOW, CLOSE), [4], 1, 0.1, 0.1, horizon=3)
    assert trade.outcome == NONE
    assert trade.leave == -1
    assert np.isnan(trade.net)


def test_a_gap_through_the_barrier_fills_at_the_open():
    prices = tuple(np.array(p, dtype=float) for p in ([100, 95], [100, 96], [100, 94], [100, 95]))
    (trade,) = walk(prices, [0], 1, 0.02, 0.02, horizon=5)
    assert (trade.outcome, trade.leave) == (LOWER, 1)
    assert trade.net == pytest.approx(-0.05, abs=1e-15)


def twin(prices, row, side, up, down, *, horizon, at_close, fee, slippage, limit):
    """The rules of a simulated trade, in plain Python, told from the side of the trader."""
    opening, high, low, closing = (p.tolist() for p in prices)
    entry = row if at_close else row + 1
    if entry >= limit:
        return None
    raw = closing[entry] if at_close else opening[entry]
    worse_in, worse_out = (1 + slippage, 1 - slippage) if side > 0 else (1 - slippage, 1 + slippage)
    fill = raw * worse_in
    stop = fill * (1 - down) if side > 0 else fill * (1 + down)
    target = fill * (1 + up) if side > 0 else fill * (1 - up)

    def closed(bar, outcome, price, slipped):
        out = price * worse_out if slipped else price
        gain = (out - fill) if side > 0 else (fill - out)
        return outcome, bar, (gain - fee * fill - fee * out) / fill

    for bar in range(entry + at_close, limit):
        if not at_close and bar == entry + horizon:
            return closed(bar, TIME, opening[bar], True)
        beyond_stop = opening[bar] <= stop if side > 0 else opening[bar] >= stop
        beyond_target = opening[bar] >= target if side > 0 else opening[bar] <= target
        if beyond_stop:
            return closed(bar, LOWER, opening[bar], True)
        if beyond_target and bar != entry:
            return closed(bar, UPPER, opening[bar], False)
        if low[bar] <= stop if side > 0 else high[bar] >= stop:
            return closed(bar, LOWER, stop, True)
        if high[bar] >= target if side > 0 else low[bar] <= target:
            return closed(bar, UPPER, target, False)
        if at_close and bar == entry + horizon:
            return closed(bar, TIME, closing[bar], True)
    return None


@st.composite
def markets(draw):
    ticks = draw(st.lists(st.integers(-4, 4), min_size=8, max_size=60))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    closing = 50.0 + np.cumsum(ticks) * 0.25
    closing = np.maximum(closing, 1.0)
    opening = np.roll(closing, 1) + rng.integers(-2, 3, len(ticks)) * 0.25
    opening[0] = closing[0]
    high = np.maximum(opening, closing) + rng.integers(0, 4, len(ticks)) * 0.25
    low = np.minimum(opening, closing) - rng.integers(0, 4, len(ticks)) * 0.25
    return opening, high, np.maximum(low, 0.25), closing


@given(
    prices=markets(),
    side=st.sampled_from([-1, 1]),
    at_close=st.booleans(),
    up=st.sampled_from([0.005, 0.01, 0.03, 0.2]),
    down=st.sampled_from([0.005, 0.01, 0.03, 0.2]),
    horizon=st.integers(1, 12),
    slippage=st.sampled_from([0.0, 0.001, 0.01]),
    fee=st.sampled_from([0.0, 0.001]),
    tail=st.integers(0, 4),
)
def test_every_trade_equals_its_plain_twin(
    prices, side, at_close, up, down, horizon, slippage, fee, tail
):
    n = len(prices[0])
    rows = range(n - tail)
    trades = walk(
        prices, rows, side, up, down, horizon=horizon, at_close=at_close,
        rates=(fee, slippage, 0.0), limit=n - tail,
    )  # fmt: skip
    for row, trade in zip(rows, trades, strict=True):
        expected = twin(
            prices, row, side, up, down, horizon=horizon, at_close=at_close, fee=fee,
            slippage=slippage, limit=n - tail,
        )  # fmt: skip
        if expected is None:
            assert trade.outcome == NONE
        else:
            assert (trade.outcome, trade.leave) == expected[:2]
            assert trade.net == pytest.approx(expected[2], abs=1e-13)


def test_widths_that_are_not_positive_have_no_label():
    for up, down in ((0.0, 0.1), (0.1, 0.0), (np.nan, 0.1), (0.1, np.nan), (-1.0, 0.1)):
        (trade,) = walk((OPEN, HIGH, LOW, CLOSE), [0], 1, up, down, horizon=2)
        assert trade.outcome == NONE


def test_unequal_lengths_and_foreign_rows_are_refused():
    prices = (OPEN, HIGH, LOW, CLOSE)
    with pytest.raises(ValueError, match="inside 7 bars"):
        walk(prices, [7], 1, 0.1, 0.1, horizon=2)
    with pytest.raises(ValueError, match="one length"):
        walk((OPEN, HIGH[:-1], LOW, CLOSE), [0], 1, 0.1, 0.1, horizon=2)
