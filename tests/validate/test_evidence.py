"""The verdict: its conditions and words, and its size and power by simulation."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.errors import InputError
from ares.core.identity import fingerprint
from ares.store.codecs import decode, encode
from ares.validate.evidence import Evidence, discounted, judge
from ares.validate.overfitting import dsr, moments, psr

YEAR = 252


def market(generator: np.random.Generator, days: int, kind: str) -> np.ndarray:
    """Daily returns of a market that nobody can predict (its volatility one can)."""
    noise = generator.standard_t(5, size=days) / math.sqrt(5 / 3)
    if kind == "even":
        return 0.01 * noise
    if kind == "rising":
        return 0.0005 + 0.01 * noise
    returns, variance = np.empty(days), 1.0
    for t in range(days):  # GARCH(1, 1)
        returns[t] = math.sqrt(variance) * noise[t]
        variance = 0.05 + 0.10 * returns[t] ** 2 + 0.85 * variance
    return 0.01 * returns


def blind_positions(generator: np.random.Generator, days: int) -> np.ndarray:
    """In and out of the market with spells of about ten days, without looking."""
    return (np.cumsum(generator.random(days) < 0.1) + generator.integers(2)) % 2


def verdict(strategy: np.ndarray, benchmark: np.ndarray, exposure: float, **options) -> Evidence:
    defaults = {"n_trades": 60, "days_per_year": YEAR, "seed": 1, "resamples": 299}
    return judge(strategy, benchmark, exposure=exposure, **{**defaults, **options})


@pytest.mark.parametrize("kind", ["even", "rising", "clustered"])
def test_blind_timing_is_rarely_called_an_edge(kind):
    generator = np.random.default_rng(100)
    claims = 0
    for k in range(400):
        returns = market(generator, 400, kind)
        held = blind_positions(generator, 400)
        claims += verdict(held * returns, returns, held.mean(), seed=k).edge
    assert claims / 400 <= 0.05


def test_autocorrelated_luck_is_rarely_called_an_edge():
    """Smoothed returns, whose Sharpe ratio looks better than it is."""
    generator = np.random.default_rng(101)
    claims = 0
    for k in range(400):
        noise = generator.normal(0, 0.01, size=401)
        strategy = noise[1:] + 0.3 * noise[:-1]
        claims += verdict(strategy, generator.normal(0, 0.01, 400), 0.5, seed=k).edge
    assert claims / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_luck_picked_from_many_needs_the_number_of_candidates():
    generator = np.random.default_rng(102)
    honest = forgetful = 0
    for k in range(100):
        runs = generator.normal(0, 0.01, size=(20, 400))
        best = runs[runs.mean(axis=1).argmax()]
        flat = np.zeros(400)
        honest += verdict(best, flat, 0.0, seed=k, n_validated=20).edge
        forgetful += verdict(best, flat, 0.0, seed=k, n_validated=1).edge
    assert forgetful > 40  # most of them: the reason why N is counted
    assert honest <= 10


def test_a_planted_edge_is_found():
    generator = np.random.default_rng(103)
    found = 0
    for k in range(40):
        returns = market(generator, 5 * YEAR, "clustered")
        # Right on 58 % of the days.
        side = np.where(generator.random(len(returns)) < 0.58, 1, -1) * np.sign(returns)
        found += verdict(side * returns, returns, 1.0, seed=k).edge
    assert found >= 36


def test_owning_a_rising_market_is_no_edge():
    returns = np.random.default_rng(104).normal(0.001, 0.008, size=1500)
    found = verdict(returns, returns, 1.0)
    assert found.dsr > 0.95
    assert found.p_value == 1.0
    assert not found.edge
    assert "against buy and hold at the same exposure of 100%" in found.verdict
    assert "deflated" not in found.verdict  # that condition held


SERIES = {
    "good": np.random.default_rng(1).normal(0.001, 0.008, size=900),
    "noise": np.random.default_rng(2).normal(0.0, 0.008, size=900),
}


@given(
    st.sampled_from(sorted(SERIES)),
    st.integers(0, 90),
    st.integers(1, 50),
    st.floats(0, 1),
    st.integers(0, 5),
)
def test_edge_means_all_three_conditions(name, trades, validated, exposure, seed):
    benchmark = SERIES["noise"][::-1].copy()
    found = verdict(
        SERIES[name],
        benchmark,
        exposure,
        n_trades=trades,
        n_validated=validated,
        seed=seed,
        mean_block=3.0,
        resamples=99,
    )
    assert found.edge == (found.dsr >= 0.95 and found.p_value < 0.05 and trades >= 30)
    assert found.verdict.startswith("Evidence of edge: " if found.edge else "No evidence of edge: ")
    assert found.verdict.endswith(".")
    assert ("fewer than 30" in found.verdict) == (trades < 30)
    assert ("is below 0.95" in found.verdict) == (found.dsr < 0.95)
    assert ("is not below 0.05" in found.verdict) == (found.p_value >= 0.05)


def test_numbers_are_those_of_their_definitions():
    strategy, benchmark = SERIES["good"], SERIES["noise"]
    found = verdict(strategy, benchmark, 0.4, n_validated=7, n_trades=77)
    shape = moments(strategy)
    assert found.sharpe == pytest.approx(strategy.mean() / strategy.std(ddof=1) * math.sqrt(YEAR))
    assert found.dsr == dsr(
        shape.sharpe,
        900,
        n_trials=7,
        variance=found.sharpe_variance,
        skew=shape.skew,
        kurtosis=shape.kurtosis,
    )
    assert found.sharpe_variance == pytest.approx(1 / 899)
    assert found.annual_difference == pytest.approx((strategy - 0.4 * benchmark).mean() * YEAR)
    alone = verdict(strategy, benchmark, 0.4)
    assert alone.dsr == psr(shape.sharpe, 900, skew=shape.skew, kurtosis=shape.kurtosis)
    assert alone.expected_max_sharpe == 0.0
    assert (found.n_days, found.n_trades, found.n_validated) == (900, 77, 7)
    at_length = psr(
        shape.sharpe, found.min_track_record_days, skew=shape.skew, kurtosis=shape.kurtosis
    )
    assert at_length == pytest.approx(0.95)


def test_the_sentences():
    good = verdict(SERIES["good"], SERIES["noise"], 0.5)
    assert good.verdict == (
        f"Evidence of edge: a deflated Sharpe ratio of {math.floor(good.dsr * 1000) / 1000:.3f}"
        f" (at least 0.95; 1 candidate validated, Sharpe {good.sharpe:.2f} a year over 900 days),"
        f" p = {math.floor(good.p_value * 1e4) / 1e4:.4f} (below 0.05) against buy and hold at the"
        " same exposure of 50%, and 60 trades (at least 30)."
    )
    bad = verdict(SERIES["noise"], SERIES["good"], 0.5, n_trades=3, n_validated=2)
    assert bad.verdict == (
        "No evidence of edge: 3 trades out of sample are fewer than 30; a deflated Sharpe ratio of"
        f" {math.floor(bad.dsr * 1000) / 1000:.3f} is below 0.95 (2 candidates validated,"
        f" Sharpe {bad.sharpe:.2f} a year over 900 days); p = {bad.p_value:.4f} against buy and"
        " hold at the same exposure of 50% is not below 0.05."
    )


def test_a_near_miss_does_not_read_like_a_hit():
    near = dataclasses.replace(verdict(SERIES["good"], SERIES["noise"], 0.5), edge=False)
    length = near.min_track_record_days
    just_under = dataclasses.replace(near, n_days=math.floor(length) - 1)
    shown = discounted(just_under, 1)
    assert 0.949 < shown.dsr < 0.95
    assert "of 0.949 is below 0.95" in shown.verdict


def test_history_only_makes_the_verdict_worse():
    now = verdict(SERIES["good"], SERIES["noise"], 0.5)
    later = [discounted(now, n) for n in (1, 2, 10, 1000, 10**9)]
    assert now.edge
    assert later[0] == now
    assert [a.dsr > b.dsr for a, b in itertools.pairwise(later)] == [True] * 4
    assert not later[-1].edge
    assert "1000000000 candidates validated" in later[-1].verdict
    with pytest.raises(InputError, match="only add"):
        discounted(later[2], 3)


@pytest.mark.parametrize("days", [0, 1, 2, 60])
def test_a_flat_or_empty_curve_has_no_numbers_and_no_edge(days):
    found = verdict(np.zeros(days), np.zeros(days), math.nan, n_trades=0)
    assert not found.edge
    assert math.isnan(found.sharpe)
    assert math.isnan(found.dsr)
    assert math.isnan(found.min_track_record_days)
    assert f"the Sharpe ratio of {days} days is undefined" in found.verdict
    values = [v for v in dataclasses.astuple(found) if isinstance(v, float)]
    assert not any(math.isinf(v) for v in values)


def test_impossible_input_is_refused():
    with pytest.raises(InputError, match="same days"):
        verdict(np.zeros(5), np.zeros(6), 0.5)
    with pytest.raises(InputError, match="share"):
        verdict(np.zeros(5), np.zeros(5), 1.5)
    with pytest.raises(InputError, match="finite"):
        verdict(np.full(5, np.nan), np.zeros(5), 0.5)
    with pytest.raises(InputError, match="at least one trial"):
        verdict(SERIES["good"], SERIES["noise"], 0.5, n_validated=0)


def test_the_verdict_depends_on_nothing_but_its_arguments():
    first = verdict(SERIES["good"], SERIES["noise"], 0.5, seed=9)
    again = verdict(SERIES["good"].copy(), SERIES["noise"].copy(), 0.5, seed=9)
    assert fingerprint(first) == fingerprint(again)
    assert decode(encode(first)) == first
