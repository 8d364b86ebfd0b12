"""How much of a backtest is luck: PSR, DSR, track record lengths, PBO and SPA.

Sharpe ratios are *per observation* (not annualised), kurtosis is *full* (3 for the normal), and
an undefined statistic is NaN. Sources: Bailey and López de Prado, "The Sharpe Ratio Efficient
Frontier" (2012) and "The Deflated Sharpe Ratio" (2014); Bailey, Borwein, López de Prado and Zhu,
"Pseudo-Mathematics and Financial Charlatanism" (2014) and "The Probability of Backtest
Overfitting" (2017); Hansen, "A Test for Superior Predictive Ability" (2005).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.core.errors import InputError
from ares.core.identity import seed_for
from ares.store.codecs import register
from ares.validate.bootstrap import checked_matrix, checked_returns, optimal_block
from ares.validate.cscv import Pbo, pbo_cscv

if TYPE_CHECKING:
    from ares.core.types import Float64Array, Int64Array

__all__ = [
    "Moments",
    "Pbo",
    "SearchOverfitting",
    "Spa",
    "dsr",
    "effective_trials",
    "expected_max_sharpe",
    "mean_correlation",
    "min_backtest_length",
    "min_track_record_length",
    "moments",
    "pbo_cscv",
    "psr",
    "search_overfitting",
    "sharpe_standard_error",
    "spa",
]

_EULER_GAMMA: Final = 0.5772156649015329
_NORMAL: Final = NormalDist()


@register(schema=1)
@dataclass(frozen=True)
class Moments:
    """Sharpe per observation (ddof 1), skewness, full kurtosis (both ddof 0) of `n` returns."""

    n: int
    sharpe: float
    skew: float
    kurtosis: float


def moments(returns: Float64Array) -> Moments:
    """Moments of a return series; NaN where it is flat or has fewer than two values."""
    returns = checked_returns(returns, "returns")
    n = len(returns)
    # Below 1e-154 squares vanish: such returns do not move either.
    if n < 2 or returns.min() == returns.max() or returns.std(ddof=1) == 0.0:
        return Moments(n, math.nan, math.nan, math.nan)
    centred = returns - returns.mean()
    centred /= np.abs(centred).max()
    second = float(np.mean(centred**2))
    skew = float(np.mean(centred**3)) / second**1.5
    kurtosis = float(np.mean(centred**4)) / second**2
    return Moments(n, float(returns.mean() / returns.std(ddof=1)), skew, kurtosis)


def sharpe_standard_error(
    sharpe: float, n: int, *, skew: float = 0.0, kurtosis: float = 3.0
) -> float:
    """Standard error of an estimated Sharpe ratio: sqrt((1 - g3 SR + (g4 - 1)/4 SR^2)/(n - 1)).

    NaN with fewer than two observations, or where no distribution has these moments.
    """
    factor = 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
    return math.sqrt(factor / (n - 1)) if n >= 2 and factor > 0 else math.nan


def psr(
    sharpe: float, n: int, *, skew: float = 0.0, kurtosis: float = 3.0, benchmark: float = 0.0
) -> float:
    """Probability that the true Sharpe ratio exceeds `benchmark` (2012, eq. 11)."""
    error = sharpe_standard_error(sharpe, n, skew=skew, kurtosis=kurtosis)
    return _phi((sharpe - benchmark) / error) if error > 0 else math.nan


def expected_max_sharpe(n_trials: float, *, variance: float = 1.0) -> float:
    """Expected largest Sharpe ratio among `n_trials` without skill (2014, eq. 1).

    `variance` is the variance of the trials' Sharpe ratios, in the same unit (per observation).
    One trial has 0; the approximation, which falls below zero just above one trial, is cut there.

    Raises:
        InputError: fewer than one trial, a negative variance.
    """
    if not n_trials >= 1 or variance < 0:
        raise InputError("at least one trial and no negative variance", value=(n_trials, variance))
    if n_trials == 1:
        return 0.0
    first = _NORMAL.inv_cdf(1.0 - 1.0 / n_trials)
    second = _NORMAL.inv_cdf(1.0 - 1.0 / (n_trials * math.e))
    unit = (1.0 - _EULER_GAMMA) * first + _EULER_GAMMA * second
    return math.sqrt(variance) * max(0.0, unit)


def dsr(
    sharpe: float,
    n: int,
    *,
    n_trials: float,
    variance: float,
    skew: float = 0.0,
    kurtosis: float = 3.0,
) -> float:
    """Deflated Sharpe ratio: PSR against the expected maximum of `n_trials` without skill.

    `variance` (of the trials' Sharpe ratios, per observation) is not looked at with one trial.
    """
    bar = 0.0 if n_trials == 1 else expected_max_sharpe(n_trials, variance=variance)
    return psr(sharpe, n, skew=skew, kurtosis=kurtosis, benchmark=bar)


def effective_trials(n_trials: float, mean_correlation: float) -> float:
    """Independent trials that `n_trials` correlated ones are worth: rho + (1 - rho) N.

    A negative correlation counts as none; NaN stays NaN.
    """
    if math.isnan(mean_correlation):
        return math.nan
    rho = min(max(mean_correlation, 0.0), 1.0)
    return rho + (1.0 - rho) * n_trials


def mean_correlation(returns: Float64Array) -> float:
    """Average off-diagonal correlation of the columns of (days, trials); flat ones are left out.

    NaN with fewer than two columns that move.
    """
    matrix = checked_matrix(returns)
    moving = matrix[:, np.ptp(matrix, axis=0) > 0] if len(matrix) > 1 else matrix[:, :0]
    k = moving.shape[1]
    if k < 2:
        return math.nan
    centred = moving - moving.mean(axis=0)
    unit = centred / np.sqrt(np.mean(centred**2, axis=0))
    return float((np.mean(unit.sum(axis=1) ** 2) - k) / (k * (k - 1)))


def min_track_record_length(
    sharpe: float,
    *,
    benchmark: float = 0.0,
    skew: float = 0.0,
    kurtosis: float = 3.0,
    probability: float = 0.95,
) -> float:
    """Observations after which PSR reaches `probability` (2012, eq. 13).

    NaN where no length is enough (Sharpe at or below the benchmark).
    """
    factor = 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
    if not sharpe > benchmark or not factor > 0:
        return math.nan
    return 1.0 + factor * (_NORMAL.inv_cdf(probability) / (sharpe - benchmark)) ** 2


def min_backtest_length(n_trials: float, *, sharpe: float = 1.0) -> float:
    """Years below which the best of `n_trials` without skill shows this annual Sharpe (2014).

    (E[max of N] / sharpe)^2; below the paper's bound 2 ln N / sharpe^2.
    """
    return (expected_max_sharpe(n_trials) / sharpe) ** 2 if sharpe > 0 else math.nan


@register(schema=1)
@dataclass(frozen=True)
class Spa:
    """Hansen's test that no candidate beats the benchmark: p-values, and which ones do.

    Attributes:
        lower: Liberal p-value.
        consistent: The p-value to use.
        upper: Conservative p-value (White's reality check, studentised).
        better: Columns that beat the benchmark at 5 %, by the consistent p-value.
    """

    lower: float
    consistent: float
    upper: float
    better: tuple[int, ...]


def spa(
    benchmark: Float64Array,
    candidates: Float64Array,
    *,
    seed: int,
    mean_block: float | None = None,
    resamples: int = 1000,
) -> Spa:
    """Superior predictive ability of the columns of `candidates` over `benchmark`.

    Both are *returns* (more is better). A column that equals the benchmark every day says nothing
    and is left out; all p-values are NaN where no column is left or with fewer than ten days.

    Args:
        benchmark: (days,).
        candidates: (days, k).
        seed: Of the bootstrap.
        mean_block: Days, rounded; default: Politis-White of the best column's difference.
        resamples: Of the stationary bootstrap; the error of p is sqrt(p (1 - p) / resamples).
    """
    benchmark = checked_returns(benchmark, "benchmark")
    matrix = checked_matrix(candidates)
    if len(matrix) != len(benchmark):
        raise InputError(
            "paired returns must cover the same days", value=(len(matrix), len(benchmark))
        )
    difference = matrix - benchmark[:, None]
    columns = _moving_columns(difference)
    if len(columns) == 0:
        return Spa(math.nan, math.nan, math.nan, ())
    if mean_block is None:
        best = columns[int(np.argmax(difference[:, columns].mean(axis=0)))]
        mean_block = optimal_block(difference[:, best])
    from arch.bootstrap import SPA

    test = SPA(
        -benchmark,  # arch compares losses
        -matrix[:, columns],
        block_size=max(1, round(mean_block)),
        reps=resamples,
        bootstrap="stationary",
        seed=seed,
    )
    test.compute()
    found = np.atleast_1d(np.asarray(test.better_models(0.05, "consistent"), dtype=np.int64))
    lower, consistent, upper = (float(test.pvalues[k]) for k in ("lower", "consistent", "upper"))
    return Spa(lower, consistent, upper, tuple(int(columns[i]) for i in found))


@register(schema=1)
@dataclass(frozen=True, eq=False)
class SearchOverfitting:
    """What a search's winner is worth, in sample.

    Attributes:
        n_trials: All trials of the run and its nested windows, stopped and cached ones included.
        effective_trials: Their number after correlation.
        mean_correlation: Of the fully run points' daily returns.
        sharpe_variance: Of the fully run points' Sharpe ratios, per day.
        sharpe: Of the winner, annualised.
        expected_max_sharpe: Of `n_trials` without skill, annualised.
        dsr: Deflated Sharpe ratio with `n_trials`.
        dsr_effective: The same with `effective_trials`.
        min_backtest_years: Below which `n_trials` without skill show an annual Sharpe of 1.
        pbo: On the fully run points.
        spa: Of the fully run points against cash.
    """

    n_trials: int
    effective_trials: float
    mean_correlation: float
    sharpe_variance: float
    sharpe: float
    expected_max_sharpe: float
    dsr: float
    dsr_effective: float
    min_backtest_years: float
    pbo: Pbo
    spa: Spa


def search_overfitting(
    winner: Float64Array,
    full_runs: Float64Array,
    *,
    n_trials: int,
    days_per_year: float,
    seed: int,
    blocks: int = 16,
    resamples: int = 1000,
) -> SearchOverfitting:
    """Overfitting statistics of a search from daily returns in sample.

    Args:
        winner: (days,) of the chosen point.
        full_runs: (days, points) of points that were all run in full (the Sobol points).
        n_trials: Everything that was looked at.
        days_per_year: 365, 260 or 252.
        seed: The run's seed.
        blocks: S of the PBO.
        resamples: Of the SPA.
    """
    runs = checked_matrix(full_runs)
    stats = moments(winner)
    sharpes = np.array([moments(column).sharpe for column in runs.T])
    sharpes = sharpes[np.isfinite(sharpes)]
    variance = float(np.var(sharpes, ddof=1)) if len(sharpes) > 1 else math.nan
    rho = mean_correlation(runs)
    effective = effective_trials(n_trials, rho)
    year = math.sqrt(days_per_year)

    def deflated(trials: float) -> float:
        if math.isnan(variance) or math.isnan(trials):
            return math.nan
        return dsr(
            stats.sharpe,
            stats.n,
            n_trials=trials,
            variance=variance,
            skew=stats.skew,
            kurtosis=stats.kurtosis,
        )

    return SearchOverfitting(
        n_trials=n_trials,
        effective_trials=effective,
        mean_correlation=rho,
        sharpe_variance=variance,
        sharpe=stats.sharpe * year,
        expected_max_sharpe=expected_max_sharpe(n_trials) * math.sqrt(variance) * year,
        dsr=deflated(n_trials),
        dsr_effective=deflated(effective),
        min_backtest_years=min_backtest_length(n_trials),
        pbo=pbo_cscv(runs, blocks=blocks),
        spa=spa(np.zeros(len(runs)), runs, seed=seed_for(seed, "search.spa"), resamples=resamples),
    )


def _moving_columns(difference: Float64Array) -> Int64Array:
    """Columns that are not constant, none with fewer than ten days."""
    if len(difference) < 10:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(np.ptp(difference, axis=0) > 0).astype(np.int64)


def _phi(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))
