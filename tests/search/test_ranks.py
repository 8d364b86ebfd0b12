import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from ares.search.stopping.ranks import (
    midranks,
    pocock_level,
    signed_rank_p,
    spearman,
    wilson_interval,
)

SMALL = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=12)
DISTINCT = st.lists(st.floats(-100, 100), min_size=2, max_size=25, unique_by=abs).filter(
    lambda v: all(x != 0 for x in v)
)


@given(SMALL)
def test_midranks_are_those_of_scipy(values):
    np.testing.assert_array_equal(midranks(np.array(values)), stats.rankdata(values))


@given(DISTINCT)
def test_the_signed_rank_test_is_scipys_exact_one(values):
    expected = stats.wilcoxon(values, alternative="greater", method="exact").pvalue
    assert signed_rank_p(np.array(values)) == pytest.approx(expected, rel=1e-9)


def every_sign(values):
    """P(sum of positive ranks >= the one seen), by going through all signs."""
    kept = np.array([v for v in values if v != 0])
    if not len(kept):
        return 1.0
    ranks = stats.rankdata(np.abs(kept))
    seen = ranks[kept > 0].sum()
    signs = (np.arange(2 ** len(kept))[:, None] >> np.arange(len(kept))) & 1
    return np.mean(signs @ ranks >= seen - 1e-9)


@given(st.lists(st.lists(st.integers(-6, 6).map(float), min_size=7, max_size=7), min_size=1))
def test_with_ties_it_counts_all_signs_and_rows_are_tests_of_their_own(rows):
    found = signed_rank_p(np.array(rows))
    assert found == pytest.approx([every_sign(row) for row in rows], rel=1e-12)


@pytest.mark.parametrize(
    ("pairs", "largest", "level"),
    # Critical values of the smaller sum, one-sided: Wilcoxon (1947), table I; also Hollander,
    # Wolfe and Chicken (2014), table A.4.
    [(8, 5, 0.05), (8, 3, 0.025), (8, 1, 0.01), (16, 35, 0.05), (16, 29, 0.025), (16, 23, 0.01)],
)
def test_critical_values_are_those_of_the_published_table(pairs, largest, level):
    def p_of(smaller):
        # Negative ranks that sum to `smaller`: taken greedily from the largest rank down.
        signs, rest = np.ones(pairs), smaller
        for rank in range(pairs, 0, -1):
            if rank <= rest:
                signs[rank - 1], rest = -1.0, rest - rank
        return signed_rank_p(signs * np.arange(1, pairs + 1)).item()

    assert p_of(largest) <= level < p_of(largest + 1)


def test_nothing_to_compare_is_no_evidence():
    assert signed_rank_p(np.zeros((2, 5))).tolist() == [1.0, 1.0]
    assert signed_rank_p(np.full(3, np.nan)).tolist() == [1.0]


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=20))
def test_spearman_is_scipys(pairs):
    a, b = np.array(pairs, dtype=float).T
    assume(len(set(a)) > 1 and len(set(b)) > 1)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_spearman_of_a_constant_is_undefined():
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))


def family_error(levels_at):
    """P(any look rejects) with nothing there: one level at looks of the shares of data given."""
    level, shares = levels_at
    looks = np.array(shares, dtype=float)
    correlation = np.sqrt(np.minimum.outer(looks, looks) / np.maximum.outer(looks, looks))
    bound = stats.norm.isf(level)
    # Two-sided, as the published levels are: all looks inside (-bound, bound).
    draws = np.random.default_rng(0).standard_normal((400_000, len(looks)))
    paths = draws @ np.linalg.cholesky(correlation).T
    return np.mean((np.abs(paths) > bound).any(axis=1))


@pytest.mark.parametrize("looks", range(1, 6))
def test_pococks_levels_keep_five_percent_over_equal_looks(looks):
    found = family_error((pocock_level(looks), range(1, looks + 1)))
    assert found == pytest.approx(0.05, abs=0.0015)  # three standard errors of the simulation


def test_the_looks_of_a_race_keep_it_nearly_too():
    # After 8, 16 and 32 blocks: less alike than equal looks, so a little above.
    assert 0.05 < family_error((pocock_level(3), (8, 16, 32))) < 0.057


def test_more_looks_ask_for_more_evidence():
    # Pocock (1977), table 1, nominal two-sided levels; ours are one-sided.
    assert [2 * pocock_level(k) for k in range(1, 7)] == pytest.approx(
        [0.05, 0.0294, 0.0221, 0.0182, 0.0158, 0.0158], rel=1e-12
    )


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_interval_of_a_rate_is_wilsons(hits, more):
    trials = hits + more
    assume(trials > 0)
    expected = stats.binomtest(hits, trials).proportion_ci(0.95, method="wilson")
    assert wilson_interval(hits, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_without_trials_a_rate_is_anything():
    assert wilson_interval(0, 0) == (0.0, 1.0)
