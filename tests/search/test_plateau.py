"""The plateau choice against a planted spike and a plain search of neighbours."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.backtest.space import ParameterSpace
from ares.core.errors import InputError, ParameterError
from ares.search.plateau import plateau_of

SQUARE = ParameterSpace.from_bounds({"x": (0.0, 1.0), "y": (0.0, 1.0)})


def points(rows):
    return {"x": rows[:, 0], "y": rows[:, 1]}


def hill(rows):
    gaps = rows - np.array([0.7, 0.7])
    return np.exp(-(gaps**2).sum(axis=1) / (2 * 0.2**2))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_a_broad_plateau_beats_a_lone_spike_however_often_the_spike_was_sampled(seed, copies):
    rng = np.random.default_rng(seed)
    rows = rng.random((300, 2))
    spike = np.array([0.2, 0.225]) + rng.uniform(-0.01, 0.01, (copies, 2))
    values = np.concatenate([hill(rows), np.full(copies, 5.0)])
    found = plateau_of(SQUARE, points(np.vstack([rows, spike])), values)
    assert found.index < 300
    assert values[found.index] > 0.8
    assert np.argmax(values) >= 300  # the best value is the spike's


@given(st.integers(0, 2**32 - 1))
def test_far_apart_trials_have_the_median_of_their_nearest_neighbours(seed):
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(9), np.arange(9)), axis=-1).reshape(-1, 2)
    rows = (grid + rng.uniform(0.3, 0.7, grid.shape)) / 9
    rows = rows[rng.permutation(81)][: rng.integers(6, 82)]
    values = rng.choice([-math.inf, 0.0, 1.0, 2.5], len(rows))
    found = plateau_of(SQUARE, points(rows), values)
    assert found.neighbours == 5
    for row, median in zip(rows, found.medians, strict=True):
        nearest = np.argsort(((rows - row) ** 2).sum(axis=1), kind="stable")[:5]
        assert median == np.sort(values[nearest])[2]


@given(st.lists(st.sampled_from([-math.inf, math.nan, 1.0, 2.0, 3.0]), max_size=30))
def test_only_a_trial_with_a_value_is_chosen(values):
    rows = np.random.default_rng(0).random((len(values), 2))
    found = plateau_of(SQUARE, points(rows), values)
    if not np.isfinite(values).any():
        assert found.index is None
    else:
        assert math.isfinite(values[found.index])
        good = np.isfinite(values)
        assert found.medians[found.index] == found.medians[good].max()


def test_of_equal_neighbourhoods_the_better_value_and_then_the_first_wins():
    one = ParameterSpace.from_bounds({"k": ["a", "b", "c"]})
    trials = {"k": ["a", "b", "c", "c"]}
    assert plateau_of(one, trials, [1.0, 3.0, 2.0, 2.0]).index == 1
    assert plateau_of(one, trials, [2.0, 2.0, 2.0, 2.0]).index == 0
    assert plateau_of(one, trials, [1.0, 1.0, 2.0, 2.0]).index == 2


def test_one_trial_no_trial_and_one_point():
    assert plateau_of(SQUARE, {"x": [], "y": []}, []).index is None
    assert plateau_of(SQUARE, {"x": [0.5], "y": [0.5]}, [1.0]).index == 0
    fixed = ParameterSpace.from_bounds({"k": (3, 3)})
    assert plateau_of(fixed, {"k": [3, 3]}, [1.0, 2.0]).index == 1


def test_columns_of_other_lengths_and_infinite_values_are_refused():
    with pytest.raises(ParameterError, match="needs a value"):
        plateau_of(SQUARE, {"x": [0.5], "y": [0.5, 0.5]}, [1.0])
    with pytest.raises(ParameterError, match="needs a value"):
        plateau_of(SQUARE, {"x": [0.5]}, [1.0])
    with pytest.raises(InputError, match="infinity"):
        plateau_of(SQUARE, {"x": [0.5], "y": [0.5]}, [math.inf])
