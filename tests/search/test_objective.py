import itertools
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

LOSSES = st.lists(st.floats(-0.3, -2e-3), min_size=3, max_size=6)
# Whichever block is left out, some days with losses remain.
FALLING = st.tuples(RETURNS, LOSSES, RETURNS, LOSSES).map(lambda parts: [*itertools.chain(*parts)])


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
@given(returns=FALLING)
def test_value_is_the_pooled_statistic_less_jackknife_errors(kind, returns):
    assume(np.std(returns) > 1e-6)
    year = 10.0
    borders = even_borders(len(returns), 4)
    parts = [[*returns[:a], *returns[b:]] for a, b in pairwise(borders)]
    growing = kind in {"total_return", "calmar"}
    if growing:
        left_out = [sum(map(math.log1p, part)) * len(returns) / len(part) for part in parts]
    else:
        left_out = [naive(kind, part, year) for part in parts]
    error = math.sqrt(3 / 4 * sum((x - np.mean(left_out)) ** 2 for x in left_out))

    def less(errors):
        """The statistic after so many standard errors: of growth it is the logarithm that falls."""
        bare = naive(kind, returns, year)
        if not growing:
            return bare - errors * error
        lower = sum(map(math.log1p, returns)) - errors * error
        if kind == "total_return":
            return math.expm1(lower)
        gain = math.prod(1 + x for x in returns) ** (year / len(returns)) - 1
        return math.expm1(lower * year / len(returns)) * bare / gain if gain else 0.0

    score = Objective(kind, penalty=1.5).score(cut(returns), year)
    assert score.outcome is Outcome.OK
    assert score.value == pytest.approx(less(1.5), rel=1e-6, abs=1e-6)
    assert score.error == pytest.approx(less(0.0) - less(1.0), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("kind", ["total_return", "calmar"])
def test_a_point_that_surely_loses_all_is_worse_than_one_that_gains_with_luck(kind):
    rng = np.random.default_rng(0)
    lost = list(rng.normal(-0.05, 0.001, 400))
    gained = list(rng.normal(0.004, 0.03, 400))
    bad, good = (Objective(kind).score(cut(r, 16), 365.0) for r in (lost, gained))
    assert bad.value < -0.9 < good.value
    assert good.error > bad.error


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_without_a_drawdown_calmar_is_undefined(penalty):
    for seed in range(20):
        rising = list(np.abs(np.random.default_rng(seed).normal(0.001, 0.01, 60)))
        score = Objective("calmar", penalty=penalty).score(cut(rising), 365.0)
        assert (score.value, score.outcome) == (-math.inf, Outcome.NOT_FINITE)


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
