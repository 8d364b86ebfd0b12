import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.errors import ArtifactError, InputError
from ares.kernels.pooled import NONE, chained_drawdown
from ares.search import blocks as b

RETURNS = st.lists(st.floats(-0.5, 1.0), min_size=1, max_size=60)


def naive_drawdown(returns):
    equity = top = 1.0
    worst = 0.0
    for r in returns:
        equity *= 1.0 + r
        top = max(top, equity)
        worst = max(worst, 1.0 - equity / top)
    return worst


@given(RETURNS, st.integers(1, 16), st.data())
def test_blocks_hold_what_a_loop_over_days_finds(returns, count, data):
    days = data.draw(st.lists(st.integers(0, len(returns) - 1), max_size=20).map(sorted))
    borders = b.even_borders(len(returns), count)
    found = b.block_results(np.array(returns), np.array(days, dtype=np.int64), borders)
    assert borders[0] == 0
    assert borders[-1] == len(returns)
    for i, (first, last) in enumerate(pairwise(borders)):
        piece = returns[first:last]
        assert found.n[i] == len(piece) >= 1
        assert found.sum[i] == pytest.approx(math.fsum(piece), abs=1e-12)
        assert found.sum_sq[i] == pytest.approx(math.fsum(r * r for r in piece), abs=1e-12)
        assert found.downside_sq[i] == pytest.approx(
            math.fsum(r * r for r in piece if r < 0), abs=1e-12
        )
        assert found.log_growth[i] == pytest.approx(
            math.fsum(math.log1p(r) for r in piece), abs=1e-9
        )
        assert found.drawdown[i] == pytest.approx(naive_drawdown(piece), abs=1e-9)
        assert found.trades[i] == sum(first <= d < last for d in days)


@given(RETURNS, st.integers(1, 16))
def test_drawdown_of_chained_blocks_is_that_of_the_whole_path(returns, count):
    borders = b.even_borders(len(returns), count)
    found = b.block_results(np.array(returns), np.empty(0, dtype=np.int64), borders)
    assert chained_drawdown(found.measures, NONE) == pytest.approx(
        naive_drawdown(returns), abs=1e-9
    )


def test_ruin_is_minus_infinite_growth_and_a_drawdown_of_one():
    found = b.block_results(
        np.array([0.1, -1.0, 0.0]), np.empty(0, dtype=np.int64), np.array([0, 1, 3])
    )
    assert found.log_growth[1] == -math.inf
    assert chained_drawdown(found.measures, NONE) == 1.0


@given(RETURNS, st.integers(1, 5))
def test_bytes_come_back(returns, count):
    borders = b.even_borders(len(returns), count)
    found = b.block_results(np.array(returns), np.empty(0, dtype=np.int64), borders)
    again = b.BlockResults.from_bytes(found.to_bytes())
    assert again == found
    assert np.array_equal(again.sum, found.sum)
    assert again.trades.dtype == np.int64


def test_bytes_of_another_length_are_refused():
    with pytest.raises(ArtifactError):
        b.BlockResults.from_bytes(b"x" * 80)


def test_blocks_join_and_are_taken_apart():
    whole = b.block_results(np.linspace(-0.1, 0.1, 12), np.array([3, 9]), np.array([0, 4, 8, 12]))
    assert b.join([whole.take([2]), whole.take([0, 1])]).take([1, 2, 0]) == whole


def test_an_empty_range_has_no_blocks():
    with pytest.raises(InputError):
        b.even_borders(0, 4)


def test_flat_blocks_begin_with_a_day():
    hours = np.arange(5, 5 + 24 * 40, dtype=np.int64) * 3_600_000_000_000
    borders = b.flat_borders(hours, 7, 900, 6)
    assert borders[0] == 7
    assert borders[-1] == 900
    assert (np.diff(borders) > 0).all()
    for border in borders[1:-1]:
        assert hours[border] % b.DAY_NS == 0


@given(st.integers(1, 40), st.integers(0, 1000))
def test_revealed_blocks_are_a_permutation(count, seed):
    assert sorted(b.interleaved_order(count, seed)) == list(range(count))


@given(st.integers(16, 32), st.integers(0, 1000))
def test_the_first_blocks_are_spread_over_the_whole_range(count, seed):
    first = sorted(b.interleaved_order(count, seed)[:8])
    widest = max(np.diff([*first, first[0] + count]))
    assert widest <= 2.2 * count / 8 + 1
