"""Golden numbers of the papers, independent twins, and traps: the usual wrong variants."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from ares.core.errors import InputError
from ares.store.codecs import decode, encode
from ares.validate.overfitting import (
    dsr,
    effective_trials,
    expected_max_sharpe,
    mean_correlation,
    min_backtest_length,
    min_track_record_length,
    moments,
    pbo_cscv,
    psr,
    search_overfitting,
    sharpe_standard_error,
    spa,
)

DAILY = 1 / math.sqrt(250)
FUND = {"skew": -2.448, "kurtosis": 10.164}


def lcg(seed: int, count: int) -> np.ndarray:
    """A generator that needs no library, so that these numbers can be checked anywhere."""
    draws, state = [], seed
    for _ in range(count):
        state = (1103515245 * state + 12345) % 2**31
        draws.append(state / 2**31 - 0.5)
    return np.array(draws)


# --- probabilistic and deflated Sharpe ratio -----------------------------------------------------


@pytest.mark.parametrize(
    ("sharpe", "shape", "expected"),
    [
        (0.458, {}, 0.98167),
        (0.458, FUND, 0.91336),
        (1.585 / math.sqrt(12), FUND, 0.913234306884860),
    ],
)
def test_psr_of_the_sharpe_ratio_efficient_frontier(sharpe, shape, expected):
    tolerance = 1e-12 if expected == 0.913234306884860 else 5e-6
    assert psr(sharpe, 24, **shape) == pytest.approx(expected, abs=tolerance)


def test_psr_is_none_of_the_usual_wrong_variants():
    right = psr(0.458, 24, **FUND)
    excess = psr(0.458, 24, skew=-2.448, kurtosis=10.164 - 3)
    annualised = psr(0.458 * math.sqrt(12), 24, **FUND)
    n_not_n_minus_1 = psr(0.458, 25, **FUND)
    assert excess == pytest.approx(0.91997, abs=5e-6)
    assert annualised == pytest.approx(0.99014, abs=5e-6)
    assert n_not_n_minus_1 == pytest.approx(0.91789, abs=5e-6)
    assert min(abs(right - wrong) for wrong in (excess, annualised, n_not_n_minus_1)) > 0.004


def test_psr_of_a_series_uses_full_kurtosis():
    returns = np.random.default_rng(3).standard_t(4, size=400) * 0.01 + 0.001
    found = moments(returns)
    z = (
        found.sharpe
        * math.sqrt(399)
        / math.sqrt(
            1
            - scipy.stats.skew(returns) * found.sharpe
            + (scipy.stats.kurtosis(returns, fisher=False) - 1) / 4 * found.sharpe**2
        )
    )
    by_hand = scipy.stats.norm.cdf(z)
    ours = psr(found.sharpe, found.n, skew=found.skew, kurtosis=found.kurtosis)
    assert ours == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize(
    ("sharpe", "skew", "kurtosis", "error", "years"),
    [
        (0.7079, -0.2250, 2.9570, 0.102761, 0.715216),
        (0.8183, -1.4455, 7.0497, 0.155007, 1.159303),
    ],
)
def test_error_and_track_record_of_the_hedge_fund_styles(sharpe, skew, kurtosis, error, years):
    assert sharpe_standard_error(sharpe, 134, skew=skew, kurtosis=kurtosis) == pytest.approx(
        error, abs=5e-7
    )
    months = min_track_record_length(sharpe, skew=skew, kurtosis=kurtosis)
    assert months / 12 == pytest.approx(years, abs=5e-7)


@pytest.mark.parametrize(
    ("per_year", "years"), [(250, 2.7311878), (52, 2.8288336), (12, 3.2398007)]
)
def test_track_record_for_two_against_one(per_year, years):
    unit = 1 / math.sqrt(per_year)
    found = min_track_record_length(2 * unit, benchmark=unit)
    assert found / per_year == pytest.approx(years, abs=5e-8)


@pytest.mark.parametrize(
    ("trials", "expected"),
    [(10, 1.5745983), (46, 2.2441708), (88, 2.4852948), (100, 2.5306029), (1000, 3.2551215)],
)
def test_expected_maximum(trials, expected):
    assert expected_max_sharpe(trials) == pytest.approx(expected, abs=5e-8)


def test_deflated_sharpe_ratio_of_the_paper():
    variance = 0.5 / 250
    shape = {"skew": -3, "kurtosis": 10}
    assert expected_max_sharpe(100, variance=variance) == pytest.approx(0.1131720, abs=5e-8)
    paper = dsr(2.5 * DAILY, 1250, n_trials=100, variance=variance, **shape)
    assert paper == pytest.approx(0.9003968, abs=5e-8)
    fewer = dsr(2.5 * DAILY, 1250, n_trials=46, variance=variance, **shape)
    assert fewer == pytest.approx(0.9505017, abs=5e-8)
    normal = dsr(2.5 * DAILY, 1250, n_trials=88, variance=variance)
    assert normal == pytest.approx(0.9504908, abs=5e-8)


def test_minimum_backtest_length_of_five_years():
    assert min_backtest_length(45) == pytest.approx(4.9980870, abs=5e-8)
    assert min_backtest_length(45) < 2 * math.log(45) == pytest.approx(7.613, abs=5e-4)
    assert min_backtest_length(45, sharpe=2.0) == pytest.approx(4.9980870 / 4, abs=5e-8)


def test_expected_maximum_is_what_normal_draws_show():
    draws = np.random.default_rng(0).normal(size=(4000, 50)).max(axis=1)
    assert expected_max_sharpe(50) == pytest.approx(draws.mean(), abs=0.04)


SHARPES = st.floats(-0.5, 0.5)


@given(SHARPES, st.integers(2, 5000), st.floats(-2, 2), st.floats(0, 20), SHARPES)
def test_psr_is_a_probability_that_falls_with_the_benchmark(sharpe, n, skew, extra, benchmark):
    kurtosis = skew**2 + 1.01 + extra  # what any distribution has at least
    value = psr(sharpe, n, skew=skew, kurtosis=kurtosis, benchmark=benchmark)
    higher = psr(sharpe, n, skew=skew, kurtosis=kurtosis, benchmark=benchmark + 0.05)
    assert 0 <= higher <= value <= 1


@given(st.floats(0.01, 0.5), st.integers(2, 2000), st.integers(1, 10_000))
def test_dsr_falls_with_the_number_of_trials(sharpe, n, trials):
    values = [dsr(sharpe, n, n_trials=k, variance=0.001) for k in (1, trials, trials * 2)]
    assert values[0] >= values[1] >= values[2]
    assert values[0] == psr(sharpe, n)


@given(st.floats(0.02, 0.4), st.floats(-1, 1), st.floats(0.9, 0.999))
def test_track_record_is_where_psr_reaches_the_probability(sharpe, skew, probability):
    shape = {"skew": skew, "kurtosis": 5.0}
    length = min_track_record_length(sharpe, probability=probability, **shape)
    assert psr(sharpe, length, **shape) == pytest.approx(probability, abs=1e-9)


def test_undefined_statistics_are_nan():
    flat = moments(np.zeros(50))
    assert math.isnan(flat.sharpe)
    assert math.isnan(flat.kurtosis)
    assert math.isnan(moments(np.array([0.1])).sharpe)
    assert math.isnan(moments(np.full(7, 0.1)).sharpe)  # 0.1 has no exact mean
    assert math.isnan(psr(math.nan, 100))
    assert math.isnan(psr(0.1, 1))
    assert math.isnan(psr(1.0, 100, skew=5.0, kurtosis=3.0))  # no distribution has these
    assert math.isnan(min_track_record_length(0.1, benchmark=0.1))
    assert math.isnan(min_backtest_length(10, sharpe=0.0))
    assert math.isnan(effective_trials(10, math.nan))
    assert math.isnan(mean_correlation(np.zeros((20, 3))))


def test_one_trial_is_not_deflated_and_none_is_refused():
    assert expected_max_sharpe(1) == 0.0
    assert expected_max_sharpe(1.001) == 0.0  # the approximation itself would be negative
    with pytest.raises(InputError, match="at least one trial"):
        expected_max_sharpe(0)
    with pytest.raises(InputError, match="negative variance"):
        expected_max_sharpe(5, variance=-1.0)


@given(st.integers(0, 2**32 - 1), st.floats(-9, 3))
def test_moments_against_scipy_at_any_scale(seed, exponent):
    returns = np.random.default_rng(seed).gamma(2.0, size=60) * 10.0**exponent
    found = moments(returns)
    assert found.skew == pytest.approx(scipy.stats.skew(returns), rel=1e-9)
    assert found.kurtosis == pytest.approx(scipy.stats.kurtosis(returns, fisher=False), rel=1e-9)
    assert found.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1), rel=1e-12)


def test_effective_trials():
    assert effective_trials(100, 0.3) == pytest.approx(0.3 + 0.7 * 100)
    assert effective_trials(100, 1.0) == 1.0
    assert effective_trials(100, -0.2) == 100.0


def test_mean_correlation_is_the_mean_of_the_matrix():
    common = np.random.default_rng(1).normal(size=(300, 1))
    own = np.random.default_rng(2).normal(size=(300, 7))
    runs = np.column_stack([0.6 * common + own, np.zeros(300)])
    matrix = np.corrcoef(runs[:, :7].T)
    expected = matrix[~np.eye(7, dtype=bool)].mean()
    assert mean_correlation(runs) == pytest.approx(expected, rel=1e-12)


# --- probability of backtest overfitting ---------------------------------------------------------


def naive_pbo(matrix: np.ndarray, blocks: int) -> tuple[float, float]:
    """The paper's algorithm, split by split."""
    parts = np.array_split(np.arange(len(matrix)), blocks)
    logits = []
    for chosen in itertools.combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[b] for b in chosen])
        outside = np.concatenate([parts[b] for b in range(blocks) if b not in chosen])
        seen, unseen = (
            matrix[rows].mean(axis=0) / matrix[rows].std(axis=0, ddof=1)
            for rows in (inside, outside)
        )
        rank = scipy.stats.rankdata(unseen)[np.argmax(seen)]
        share = rank / (matrix.shape[1] + 1)
        logits.append(math.log(share / (1 - share)))
    return float(np.mean(np.array(logits) <= 0)), float(np.mean(logits))


