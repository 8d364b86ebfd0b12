"""Forward chain, purged folds and uniqueness weights against published and naive answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.config import SplitConfig
from ares.core.errors import DataError
from ares.learn.splits import (
    combinatorial_folds,
    forward_chain,
    n_paths,
    purged_folds,
    thin,
    uniqueness,
)


def rows(n, length=0):
    t0 = np.arange(n, dtype=np.int64)
    return t0, t0 + length


@st.composite
def intervals(draw, most=60):
    n = draw(st.integers(4, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    t0 = np.sort(rng.integers(0, 2 * n, n)).astype(np.int64)
    return t0, t0 + rng.integers(0, draw(st.integers(1, 15)), n)


@given(
    n=st.integers(400, 100_000),
    chunks=st.integers(3, 12),
    embargo=st.sampled_from([0.0, 0.005, 0.02]),
)
def test_chunks_tile_the_range_from_first_to_its_end(n, chunks, embargo):
    config = SplitConfig(chunks=chunks, embargo=embargo)
    chain = forward_chain(n, config)
    assert len(chain) == chunks
    assert chain.borders[0] == math.floor(0.30 * n)
    assert chain.borders[-2] == math.floor(0.85 * n)
    assert chain.borders[-1] == n
    lengths = np.diff(chain.borders)[:-1]
    assert lengths.min() >= 1
    assert lengths.max() - lengths.min() <= 1
    assert chain.embargo >= embargo * n


@given(labels=intervals(500), j=st.integers(0, 3))
def test_no_training_label_touches_its_chunk_or_the_embargo(labels, j):
    t0, t1 = labels
    chain = forward_chain(600, SplitConfig(chunks=4, embargo=0.02))
    kept = chain.training_rows(j, t1)
    first = chain.borders[j]
    for start, end, row_kept in zip(t0, t1, kept, strict=True):
        touches = any(bar >= first - chain.embargo for bar in range(start, end + 1))
        assert row_kept == (not touches)
    assert chain.chunk(j) == slice(chain.borders[j], chain.borders[j + 1])


def test_too_few_bars_for_a_chain_are_refused():
    with pytest.raises(DataError, match="8 chunks"):
        forward_chain(10, SplitConfig())
    with pytest.raises(DataError):
        forward_chain(0, SplitConfig())


@pytest.mark.parametrize(
    ("groups", "tested", "splits", "paths"),
    [
        (6, 2, 15, 5),
        (5, 2, 10, 4),
        (10, 2, 45, 9),
        (10, 8, 45, 36),
        (17, 3, 680, 120),
        (6, 1, 6, 1),
    ],
)
def test_counts_of_combinatorial_splits_and_paths(groups, tested, splits, paths):
    folds = combinatorial_folds(*rows(2 * groups), groups, tested)
    assert len(folds) == splits
    assert n_paths(groups, tested) == paths
    assert max(max(fold.paths) for fold in folds) == paths - 1


@pytest.mark.parametrize(
    ("length", "embargo", "train"),
    [
        (0, 0, [[8, 9, 10, 11], [4, 5, 6, 7], [0, 1, 2, 3]]),
        (1, 0, [[9, 10, 11], [5, 6], [0, 1, 2]]),
        (0, 1, [[9, 10, 11], [5, 6, 7], [0, 1, 2, 3]]),
    ],
)
def test_golden_splits_of_twelve_rows(length, embargo, train):
    folds = combinatorial_folds(*rows(12, length), 3, 2, embargo=embargo)
    assert [fold.train.tolist() for fold in folds] == train
    assert [list(fold.paths) for fold in folds] == [[0, 0], [1, 0], [1, 1]]


@given(
    labels=intervals(),
    groups=st.integers(2, 4),
    tested=st.integers(1, 3),
    embargo=st.integers(0, 6),
)
def test_no_training_label_meets_a_test_label_or_its_embargo(labels, groups, tested, embargo):
    t0, t1 = labels
    if tested >= groups:
        return
    folds = combinatorial_folds(t0, t1, groups, tested, embargo=embargo)
    times_tested = np.zeros(len(t0), dtype=int)
    for fold in folds:
        times_tested[fold.test] += 1
        for row in fold.train:
            for other in fold.test:
                assert t1[row] < t0[other] or t0[row] > t1[other] + embargo
    assert (times_tested == math.comb(groups - 1, tested - 1)).all()


@given(labels=intervals())
def test_purged_folds_test_every_row_once_and_keep_far_rows(labels):
    t0, t1 = labels
    folds = purged_folds(t0, t1, 4)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(t0)))
    for fold in folds:
        low, high = t0[fold.test].min(), t1[fold.test].max()
        far = [r for r in range(len(t0)) if t1[r] < low or t0[r] > high]
        assert fold.train.tolist() == far


def test_disordered_rows_and_impossible_counts_are_refused():
    t0, t1 = rows(6)
    with pytest.raises(DataError, match="order of time"):
        purged_folds(t0[::-1].copy(), t1[::-1].copy(), 2)
    with pytest.raises(DataError, match="tested < groups"):
        combinatorial_folds(t0, t1, 2, 2)
    with pytest.raises(DataError, match="t0 <= t1"):
        uniqueness(t1 + 1, t0)


@given(labels=intervals())
def test_uniqueness_equals_counting_bar_by_bar(labels):
    t0, t1 = labels
    alive = [
        sum(1 for a, b in zip(t0, t1, strict=True) if a <= bar <= b) for bar in range(t1.max() + 1)
    ]
    naive = [
        np.mean([1 / alive[bar] for bar in range(a, b + 1)]) for a, b in zip(t0, t1, strict=True)
    ]
    assert uniqueness(t0, t1) == pytest.approx(naive, abs=1e-12)


def test_uniqueness_of_separate_doubled_and_chained_labels():
    # Snippet 4.2 by hand: labels [0,2], [1,3], [5,5] share bars 1 and 2.
    t0, t1 = np.array([0, 1, 5]), np.array([2, 3, 5])
    assert uniqueness(t0, t1) == pytest.approx([2 / 3, 2 / 3, 1.0])
    assert uniqueness(np.array([4, 4]), np.array([9, 9])) == pytest.approx([0.5, 0.5])
    assert uniqueness(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)).size == 0


@given(n=st.integers(0, 3000), most=st.integers(1, 700))
def test_thinning_is_even_and_keeps_what_fits(n, most):
    given_rows = np.arange(n, dtype=np.int64) * 3 + 7
    kept = thin(given_rows, most)
    assert len(kept) == min(n, most)
    assert set(kept) <= set(given_rows)
    if n > most:
        steps = np.diff((kept - 7) // 3)
        assert kept[0] == 7
        assert steps.size == 0 or steps.max() - steps.min() <= 1
        assert steps.size == 0 or steps.min() >= n // most
    else:
        assert kept is given_rows
