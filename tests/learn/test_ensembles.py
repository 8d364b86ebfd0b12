"""Gate and stacker: scikit-learn as oracle, rows alone, fallbacks with a reason."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from ares.core.config import EnsembleConfig
from ares.core.errors import AresError, DataError
from ares.learn.ensembles import Ensemble, Stacker, fit_ensemble, gate
from ares.learn.logistic import fit_logistic
from ares.store.codecs import decode, encode

CONFIG = EnsembleConfig()


def make(rows: int, seed: int = 0):
    """The second specialist knows the truth in its regime; the others only guess."""
    rng = np.random.default_rng(seed)
    states = rng.dirichlet([0.4, 0.4, 0.4], rows)
    truth = rng.uniform(0.1, 0.9, rows)
    predictions = rng.uniform(0.3, 0.7, (rows, 4))
    predictions[:, 2] = truth
    p = states[:, 1] * truth + (1 - states[:, 1]) * 0.5
    return predictions, states, (rng.uniform(size=rows) < p).astype(np.int8)


def inputs(predictions, states):
    gated = (predictions[:, 1:] * states).sum(axis=1) / states.sum(axis=1)
    clipped = np.clip(np.column_stack([predictions, gated]), 1e-6, 1 - 1e-6)
    return np.column_stack([np.log(clipped / (1 - clipped)), states])


def test_the_gate_is_the_mean_over_regimes() -> None:
    predictions = np.array([[0.9, 0.2, 0.4, 0.6], [0.9, 0.2, 0.4, 0.6], [0.1, np.nan, 0.4, 0.6]])
    states = np.array([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0], [0.0, 0.5, 0.5]])
    assert gate(predictions, states) == pytest.approx([0.35, 0.6, np.nan], nan_ok=True)


@given(seed=st.integers(0, 30))
def test_the_gate_stays_between_its_specialists(seed) -> None:
    predictions, states, _ = make(50, seed)
    p = gate(predictions, states)
    assert (p >= predictions[:, 1:].min(axis=1) - 1e-15).all()
    assert (p <= predictions[:, 1:].max(axis=1) + 1e-15).all()


@pytest.mark.parametrize("l2", [0.1, 1.0, 30.0])
def test_the_stacker_is_scikit_learns_ridge(l2) -> None:
    predictions, states, y = make(1500, 1)
    weight = np.random.default_rng(2).uniform(0.1, 1.0, 1500)
    stacker = fit_ensemble(predictions, states, y, weight, EnsembleConfig(l2=l2)).stacker
    assert stacker is not None
    Z = inputs(predictions, states)
    mean = np.average(Z, axis=0, weights=weight)
    scale = np.sqrt(np.average((Z - mean) ** 2, axis=0, weights=weight))
    oracle = LogisticRegression(C=1 / l2, tol=1e-12, max_iter=10_000)
    oracle.fit((Z - mean) / scale, y, sample_weight=weight)
    expected = oracle.predict_proba((Z - mean) / scale)[:, 1]
    assert stacker.predict(predictions, states) == pytest.approx(expected, abs=1e-6)


def test_the_stacker_learns_whom_to_trust() -> None:
    predictions, states, y = make(4000, 3)
    stacker = fit_ensemble(predictions, states, y, None, CONFIG).stacker
    assert stacker is not None
    test = make(4000, 4)
    p, gated = stacker.predict(*test[:2]), gate(*test[:2])
    assert ((p - test[2]) ** 2).mean() < ((gated - test[2]) ** 2).mean()


@given(seed=st.integers(0, 30), cut=st.integers(0, 300))
def test_rows_are_alone(seed, cut) -> None:
    predictions, states, _ = make(300, seed)
    predictions[::17, 1] = np.nan
    states[5] = np.nan
    coefficients = np.random.default_rng(seed).normal(size=8)
    for ensemble in (Ensemble(Stacker(coefficients, 0.3), "", 0), Ensemble(None, "few", 0)):
        whole = ensemble.predict(predictions, states)
        part = ensemble.predict(predictions[:cut], states[:cut])
        assert part.tobytes() == whole[:cut].tobytes()
        undefined = np.isnan(predictions).any(axis=1) | np.isnan(states).any(axis=1)
        assert np.array_equal(np.isnan(whole), undefined)


def test_rows_without_a_prediction_do_not_count() -> None:
    predictions, states, y = make(500, 5)
    holes, hidden = predictions.copy(), np.arange(500) % 7 == 0
    holes[hidden, 0] = np.nan
    one = fit_ensemble(holes, states, y, None, CONFIG)
    two = fit_ensemble(predictions[~hidden], states[~hidden], y[~hidden], None, CONFIG)
    assert encode(one) == encode(two)


def test_fallbacks_say_why() -> None:
    predictions, states, y = make(299)
    few = fit_ensemble(predictions, states, y, None, CONFIG)
    assert few == Ensemble(None, "299 chained rows, 300 needed", 299)
    assert few.predict(predictions, states).tobytes() == gate(predictions, states).tobytes()
    predictions, states, y = make(400)
    one = fit_ensemble(predictions, states, np.ones(400), None, CONFIG)
    assert one == Ensemble(None, "the chained rows have one class only", 400)
    assert fit_ensemble(predictions, states, np.ones(400), None, CONFIG).stacker is None


def test_a_constant_input_says_nothing() -> None:
    predictions, states, y = make(600, 6)
    states[:] = [0.2, 0.5, 0.3]
    stacker = fit_ensemble(predictions, states, y, None, CONFIG).stacker
    assert stacker is not None
    assert stacker.coefficients[5:].tolist() == [0.0, 0.0, 0.0]
    assert np.isfinite(stacker.predict(predictions, states)).all()


def test_a_stacker_survives_the_store() -> None:
    predictions, states, y = make(600, 7)
    ensemble = fit_ensemble(predictions, states, y, None, CONFIG)
    again = decode(encode(ensemble))
    assert isinstance(again, Ensemble)
    expected = ensemble.predict(predictions, states)
    assert again.predict(predictions, states).tobytes() == expected.tobytes()


def test_bad_shapes_are_refused() -> None:
    predictions, states, y = make(400)
    with pytest.raises(DataError, match="1 \\+ regimes"):
        gate(predictions[:, 1:], states)
    with pytest.raises(DataError, match="1 \\+ regimes"):
        gate(predictions[:-1], states)
    with pytest.raises(DataError, match="one value per row"):
        fit_ensemble(predictions, states, y[:-1], None, CONFIG)
    with pytest.raises(DataError, match="0 and 1"):
        fit_ensemble(predictions, states, y * 2, None, CONFIG)
    with pytest.raises(DataError, match="own number of regimes"):
        Stacker(np.zeros(6), 0.0).predict(predictions, states)


def test_separable_data_without_a_ridge_have_no_minimum() -> None:
    x = np.linspace(-1, 1, 40).reshape(-1, 1)
    y = (x[:, 0] > 0).astype(float)
    bounded = fit_logistic(x, y, np.ones(40), l2=1.0)
    assert np.isfinite(bounded).all()
    try:
        free = fit_logistic(x, y, np.ones(40), l2=0.0)
    except AresError:
        return
    assert np.isfinite(free).all()
    assert free[0] > 20 * bounded[0]
