"""Enhancement chooses inside its own rows, and never below the default there."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.core.config import TrackConfig
from ares.core.errors import DataError
from ares.learn.enhancement import Enhancement, enhance, enhance_specialists
from ares.learn.incremental import IncrementalTrainer
from ares.learn.specialists import TreeChoice
from ares.store.codecs import decode, encode

CONFIG = TrackConfig(trees=40, leaves=7, min_leaf=20, features=3, candidates=4)
NAMES = tuple(f"x{i}" for i in range(8))


def make(rows: int = 800, seed: int = 0, horizon: int = 5):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 8))
    y = (X[:, 2] + X[:, 5] + rng.normal(size=rows) > 0).astype(np.int8)
    t0 = np.arange(rows) * 2
    return X, y, rng.uniform(0.5, 1.5, rows), t0, t0 + horizon


def run(X, y, w, t0, t1, config=CONFIG, seed=1, trainer=None) -> Enhancement:
    return enhance(X, y, w, NAMES, config, seed, trainer, t0=t0, t1=t1)


def test_it_finds_the_features_that_matter() -> None:
    result = run(*make())
    assert {"x2", "x5"} <= set(result.choice.features)
    assert len(result.choice.features) <= 3
    assert result.after < result.before
    assert "features" in result.describe()


def test_the_candidates_are_those_that_were_asked_for() -> None:
    result = run(*make())
    assert len(result.candidates) == 1 + CONFIG.candidates
    assert result.candidates[0].choice == TreeChoice.default(NAMES, CONFIG)
    assert result.before == result.candidates[0].score
    second = result.candidates[1].choice
    assert (second.leaves, second.min_leaf, second.learning_rate) == (7, 20, 0.05)
    for candidate in result.candidates[1:]:
        assert candidate.choice.trees in {10, 20, 30, 40}
        assert 2 <= candidate.choice.leaves <= 14
        assert 10 <= candidate.choice.min_leaf <= 80
        assert 0.016 < candidate.choice.learning_rate <= 0.1
    assert len({c.choice for c in result.candidates[1:]}) == CONFIG.candidates


@settings(max_examples=12)
@given(seed=st.integers(0, 100), noise=st.booleans())
def test_never_worse_than_the_default_where_it_was_chosen(seed, noise) -> None:
    X, y, w, t0, t1 = make(400, seed)
    if noise:
        y = np.random.default_rng(seed).integers(0, 2, 400)
    result = run(X, y, w, t0, t1)
    assert result.after <= result.before
    assert result.after == min(c.score for c in result.candidates)


def test_the_default_score_is_lightgbms_on_a_purged_cut() -> None:
    X, y, w, t0, t1 = make(horizon=50)
    result = run(X, y, w, t0, t1)
    late = np.arange(800) >= 600
    early = t1 < t0[600]
    assert early.sum() == 575  # 25 rows end inside the validating part
    assert (result.train_rows, result.validating_rows) == (575, 200)
    params = {"objective": "binary", "num_leaves": 7, "learning_rate": 0.05, "verbosity": -1}
    params |= {"deterministic": True, "force_row_wise": True, "num_threads": 1, "lambda_l2": 1.0}
    params |= {"min_data_in_leaf": 20, "feature_pre_filter": False}
    params |= {"min_sum_hessian_in_leaf": 2.0, "max_bin": 63}
    scaled = w[early] / w[early].mean()
    oracle = lightgbm.train(
        params, lightgbm.Dataset(X[early], y[early], weight=scaled, params=params), 40
    )
    p = oracle.predict(X[late])
    loss = -np.average(np.log(np.where(y[late] == 1, p, 1 - p)), weights=w[late])
    assert result.before == pytest.approx(loss, rel=1e-12)


def test_purged_rows_have_no_influence() -> None:
    X, y, w, t0, t1 = make(horizon=50)
    purged = (t1 >= t0[600]) & (t0 < t0[600])
    lies = np.where(purged, 1 - y, y)
    assert encode(run(X, y, w, t0, t1)) == encode(run(X, lies, w, t0, t1))


def test_later_rows_choose_but_do_not_train() -> None:
    X, y, w, t0, t1 = make()
    late = np.arange(800) >= 600
    lies = np.where(late, 1 - y, y)
    honest, lied = run(X, y, w, t0, t1), run(X, lies, w, t0, t1)
    # The features come from the earlier rows alone.
    assert honest.candidates[1].choice.features == lied.candidates[1].choice.features
    assert honest.before != lied.before


def test_the_seed_decides_and_the_trainer_does_not() -> None:
    data = make()
    trainer = IncrementalTrainer(max_models=2)
    runs = [run(*data), run(*data, trainer=trainer), run(*data, trainer=trainer)]
    assert len({encode(result) for result in runs}) == 1
    other = run(*data, seed=2)
    assert other.candidates[2].choice != runs[0].candidates[2].choice
    assert decode(encode(other)) == other


def test_trees_are_grown_not_trained_again() -> None:
    trainer = IncrementalTrainer(max_models=50)
    run(*make(), trainer=trainer)
    stats = trainer.stats()
    assert stats["scratch"] == 1 + CONFIG.candidates
    assert stats["grown"] == 3 * CONFIG.candidates


def test_too_few_rows_keep_the_default_and_say_why() -> None:
    X, y, w, t0, t1 = make(100)
    result = run(X, y, w, t0, t1)
    assert result.choice == TreeChoice.default(NAMES, CONFIG)
    assert result.candidates == ()
    assert "validating part" in result.describe()
    X, y, w, t0, t1 = make(400)
    assert "training part" in run(X, np.where(t0 < 600, 0, y), w, t0, t1).reason
    assert "0 rows" in run(X[:0], y[:0], w[:0], t0[:0], t1[:0]).reason


def test_a_single_candidate_is_the_default_on_selected_features() -> None:
    config = TrackConfig(trees=8, leaves=4, features=2, candidates=1)
    result = run(*make(), config=config)
    assert [c.choice.leaves for c in result.candidates] == [4, 4]


def test_the_choice_is_fitted_again_on_all_rows() -> None:
    X, y, w, t0, t1 = make(1000)
    states = np.random.default_rng(1).dirichlet([1, 1, 1], 1000)
    fitted, result = enhance_specialists(X, y, w, states, NAMES, CONFIG, 1, t0=t0, t1=t1)
    assert fitted.general is not None
    assert fitted.general.feature_names == result.choice.features
    counts = fitted.general.text.partition("internal_count=")[2].split()[0]
    assert int(counts) == 1000
    assert fitted.general.num_trees() == result.choice.trees


def test_rows_must_be_in_time_order() -> None:
    X, y, w, t0, t1 = make()
    with pytest.raises(DataError, match="time order"):
        run(X, y, w, t0[::-1], t1)
    with pytest.raises(DataError, match="time order"):
        run(X, y, w, t0, t0 - 1)
    with pytest.raises(DataError, match="one value per row"):
        run(X, y, w, t0[:-1], t1)
