import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ares.backtest.result import Outcome
from ares.core.errors import ConfigError
from ares.search import Objective
from ares.search.blocks import BlockTable, block_results, even_borders
from ares.search.objective import block_ratios

RETURNS = st.lists(
    st.floats(-0.3, 0.3).filter(lambda r: r == 0 or abs(r) > 1e-6), min_size=12, max_size=80
)


def cut(returns, count=4, trades=50):
    days = np.linspace(0, len(returns) - 1, trades).astype(np.int64)
    return block_results(np.array(returns), days, even_borders(len(returns), count))


def naive(kind, returns, year, whole=None):
    r = np.array(returns)
    if kind == "sharpe":
        return r.mean() / r.std(ddof=1) * math.sqrt(year)
    if kind == "sortino":
        return r.mean() / math.sqrt(np.mean(np.minimum(r, 0) ** 2)) * math.sqrt(year)
    if kind == "total_return":
        return math.prod(1 + x for x in returns) ** ((whole or len(r)) / len(r)) - 1
    equity = np.cumprod(np.concatenate([[1.0], 1 + r]))
    worst = max(1 - equity / np.maximum.accumulate(equity))
    return (equity[-1] ** (year / len(r)) - 1) / worst


@pytest.mark.parametrize("kind", ["sharpe", "sortino", "total_return", "calmar"])
@given(returns=RETURNS)
def test_value_is_the_pooled_statistic_less_jackknife_errors(kind, returns):
    assume(np.std(returns) > 1e-6 and sum(r < -1e-3 for r in returns[: len(returns) // 2]) > 3)
    assume(sum(r < -1e-3 for r in returns[len(returns) // 2 :]) > 3)
    year = 10.0
    borders = even_borders(len(returns), 4)
    left_out = [
        naive(kind, [*returns[:a], *returns[b:]], year, len(returns)) for a, b in pairwise(borders)
    ]
    error = math.sqrt(3 / 4 * sum((x - np.mean(left_out)) ** 2 for x in left_out))
    score = Objective(kind, penalty=1.5).score(cut(returns), year)
    expected = naive(kind, returns, year) - 1.5 * error
    assert score.outcome is Outcome.OK
    assert score.error == pytest.approx(error, rel=1e-6, abs=1e-9)
    assert score.value == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("kind", ["sharpe", "sortino", "total_return", "calmar"])
@given(runs=st.lists(st.tuples(st.integers(0, 99), st.floats(1e-4, 0.4)), min_size=2, max_size=9))
def test_a_score_does_not_depend_on_what_is_scored_beside_it(kind, runs):
    blocks = [
        cut(list(np.random.default_rng(seed).normal(0.001, spread, 60).clip(-1.1, None)), trades=40)
        for seed, spread in runs
    ]
    objective = Objective(kind)
    for flat in (False, True):
        together = objective.scores(BlockTable.of(blocks), 365.0, flat=flat)
        alone = [objective.scores(BlockTable.of([one]), 365.0, flat=flat)[0] for one in blocks]
        assert repr(together) == repr(alone)


def test_few_trades_ruin_and_no_deviation_are_values():
    noise = list(np.random.default_rng(0).normal(0, 0.01, 40))
    assert Objective(min_trades=30).score(cut(noise, trades=29), 365.0).outcome is (
        Outcome.TOO_FEW_TRADES
    )
    assert Objective(min_trades=30).score(cut(noise, trades=30), 365.0).outcome is Outcome.OK
    ruined = Objective().score(cut([*noise, -1.0]), 365.0)
    assert (ruined.outcome, ruined.value) == (Outcome.RUINED, -math.inf)
    for flat in (0.0, 0.001):
        score = Objective().score(cut([flat] * 40), 365.0)
        assert (score.outcome, score.value) == (Outcome.NOT_FINITE, -math.inf)
    for broken in (math.nan, math.inf):
        score = Objective().score(cut([*noise, broken]), 365.0)
        assert (score.outcome, score.value) == (Outcome.NOT_FINITE, -math.inf)


def test_a_users_function_is_taken_as_it_is():
    blocks = cut(list(np.random.default_rng(1).normal(0, 0.01, 40)))
    seen = Objective(lambda b, year: float(b.trades.sum()) + year, penalty=9.0).score(blocks, 5.0)
    assert seen.value == 55.0


def _raises(blocks, year):
    raise RuntimeError("no")


@pytest.mark.parametrize("function", [_raises, lambda b, y: math.nan, lambda b, y: math.inf])
def test_a_users_function_that_fails_is_a_value(function):
    blocks = cut(list(np.random.default_rng(1).normal(0, 0.01, 40)))
    score = Objective(function).score(blocks, 365.0)
    assert (score.value, score.outcome) == (-math.inf, Outcome.NOT_FINITE)


def test_unknown_objectives_are_refused():
    with pytest.raises(ConfigError, match="sharpe"):
        Objective("profit")
    with pytest.raises(ConfigError):
        Objective(penalty=math.nan)


def test_block_ratios_are_means_over_the_pooled_deviation():
    returns = list(np.random.default_rng(2).normal(0.001, 0.01, 40))
    expected = np.array(returns).reshape(4, 10).mean(axis=1) / np.std(returns, ddof=1)
    np.testing.assert_allclose(block_ratios(cut(returns)), expected, rtol=1e-12)
    assert not block_ratios(cut([0.0] * 8)).any()
