"""Crossings and bands against plain loops over plain lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.backtest import indicators
from ares.backtest.batch import address
from ares.kernels import events

# around the borders of words of 64 bars and tiles of 1,024
SIZES = (1, 2, 5, 63, 64, 65, 130, 1_023, 1_024, 1_025, 1_090, 2_050)


def closes(n, seed):
    """Few different prices, so that means are often equal."""
    rng = np.random.default_rng(seed)
    return 100.0 + np.cumsum(rng.integers(-1, 2, n)).astype(float) / 2


def naive_crossings(fast, slow):
    ups, downs = [], []
    for t in range(1, len(fast)):
        if fast[t] > slow[t] and fast[t - 1] <= slow[t - 1]:
            ups.append(t)
        if fast[t] < slow[t] and fast[t - 1] >= slow[t - 1]:
            downs.append(t)
    return ups, downs


def cut(result, point):
    first, second, borders = result
    ends = borders.reshape(-1, 2)
    return (
        first[ends[point, 0] : ends[point + 1, 0]].tolist(),
        second[ends[point, 1] : ends[point + 1, 1]].tolist(),
    )


@pytest.mark.laws
@given(
    st.sampled_from(SIZES),
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 40)), min_size=1, max_size=5),
    st.lists(st.floats(0.01, 0.99), max_size=3),
)
def test_crossings_of_many_pairs_are_those_of_each(n, seed, periods, cuts):
    close = closes(n, seed)
    starts = np.array(sorted({0, *(int(c * n) for c in cuts)}), dtype=np.int64)
    distinct = sorted({p for pair in periods for p in pair})
    columns = [indicators.sma(close, p, starts=starts, decimals=1) for p in distinct]
    pairs = np.array([[distinct.index(a), distinct.index(b)] for a, b in periods])
    sums, _ = indicators.running_sums(close, 1)
    nowhere = np.zeros(len(distinct), dtype=np.int64)
    places = np.array([address(column) for column in columns])
    whole = np.array(distinct)
    with np.errstate(over="ignore"):  # words wrap, which plain Python would warn of
        made = events.crossings(nowhere, whole, sums, starts, pairs, n)
        given_ = events.crossings(places, whole, np.empty(0, dtype=np.int64), starts, pairs, n)
    for at, (fast, slow) in enumerate(periods):
        columns_of = [columns[distinct.index(p)].tolist() for p in (fast, slow)]
        expected = naive_crossings(*columns_of)
        assert cut(made, at) == expected
        assert cut(given_, at) == expected


def test_running_sums_may_pass_the_largest_integer():
    close = np.full(300_000, 2.0**45 - 1)
    close[150_000:] -= 2.0**20
    sums, largest = indicators.running_sums(close, 0)
    assert sums.min() < 0  # they wrapped
    assert largest == 2**45 - 1
    with np.errstate(over="ignore"):
        pairs, periods = np.array([[0, 1]]), np.array([2, 5])
        starts, nowhere = np.zeros(1, dtype=np.int64), np.zeros(2, dtype=np.int64)
        made = events.crossings(nowhere, periods, sums, starts, pairs, len(close))
    assert cut(made, 0) == ([], [150_000])


@pytest.mark.laws
@given(
    st.sampled_from(SIZES),
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(2, 30), st.floats(0.1, 3.0)), min_size=1, max_size=4),
)
def test_bands_of_many_points_are_those_of_each(n, seed, points):
    close = closes(n, seed)
    columns = [
        (indicators.sma(close, p, decimals=1), indicators.std(close, p, decimals=1))
        for p, _ in points
    ]
    places = np.array([[address(a) for a in pair] for pair in columns])
    widths = np.array([width for _, width in points])
    with np.errstate(over="ignore"):
        found = events.outside_bands(close, places, widths)
    for at, ((mean, deviation), (_, width)) in enumerate(zip(columns, points, strict=True)):
        below = [t for t in range(n) if close[t] < mean[t] - width * deviation[t]]
        above = [t for t in range(n) if close[t] > mean[t] + width * deviation[t]]
        assert cut(found, at) == (below, above)
