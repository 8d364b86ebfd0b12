"""Specialists: weights, fallbacks, and predictions that stand alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.core.config import TrackConfig
from ares.core.errors import DataError
from ares.learn.incremental import IncrementalTrainer
from ares.learn.specialists import Specialists, TreeChoice, effective_sample, fit_specialists
from ares.store.codecs import decode, encode

CONFIG = TrackConfig(trees=20, leaves=4, min_leaf=20)
NAMES = ("a", "b", "c")


def make(rows: int = 900, seed: int = 0):
    """In regime 0 label follows `a`, in regime 1 it is turned around; regime 2 is rare."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 3))
    regime = rng.choice(3, size=rows, p=[0.48, 0.48, 0.04])
    states = np.full((rows, 3), 0.05)
    states[np.arange(rows), regime] = 0.9
    sign = np.array([1.0, -1.0, 0.0])[regime]
    y = (sign * X[:, 0] + 0.5 * rng.normal(size=rows) > 0).astype(np.int8)
    return X, y, rng.uniform(0.5, 1.0, rows), states


def test_each_specialist_learns_its_regime() -> None:
    X, y, w, states = make()
    fitted = fit_specialists(X, y, w, states, NAMES, CONFIG, 1)
    p = fitted.predict(np.array([[2.0, 0, 0], [-2.0, 0, 0]]))
    assert p.shape == (2, 4)
    assert p[0, 1] > 0.7
    assert p[1, 1] < 0.3
    assert p[1, 2] > 0.7
    assert p[0, 2] < 0.3
    assert abs(p[0, 0] - 0.5) < 0.2


def test_a_small_effective_sample_falls_back_visibly() -> None:
    X, y, w, states = make()
    fitted = fit_specialists(X, y, w, states, NAMES, CONFIG, 1)
    own = w * states[:, 2]
    size = own.sum() ** 2 / (own**2).sum()
    assert size < CONFIG.min_effective_sample
    assert fitted.effective[3] == pytest.approx(size)
    assert fitted.regimes[2] is None
    assert fitted.fallbacks == (
        f"regime 2: effective sample {size:.0f} below 300, the general model is used",
    )
    p = fitted.predict(X)
    assert np.array_equal(p[:, 3], p[:, 0])


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=30))
def test_effective_sample_is_kishs(weights) -> None:
    w = np.array(weights)
    assert effective_sample(w) == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert effective_sample(w * 7.5) == pytest.approx(effective_sample(w))
    assert effective_sample(np.ones(len(w))) == pytest.approx(len(w))
    assert effective_sample(np.zeros(3)) == 0.0


def test_weights_matter_only_by_proportion_and_zero_weight_is_absence() -> None:
    X, y, w, states = make()
    w[::3] = 0.0
    one = fit_specialists(X, y, w, states, NAMES, CONFIG, 1)
    used = w > 0
    two = fit_specialists(X[used], y[used], w[used] * 4.0, states[used], NAMES, CONFIG, 1)
    assert one.general == two.general
    assert one.regimes == two.regimes


def test_rows_of_unknown_regime_teach_only_the_general_model() -> None:
    X, y, w, states = make()
    unknown = np.arange(len(y)) < 200
    states[unknown] = np.nan
    one = fit_specialists(X, y, w, states, NAMES, CONFIG, 1)
    lies = np.where(unknown, 1 - y, y)
    two = fit_specialists(X, lies, w, states, NAMES, CONFIG, 1)
    assert one.regimes == two.regimes
    assert one.general != two.general


def test_the_same_input_gives_the_same_bytes_with_any_trainer() -> None:
    X, y, w, states = make()
    trainer = IncrementalTrainer(max_models=1)
    runs = [
        fit_specialists(X, y, w, states, NAMES, CONFIG, 1),
        fit_specialists(X, y, w, states, NAMES, CONFIG, 1, trainer),
        fit_specialists(X, y, w, states, NAMES, CONFIG, 1, trainer),
    ]
    assert len({encode(run) for run in runs}) == 1
    again = decode(encode(runs[0]))
    assert isinstance(again, Specialists)
    assert again.predict(X).tobytes() == runs[0].predict(X).tobytes()


_X, _Y, _W, _STATES = make()
_FITTED = fit_specialists(
    _X, _Y, _W, _STATES, NAMES, CONFIG, 1,
    choice=TreeChoice(("a", "c"), 4, 20, 0.1, 10),
)  # fmt: skip


@settings(max_examples=20)
@given(cut=st.integers(0, 900), seed=st.integers(0, 9))
def test_rows_are_alone_and_undefined_features_have_no_prediction(cut, seed) -> None:
    X = _X.copy()
    X[np.random.default_rng(seed).uniform(size=X.shape) < 0.1] = np.nan
    whole = _FITTED.predict(X)
    assert _FITTED.predict(X[:cut]).tobytes() == whole[:cut].tobytes()
    undefined = np.isnan(X[:, [0, 2]]).any(axis=1)  # "b" is not used
    assert np.array_equal(np.isnan(whole).any(axis=1), undefined)
    assert np.array_equal(np.isnan(whole).all(axis=1), undefined)


def test_a_choice_selects_columns() -> None:
    assert _FITTED.general is not None
    assert _FITTED.general.feature_names == ("a", "c")
    other = _X.copy()
    other[:, 1] = 99.0
    assert np.array_equal(_FITTED.predict(other), _FITTED.predict(_X))
    frame = pd.DataFrame(_X, columns=list(NAMES))[["c", "b", "a"]]
    assert np.array_equal(_FITTED.predict(frame), _FITTED.predict(_X))


def test_one_class_predicts_the_prior_and_says_so() -> None:
    X, y, w, states = make()
    fitted = fit_specialists(X, np.ones_like(y), w, states, NAMES, CONFIG, 1)
    assert fitted.general is None
    assert fitted.fallbacks[0].startswith("general: labels of one class only")
    assert len(fitted.fallbacks) == 4
    prior = (w.sum() + 1) / (w.sum() + 2)
    assert fitted.predict(X[:2]) == pytest.approx(np.full((2, 4), prior))
    nothing = fit_specialists(X[:0], y[:0], None, states[:0], NAMES, CONFIG, 1)
    assert nothing.prior == 0.5


def test_a_specialist_of_one_class_is_the_general_model() -> None:
    X, y, w, states = make()
    states[y == 1, 0] = 0.0
    fitted = fit_specialists(X, y, w, states, NAMES, TrackConfig(min_effective_sample=1), 1)
    assert fitted.regimes[0] is None
    assert "regime 0: labels of one class only" in fitted.fallbacks[0]


def test_bad_input_is_refused() -> None:
    X, y, w, states = make(100)
    cases = [
        ((np.where(X > 1, np.nan, X), y, w, states, NAMES), "defined in training"),
        ((X, y * 2, w, states, NAMES), "0 and 1"),
        ((X, y[:-1], w, states, NAMES), "one row per row"),
        ((X, y, w - 0.9, states, NAMES), "not negative"),
        ((X, y, w, states - 0.5, NAMES), "must not be negative"),
        ((X, y, w, states, ("a", "b")), "one column per name"),
        ((X, y, w, states, ("a", "b", "b")), "distinct"),
    ]
    for args, match in cases:
        with pytest.raises(DataError, match=match):
            fit_specialists(*args, CONFIG, 1)
    with pytest.raises(DataError, match="all features"):
        fit_specialists(X, y, w, states, NAMES, CONFIG, 1, choice=TreeChoice(("z",), 4, 20, 0.1, 5))
