"""The Gaussian process kernels against linear algebra written out."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.kernels.gaussian import choose, condition, log_likelihood, predict


def alike(a, b):
    return (1 + ((a[:, None] - b[None]) ** 2).sum(axis=-1) / 4) ** -2


def draw(seed, n, d, m):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    return 2 * rng.random((n, d)), y - y.mean(), 2 * rng.random((m, d))


CASES = given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(2, 25), d=st.integers(1, 7),
    noise=st.sampled_from([1e-3, 0.02, 1.0]),
)  # fmt: skip


@CASES
def test_likelihood_and_means_are_those_of_the_textbook(seed, n, d, noise):
    x, y, points = draw(seed, n, d, 9)
    matrix = alike(x, x) + noise * np.eye(n)
    variance = y @ np.linalg.solve(matrix, y) / n
    expected = -0.5 * n * math.log(variance) - 0.5 * np.linalg.slogdet(matrix)[1]
    assert log_likelihood(x, y, noise) == pytest.approx(expected, rel=1e-8, abs=1e-8)
    upper, white, found = condition(x, y, noise)
    assert found == pytest.approx(variance, rel=1e-8)
    assert np.triu(upper).T @ np.triu(upper) == pytest.approx(matrix, abs=1e-12)
    means = alike(points, x) @ np.linalg.solve(matrix, y)
    assert predict(x, upper, white, points) == pytest.approx(means, abs=1e-8)


def naive_choice(x, y, points, noise, boldness):
    matrix = alike(x, x) + noise * np.eye(len(x))
    means = alike(points, x) @ np.linalg.solve(matrix, y)
    variance = y @ np.linalg.solve(matrix, y) / len(y)
    known, picks = x, []
    for bold in boldness:
        across = alike(known, points)
        matrix = alike(known, known) + noise * np.eye(len(known))
        left = 1.0 - (across * np.linalg.solve(matrix, across)).sum(axis=0)
        bound = means + bold * np.sqrt(variance * np.maximum(left, 0.0))
        bound[picks] = -math.inf
        picks.append(int(np.argmax(bound)))
        known = np.vstack([known, points[picks[-1]]])
    return picks


@settings(max_examples=40)
@CASES
def test_a_batch_is_chosen_as_if_its_earlier_picks_were_known(seed, n, d, noise):
    x, y, points = draw(seed, n, d, 15)
    upper, white, variance = condition(x, y, noise)
    boldness = np.array([0.1, 1.5, 0.7, 2.0, 0.3, 1.0])
    picks = choose(x, upper, white, points, variance=variance, noise=noise, boldness=boldness)
    assert picks.tolist() == naive_choice(x, y, points, noise, boldness)


def test_known_points_and_twins_of_a_pick_are_left_out():
    x, y, points = draw(1, 6, 3, 4)
    upper, white, variance = condition(x, y, 0.02)
    pool = np.vstack([x[2:4], points, points])
    bold = np.ones(10)
    picks = choose(x, upper, white, pool, variance=variance, noise=0.02, boldness=bold)
    assert len(picks) == 4
    assert {tuple(pool[i]) for i in picks} == {tuple(row) for row in points}


def test_a_matrix_that_is_not_positive_definite_gives_nan():
    x = np.zeros((3, 2))
    assert math.isnan(condition(x, np.array([1.0, 0.0, -1.0]), -0.5)[2])
