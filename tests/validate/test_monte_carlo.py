"""Resampled curves against loops and closed forms; shuffles touch the drawdown only."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.config import MonteCarloConfig
from ares.core.errors import InputError
from ares.core.identity import seed_for
from ares.store.codecs import decode, encode
from ares.validate.bootstrap import stationary_indices
from ares.validate.monte_carlo import LEVELS, max_drawdowns, monte_carlo

YEAR = 252
DAILY = np.random.default_rng(1).normal(0.0006, 0.01, size=500)
TRADES = np.random.default_rng(2).normal(0.004, 0.03, size=80)


def run(daily=DAILY, trades=TRADES, *, seed=0, rerun=None, **options):
    config = MonteCarloConfig(**{"paths": 300, "mean_block": 5.0, **options})
    return monte_carlo(daily, trades, config, seed=seed, days_per_year=YEAR, rerun=rerun)


def naive_drawdown(equity) -> float:
    peak, worst = 1.0, 0.0
    for value in equity:
        peak = max(peak, value)
        worst = max(worst, 1 - value / peak)
    return worst


@given(st.lists(st.floats(0, 5), min_size=1, max_size=40))
def test_drawdown_is_the_largest_fall_from_a_peak(equity):
    found = max_drawdowns(np.array([equity]))
    assert found[0] == pytest.approx(naive_drawdown(equity), rel=1e-12)
    assert 0 <= found[0] <= 1


def test_paths_are_resampled_curves():
    found = run()
    rows = stationary_indices(
        500, mean_block=5.0, resamples=300, seed=seed_for(0, "monte_carlo.paths")
    )
    for path in (0, 17, 299):
        equity, curve = 1.0, []
        for value in DAILY[rows[path]]:
            equity *= 1 + value
            curve.append(equity)
        resampled = DAILY[rows[path]]
        assert found.final_return.values[path] == pytest.approx(equity - 1)
        assert found.cagr.values[path] == pytest.approx(equity ** (YEAR / 500) - 1)
        sharpe = resampled.mean() / resampled.std(ddof=1) * math.sqrt(YEAR)
        assert found.sharpe.values[path] == pytest.approx(sharpe)
        assert found.max_drawdown.values[path] == pytest.approx(naive_drawdown(curve))
    curves = np.cumprod(1 + DAILY[rows], axis=1)
    assert found.fan == pytest.approx(np.quantile(curves, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0))
    assert found.probability_of_loss == pytest.approx(np.mean(curves[:, -1] < 1))


def test_observed_values_are_those_of_the_curve():
    found = run()
    curve = np.cumprod(1 + DAILY)
    assert found.final_return.observed == pytest.approx(curve[-1] - 1)
    assert found.sharpe.observed == pytest.approx(DAILY.mean() / DAILY.std(ddof=1) * YEAR**0.5)
    assert found.max_drawdown.observed == pytest.approx(naive_drawdown(curve))
    assert found.cagr.observed == pytest.approx(curve[-1] ** (YEAR / 500) - 1)


def test_single_days_spread_like_a_random_walk():
    """With blocks of one day the log equity is a sum of independent draws."""
    found = run(paths=4000, mean_block=1.0)
    logs = np.log1p(DAILY)
    final = np.log1p(found.final_return.values)
    assert final.mean() == pytest.approx(500 * logs.mean(), abs=4 * final.std() / math.sqrt(4000))
    assert final.std() == pytest.approx(math.sqrt(500) * logs.std(), rel=0.05)


@given(st.integers(0, 2**63 - 1), st.integers(1, 30))
def test_the_fan_is_ordered_and_quantiles_bracket(seed, days):
    found = run(DAILY[:days], TRADES[:3], seed=seed, paths=20)
    assert found.fan.shape == (len(LEVELS), days)
    assert np.all(np.diff(found.fan, axis=0) >= 0)
    for distribution in (found.final_return, found.max_drawdown, found.shuffled_drawdown):
        assert list(distribution.quantiles) == sorted(distribution.quantiles)
        assert distribution.values.min() <= distribution.quantiles[0]
        assert distribution.quantiles[-1] <= distribution.values.max()


def test_shuffles_change_the_drawdown_and_nothing_else():
    found = run()
    assert found.shuffled_drawdown.observed == pytest.approx(naive_drawdown(np.cumprod(1 + TRADES)))
    assert found.shuffled_drawdown.values.std() > 0
    one_side = run(trades=np.full(9, -0.1))
    assert one_side.shuffled_drawdown.values == pytest.approx(np.full(300, 1 - 0.9**9))
    ups_first = run(trades=np.array([0.5, -0.5]), paths=400).shuffled_drawdown
    # Either order ends at 0.75; both fall by a half from their peak or the start.
    assert np.unique(ups_first.values).tolist() == [0.5]


def test_shuffles_reach_every_order():
    values = run(trades=np.array([0.2, -0.2, -0.3]), paths=600).shuffled_drawdown.values
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    steps = np.array([1.2, 0.8, 0.7])
    expected = np.sort([naive_drawdown(np.cumprod(steps[list(order)])) for order in orders])
    assert np.quantile(values, [0.0, 1.0]) == pytest.approx(expected[[0, -1]])
    assert values.mean() == pytest.approx(expected.mean(), abs=4 * values.std() / math.sqrt(600))


def test_the_stress_table_asks_for_each_stress_alone():
    asked = []

    def rerun(costs_multiple, latency, price_noise_seed):
        asked.append((costs_multiple, latency, price_noise_seed))
        return DAILY - 0.0002 * (costs_multiple - 1) - 0.0003 * latency

    found = run(rerun=rerun, stress=(2.0, 3.0), latency=(1, 2), price_noise=0.1, seed=5)
    assert asked[:5] == [(1, 0, None), (2, 0, None), (3, 0, None), (1, 1, None), (1, 2, None)]
    noise = [seed for costs, latency, seed in asked[5:] if (costs, latency) == (1, 0)]
    assert len(set(noise)) == 3
    assert noise[0] == seed_for(5, "monte_carlo.noise.0")
    assert [row.name for row in found.stress] == [
        "as tested",
        "costs x2",
        "costs x3",
        "1 bar late",
        "2 bars late",
        "price noise 1",
        "price noise 2",
        "price noise 3",
    ]
    plain, double = found.stress[0], found.stress[1]
    assert plain.total_return == pytest.approx(found.final_return.observed)
    assert plain.sharpe == found.sharpe.observed
    assert double.total_return == pytest.approx(np.prod(1 + DAILY - 0.0002) - 1)
    assert double.max_drawdown == pytest.approx(naive_drawdown(np.cumprod(1 + DAILY - 0.0002)))
    assert [row.price_noise for row in found.stress] == [False] * 5 + [True] * 3
    assert not [row for row in run(rerun=rerun, price_noise=0.0).stress if row.price_noise]
    with pytest.raises(InputError, match="rerun as tested"):
        run(rerun=lambda *_: np.array([math.nan]))


def test_results_depend_on_the_seed_and_on_nothing_else():
    first, again, other = run(seed=3), run(DAILY.copy(), TRADES.copy(), seed=3), run(seed=4)
    assert encode(first) == encode(again)
    assert encode(first) != encode(other)
    assert first.sharpe.observed == other.sharpe.observed
    stored = decode(encode(first))
    assert encode(stored) == encode(first)
    with pytest.raises(ValueError, match="read-only"):
        first.fan[0, 0] = 0.0


def test_block_length_comes_from_the_data_unless_given():
    assert run().mean_block == 5.0
    smooth = np.convolve(DAILY, np.full(15, 1 / 15), mode="valid")
    assert run(smooth, mean_block=None, paths=10).mean_block > 5


def test_nothing_to_resample():
    found = run(np.empty(0), np.empty(0))
    assert found.n_days == 0
    assert math.isnan(found.probability_of_loss)
    for distribution in (found.final_return, found.cagr, found.sharpe, found.shuffled_drawdown):
        assert math.isnan(distribution.observed)
        assert math.isnan(distribution.mean)


def test_a_flat_curve_has_no_sharpe_ratio_and_no_loss():
    found = run(np.zeros(40))
    assert math.isnan(found.sharpe.observed)
    assert np.isnan(found.sharpe.values).all()
    assert found.probability_of_loss == 0.0
    assert found.max_drawdown.quantiles == (0.0,) * 5


def test_ruin_is_a_loss_of_everything_not_less():
    found = run(np.array([0.1, -1.0, 0.5, 0.2]), np.array([-1.5, 0.1]))
    assert found.final_return.observed == -1.0
    assert found.cagr.observed == -1.0
    assert found.max_drawdown.observed == 1.0
    assert found.final_return.values.min() == -1.0
    assert found.shuffled_drawdown.values.max() == 1.0


def test_drawdowns_and_fans_do_not_depend_on_pieces(monkeypatch):
    daily = np.random.default_rng(2).normal(0.0, 0.02, 300)
    config = MonteCarloConfig(paths=40)
    given = {"seed": 3, "days_per_year": 365.0}
    whole = monte_carlo(daily, daily[:20], config, **given)
    monkeypatch.setattr("ares.validate.monte_carlo._DAYS_AT_ONCE", 7)
    monkeypatch.setattr("ares.validate.monte_carlo._SHUFFLED_AT_ONCE", 700)
    again = monte_carlo(daily, daily[:20], config, **given)
    np.testing.assert_array_equal(again.fan, whole.fan)
    np.testing.assert_array_equal(again.max_drawdown.values, whole.max_drawdown.values)
    equity = np.cumprod(1.0 + np.random.default_rng(5).normal(0, 0.1, (33, 50)), axis=1)
    assert max_drawdowns(equity) == pytest.approx([naive_drawdown(row) for row in equity])
