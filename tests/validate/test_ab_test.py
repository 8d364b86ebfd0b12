"""Decisions of the A/B test, its error rate, and its statement about power."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from ares.core.config import ABTestConfig
from ares.core.errors import InputError
from ares.store.codecs import decode, encode
from ares.validate.ab_test import ABReport, ab_test
from ares.validate.overfitting import spa

YEAR = 252
CONFIG = ABTestConfig(alpha=0.05, resamples=499)


def noise(seed: int, days: int = 500, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.01, size=days)


def compare(challenger, hold, champion=None, *, config=CONFIG, **options) -> ABReport:
    many = challenger if isinstance(challenger, dict) else {"challenger": challenger}
    defaults = {"seed": 1, "days_per_year": YEAR}
    return ab_test(
        many, buy_and_hold=hold, champion=champion, config=config, **{**defaults, **options}
    )


def test_a_clear_winner_is_promoted():
    found = compare(noise(1, mean=0.003), noise(2), noise(3))
    assert found.decision == "promote"
    assert found.reasons[0].startswith("better than champion: +")
    assert "p = 0.0020 at level 0.05" in found.reasons[0]
    assert [c.opponent for c in found.comparisons] == ["champion", "buy and hold", "cash"]
    assert [c.decides for c in found.comparisons] == [True, False, False]


def test_without_a_champion_both_baselines_must_be_beaten():
    hold = noise(2, mean=0.003)
    beats_cash_only = compare(hold + noise(4) / 10, hold)
    assert beats_cash_only.decision == "hold"
    assert [c.decides for c in beats_cash_only.comparisons] == [True, True]
    assert beats_cash_only.comparisons[1].p_better < 0.05
    assert beats_cash_only.reasons[0].startswith("not shown to beat buy and hold")
    assert compare(noise(1, mean=0.004), noise(2)).decision == "promote"


def test_a_clear_loser_is_rejected():
    found = compare(noise(1, mean=-0.003), noise(2, mean=0.001), noise(3, mean=0.001))
    assert found.decision == "reject"
    assert found.reasons[0].startswith("worse than champion: -")


def test_better_than_a_bad_champion_but_behind_cash_is_held():
    found = compare(noise(1, mean=-0.001) - noise(1).mean(), noise(2), noise(3, mean=-0.006))
    assert found.decision == "hold"
    assert found.comparisons[0].p_better < 0.05
    assert any(reason.startswith("behind cash by ") for reason in found.reasons)


def test_equal_models_are_rarely_promoted_or_rejected():
    generator = np.random.default_rng(5)
    decisions = []
    for k in range(200):
        market = generator.normal(0, 0.01, size=250)
        challenger = 0.5 * market + generator.normal(0, 0.005, size=250)
        champion = 0.5 * market + generator.normal(0, 0.005, size=250)
        config = ABTestConfig(alpha=0.05, resamples=199)
        decisions.append(compare(challenger, market, champion, config=config, seed=k).decision)
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
    assert decisions.count("promote") / 200 <= limit
    assert decisions.count("reject") / 200 <= limit


@pytest.mark.parametrize("looks", [0, 1, 5])
def test_each_further_look_halves_the_level(looks):
    found = compare(noise(1, mean=0.003), noise(2), looks_before=looks)
    assert found.level == 0.05 / 2**looks
    assert found.looks_before == looks


def test_a_later_look_needs_a_smaller_p():
    champion, extra = noise(3, mean=0.002), noise(7)
    extra += 1.9 * extra.std() / math.sqrt(500) - extra.mean()  # 1.9 standard errors above zero
    arguments = (champion + extra, noise(2, mean=-0.003), champion)
    first = compare(*arguments)
    p_value = first.comparisons[0].p_better
    assert 0.01 < p_value < 0.05
    assert first.decision == "promote"
    assert compare(*arguments, looks_before=4).decision == "hold"


def test_several_challengers_are_tested_together():
    field = {f"model {k}": noise(20 + k) for k in range(8)}
    hold = noise(2)
    found = compare(field, hold, noise(3))
    best = max(field, key=lambda name: field[name].mean())
    assert found.challenger == best
    assert found.challengers == tuple(field)
    alone = compare(field[best], hold, noise(3))
    # The luckiest of eight is not tested as if it had been the only one.
    assert found.comparisons[0].p_better > alone.comparisons[0].p_better
    matrix = np.column_stack(list(field.values()))
    joint = spa(noise(3), matrix, seed=5, mean_block=found.comparisons[0].mean_block)
    assert found.comparisons[0].p_better == pytest.approx(joint.consistent, abs=0.08)
    field["model 3"] = noise(23, mean=0.004)
    assert compare(field, hold, noise(3)).decision == "promote"


def test_the_luckiest_of_many_is_rarely_promoted():
    generator = np.random.default_rng(6)
    config = ABTestConfig(alpha=0.05, resamples=100)
    promoted = 0
    for k in range(60):
        field = {str(i): generator.normal(0, 0.01, size=120) for i in range(6)}
        champion = generator.normal(0, 0.01, size=120)
        flat = np.full(120, -0.01)  # baselines that do not stand in the way
        report = compare(field, flat, champion, config=config, seed=k)
        promoted += report.comparisons[0].p_better < report.level
    assert promoted <= 60 * 0.05 + 3 * math.sqrt(60 * 0.05 * 0.95)


def test_numbers_are_those_of_their_definitions():
    challenger, hold, champion = noise(1, mean=0.001), noise(2), noise(3)
    first = compare(challenger, hold, champion).comparisons[0]
    difference = challenger - champion
    assert first.annual_difference == pytest.approx(difference.mean() * YEAR)
    assert first.challenger_sharpe == pytest.approx(
        challenger.mean() / challenger.std(ddof=1) * math.sqrt(YEAR)
    )
    assert first.low < first.annual_difference < first.high
    error = difference.std() / math.sqrt(500) * YEAR  # these days are independent
    assert first.high - first.low == pytest.approx(2 * 1.645 * error, rel=0.15)
    assert first.detectable == pytest.approx((1.645 + 0.842) * error, rel=0.15)
    assert first.days_needed == pytest.approx(
        500 * (first.detectable / first.annual_difference) ** 2, abs=1
    )
    assert first.p_better + first.p_worse == pytest.approx(1.0, abs=0.01)


def test_the_detectable_difference_is_detected_four_times_in_five():
    generator = np.random.default_rng(8)
    plan = compare(noise(1), noise(2), noise(3)).comparisons[0]
    daily = plan.detectable / YEAR
    hits = 0
    for k in range(120):
        challenger, champion = generator.normal(0, 0.01, size=(2, 500))
        config = ABTestConfig(alpha=0.05, resamples=199)
        found = compare(challenger + daily, noise(2), champion, config=config, seed=k)
        hits += found.comparisons[0].p_better < 0.05
    assert hits / 120 == pytest.approx(0.8, abs=0.12)


def test_the_statement_about_power():
    found = compare(noise(1, mean=0.001), noise(2), noise(3))
    first = found.comparisons[0]
    assert found.power == (
        f"500 days detect a difference of {first.detectable:.1%} a year to champion with a power"
        f" of 80%; the {first.annual_difference:.1%} seen would need {first.days_needed:,} days."
    )
    behind = compare(noise(1, mean=-0.001), noise(2), noise(3, mean=0.001))
    assert behind.power.endswith("with a power of 80%.")
    assert math.isnan(behind.comparisons[0].days_needed)


@pytest.mark.parametrize("days", [0, 1])
def test_a_holdout_that_is_too_short_holds(days):
    found = compare(np.zeros(days), np.zeros(days))
    assert found.decision == "hold"
    assert "too few days" in found.reasons[0]
    assert found.power == f"{days} days are too few to test anything."


def test_a_model_is_not_better_than_itself():
    series = noise(1, mean=0.002)
    found = compare(series, noise(2), series)
    assert found.decision == "hold"
    assert found.comparisons[0].p_better == 1.0
    twins = compare({"a": series, "b": series}, noise(2), series)
    assert math.isnan(twins.comparisons[0].p_better)
    assert twins.decision == "hold"


def test_input_is_checked():
    with pytest.raises(InputError, match="same days"):
        compare(noise(1), noise(2, days=499))
    with pytest.raises(InputError, match="champion: paired"):
        compare(noise(1), noise(2), noise(3, days=499))
    with pytest.raises(InputError, match="needs a challenger"):
        compare({}, noise(2))
    with pytest.raises(InputError, match="earlier looks"):
        compare(noise(1), noise(2), looks_before=-1)


def test_the_report_is_reproducible_and_survives_storage():
    reports = [compare(noise(1), noise(2), noise(3), seed=s) for s in (4, 4, 5)]
    assert encode(reports[0]) == encode(reports[1])
    assert encode(reports[0]) != encode(reports[2])
    assert encode(decode(encode(reports[0]))) == encode(reports[0])
    names = [c.opponent for c in reports[0].comparisons]
    assert all(a != b for a, b in itertools.pairwise(names))