@pytest.mark.parametrize(
    ("blocks", "probability", "logit"),
    [(8, 25 / 70, 0.2341833036), (10, 0.4325396825, None), (16, 0.2354312354, 0.4282863647)],
)
def test_pbo_of_a_matrix_anyone_can_make(blocks, probability, logit):
    found = pbo_cscv(lcg(12345, 1600).reshape(160, 10), blocks=blocks)
    assert found.probability == pytest.approx(probability, abs=5e-11)
    assert len(found.logits) == math.comb(blocks, blocks // 2)
    if logit is not None:
        assert found.mean_logit == pytest.approx(logit, abs=5e-10)


@given(st.integers(0, 2**32 - 1), st.integers(40, 90), st.integers(2, 9), st.sampled_from([4, 6]))
def test_pbo_agrees_with_the_naive_twin(seed, days, trials, blocks):
    matrix = np.random.default_rng(seed).normal(0.02, 1.0, size=(days, trials))
    found = pbo_cscv(matrix, blocks=blocks)
    assert (found.probability, found.mean_logit) == pytest.approx(naive_pbo(matrix, blocks))


@given(st.integers(0, 2**32 - 1))
def test_pbo_sees_neither_order_nor_scale_of_the_columns(seed):
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(80, 7))
    scale = 2.0 ** generator.integers(-6, 6, size=7)  # exact in floating point
    found, other = pbo_cscv(matrix, blocks=8), pbo_cscv((matrix * scale)[:, ::-1], blocks=8)
    assert found.probability == other.probability
    assert found.standard_error == other.standard_error


