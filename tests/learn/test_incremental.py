"""Growing a cached model equals training it from scratch, bit for bit."""

from __future__ import annotations

import functools
import itertools

import lightgbm
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.core.config import TrackConfig
from ares.core.errors import ConfigError, DataError
from ares.learn.boosting import BoostedTrees, draws_random, normalise_parameters
from ares.learn.incremental import IncrementalTrainer
from ares.store.codecs import decode, encode


def make_data(rows: int = 500, columns: int = 4, seed: int = 1, *, missing: bool = False):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, columns))
    y = (X[:, 0] + 0.5 * X[:, 1] ** 2 + rng.normal(size=rows) > 0.4).astype(float)
    weight = rng.uniform(0.1, 1.0, rows)
    if missing:
        X[rng.uniform(size=X.shape) < 0.05] = np.nan
    return X, y, weight


SHAPES = st.fixed_dictionaries(
    {
        "num_leaves": st.integers(2, 20),
        "learning_rate": st.sampled_from([0.01, 0.05, 0.1, 0.37, 1.0]),
        "min_leaf": st.integers(1, 60),
    },
    optional={
        "max_depth": st.integers(1, 8),
        "reg_lambda": st.sampled_from([0.5, 3.0]),
        "reg_alpha": st.sampled_from([0.1]),
        "max_bin": st.sampled_from([15, 63, 511]),
        "min_child_weight": st.sampled_from([0.1, 5.0]),
        "min_split_gain": st.sampled_from([0.1, 2.0]),
        "max_delta_step": st.sampled_from([0.5]),
        "boost_from_average": st.booleans(),
        "scale_pos_weight": st.sampled_from([0.5, 2.0]),
    },
)


@settings(max_examples=25)
@given(
    shape=SHAPES,
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=4),
    objective=st.sampled_from(["binary", "regression"]),
    seed=st.integers(0, 3),
)
def test_any_order_of_sizes_equals_training_from_scratch(shape, counts, objective, seed) -> None:
    X, y, weight = make_data(300, seed=seed, missing=seed == 3)
    shape = {**shape, "objective": objective}
    trainer = IncrementalTrainer(shape)
    for trees in counts:
        grown = trainer.train_incrementally({"trees": trees}, X, y, weight)
        fresh = IncrementalTrainer().train_incrementally({**shape, "trees": trees}, X, y, weight)
        assert grown.text == fresh.text
        assert grown.predict(X).tobytes() == fresh.predict(X).tobytes()
    assert trainer.stats()["scratch"] == 1


def test_predictions_are_those_of_lightgbm_itself() -> None:
    X, y, weight = make_data()
    params = {"objective": "binary", "num_leaves": 7, "learning_rate": 0.1, "verbosity": -1}
    params |= {"deterministic": True, "force_row_wise": True, "num_threads": 1, "seed": 0}
    params |= {"min_data_in_leaf": 20, "feature_pre_filter": False}
    oracle = lightgbm.train(params, lightgbm.Dataset(X, y, weight=weight), num_boost_round=33)
    trainer = IncrementalTrainer({"leaves": 7})
    trainer.train_incrementally({"n_estimators": 11}, X, y, weight)
    model = trainer.train_incrementally({"n_estimators": 33}, X, y, weight)
    assert np.array_equal(model.predict(X), oracle.predict(X))


def test_paths_taken_are_counted_and_the_cache_is_bounded() -> None:
    X, y, _ = make_data(200)
    trainer = IncrementalTrainer({"leaves": 4}, max_models=2)
    for trees in (5, 10, 10, 3):
        assert trainer.train_incrementally({"trees": trees}, X, y).num_trees() == trees
    expected = {"scratch": 1, "grown": 1, "hits": 1, "prefixes": 1, "models": 1}
    assert expected.items() <= trainer.stats().items()
    for leaves in (5, 6, 7):
        trainer.train_incrementally({"trees": 2, "leaves": leaves}, X, y)
    assert trainer.stats()["models"] == 2
    assert trainer.stats()["evictions"] == 2
    trainer.clear()
    assert trainer.stats()["models"] == 0


RANDOM = [
    {"subsample": 0.5, "subsample_freq": 1},
    {"colsample_bytree": 0.5},
    {"feature_fraction_bynode": 0.5},
    {"extra_trees": True},
    {"boosting": "dart"},
    {"boosting": "rf", "subsample": 0.5, "subsample_freq": 1},
    {"data_sample_strategy": "goss"},
]


