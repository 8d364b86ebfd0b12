"""A/B test on the holdout: challenger against champion and baselines, by paired daily returns.

The k-th look at a holdout tests at alpha / 2^k, so that all looks together err with a probability
below 2 alpha, however many there are. Several challengers are tested together by SPA.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from ares.core.errors import InputError
from ares.core.identity import seed_for
from ares.store.codecs import register
from ares.validate.bootstrap import bootstrap_means, checked_returns, optimal_block
from ares.validate.overfitting import moments, spa

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ares.core.config import ABTestConfig
    from ares.core.types import Float64Array

Decision = Literal["promote", "hold", "reject"]
POWER: Final = 0.8
CHAMPION: Final = "champion"


@register(schema=1)
@dataclass(frozen=True)
class Comparison:
    """The challenger against one opponent, on the same days; undefined values are NaN.

    Attributes:
        opponent: "champion", "buy and hold" or "cash".
        decides: Whether a promotion needs significance here.
        annual_difference: Mean daily return less the opponent's, per year.
        mean_block: Days, of the bootstrap.
        low: Lower end of the bootstrap interval of that difference, at the test's level per side.
        high: Upper end.
        p_better: H0: not better. With several challengers SPA's consistent p-value.
        p_worse: H0: not worse.
        challenger_sharpe: Annualised.
        opponent_sharpe: Annualised.
        detectable: Smallest annual difference that these days detect with a power of 80 %.
        days_needed: Days at which the difference seen would be detected with a power of 80 %;
            NaN where it is not positive.
    """

    opponent: str
    decides: bool
    annual_difference: float
    mean_block: float
    low: float
    high: float
    p_better: float
    p_worse: float
    challenger_sharpe: float
    opponent_sharpe: float
    detectable: float
    days_needed: float


@register(schema=1)
@dataclass(frozen=True)
class ABReport:
    """The recommendation and what it rests on.

    Attributes:
        challenger: The tested one, of several the one with the highest mean.
        challengers: All names.
        decision: "promote": better than what decides, and ahead of the rest. "reject": worse than
            something that decides. "hold": the data do not tell.
        reasons: Sentences with the numbers.
        level: Significance level of this look.
        looks_before: Other models that looked at this holdout before.
        n_days: Days of the holdout.
        comparisons: One per opponent.
        power: What these days can detect, as a sentence.
    """

    challenger: str
    challengers: tuple[str, ...]
    decision: Decision
    reasons: tuple[str, ...]
    level: float
    looks_before: int
    n_days: int
    comparisons: tuple[Comparison, ...]
    power: str


def ab_test(
    challengers: Mapping[str, Float64Array],
    *,
    buy_and_hold: Float64Array,
    champion: Float64Array | None = None,
    config: ABTestConfig,
    looks_before: int = 0,
    seed: int,
    days_per_year: float,
) -> ABReport:
    """Compare daily net returns on the holdout.

    Against a champion, promotion needs significance over the champion and a higher mean than
    every baseline. Without one it needs significance over both baselines; as both must be won, each
    is tested at the full level (an intersection-union test).

    Args:
        challengers: Name -> daily net returns, (days,); after the end of every model's training.
        buy_and_hold: Same days, at the exposure it is meant to be compared at.
        champion: Same days; None where there is none.
        config: alpha and the number of resamples.
        looks_before: k, the number of other models that looked at this holdout before.
        seed: Of the run.
        days_per_year: 365, 260 or 252.

    Raises:
        InputError: no challenger, different lengths, values that are not finite, k < 0.
    """
    if not challengers or looks_before < 0:
        raise InputError(
            "an A/B test needs a challenger and a count of earlier looks",
            value=(len(challengers), looks_before),
        )
    days = len(buy_and_hold)
    series = {k: checked_returns(v, k, length=days) for k, v in challengers.items()}
    name = max(series, key=lambda key: float(series[key].sum()))
    level = config.alpha / 2.0**looks_before
    opponents = {} if champion is None else {CHAMPION: champion}
    opponents |= {"buy and hold": buy_and_hold, "cash": np.zeros(days)}
    comparisons = [
        _compare(
            series[name],
            checked_returns(returns, opponent, length=days),
            opponent,
            decides=opponent == CHAMPION or champion is None,
            level=level,
            resamples=config.resamples,
            seed=seed_for(seed, f"ab_test.{opponent}"),
            days_per_year=days_per_year,
            others=np.column_stack(list(series.values())) if len(series) > 1 else None,
        )
        for opponent, returns in opponents.items()
    ]
    decision, reasons = _decide(comparisons, level)
    power = _power_statement(comparisons[0], days)
    names = tuple(series)
    return ABReport(
        name, names, decision, reasons, level, looks_before, days, tuple(comparisons), power
    )


def _compare(
    challenger: Float64Array,
    opponent: Float64Array,
    name: str,
    *,
    decides: bool,
    level: float,
    resamples: int,
    seed: int,
    days_per_year: float,
    others: Float64Array | None,
) -> Comparison:
    """One comparison; `others` holds all challengers where there are several."""
    difference = challenger - opponent
    days = len(difference)
    block = optimal_block(difference)
    observed = float(difference.mean()) if days else math.nan
    low = high = p_better = p_worse = detectable = needed = math.nan
    if days >= 2:
        means = bootstrap_means(
            difference - observed, mean_block=block, resamples=resamples, seed=seed
        )
        p_better = (1 + int(np.count_nonzero(means >= observed))) / (1 + resamples)
        p_worse = (1 + int(np.count_nonzero(means <= observed))) / (1 + resamples)
        low, high = (observed - float(np.quantile(means, q)) for q in (1 - level, level))
        reach = (NormalDist().inv_cdf(1 - level) + NormalDist().inv_cdf(POWER)) * float(means.std())
        detectable = reach * days_per_year
        needed = math.ceil(days * (reach / observed) ** 2) if observed > 0 else math.nan
        if others is not None:
            joint = spa(opponent, others, seed=seed, mean_block=block, resamples=resamples)
            p_better = joint.consistent
    year = math.sqrt(days_per_year)
    return Comparison(
        opponent=name,
        decides=decides,
        annual_difference=observed * days_per_year,
        mean_block=block,
        low=low * days_per_year,
        high=high * days_per_year,
        p_better=p_better,
        p_worse=p_worse,
        challenger_sharpe=moments(challenger).sharpe * year,
        opponent_sharpe=moments(opponent).sharpe * year,
        detectable=detectable,
        days_needed=needed,
    )


def _decide(comparisons: list[Comparison], level: float) -> tuple[Decision, tuple[str, ...]]:
    deciding = [c for c in comparisons if c.decides]
    worse = [c for c in deciding if c.p_worse < level]
    if worse:
        return "reject", tuple(_sentence(c, level, "worse than", c.p_worse) for c in worse)
    unproven = [c for c in deciding if not c.p_better < level]  # NaN proves nothing
    behind = [c for c in comparisons if not c.decides and not c.annual_difference > 0]
    reasons = [_sentence(c, level, "not shown to beat", c.p_better) for c in unproven]
    reasons += [f"behind {c.opponent} by {-c.annual_difference:.1%} a year" for c in behind]
    if reasons:
        return "hold", tuple(reasons)
    won = [_sentence(c, level, "better than", c.p_better) for c in deciding]
    ahead = [c for c in comparisons if not c.decides]
    won += [f"ahead of {c.opponent} by {c.annual_difference:.1%} a year" for c in ahead]
    return "promote", tuple(won)


def _sentence(found: Comparison, level: float, verdict: str, p_value: float) -> str:
    if math.isnan(p_value):
        return f"{verdict} {found.opponent}: too few days, or no difference on any of them"
    return (
        f"{verdict} {found.opponent}: {found.annual_difference:+.1%} a year,"
        f" p = {p_value:.4f} at level {level:.4g}"
    )


def _power_statement(first: Comparison, days: int) -> str:
    if math.isnan(first.detectable):
        return f"{days} days are too few to test anything."
    if first.detectable == 0.0:
        return (
            f"The difference to {first.opponent} is the same on all {days} days: no test is made."
        )
    text = (
        f"{days} days detect a difference of {first.detectable:.1%} a year to {first.opponent}"
        f" with a power of {POWER:.0%}"
    )
    if math.isnan(first.days_needed):
        return f"{text}."
    return f"{text}; the {first.annual_difference:.1%} seen would need {first.days_needed:,} days."
