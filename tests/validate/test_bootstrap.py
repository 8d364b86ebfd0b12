"""The index generator against a loop and a closed form; the paired test's size and power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ares.core.errors import InputError
from ares.validate.bootstrap import (
    bootstrap_means,
    checked_returns,
    optimal_block,
    paired_bootstrap_p,
    stationary_chunks,
    stationary_indices,
)


@given(st.integers(1, 60), st.floats(1, 30), st.integers(1, 9), st.integers(0, 2**63 - 1))
def test_indices_follow_the_definition(n, mean_block, resamples, seed):
    found = stationary_indices(n, mean_block=mean_block, resamples=resamples, seed=seed)
    generator = np.random.default_rng(seed)
    starts = generator.integers(n, size=(resamples, n))
    uniform = generator.random((resamples, n))
    for row in range(resamples):
        position = -1
        for t in range(n):
            if t == 0 or uniform[row, t] * mean_block < 1.0:
                position = starts[row, t]
            else:
                position = (position + 1) % n
            assert found[row, t] == position


def test_chunks_bound_memory_and_join_to_the_whole():
    arguments = {"mean_block": 8.0, "resamples": 500, "seed": 4}
    chunks = list(stationary_chunks(3000, **arguments))
    assert len(chunks) > 1
    assert max(chunk.size for chunk in chunks) <= 1 << 19
    whole = stationary_indices(3000, **arguments)
    assert whole.shape == (500, 3000)
    assert np.array_equal(np.concatenate(chunks), whole)
    assert np.array_equal(stationary_indices(3000, **arguments), whole)
    assert not np.array_equal(stationary_indices(3000, **{**arguments, "seed": 5}), whole)


@pytest.mark.parametrize("mean_block", [1.0, 2.5, 10.0])
def test_mean_block_is_the_mean_of_the_blocks(mean_block):
    rows = stationary_indices(2000, mean_block=mean_block, resamples=200, seed=1)
    breaks = np.count_nonzero(np.diff(rows, axis=1) % 2000 != 1) + len(rows)
    # A fresh start hits the successor by chance once in 2000 times.
    assert rows.size / breaks == pytest.approx(mean_block, rel=0.02)


def test_every_observation_is_drawn_equally_often():
    rows = stationary_indices(50, mean_block=7.0, resamples=20_000, seed=2)
    share = np.bincount(rows.ravel(), minlength=50) / rows.size
    assert share == pytest.approx(np.full(50, 0.02), rel=0.03)


@pytest.mark.parametrize("mean_block", [1.0, 5.0, 40.0])
def test_spread_of_the_means_is_the_closed_form(mean_block):
    """Politis and Romano (1994): the bootstrap variance, from circular autocovariances."""
    generator = np.random.default_rng(3)
    values = np.convolve(generator.normal(size=219), np.full(20, 0.05), mode="valid")
    n = len(values)
    centred = values - values.mean()
    lags = np.arange(n)
    circular = np.array([np.mean(centred * np.roll(centred, -lag)) for lag in lags])
    weight = (1 - lags / n) * (1 - 1 / mean_block) ** lags
    variance = (circular[0] + 2 * np.sum(weight[1:] * circular[1:])) / n
    means = bootstrap_means(values, mean_block=mean_block, resamples=20_000, seed=7)
    assert means.var() == pytest.approx(variance, rel=0.05)
    assert means.mean() == pytest.approx(values.mean(), abs=5 * math.sqrt(variance / 20_000))


def test_automatic_block_length():
    generator = np.random.RandomState(0)  # the published numbers were made with it
    noise = generator.standard_normal(10_100)
    series = np.zeros(10_100)
    for t in range(1, 10_100):
        series[t] = 0.3 * series[t - 1] + noise[t]
    assert optimal_block(series[100:]) == pytest.approx(13.63566513, rel=1e-6)
    t = np.arange(500)
    waves = np.sin(0.1 * t) + 0.5 * np.sin(1.7 * t)
    assert optimal_block(waves) == pytest.approx(13.10965625, rel=1e-6)
    assert optimal_block(waves * 1e-200) == pytest.approx(13.10965625, rel=1e-6)


def test_automatic_block_length_where_there_is_none():
    assert optimal_block(np.zeros(100)) == 1.0
    assert optimal_block(np.full(100, 0.1)) == 1.0
    assert optimal_block(np.array([0.1, -0.2, 0.3])) == 1.0
    assert optimal_block(np.random.default_rng(1).normal(size=300)) >= 1.0


@given(st.lists(st.sampled_from([0.0, 1e-12, -0.3, 0.1, 5.0]), min_size=1, max_size=60))
@example([0.0] * 9 + [1e-12])
@example([0.0, 1.0] * 5)
def test_automatic_block_length_is_always_usable(values):
    found = optimal_block(np.array(values))
    assert 1.0 <= found <= max(10, len(values))


def ar1(generator: np.random.Generator, n: int, rho: float) -> np.ndarray:
    noise = generator.normal(size=n + 50)
    for t in range(1, n + 50):
        noise[t] += rho * noise[t - 1]
    return noise[50:]


@pytest.mark.parametrize(("rho", "block", "allowed"), [(0.0, 1.0, 0.05), (0.4, 12.0, 0.07)])
def test_paired_test_keeps_its_size(rho, block, allowed):
    generator = np.random.default_rng(20)
    claims = sum(
        paired_bootstrap_p(ar1(generator, 300, rho), mean_block=block, resamples=299, seed=k) < 0.05
        for k in range(400)
    )
    assert 0.01 < claims / 400 <= allowed + 3 * math.sqrt(allowed * (1 - allowed) / 400)


def test_single_days_instead_of_blocks_would_be_wrong():
    generator = np.random.default_rng(20)
    claims = sum(
        paired_bootstrap_p(ar1(generator, 300, 0.4), mean_block=1.0, resamples=299, seed=k) < 0.05
        for k in range(400)
    )
    assert claims / 400 > 0.10


def test_paired_test_finds_a_difference():
    difference = np.random.default_rng(21).normal(0.2, 1.0, size=400)
    arguments = {"mean_block": 2.0, "resamples": 999, "seed": 1}
    assert paired_bootstrap_p(difference, **arguments) == 1 / 1000
    assert paired_bootstrap_p(-difference, **arguments) == 1.0


def test_paired_test_of_normal_data_is_close_to_a_t_test():
    difference = np.random.default_rng(22).normal(0.05, 1.0, size=500)
    z = difference.mean() / (difference.std() / math.sqrt(500))
    expected = 0.5 * math.erfc(z / math.sqrt(2))
    found = paired_bootstrap_p(difference, mean_block=1.0, resamples=20_000, seed=0)
    assert found == pytest.approx(expected, abs=0.01)


def test_equal_series_are_no_evidence():
    assert paired_bootstrap_p(np.zeros(50), mean_block=3.0, resamples=99, seed=0) == 1.0
    assert math.isnan(paired_bootstrap_p(np.array([0.1]), mean_block=1.0, resamples=99, seed=0))


def test_bad_input_is_refused():
    with pytest.raises(InputError, match=r"r\[1\]: returns must be finite"):
        checked_returns([0.1, math.inf], "r")
    with pytest.raises(InputError, match="one vector"):
        checked_returns([[0.1]], "r")
    with pytest.raises(InputError, match="same days"):
        checked_returns([0.1], "r", length=2)
    with pytest.raises(InputError, match="mean block"):
        stationary_indices(5, mean_block=0.5, resamples=1, seed=0)
    with pytest.raises(InputError, match="needs data"):
        stationary_indices(0, mean_block=1.0, resamples=1, seed=0)