@pytest.mark.parametrize("extra", RANDOM)
def test_parameters_that_draw_are_trained_anew(extra) -> None:
    X, y, _ = make_data(300)
    trainer = IncrementalTrainer({"leaves": 4, **extra})
    trainer.train_incrementally({"trees": 5}, X, y)
    model = trainer.train_incrementally({"trees": 12}, X, y)
    again = trainer.train_incrementally({"trees": 12}, X, y)
    fresh = IncrementalTrainer().train_incrementally({"leaves": 4, **extra, "trees": 12}, X, y)
    assert model == fresh == again
    stats = trainer.stats()
    assert (stats["retrained"], stats["hits"], stats["grown"]) == (2, 1, 0)


@pytest.mark.parametrize("extra", [*RANDOM, {"subsample": 0.5}, {"colsample_bytree": 1.0}, {}])
def test_drawing_parameters_are_told_apart(extra) -> None:
    assert draws_random(normalise_parameters(extra)) == (extra in RANDOM)


def test_other_data_weights_labels_or_names_are_other_models() -> None:
    X, y, weight = make_data(200)
    trainer = IncrementalTrainer({"trees": 3, "leaves": 4})
    trainer.train_incrementally({}, X, y)
    X2, y2 = X.copy(), y.copy()
    X2[7, 1] += 1.0
    y2[7] = 1.0 - y2[7]
    for args in ((X2, y), (X, y2), (X, y, weight)):
        model = trainer.train_incrementally({}, *args)
        assert model == IncrementalTrainer({"trees": 3, "leaves": 4}).train_incrementally({}, *args)
    assert trainer.stats()["scratch"] == 4


def test_frames_carry_their_names() -> None:
    X, y, _ = make_data(200, 3)
    frame = pd.DataFrame(X, columns=["a b", "[x]", "λ"])
    model = IncrementalTrainer({"trees": 4}).train_incrementally({}, frame, pd.Series(y))
    assert model.feature_names == ("a b", "[x]", "λ")
    shuffled = frame[["λ", "a b", "[x]"]].assign(more=1.0)
    assert np.array_equal(model.predict(shuffled), model.predict(X))
    with pytest.raises(DataError, match="all features"):
        model.predict(frame[["λ"]])
    with pytest.raises(DataError, match="number of columns"):
        model.predict(X[:, :2])


