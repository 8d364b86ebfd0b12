"""The verdict: is there evidence of edge in the out-of-sample net daily returns?

Three conditions, all of them: a deflated Sharpe ratio of at least 0.95, a paired bootstrap against
buy and hold at the same exposure with p below 0.05, and at least 30 trades.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ares.core.errors import InputError
from ares.core.identity import seed_for
from ares.store.codecs import register
from ares.validate.bootstrap import checked_returns, optimal_block, paired_bootstrap_p
from ares.validate.overfitting import (
    dsr,
    expected_max_sharpe,
    min_track_record_length,
    moments,
    sharpe_standard_error,
)

if TYPE_CHECKING:
    from ares.core.types import Float64Array

MIN_DSR: Final = 0.95
MAX_P: Final = 0.05
MIN_TRADES: Final = 30
COUNTED: Final = (
    "A candidate is a configuration that was validated on these bars in this workspace; the points"
    " searched inside the windows are none, as they were chosen without the bars out of sample."
)
"""What `n_validated` counts, for people."""


@register(schema=1)
@dataclass(frozen=True)
class Evidence:
    """The verdict and every number it rests on; undefined ones are NaN.

    Attributes:
        edge: All three conditions hold.
        verdict: One sentence that starts with "Evidence of edge" or "No evidence of edge".
        n_days: Days out of sample.
        days_per_year: 365, 260 or 252.
        n_trades: Round trips out of sample.
        n_validated: Candidates that were taken out of sample.
        exposure: Average share of equity in the market; buy and hold was scaled by it.
        sharpe: Annualised, net, out of sample.
        benchmark_sharpe: Of buy and hold, annualised, same days.
        sharpe_per_day: What the DSR sees.
        skew: Of the daily returns.
        kurtosis: Full (3 for the normal).
        sharpe_variance: Variance of the candidates' daily Sharpe ratios that the DSR assumes.
        expected_max_sharpe: Annualised; of `n_validated` candidates without skill.
        dsr: Deflated Sharpe ratio.
        annual_difference: Mean of strategy less buy and hold at the same exposure, per year.
        p_value: Of the paired bootstrap of that difference.
        mean_block: Days, of the bootstrap.
        min_track_record_days: Days after which PSR against zero reaches 0.95.
    """

    edge: bool
    verdict: str
    n_days: int
    days_per_year: float
    n_trades: int
    n_validated: int
    exposure: float
    sharpe: float
    benchmark_sharpe: float
    sharpe_per_day: float
    skew: float
    kurtosis: float
    sharpe_variance: float
    expected_max_sharpe: float
    dsr: float
    annual_difference: float
    p_value: float
    mean_block: float
    min_track_record_days: float


def judge(
    oos_daily_returns: Float64Array,
    benchmark_daily_returns: Float64Array,
    *,
    exposure: float,
    n_trades: int,
    n_validated: int = 1,
    days_per_year: float,
    seed: int,
    sharpe_variance: float | None = None,
    mean_block: float | None = None,
    resamples: int = 5000,
) -> Evidence:
    """Judge the stitched out-of-sample curve.

    Args:
        oos_daily_returns: Net daily returns, (days,).
        benchmark_daily_returns: Buy and hold on the same days, (days,).
        exposure: Average share of equity in the market (share of closes held, times size), in
            [0, 1]; buy and hold is scaled by it. NaN counts as 0.
        n_trades: Round trips.
        n_validated: Candidates that this run took out of sample: N of the DSR.
        days_per_year: 365, 260 or 252.
        seed: The run's seed.
        sharpe_variance: Variance of the candidates' Sharpe ratios per day; default: that of one
            estimate around no skill, which is what candidates without skill differ by.
        mean_block: Days; default: Politis-White of the difference.
        resamples: Of the bootstrap.

    Raises:
        InputError: different lengths, values not finite, exposure or `n_validated` out of range.
    """
    returns = checked_returns(oos_daily_returns, "oos_daily_returns")
    benchmark = checked_returns(
        benchmark_daily_returns, "benchmark_daily_returns", length=len(returns)
    )
    exposure = 0.0 if math.isnan(exposure) else float(exposure)
    if not 0 <= exposure <= 1:
        raise InputError("exposure is a share of closes", value=exposure)
    difference = returns - exposure * benchmark
    block = optimal_block(difference) if mean_block is None else mean_block
    p_value = paired_bootstrap_p(
        difference, mean_block=block, resamples=resamples, seed=seed_for(seed, "evidence.paired")
    )
    variance = sharpe_standard_error(0.0, len(returns)) ** 2
    return _decided(
        _undecided(
            returns,
            benchmark,
            days_per_year=float(days_per_year),
            n_trades=n_trades,
            n_validated=n_validated,
            exposure=exposure,
            sharpe_variance=variance if sharpe_variance is None else sharpe_variance,
            annual_difference=_mean(difference) * days_per_year,
            p_value=p_value,
            mean_block=block,
        )
    )


def discounted(evidence: Evidence, n_validated: int) -> Evidence:
    """The same verdict as it reads after `n_validated` candidates in all; it can only get worse.

    Raises:
        InputError: fewer candidates than the evidence already counts.
    """
    if n_validated < evidence.n_validated:
        raise InputError(
            "history can only add candidates", value=(n_validated, evidence.n_validated)
        )
    return _decided(dataclasses.replace(evidence, n_validated=n_validated))


def _undecided(
    returns: Float64Array, benchmark: Float64Array, *, days_per_year: float, **given: Any
) -> Evidence:
    """All numbers that do not depend on how many candidates there were."""
    stats = moments(returns)
    year = math.sqrt(days_per_year)
    return Evidence(
        edge=False,
        verdict="",
        n_days=stats.n,
        days_per_year=days_per_year,
        sharpe=stats.sharpe * year,
        benchmark_sharpe=moments(benchmark).sharpe * year,
        sharpe_per_day=stats.sharpe,
        skew=stats.skew,
        kurtosis=stats.kurtosis,
        expected_max_sharpe=math.nan,
        dsr=math.nan,
        min_track_record_days=min_track_record_length(
            stats.sharpe, skew=stats.skew, kurtosis=stats.kurtosis
        ),
        **given,
    )


def _decided(draft: Evidence) -> Evidence:
    """Fill in what depends on the number of candidates: DSR, decision and verdict."""
    variance = draft.sharpe_variance
    single = draft.n_validated == 1
    bar = 0.0 if single else expected_max_sharpe(draft.n_validated, variance=variance)
    deflated = dsr(
        draft.sharpe_per_day,
        draft.n_days,
        n_trials=draft.n_validated,
        variance=variance,
        skew=draft.skew,
        kurtosis=draft.kurtosis,
    )
    full = dataclasses.replace(
        draft, dsr=deflated, expected_max_sharpe=bar * math.sqrt(draft.days_per_year)
    )
    failed = _failed_conditions(full)
    verdict = _praise(full) if not failed else f"No evidence of edge: {'; '.join(failed)}."
    return dataclasses.replace(full, edge=not failed, verdict=verdict)


def _failed_conditions(found: Evidence) -> list[str]:
    failed = []
    if found.n_trades < MIN_TRADES:
        failed.append(f"{found.n_trades} trades out of sample are fewer than {MIN_TRADES}")
    if math.isnan(found.dsr):
        failed.append(
            f"the Sharpe ratio of {found.n_days} days is undefined (too few days, or no movement)"
        )
    elif found.dsr < MIN_DSR:
        failed.append(
            f"a deflated Sharpe ratio of {_down(found.dsr)} is below {MIN_DSR:.2f}"
            f" ({_candidates(found)}, Sharpe {found.sharpe:.2f} a year over {found.n_days} days)"
        )
    if not found.p_value < MAX_P:  # NaN is no evidence
        shown = "undefined" if math.isnan(found.p_value) else f"{found.p_value:.4f}"
        failed.append(
            f"p = {shown} against buy and hold at the same exposure of {found.exposure:.0%}"
            f" is not below {MAX_P:.2f}"
        )
    return failed


def _praise(found: Evidence) -> str:
    return (
        f"Evidence of edge: a deflated Sharpe ratio of {_down(found.dsr)} (at least {MIN_DSR:.2f};"
        f" {_candidates(found)}, Sharpe {found.sharpe:.2f} a year over {found.n_days} days),"
        f" p = {_down(found.p_value, 4)} (below {MAX_P:.2f}) against buy and hold at the same"
        f" exposure of {found.exposure:.0%}, and {found.n_trades} trades (at least {MIN_TRADES})."
    )


def _mean(values: Float64Array) -> float:
    return float(values.mean()) if len(values) else math.nan


def _candidates(found: Evidence) -> str:
    return f"{found.n_validated} candidate{'s' * (found.n_validated > 1)} validated"


def _down(value: float, digits: int = 3) -> str:
    """Cut, not rounded: 0.9499 must not read 0.950 beside "below 0.95"."""
    return f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"
