"""Rolling kernels against plain Python, and their independence of where a series starts or ends."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.kernels import rolling

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40).map(np.array)


def windows(x, window):
    return [x[t - window + 1 : t + 1].tolist() if t + 1 >= window else None for t in range(len(x))]


@given(x=VALUES, window=st.integers(1, 12))
def test_mean_deviation_and_dot_equal_plain_python(x, window):
    mean = rolling.rolling_mean(x, window)
    distance, deviation = rolling.rolling_deviation(x, window)
    weights = np.linspace(-1.0, 2.0, window)
    dot = rolling.rolling_dot(x, weights)
    for t, part in enumerate(windows(x, window)):
        if part is None:
            assert np.isnan([mean[t], distance[t], deviation[t], dot[t]]).all()
            continue
        scale = max(map(abs, part)) + 1.0
        centre = statistics.fmean(part)
        assert mean[t] == pytest.approx(centre, abs=1e-12 * scale)
        assert distance[t] == pytest.approx(part[-1] - centre, abs=1e-11 * scale)
        assert deviation[t] == pytest.approx(statistics.pstdev(part), abs=1e-9 * scale)
        expected = math.fsum(w * v for w, v in zip(weights, part, strict=True))
        assert dot[t] == pytest.approx(expected, abs=1e-11 * scale)


@given(x=VALUES, window=st.integers(2, 12), seed=st.integers(0, 99))
def test_covariance_equals_numpy(x, window, seed):
    y = np.random.default_rng(seed).normal(size=len(x))
    ours = rolling.rolling_covariance(x, y, window)
    for t in range(window - 1, len(x)):
        part = slice(t - window + 1, t + 1)
        expected = np.cov(x[part], y[part], ddof=0)[0, 1]
        assert ours[t] == pytest.approx(expected, abs=1e-9 * (np.abs(x).max() + 1))


@given(x=VALUES, cut=st.integers(0, 40), first=st.integers(0, 40), window=st.integers(1, 12))
def test_a_value_depends_on_its_window_alone(x, cut, first, window):
    functions = (
        lambda v: rolling.rolling_mean(v, window),
        lambda v: rolling.rolling_deviation(v, window)[0],
        lambda v: rolling.rolling_deviation(v, window)[1],
        lambda v: rolling.rolling_dot(v, np.linspace(0.0, 1.0, window)),
        lambda v: rolling.rolling_covariance(v, v[::-1][::-1], window),
    )
    for function in functions:
        whole = function(x)
        part = function(x[first:cut].copy())
        assert part[window - 1 :].tobytes() == whole[first:cut][window - 1 :].tobytes()


@given(value=st.floats(-1e6, 1e6), window=st.integers(1, 30))
def test_a_constant_window_deviates_by_exactly_zero(value, window):
    distance, deviation = rolling.rolling_deviation(np.full(40, value), window)
    assert (distance[window - 1 :] == 0.0).all()
    assert (deviation[window - 1 :] == 0.0).all()


def test_quotients_and_logarithms_of_the_undefined():
    nan = math.nan
    a, b = np.array([1.0, 0.0, -2.0, nan, 3.0]), np.array([2.0, 4.0, 0.0, 1.0, nan])
    assert rolling.ratio(a, b).tolist()[:3] == [0.5, 0.0, 0.0]
    assert np.isnan(rolling.ratio(a, b)[3:]).all()
    assert rolling.log_ratio(a, b).tolist()[:3] == [math.log(0.5), 0.0, 0.0]
    assert np.isnan(rolling.log_ratio(a, b)[3:]).all()
    changes = rolling.log_change(np.array([1.0, 2.0, 8.0]), 2)
    assert np.isnan(changes[:2]).all()
    assert changes[2] == math.log(8.0)
    assert rolling.hyperbolic_tangent(np.array([0.0, 0.5])).tolist() == [0.0, math.tanh(0.5)]


def test_a_cycle_is_a_circle_also_before_1970():
    time = np.array([-3, 0, 6, 12, 24], dtype=np.int64)
    sine, cosine = rolling.cycle(time, 24, 0), rolling.cycle(time, 24, 1)
    assert sine == pytest.approx([-math.sqrt(0.5), 0.0, 1.0, 0.0, 0.0], abs=1e-15)
    assert cosine == pytest.approx([math.sqrt(0.5), 1.0, 0.0, -1.0, 1.0], abs=1e-15)


def test_wrong_arguments_are_refused():
    x = np.ones(3)
    with pytest.raises(ValueError, match="window"):
        rolling.rolling_mean(x, 0)
    with pytest.raises(ValueError, match="one shape"):
        rolling.ratio(x, np.ones(4))
