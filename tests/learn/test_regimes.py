"""Regime models: filter law, names, matching, and fits against hmmlearn and planted states."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.config import RegimeConfig
from ares.core.errors import DataError
from ares.core.identity import fingerprint
from ares.learn.regimes import (
    DIRECTIONS,
    VOLATILITIES,
    fit_regimes,
    observations,
    stationary,
)
from ares.market.bars import Bars

CONFIG = RegimeConfig(max_iterations=40)
DAY = 86_400_000_000_000


def bars_of(close, gaps=()):
    close = np.asarray(close, dtype=float)
    timestamp = np.arange(len(close), dtype=np.int64) * DAY
    rows = []
    for before, missing in gaps:
        timestamp[before + 1 :] += missing * DAY
        rows.append((before, before + 1, missing))
    opening = np.concatenate([close[:1], close[:-1]])
    return Bars(
        timestamp=timestamp,
        open=opening,
        high=np.maximum(opening, close),
        low=np.minimum(opening, close),
        close=close,
        volume=np.ones(len(close)),
        symbol="X",
        exchange="x",
        timeframe="1d",
        gaps=np.array(rows, dtype=np.int64).reshape(-1, 3),
    )


def planted(drifts, volatilities, n=1500, seed=0, spell=150):
    """A market that stays `spell` bars in each state in turn; also the state of each bar."""
    rng = np.random.default_rng(seed)
    state = (np.arange(n) // spell) % 3
    moves = rng.normal(np.array(drifts)[state], np.array(volatilities)[state])
    return bars_of(100 * np.exp(np.cumsum(moves))), state


@pytest.fixture(scope="module")
def trending():
    bars, state = planted((-0.01, 0.0005, 0.008), (0.025, 0.006, 0.012))
    return bars, state, fit_regimes(bars, CONFIG, 0)


def test_planted_directions_are_found_and_named(trending):
    bars, state, model = trending
    assert model.names == DIRECTIONS
    assert not model.degenerate
    assert model.t_statistic > 2
    assert (np.diff(model.means[:, 0]) > 0).all()
    seen = model.filter(bars)
    settled = (np.arange(len(bars)) % 150) >= 40  # volatility lags by its window
    right = seen.argmax(axis=1)[settled] == state[settled]
    assert right.mean() > 0.9


def test_means_that_cannot_be_told_apart_are_named_by_volatility():
    bars, _ = planted((0.0, 0.0, 0.0), (0.004, 0.012, 0.035), seed=3)
    model = fit_regimes(bars, CONFIG, 0)
    assert abs(model.t_statistic) < 2
    assert model.names == VOLATILITIES
    assert (np.diff(model.means[:, 1]) > 0).all()


@given(cut=st.integers(1, 1499))
def test_later_bars_never_move_a_regime(trending, cut):
    bars, _, model = trending
    whole = model.filter(bars)[:cut]
    assert model.filter(bars[:cut]).tobytes() == whole.tobytes()


@given(cut=st.integers(1, 399), seed=st.integers(0, 100))
def test_later_bars_never_move_a_regime_across_gaps(trending, cut, seed):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, 400)))
    bars = bars_of(close, gaps=[(90, 5), (150, 500), (155, 61), (300, 60)])
    _, _, model = trending
    whole = model.filter(bars)
    assert model.filter(bars[:cut]).tobytes() == whole[:cut].tobytes()
    defined = np.isfinite(whole).all(axis=1)
    expected = np.ones(400, dtype=bool)
    for start in (0, 151, 156):  # 60 expected bars are not yet too many
        expected[start : start + 20] = False
    assert (defined == expected).all()
    assert np.abs(whole[defined].sum(axis=1) - 1).max() < 1e-12


def test_the_filter_starts_anew_after_a_long_gap(trending):
    _, _, model = trending
    rng = np.random.default_rng(8)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, 200)))
    joined = model.filter(bars_of(close, gaps=[(99, 1000)]))
    alone = model.filter(bars_of(close[100:]))
    assert joined[100:].tobytes() == alone.tobytes()


def test_the_filter_and_its_start_equal_hmmlearn_on_the_last_bar(trending):
    from hmmlearn.hmm import GaussianHMM

    bars, _, model = trending
    oracle = GaussianHMM(3, covariance_type="full")
    oracle.startprob_, oracle.transmat_ = model.start, model.transition
    oracle.means_, oracle.covars_ = model.means, model.covariances
    x = observations(bars, 20, model.least_volatility, 60)
    ours = model.filter(bars)
    for n in (30, 200, 1500):  # smoothed and filtered agree on the last bar only
        assert ours[n - 1] == pytest.approx(oracle.predict_proba(x[20:n])[-1], abs=1e-9)


def test_a_fit_is_as_likely_as_hmmlearns_best(trending):
    from hmmlearn.hmm import GaussianHMM

    bars, _, model = trending
    x = observations(bars, 20, model.least_volatility, 60)[20:]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    scores = []
    for seed in range(2):
        oracle = GaussianHMM(
            3, covariance_type="full", n_iter=40, tol=1e-6, random_state=seed,
            covars_prior=0.0, covars_weight=0.0,
        )  # fmt: skip
        scores.append(oracle.fit(z).score(z) / len(z))
    assert model.log_likelihood >= max(scores) - 1e-3


def test_one_seed_gives_one_model_and_restarts_never_lose(trending):
    bars, _, model = trending
    assert fingerprint(fit_regimes(bars, CONFIG, 0)) == fingerprint(model)
    single = fit_regimes(bars, CONFIG.model_copy(update={"restarts": 1}), 0)
    assert single.log_likelihood <= model.log_likelihood or single.degenerate


def test_price_level_and_later_scale_do_not_matter(trending):
    bars, _, model = trending
    dear = bars_of(bars.close * 1024.0)
    assert fingerprint(fit_regimes(dear, CONFIG, 0)) == fingerprint(model)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_matching_undoes_any_permutation(trending, order):
    _, _, model = trending
    index = list(order)
    shuffled = dataclasses.replace(
        model,
        names=("a", "b", "c"),
        start=model.start[index],
        transition=np.ascontiguousarray(model.transition[index][:, index]),
        means=model.means[index],
        covariances=model.covariances[index],
        occupancy=model.occupancy[index],
    )
    assert fingerprint(shuffled.match_to(model)) == fingerprint(model)


def test_matching_keeps_meanings_across_refits(trending):
    bars, _, model = trending
    refit = fit_regimes(bars[:1200], CONFIG, 1).match_to(model)
    assert refit.names == model.names
    assert np.abs(refit.means[:, 1] - model.means[:, 1]).max() < 0.3
    agreement = refit.filter(bars).argmax(axis=1) == model.filter(bars).argmax(axis=1)
    assert agreement[20:].mean() > 0.95


def test_a_flat_market_gives_finite_probabilities():
    bars = bars_of(np.full(200, 7.0))
    model = fit_regimes(bars, CONFIG, 0)
    probabilities = model.filter(bars)
    assert np.isfinite(probabilities[20:]).all()
    wild = model.filter(planted((0.0, 0.0, 0.0), (0.1, 0.2, 0.3), n=300)[0])
    assert np.isfinite(wild[20:]).all()


def test_a_state_of_a_handful_of_bars_is_called_degenerate():
    rng = np.random.default_rng(2)
    moves = rng.normal(0, 0.01, 2000)
    moves[1000:1004] = [1.5, -1.4, 1.3, -1.6]
    config = RegimeConfig(volatility_window=2, restarts=1)
    model = fit_regimes(bars_of(np.exp(np.cumsum(moves))), config, 0)
    assert model.degenerate
    assert model.occupancy.min() < 0.01
    assert np.linalg.eigvalsh(model.covariances).min() > 0
    calm = fit_regimes(bars_of(np.exp(np.cumsum(moves[:1000]))), config, 0)
    assert not calm.degenerate


def test_too_few_bars_are_refused():
    with pytest.raises(DataError, match="50 bars"):
        fit_regimes(bars_of(np.arange(1.0, 60.0)), CONFIG, 0)


@given(seed=st.integers(0, 2**32 - 1))
def test_stationary_distribution_stays(seed):
    transition = np.random.default_rng(seed).dirichlet(np.ones(3), size=3)
    start = stationary(transition)
    assert start @ transition == pytest.approx(start, abs=1e-6)
    assert start.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.compiled
def test_real_bars_have_regimes(sample_bars):
    model = fit_regimes(sample_bars, RegimeConfig(), 0)
    assert not model.degenerate
    assert model.occupancy.min() > 0.05
    # Days stay in a regime for weeks.
    assert np.diag(model.transition).min() > 0.9
