"""The hidden Markov kernels against hmmlearn, brute force and published values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.kernels.hmm import filter_states, fit_gaussian, gaussian_emission

ZERO = np.zeros(1, dtype=np.int64)
UMBRELLA = np.array([[0.9, 0.2], [0.9, 0.2], [0.1, 0.8], [0.9, 0.2], [0.9, 0.2]])
STAY = np.array([[0.7, 0.3], [0.3, 0.7]])


def test_the_umbrella_world_has_its_published_values():
    filtered, likelihood = filter_states(np.full(2, 0.5), STAY, np.log(UMBRELLA), ZERO)
    assert likelihood == pytest.approx(-3.3725020, abs=5e-8)
    assert filtered[:, 0] == pytest.approx([0.8182, 0.8834, 0.1907, 0.7308, 0.8673], abs=5e-5)


def draw(seed, n, k=3):
    rng = np.random.default_rng(seed)
    start = rng.dirichlet(np.ones(k))
    transition = rng.dirichlet(np.ones(k), size=k)
    emission = rng.normal(scale=3.0, size=(n, k))
    return start, transition, emission


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 6))
def test_filter_equals_the_sum_over_all_paths(seed, n):
    start, transition, emission = draw(seed, n)
    filtered, likelihood = filter_states(start, transition, emission, ZERO)
    mass = np.zeros(3)
    for path in itertools.product(range(3), repeat=n):
        weight = start[path[0]] * math.exp(emission[0, path[0]])
        for t in range(1, n):
            weight *= transition[path[t - 1], path[t]] * math.exp(emission[t, path[t]])
        mass[path[-1]] += weight
    assert likelihood == pytest.approx(math.log(mass.sum()), abs=1e-10)
    assert filtered[-1] == pytest.approx(mass / mass.sum(), abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 40))
def test_rows_after_a_cut_do_not_move_the_filter(seed, cut):
    start, transition, emission = draw(seed, 40)
    starts = np.array([0, 13, 14, 30], dtype=np.int64)
    whole, _ = filter_states(start, transition, emission, starts)
    part, _ = filter_states(start, transition, emission[:cut].copy(), starts[starts < cut])
    assert part.tobytes() == whole[:cut].tobytes()


def test_a_stretch_forgets_what_was_before_it():
    start, transition, emission = draw(5, 30)
    whole, _ = filter_states(start, transition, emission, np.array([0, 11], dtype=np.int64))
    alone, _ = filter_states(start, transition, emission[11:].copy(), ZERO)
    assert whole[11:].tobytes() == alone.tobytes()


def test_a_million_steps_neither_underflow_nor_lose_mass():
    rng = np.random.default_rng(1)
    n = 1_000_000 if not _interpreted() else 3_000
    emission = rng.normal(loc=-400.0, scale=200.0, size=(n, 2))
    filtered, likelihood = filter_states(np.full(2, 0.5), STAY, emission, ZERO)
    assert math.isfinite(likelihood)
    assert np.abs(filtered.sum(axis=1) - 1.0).max() < 1e-12


def _interpreted():
    import numba

    return bool(numba.config.DISABLE_JIT)


def test_an_impossible_row_leaves_the_prediction():
    emission = np.log(UMBRELLA)
    emission[2] = -np.inf
    filtered, likelihood = filter_states(np.full(2, 0.5), STAY, emission, ZERO)
    assert likelihood == -np.inf
    assert filtered[2] == pytest.approx(filtered[1] @ STAY)
    assert np.isfinite(filtered).all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="states"):
        filter_states(np.full(3, 1 / 3), STAY, np.log(UMBRELLA), ZERO)
    with pytest.raises(ValueError, match="row 0"):
        filter_states(np.full(2, 0.5), STAY, np.log(UMBRELLA), np.array([1], dtype=np.int64))
    with pytest.raises(ValueError, match="pairs"):
        gaussian_emission(np.zeros((3, 3)), np.zeros((2, 2)), np.zeros((2, 2, 2)))


@given(seed=st.integers(0, 2**32 - 1))
def test_gaussian_density_equals_scipy(seed):
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4, 2))
    root = rng.normal(size=(2, 2))
    covariance = root @ root.T + 0.1 * np.eye(2)
    mean = rng.normal(size=2)
    ours = gaussian_emission(x, mean[None], covariance[None])[:, 0]
    assert ours == pytest.approx(multivariate_normal(mean, covariance).logpdf(x), rel=1e-9)


def sequence(seed, n=400):
    rng = np.random.default_rng(seed)
    state, rows = 0, []
    for _ in range(n):
        state = state if rng.random() < 0.95 else int(rng.integers(3))
        rows.append(rng.normal([state - 1.0, 2.0 * state], [0.6, 0.4 + 0.3 * state]))
    return np.array(rows)


def beginning():
    start = np.array([0.5, 0.3, 0.2])
    transition = np.full((3, 3), 0.1) + 0.7 * np.eye(3)
    means = np.array([[-1.2, 0.3], [0.1, 1.5], [1.4, 3.5]])
    covariances = np.array([[[1.0, 0.1], [0.1, 0.8]]] * 3)
    return start, transition, means, covariances


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("starts", [[0], [0, 150, 290]])
def test_em_equals_hmmlearn_from_the_same_start(seed, starts):
    from hmmlearn.hmm import GaussianHMM

    x = sequence(seed)
    start, transition, means, covariances = beginning()
    rounds = 12
    fitted = fit_gaussian(
        x, np.array(starts, dtype=np.int64), start, transition, means, covariances,
        max_iterations=rounds, tolerance=-1.0, floor=1e-9,
    )  # fmt: skip
    oracle = GaussianHMM(
        3, covariance_type="full", n_iter=rounds, tol=-np.inf, init_params="",
        covars_prior=0.0, covars_weight=0.0, means_weight=0.0,
    )  # fmt: skip
    oracle.startprob_, oracle.transmat_ = start, transition
    oracle.means_, oracle.covars_ = means, covariances
    lengths = np.diff([*starts, len(x)])
    oracle.fit(x, lengths)
    assert fitted[4][-1] == pytest.approx(oracle.score(x, lengths), abs=1e-6)
    for ours, theirs in zip(
        fitted[:4],
        (oracle.startprob_, oracle.transmat_, oracle.means_, oracle.covars_),
        strict=True,
    ):
        assert ours == pytest.approx(theirs, abs=1e-7)


@given(seed=st.integers(0, 2**32 - 1), floor=st.sampled_from([1e-6, 1e-2, 0.5]))
def test_the_likelihood_never_falls(seed, floor):
    x = sequence(seed, 60)
    x[:10] = x[0]  # repeated rows pull a covariance to zero; the floor holds it
    *_, covariances, history = fit_gaussian(
        x, ZERO, *beginning(), max_iterations=30, tolerance=-1.0, floor=floor
    )
    assert (np.diff(history) >= -1e-8 * np.abs(history[:-1])).all()
    assert np.linalg.eigvalsh(covariances).min() >= floor * (1 - 1e-9)


def test_a_state_without_rows_keeps_its_parameters():
    x = sequence(3, 80)
    start, transition, means, covariances = beginning()
    means[2] = [1e6, 1e6]
    fitted = fit_gaussian(
        x, ZERO, start, transition, means, covariances,
        max_iterations=10, tolerance=0.0, floor=1e-3,
    )  # fmt: skip
    assert fitted[2][2].tolist() == [1e6, 1e6]
    assert all(np.isfinite(part).all() for part in fitted)


def test_the_fit_leaves_its_start_untouched_and_stops_by_tolerance():
    x = sequence(4)
    given_start = beginning()
    before = [part.copy() for part in given_start]
    *_, history = fit_gaussian(
        x, ZERO, *given_start, max_iterations=500, tolerance=1e-4, floor=1e-6
    )
    assert all((a == b).all() for a, b in zip(before, given_start, strict=True))
    assert len(history) < 200
    assert history[-1] - history[-2] <= 1e-4 * len(x)