def test_pbo_of_columns_without_any_persistence_is_one():
    matrix = np.random.default_rng(5).normal(size=(160, 12))
    equal = (matrix - matrix.mean(axis=0)) / matrix.std(axis=0)
    found = pbo_cscv(equal, blocks=8)
    assert found.probability == 1.0
    assert found.loss_probability == 1.0


def test_pbo_of_a_dominant_column_is_zero():
    matrix = np.random.default_rng(6).normal(size=(160, 12))
    matrix[:, 4] += 3.0
    found = pbo_cscv(matrix, blocks=8)
    assert found.probability == 0.0
    assert found.loss_probability == 0.0
    assert found.standard_error == 0.0


def test_pbo_of_noise_is_a_half_and_its_spread_is_honest():
    generator = np.random.default_rng(7)
    found = [pbo_cscv(generator.normal(size=(240, 20)), blocks=8) for _ in range(100)]
    values = np.array([f.probability for f in found])
    assert values.mean() == pytest.approx(0.5, abs=3 * 0.204 / 10)
    assert values.std() == pytest.approx(0.204, abs=0.05)
    claimed = np.mean([f.standard_error for f in found])
    assert values.std() < claimed < 2 * values.std()  # on the careful side


def test_pbo_ties_share_their_rank():
    column = np.random.default_rng(8).normal(size=80)
    same = pbo_cscv(np.column_stack([column] * 4), blocks=8)
    assert np.all(same.logits == 0.0)  # always the middle
    assert same.probability == 1.0  # <=, not <


