"""Row-wise kernels against naive twins, and their law: no row sees another."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.isotonic import IsotonicRegression

from ares.kernels.rowwise import (
    gate_rows,
    interpolate_rows,
    isotonic_rows,
    logistic_moments,
    logistic_rows,
    logit_rows,
)

VALUES = st.floats(-50, 50) | st.just(float("nan"))
SHARES = st.floats(0, 1) | st.just(float("nan"))


def matrix(elements, columns: int):
    shapes = st.tuples(st.integers(0, 40), st.just(columns))
    return hnp.arrays(np.float64, shapes, elements=elements)


def sigmoid(z: float) -> float:
    if math.isnan(z):
        return math.nan
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def same(a, b) -> bool:
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


@given(rows=matrix(VALUES, 3), beta=st.lists(st.floats(-5, 5), min_size=3, max_size=3))
def test_logistic_rows_add_left_to_right(rows, beta) -> None:
    result = logistic_rows(rows, np.array(beta), 0.25)
    naive = []
    for row in rows.tolist():
        z = 0.25
        for b, x in zip(beta, row, strict=True):
            z += b * x
        naive.append(sigmoid(z))
    assert result == pytest.approx(naive, nan_ok=True, rel=1e-15)
    for cut in range(0, len(rows), 7):
        assert same(logistic_rows(rows[:cut].copy(), np.array(beta), 0.25), result[:cut])


@given(a=matrix(SHARES, 3), data=st.data())
def test_gate_rows_is_a_weighted_mean(a, data) -> None:
    probabilities = data.draw(hnp.arrays(np.float64, a.shape, elements=SHARES))
    result = gate_rows(a, probabilities)
    for row, weight, value in zip(a.tolist(), probabilities.tolist(), result, strict=True):
        total = sum(weight)
        if not total > 0 or any(math.isnan(x) for x in row):
            assert math.isnan(value)
        else:
            expected = sum(w * x for w, x in zip(weight, row, strict=True)) / total
            assert value == pytest.approx(expected, rel=1e-12, abs=1e-300)
    for cut in range(0, len(a), 7):
        assert same(gate_rows(a[:cut].copy(), probabilities[:cut].copy()), result[:cut])


@given(p=st.lists(SHARES, max_size=30))
def test_logit_rows_clips(p) -> None:
    result = logit_rows(np.array(p, dtype=np.float64), 1e-6)
    clipped = np.clip(np.array(p, dtype=np.float64), 1e-6, 1 - 1e-6)
    assert result == pytest.approx(np.log(clipped / (1 - clipped)), nan_ok=True, rel=1e-12)


@given(
    knots=st.lists(st.floats(0, 1), min_size=1, max_size=12, unique=True),
    x=st.lists(st.floats(-0.5, 1.5) | st.just(float("nan")), max_size=40),
    data=st.data(),
)
def test_interpolation_is_numpys_and_never_falls(knots, x, data) -> None:
    at = np.array(sorted(knots))
    height = np.array(
        sorted(data.draw(st.lists(st.floats(0, 1), min_size=len(at), max_size=len(at))))
    )
    points = np.array(x, dtype=np.float64)
    result = interpolate_rows(points, at, height)
    # numpy answers NaN with the only knot's height; nothing is known of NaN.
    expected = np.where(np.isnan(points), np.nan, np.interp(points, at, height))
    assert result == pytest.approx(expected, nan_ok=True, abs=1e-12)
    order = np.argsort(points)
    assert (np.diff(result[order][~np.isnan(points[order])]) >= 0).all()
    for cut in range(0, len(points), 7):
        assert same(interpolate_rows(points[:cut].copy(), at, height), result[:cut])


def test_pooling_adjacent_violators_golden() -> None:
    fit = isotonic_rows(np.array([1.0, 3, 2, 4, 3, 5]), np.ones(6))
    assert fit.tolist() == [1, 2.5, 2.5, 3.5, 3.5, 5]


@given(
    y=st.lists(st.floats(-100, 100), min_size=1, max_size=60),
    data=st.data(),
)
def test_pooling_is_scikit_learns(y, data) -> None:
    weight = data.draw(st.lists(st.floats(0.01, 10), min_size=len(y), max_size=len(y)))
    fit = isotonic_rows(np.array(y), np.array(weight))
    oracle = IsotonicRegression().fit_transform(np.arange(len(y)), y, sample_weight=weight)
    assert fit == pytest.approx(oracle, abs=1e-9)
    assert (np.diff(fit) >= 0).all()


@given(rows=matrix(st.floats(-8, 8), 2), data=st.data())
def test_moments_are_the_loss_and_its_derivatives(rows, data) -> None:
    n = len(rows)
    target = data.draw(hnp.arrays(np.float64, n, elements=st.floats(0, 1)))
    weight = data.draw(hnp.arrays(np.float64, n, elements=st.floats(0, 3)))
    beta = np.array([0.3, -0.7, 0.1])
    loss, gradient, hessian = logistic_moments(rows, target, weight, beta)
    X = np.column_stack([rows, np.ones(n)])
    p = 1 / (1 + np.exp(-(X @ beta)))
    expected = -(weight * (target * np.log(p) + (1 - target) * np.log(1 - p))).sum()
    assert loss == pytest.approx(expected, abs=1e-9)
    assert gradient == pytest.approx(X.T @ (weight * (p - target)), abs=1e-9)
    assert hessian == pytest.approx((X * (weight * p * (1 - p))[:, None]).T @ X, abs=1e-9)


def test_moments_do_not_overflow() -> None:
    rows = np.array([[1e4], [-1e4]])
    loss, gradient, _ = logistic_moments(
        rows, np.array([0.0, 1.0]), np.ones(2), np.array([1.0, 0.0])
    )
    assert loss == pytest.approx(2e4)
    assert np.isfinite(gradient).all()


def test_no_row_sees_another_where_a_matrix_product_does() -> None:
    rng = np.random.default_rng(0)
    rows, beta = rng.normal(size=(2000, 9)), rng.normal(size=9)
    whole = logistic_rows(rows, beta, 0.1)
    for cut in rng.integers(1, 2000, 100):
        assert same(logistic_rows(rows[:cut].copy(), beta, 0.1), whole[:cut])