@settings(max_examples=25)
@given(data=st.data())
def test_each_row_is_predicted_alone(data) -> None:
    X, model = _fitted()
    whole = model.predict(X)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(X)), max_size=6)))
    borders = [0, *cuts, len(X)]
    parts = [model.predict(X[a:b]) for a, b in itertools.pairwise(borders)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(len(X))
    assert model.predict(X[order]).tobytes() == whole[order].tobytes()


@functools.cache
def _fitted():
    X, y, _ = make_data(700)
    model = IncrementalTrainer({"trees": 30}).train_incrementally({}, X, y)
    holes = X.copy()
    holes[::13, 2] = np.nan
    holes[5, 0] = np.inf
    return holes, model


def test_undefined_features_have_no_prediction() -> None:
    X, model = _fitted()
    undefined = ~np.isfinite(X).all(axis=1)
    assert np.array_equal(np.isnan(model.predict(X)), undefined)
    assert np.isnan(model.predict(np.full((3, 4), np.nan))).all()
    assert model.predict(X[:0]).shape == (0,)


def test_a_model_that_learned_from_missing_values_predicts_them() -> None:
    X, y, _ = make_data(400, missing=True)
    model = IncrementalTrainer({"trees": 5}).train_incrementally({}, X, y)
    assert model.missing
    assert np.isfinite(model.predict(X)).all()


def test_models_survive_the_store_byte_for_byte() -> None:
    X, model = _fitted()
    stored = encode(model)
    again = decode(stored)
    assert isinstance(again, BoostedTrees)
    assert again == model
    assert encode(again) == stored
    assert again.predict(X).tobytes() == model.predict(X).tobytes()


def test_appended_rows_refit_by_default() -> None:
    X, y, _ = make_data(400)
    trainer = IncrementalTrainer({"trees": 10, "leaves": 4})
    trainer.train_incrementally({}, X[:300], y[:300])
    model = trainer.train_incrementally({}, X, y)
    assert model == IncrementalTrainer({"trees": 10, "leaves": 4}).train_incrementally({}, X, y)


def test_appended_rows_continue_by_policy() -> None:
    X, y, weight = make_data(400)
    trainer = IncrementalTrainer({"trees": 10, "leaves": 4}, on_append="continue")
    old = trainer.train_incrementally({}, X[:300], y[:300], weight[:300])
    new = trainer.train_incrementally({}, X, y, weight)
    assert trainer.stats()["continued"] == 1
    assert new.num_trees() == 10 + round(10 * 100 / 400)
    assert _trees(new)[:10] == _trees(old)
    assert new == trainer.train_incrementally({}, X, y, weight)
    params = {"objective": "binary", "num_leaves": 4, "learning_rate": 0.1, "verbosity": -1}
    params |= {"deterministic": True, "force_row_wise": True, "num_threads": 1, "seed": 0}
    params |= {"min_data_in_leaf": 20, "feature_pre_filter": False}
    first = lightgbm.train(params, lightgbm.Dataset(X[:300], y[:300], weight=weight[:300]), 10)
    oracle = lightgbm.train(params, lightgbm.Dataset(X, y, weight=weight), 2, init_model=first)
    assert new.predict(X) == pytest.approx(oracle.predict(X), abs=1e-12)
    # Rows that changed in the past are not an extension.
    X2 = X.copy()
    X2[0, 0] += 1.0
    trainer.train_incrementally({}, X2, y, weight)
    assert trainer.stats()["continued"] == 1


def _trees(model: BoostedTrees) -> list[str]:
    body = model.text.partition("end of trees")[0]
    return body[body.index("Tree=0") :].split("Tree=")[1:]


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"num_leavs": 5}, "num_leaves"),
        ({"num_leaves": 1}, "num_leaves"),
        ({"num_leaves": 2.5}, "int"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"objective": "cross_entropy"}, "one of"),
        ({"trees": "many"}, "trees"),
    ],
)
def test_bad_parameters_are_refused(params, match) -> None:
    with pytest.raises(ConfigError, match=match):
        IncrementalTrainer(params)


def test_bad_data_are_refused() -> None:
    X, y, weight = make_data(50)
    trainer = IncrementalTrainer({"trees": 2})
    with pytest.raises(DataError, match="one value per row"):
        trainer.train_incrementally({}, X, y[:-1])
    with pytest.raises(DataError, match="infinite"):
        trainer.train_incrementally({}, np.where(X > 1, np.inf, X), y)
    with pytest.raises(DataError, match="finite"):
        trainer.train_incrementally({}, X, np.where(y > 0, np.nan, y))
    with pytest.raises(DataError, match="negative"):
        trainer.train_incrementally({}, X, y, weight - 0.5)
    with pytest.raises(DataError, match="0 and 1"):
        trainer.train_incrementally({"objective": "binary"}, X, y * 2)
    with pytest.raises(DataError, match="at least one column"):
        trainer.train_incrementally({}, X[:, 0], y)
    with pytest.raises(DataError, match="at least one row"):
        trainer.train_incrementally({}, X[:0], y[:0])
    with pytest.raises(DataError, match="numbers"):
        trainer.train_incrementally({}, pd.DataFrame({"a": ["x"] * 50}), y)
    with pytest.raises(ConfigError, match="refit or continue"):
        IncrementalTrainer({}, on_append="maybe")
    with pytest.raises(ConfigError, match="at least 1"):
        IncrementalTrainer({}, max_models=0)


def test_a_track_configuration_is_a_base() -> None:
    X, y, _ = make_data(300)
    config = TrackConfig(trees=7, leaves=4, min_leaf=30, learning_rate=0.2)
    model = IncrementalTrainer(config).train_incrementally({}, X, y)
    same = {"trees": 7, "leaves": 4, "min_leaf": 30, "learning_rate": 0.2, "n_jobs": 8}
    assert model == IncrementalTrainer(same).train_incrementally(None, X, y)


def test_features_without_information_train_a_constant() -> None:
    model = IncrementalTrainer().train_incrementally({}, np.ones((60, 2)), np.arange(60) % 3 == 0)
    assert model.predict(np.ones((2, 2))) == pytest.approx([1 / 3, 1 / 3])
