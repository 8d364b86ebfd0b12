import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from ares.search.ranks import midranks, pocock_level, signed_rank_p, spearman

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


@given(SMALL)
def test_with_ties_it_counts_all_signs(values):
    kept = np.array([v for v in values if v != 0])
    assume(0 < len(kept) <= 10)
    ranks = stats.rankdata(np.abs(kept))
    seen = ranks[kept > 0].sum()
    signs = (np.arange(2 ** len(kept))[:, None] >> np.arange(len(kept))) & 1
    expected = np.mean(signs @ ranks >= seen - 1e-9)
    assert signed_rank_p(np.array(values)) == pytest.approx(expected, rel=1e-12)


def test_nothing_to_compare_is_no_evidence():
    assert signed_rank_p(np.zeros(5)) == 1.0


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=20))
def test_spearman_is_scipys(pairs):
    a, b = np.array(pairs, dtype=float).T
    assume(len(set(a)) > 1 and len(set(b)) > 1)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_spearman_of_a_constant_is_undefined():
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))


def test_more_looks_ask_for_more_evidence():
    levels = [pocock_level(k) for k in range(1, 7)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == 0.025
