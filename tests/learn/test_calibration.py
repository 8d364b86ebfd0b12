"""Calibrators and their scores against scikit-learn and published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics
from sklearn.calibration import _sigmoid_calibration
from sklearn.isotonic import IsotonicRegression

from ares.core.config import CalibrationConfig
from ares.core.errors import DataError
from ares.learn.calibration import (
    Calibrator,
    brier,
    expected_calibration_error,
    fit_calibrator,
    log_loss,
    reliability_table,
)
from ares.store.codecs import decode, encode

CONFIG = CalibrationConfig()


def make(rows: int, seed: int = 0, distort=lambda p: p):
    """Raw probabilities whose true ones are `distort` of them."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.02, 0.98, rows)
    y = (rng.uniform(size=rows) < distort(p)).astype(np.int8)
    return p, y, np.arange(rows)


def sharpened(p):
    return p**3 / (p**3 + (1 - p) ** 3)


def stepped(p):
    return np.where(p < 0.3, 0.1, np.where(p < 0.6, 0.5, 0.55))


def test_brier_golden() -> None:
    assert brier(np.array([0.1, 0.9, 0.8, 0.3]), np.array([0, 1, 1, 0])) == pytest.approx(0.0375)


@pytest.mark.parametrize(("norm", "value"), [("l1", 0.29), ("l2", 0.29183), ("max", 0.31667)])
def test_calibration_error_golden(norm, value) -> None:
    p, y = np.array([0.25, 0.25, 0.55, 0.75, 0.75]), np.array([0, 0, 1, 1, 1])
    assert expected_calibration_error(p, y, 2, norm=norm) == pytest.approx(value, abs=5e-6)


SCORED = st.integers(2, 60).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float64, n, elements=st.floats(0, 1)),
        hnp.arrays(np.int8, n, elements=st.integers(0, 1)),
        hnp.arrays(np.float64, n, elements=st.floats(0.01, 5)),
    )
)


@given(SCORED)
def test_scores_are_scikit_learns(case) -> None:
    p, y, w = case
    assert brier(p, y, w) == pytest.approx(
        metrics.brier_score_loss(y, p, sample_weight=w, pos_label=1), abs=1e-12
    )
    inside = np.clip(p, 1e-9, 1 - 1e-9)
    expected = metrics.log_loss(y, inside, sample_weight=w, labels=[0, 1])
    assert log_loss(inside, y, w) == pytest.approx(expected, rel=1e-9)
    with_hole = np.append(p, np.nan)
    assert brier(with_hole, np.append(y, 1), np.append(w, 9.0)) == brier(p, y, w)


@given(SCORED, st.integers(2, 12))
def test_the_table_counts_every_row_once(case, bins) -> None:
    p, y, w = case
    table = reliability_table(p, y, bins, w)
    assert table.rows.sum() == len(p)
    for k in range(bins):
        top = p <= table.high[k] if k == bins - 1 else p < table.high[k]
        inside = (p >= table.low[k]) & top
        assert table.rows[k] == inside.sum()
        if inside.any():
            assert table.mean_p[k] == pytest.approx(np.average(p[inside], weights=w[inside]))
            assert table.mean_y[k] == pytest.approx(np.average(y[inside], weights=w[inside]))
        else:
            assert np.isnan(table.mean_p[k])
    gap = np.abs(np.nan_to_num(table.mean_p - table.mean_y))
    assert expected_calibration_error(p, y, bins, w) == pytest.approx(
        (gap * table.weight).sum() / w.sum()
    )


def test_no_prediction_has_no_score() -> None:
    empty, y = np.full(3, np.nan), np.array([0, 1, 1])
    assert np.isnan(
        [brier(empty, y), log_loss(empty, y), expected_calibration_error(empty, y)]
    ).all()


def test_platt_is_scikit_learns() -> None:
    p, y, t = make(800, 1, sharpened)
    w = np.random.default_rng(5).uniform(0.5, 2, 800)
    fitted = fit_calibrator(p, y, w, t, CONFIG)
    assert fitted.kind == "platt"
    score = np.log(p / (1 - p))
    a, b = _sigmoid_calibration(score, y, sample_weight=w)
    assert fitted.slope == pytest.approx(-a, rel=1e-3)
    assert fitted.intercept == pytest.approx(-b, abs=1e-3)
    assert fitted.predict(p) == pytest.approx(1 / (1 + np.exp(a * score + b)), abs=1e-4)


def test_platt_finds_the_truth() -> None:
    p, y, t = make(900, 2, sharpened)
    fitted = fit_calibrator(p, y, None, t, CONFIG)
    assert fitted.slope == pytest.approx(3.0, abs=0.5)
    assert fitted.after < fitted.before


@pytest.mark.parametrize("rounded", [False, True])
def test_isotonic_is_scikit_learns_within_its_limits(rounded) -> None:
    p, y, t = make(6000, 3, stepped)
    p = np.round(p, 2) if rounded else p
    w = np.random.default_rng(5).uniform(0.5, 2, 6000)
    fitted = fit_calibrator(p, y, w, t, CONFIG)
    assert fitted.kind == "isotonic"
    oracle = IsotonicRegression(out_of_bounds="clip").fit(p, y, sample_weight=w)
    x = np.linspace(0, 1, 3001)
    expected = np.clip(oracle.predict(x), fitted.eps, 1 - fitted.eps)
    assert fitted.predict(x) == pytest.approx(expected, abs=1e-9)


