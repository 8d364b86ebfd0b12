"""Block extremes and the searches over them against plain scans."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.kernels.index import extremes, first_outside, first_touch

# around the borders of blocks of 8, 64, 512 and 4096 values
SIZES = (1, 2, 7, 8, 9, 63, 64, 65, 511, 512, 513, 600, 4_095, 4_096, 4_097, 5_000, 33_000)
VALUES = st.sampled_from([-math.inf, -2.0, -0.5, 0.0, 0.5, 2.0, math.inf, math.nan])


def values(n, seed, holes=0.1):
    """Mostly quiet, with rare spikes, so that whole blocks are skipped; with holes."""
    rng = np.random.default_rng(seed)
    out = rng.uniform(-0.1, 0.1, n)
    spikes = rng.random(n) < 3 / max(n, 30)
    out[spikes] = rng.uniform(-1, 1, spikes.sum())
    out[rng.random(n) < holes] = np.nan
    return out


def scan(begin, end, hit):
    return next((i for i in range(begin, end) if hit(i)), end)


@pytest.mark.parametrize("n", SIZES)
def test_every_level_holds_the_extremes_of_the_one_below(n):
    array = values(n, n, holes=0.5)
    for sign, best in ((1.0, max), (-1.0, min)):
        level, ranks = array.tolist(), 0
        expected = []
        while len(level) > 1 or ranks < 4:
            ranks += 1
            chunks = [level[k : k + 8] for k in range(0, len(level), 8)]
            level = [
                best([x for x in c if not math.isnan(x)], default=-sign * math.inf) for c in chunks
            ]
            expected += level
        out = extremes(array, sign)
        assert out.tolist() == expected
        assert not out.flags.writeable


@pytest.mark.laws
@given(st.sampled_from(SIZES), st.integers(0, 10**6), st.data())
def test_a_search_finds_what_a_scan_finds(n, seed, data):
    lower, upper = values(n, seed), values(n, seed + 1)
    begin = data.draw(st.integers(0, n))
    end = data.draw(st.integers(begin, n))
    low, high = (
        data.draw(st.sampled_from([-math.inf, -0.9, -0.3, -0.1, 0.0, math.nan])),
        data.draw(st.sampled_from([math.inf, 0.9, 0.3, 0.1, 0.0, math.nan])),
    )
    expected = scan(begin, end, lambda i: lower[i] <= low or upper[i] >= high)
    minima, maxima = extremes(lower, -1.0), extremes(upper, 1.0)
    assert first_outside(lower, upper, minima, maxima, begin, end, low, high) == expected


@pytest.mark.laws
@given(st.sampled_from(SIZES), st.integers(0, 10**6), st.data())
def test_a_search_of_price_and_score_finds_what_a_scan_finds(n, seed, data):
    lows, highs, score = (values(n, seed + k) for k in range(3))
    begin = data.draw(st.integers(0, n))
    end = data.draw(st.integers(begin, n))
    bottom = st.sampled_from([-math.inf, -0.95, -0.4, -0.1, math.nan])
    top = st.sampled_from([math.inf, 0.95, 0.4, 0.1, math.nan])
    levels = tuple(data.draw(side) for side in (bottom, top, bottom, top))

    def hit(i):
        price = lows[i] <= levels[0] or highs[i] >= levels[1]
        return price or score[i] <= levels[2] or score[i] >= levels[3]

    prices = (lows, highs, extremes(lows, -1.0), extremes(highs, 1.0))
    indexed = (score, extremes(score, -1.0), extremes(score, 1.0))
    assert first_touch(prices, indexed, begin, end, levels) == scan(begin, end, hit)


@given(st.lists(VALUES, min_size=1, max_size=200), VALUES, VALUES)
def test_levels_are_inclusive_and_nan_is_never_outside(array, low, high):
    array = np.array(array)
    minima, maxima = extremes(array, -1.0), extremes(array, 1.0)
    # An infinite level that points away means none, also where a value is infinite.
    expected = scan(0, len(array), lambda i: array[i] <= low or array[i] >= high)
    assert first_outside(array, array, minima, maxima, 0, len(array), low, high) == expected