def test_pbo_tied_winners_share_the_mean_of_their_ranks():
    start, good, bad = [1, 3, 2, 2], [1, 4, 2, 1], [-2, 1, 0, -1]
    matrix = np.array([start + good, start + bad, [0, 1, 0, -1, 0, 1, 0, 1]], dtype=float).T
    found, mirrored = pbo_cscv(matrix, blocks=2), pbo_cscv(matrix[:, ::-1], blocks=2)
    # Both win the first half; of three they rank first and last in the second: the middle.
    assert found.logits[0] == mirrored.logits[0] == 0.0
    assert np.array_equal(found.logits, mirrored.logits)


def test_pbo_of_flat_columns():
    matrix = np.zeros((80, 3))
    assert math.isnan(pbo_cscv(matrix, blocks=8).probability)
    matrix[:, 1] = np.random.default_rng(9).normal(0.5, 1.0, size=80)
    found = pbo_cscv(matrix, blocks=8)
    assert found.probability == 0.0  # the only one with a Sharpe ratio wins and ranks first


def test_pbo_refuses_odd_blocks_and_has_no_value_for_little_data():
    matrix = np.random.default_rng(10).normal(size=(31, 5))
    with pytest.raises(InputError, match="even"):
        pbo_cscv(matrix, blocks=7)
    assert math.isnan(pbo_cscv(matrix, blocks=16).probability)
    assert math.isnan(pbo_cscv(matrix[:, :1], blocks=4).probability)
    with pytest.raises(InputError, match="finite"):
        pbo_cscv(np.full((40, 4), np.nan), blocks=4)
    with pytest.raises(InputError, match="matrix"):
        pbo_cscv(matrix[0], blocks=4)


# --- superior predictive ability -----------------------------------------------------------------


def test_spa_of_numbers_anyone_can_make():
    bench = lcg(12345, 500) + 1
    models = lcg(777, 10_000).reshape(500, 20) + 1
    none = spa(-bench, -models, mean_block=5, seed=1)  # losses, so returns are their negatives
    assert (none.lower, none.consistent, none.upper) == pytest.approx((0.615, 0.730, 0.730))
    assert none.better == ()
    models[:, 3] -= 0.15
    one = spa(-bench, -models, mean_block=5, seed=1)
    assert (one.lower, one.consistent, one.upper, one.better) == (0, 0, 0, (3,))
    wrong_sign = spa(bench, models, mean_block=5, seed=1)
    assert wrong_sign.consistent > 0.1
    assert wrong_sign.better == ()


def test_spa_leaves_out_copies_of_the_benchmark():
    bench = np.random.default_rng(11).normal(size=200)
    better = bench + 0.3 + np.random.default_rng(12).normal(size=200)
    found = spa(bench, np.column_stack([bench, better]), seed=0, resamples=200)
    assert found.better == (1,)
    assert math.isnan(spa(bench, bench[:, None], seed=0).consistent)
    assert math.isnan(spa(bench[:5], better[:5, None], seed=0).consistent)
    with pytest.raises(InputError, match="same days"):
        spa(bench[:50], better[:, None], seed=0)


def test_spa_keeps_its_size():
    generator = np.random.default_rng(13)
    claims = sum(
        spa(
            generator.normal(size=100),
            generator.normal(size=(100, 4)),
            seed=k,
            mean_block=2.0,
            resamples=200,
        ).consistent
        < 0.05
        for k in range(200)
    )
    assert claims / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


# --- a whole search ------------------------------------------------------------------------------


def test_a_search_among_noise_is_seen_through():
    runs = np.random.default_rng(14).normal(0, 0.01, size=(800, 64))
    winner = runs[:, runs.mean(axis=0).argmax()]
    found = search_overfitting(
        winner, runs, n_trials=64, days_per_year=252, seed=3, blocks=8, resamples=200
    )
    naive = psr(moments(winner).sharpe, 800)
    assert naive > 0.95 > found.dsr
    assert found.dsr == pytest.approx(found.dsr_effective, abs=0.01)  # uncorrelated: N_eff is N
    assert found.spa.consistent > 2 * (1 - naive)  # the best of 64, not a single one
    assert found.expected_max_sharpe == pytest.approx(
        expected_max_sharpe(64) * math.sqrt(252 / 800), rel=0.2
    )
    stored = decode(encode(found))
    assert encode(stored) == encode(found)
    assert not stored.pbo.logits.flags.writeable


def test_a_search_without_full_runs_has_no_statistics():
    found = search_overfitting(
        np.zeros(30), np.zeros((30, 1)), n_trials=1, days_per_year=365, seed=0
    )
    assert math.isnan(found.dsr)
    assert math.isnan(found.dsr_effective)
    assert math.isnan(found.pbo.probability)