def test_the_kind_is_chosen_by_the_last_third() -> None:
    choices = {
        "platt": make(6000, 4, sharpened),
        "isotonic": make(6000, 5, stepped),
    }
    for kind, (p, y, t) in choices.items():
        fitted = fit_calibrator(p, y, None, t, CONFIG)
        assert fitted.kind == kind
        assert min(fitted.held_out, key=lambda item: item[1])[0] == kind
        early, late = t < 4000, t >= 4000
        again = fit_calibrator(p[early], y[early], None, t[early], CONFIG)
        if again.kind == kind:  # the same rows were scored
            loss = log_loss(again.predict(p[late]), y[late])
            assert dict(fitted.held_out)[kind] == pytest.approx(loss)


def test_rows_come_in_any_order() -> None:
    p, y, t = make(1500, 6, sharpened)
    order = np.random.default_rng(0).permutation(1500)
    one = fit_calibrator(p, y, None, t, CONFIG)
    two = fit_calibrator(p[order], y[order], None, t[order], CONFIG)
    assert encode(one) == encode(two)


def test_labels_that_reach_into_the_held_out_part_are_purged() -> None:
    p, y, t = make(3000, 7)
    t1 = t.copy()
    t1[1500:2000] = 2500
    lies = y.copy()
    lies[1500:2000] = 1 - lies[1500:2000]
    honest = fit_calibrator(p, y, None, t, CONFIG, t1=t1)
    lied = fit_calibrator(p, lies, None, t, CONFIG, t1=t1)
    assert honest.held_out == lied.held_out


@pytest.mark.parametrize("rows", [200, 600, 999])
def test_platt_below_a_thousand_rows(rows) -> None:
    p, y, t = make(rows, 8, stepped)
    fitted = fit_calibrator(p, y, None, t, CONFIG)
    assert fitted.kind == "platt"
    assert fitted.held_out == ()


def test_identity_says_why() -> None:
    p, y, t = make(199)
    few = fit_calibrator(p, y, None, t, CONFIG)
    assert (few.kind, few.reason) == ("identity", "199 rows, 200 needed")
    p, y, t = make(500)
    one = fit_calibrator(p, np.ones(500), None, t, CONFIG)
    assert (one.kind, one.reason) == ("identity", "the calibration rows have one class only")
    none = fit_calibrator(np.full(500, np.nan), y, None, t, CONFIG)
    assert none.kind == "identity"
    assert none.rows == 0


def test_a_calibrator_never_turns_the_order_around() -> None:
    p, y, t = make(900, 9, lambda q: 1 - q)
    fitted = fit_calibrator(p, y, None, t, CONFIG)
    assert fitted.slope == 0.0
    assert fitted.predict(p) == pytest.approx(np.full(900, y.mean()), abs=1e-2)


def test_equal_probabilities_become_the_base_rate() -> None:
    _, y, t = make(900, 9)
    fitted = fit_calibrator(np.full(900, 0.3), y, None, t, CONFIG)
    assert fitted.predict(np.array([0.3])) == pytest.approx([y.mean()], abs=1e-3)


@given(
    seed=st.integers(0, 50),
    rows=st.sampled_from([150, 400, 1200]),
    distort=st.sampled_from([lambda p: p, sharpened, stepped, lambda p: 1 - p]),
)
def test_laws_of_a_calibrator(seed, rows, distort) -> None:
    p, y, t = make(rows, seed, distort)
    fitted = fit_calibrator(p, y, None, t, CONFIG)
    x = np.concatenate([np.linspace(0, 1, 257), [np.nan]])
    result = fitted.predict(x)
    assert (np.diff(result[:-1]) >= 0).all()
    assert ((result[:-1] >= fitted.eps) & (result[:-1] <= 1 - fitted.eps)).all()
    assert np.isnan(result[-1])
    assert fitted.after <= fitted.before
    for cut in (0, 1, 100, 256):
        assert fitted.predict(x[:cut]).tobytes() == result[:cut].tobytes()
    again = decode(encode(fitted))
    assert isinstance(again, Calibrator)
    assert again.predict(x).tobytes() == result.tobytes()


def test_bad_input_is_refused() -> None:
    p, y, t = make(300)
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        fit_calibrator(p * 2, y, None, t, CONFIG)
    with pytest.raises(DataError, match="0 and 1"):
        fit_calibrator(p, y * 2, None, t, CONFIG)
    with pytest.raises(DataError, match="one value per row"):
        fit_calibrator(p, y[:-1], None, t, CONFIG)
    with pytest.raises(DataError, match="times"):
        fit_calibrator(p, y, None, t[:-1], CONFIG)
    with pytest.raises(DataError, match="not negative"):
        fit_calibrator(p, y, p - 0.5, t, CONFIG)
    with pytest.raises(DataError, match="one-dimensional"):
        Calibrator("identity").predict(p.reshape(-1, 1))
