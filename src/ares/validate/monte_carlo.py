"""Monte Carlo: what else the out-of-sample curve could have looked like, and what breaks it.

Three views: the stationary block bootstrap of the stitched daily returns, shuffles of the trades
(their order decides the drawdown, never the final return), and reruns under dearer costs, late
decisions and noisy prices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from ares.core.identity import seed_for
from ares.core.types import Float64Array, readonly
from ares.store import scratch
from ares.store.codecs import register
from ares.validate.bootstrap import checked_returns, optimal_block, stationary_chunks
from ares.validate.overfitting import moments

if TYPE_CHECKING:
    from ares.core.config import MonteCarloConfig

LEVELS: Final = (0.05, 0.25, 0.50, 0.75, 0.95)
_NOISE_RUNS: Final = 3
_SHUFFLED_AT_ONCE: Final = 1 << 19
_DAYS_AT_ONCE: Final = 256


class Rerun(Protocol):
    """Trade the out-of-sample bars again under stress.

    `price_noise_seed` None means exact prices. Returns net daily returns, (days,).
    """

    def __call__(
        self, costs_multiple: float, latency: int, price_noise_seed: int | None
    ) -> Float64Array:
        """Daily returns of the rerun."""
        ...


@register(schema=1)
@dataclass(frozen=True, eq=False)
class Distribution:
    """One statistic over all paths.

    Attributes:
        observed: Of the curve itself.
        mean: Over the paths where it is defined.
        quantiles: At `LEVELS`.
        values: Per path, NaN where undefined.
    """

    observed: float
    mean: float
    quantiles: tuple[float, ...]
    values: Float64Array

    def __post_init__(self) -> None:
        readonly(self.values)


@register(schema=1)
@dataclass(frozen=True)
class StressRow:
    """One rerun. Ratios are annualised; `max_drawdown` is a positive share."""

    name: str
    costs_multiple: float
    latency: int
    price_noise: bool
    total_return: float
    cagr: float
    sharpe: float
    max_drawdown: float


@register(schema=1)
@dataclass(frozen=True, eq=False)
class MonteCarloReport:
    """Resampled and stressed results.

    Attributes:
        n_days: Days of the curve.
        n_paths: Bootstrap paths, and trade shuffles.
        mean_block: Days.
        fan: Equity quantiles at `LEVELS` per day, (5, n_days); starts from 1.0 before day 0.
        final_return: Of each path.
        cagr: By days / `days_per_year`.
        sharpe: Annualised.
        max_drawdown: Positive share of the peak.
        probability_of_loss: Share of paths that end below their start; NaN without days.
        shuffled_drawdown: Maximum drawdown at trade ends, over shuffles of the trades.
        stress: Reruns, the unstressed one first; empty where no rerun was given.
    """

    n_days: int
    n_paths: int
    mean_block: float
    fan: Float64Array
    final_return: Distribution
    cagr: Distribution
    sharpe: Distribution
    max_drawdown: Distribution
    probability_of_loss: float
    shuffled_drawdown: Distribution
    stress: tuple[StressRow, ...]

    def __post_init__(self) -> None:
        readonly(self.fan)


def monte_carlo(
    daily_returns: Float64Array,
    trade_returns: Float64Array,
    config: MonteCarloConfig,
    *,
    seed: int,
    days_per_year: float,
    rerun: Rerun | None = None,
) -> MonteCarloReport:
    """Resample and stress the stitched out-of-sample curve.

    Args:
        daily_returns: Net, of the stitched curve, (days,).
        trade_returns: Net return on *equity* of each round trip, (trades,).
        config: Paths, block length, and the list of stresses.
        seed: The run's seed.
        days_per_year: 365, 260 or 252.
        rerun: Makes the stress table; None leaves it out.

    Raises:
        InputError: values that are not finite.
    """
    daily = checked_returns(daily_returns, "daily_returns")
    trades = checked_returns(trade_returns, "trade_returns")
    block = config.mean_block if config.mean_block is not None else optimal_block(daily)
    equity, sharpes = _paths(daily, block, config.paths, seed_for(seed, "monte_carlo.paths"))
    final = equity[:, -1] - 1.0 if len(daily) else np.full(len(equity), math.nan)
    row = _statistics(daily, days_per_year)
    fan = np.empty((len(LEVELS), len(daily)))
    for begin in range(0, len(daily), _DAYS_AT_ONCE):
        some = slice(begin, begin + _DAYS_AT_ONCE)
        fan[:, some] = np.quantile(equity[:, some], LEVELS, axis=0)
    return MonteCarloReport(
        n_days=len(daily),
        n_paths=config.paths,
        mean_block=float(block),
        fan=fan,
        final_return=_distribution(row[0], final),
        cagr=_distribution(row[1], _cagr(final, len(daily), days_per_year)),
        sharpe=_distribution(row[2], sharpes * math.sqrt(days_per_year)),
        max_drawdown=_distribution(row[3], max_drawdowns(equity)),
        probability_of_loss=float(np.mean(final < 0)) if len(daily) else math.nan,
        shuffled_drawdown=_shuffles(trades, config.paths, seed_for(seed, "monte_carlo.trades")),
        stress=() if rerun is None else _stress(rerun, config, seed, days_per_year),
    )


def max_drawdowns(equity: Float64Array) -> Float64Array:
    """Largest fall from a peak of each row, as a positive share; the start, 1.0, is a peak too.

    NaN for rows without values.
    """
    if equity.shape[1] == 0:
        return np.full(len(equity), math.nan)
    worst = np.empty(len(equity))
    rows = max(1, _SHUFFLED_AT_ONCE // equity.shape[1])
    for begin in range(0, len(equity), rows):
        some = equity[begin : begin + rows]
        peak = np.maximum(np.maximum.accumulate(some, axis=1), 1.0)
        worst[begin : begin + rows] = np.max(1.0 - some / peak, axis=1)
    return np.maximum(worst, 0.0)


def _curves(returns: Float64Array) -> Float64Array:
    """Equity of each row; it cannot fall below zero."""
    equity: Float64Array = np.cumprod(np.maximum(1.0 + returns, 0.0), axis=1, dtype=np.float64)
    return equity


def _paths(
    daily: Float64Array, block: float, paths: int, seed: int
) -> tuple[Float64Array, Float64Array]:
    """Equity (paths, days) and Sharpe ratio per day (paths,) of resampled curves."""
    days = len(daily)
    equity: Float64Array = scratch.full((paths, days), 0.0)
    sharpes = np.full(paths, math.nan)
    if days == 0:
        return equity, sharpes
    done = 0
    for rows in stationary_chunks(days, mean_block=block, resamples=paths, seed=seed):
        resampled = daily[rows]
        part = slice(done, done + len(rows))
        equity[part] = _curves(resampled)
        if days > 1:
            spread = resampled.std(axis=1, ddof=1)
            moving = np.ptp(resampled, axis=1) > 0
            mean = resampled.mean(axis=1)
            sharpes[part] = np.divide(mean, spread, np.full(len(rows), math.nan), where=moving)
        done += len(rows)
    return equity, sharpes


def _cagr(final: Float64Array, days: int, days_per_year: float) -> Float64Array:
    if days == 0:
        return np.full(len(final), math.nan)
    growth: Float64Array = (1.0 + final) ** (days_per_year / days) - 1.0
    return growth


def _statistics(daily: Float64Array, days_per_year: float) -> tuple[float, float, float, float]:
    """Total return, CAGR, annualised Sharpe ratio, maximum drawdown of one curve."""
    if len(daily) == 0:
        return math.nan, math.nan, math.nan, math.nan
    equity = _curves(daily[None, :])
    total = equity[:, -1] - 1.0
    cagr = _cagr(total, len(daily), days_per_year)
    sharpe = moments(daily).sharpe * math.sqrt(days_per_year)
    return float(total[0]), float(cagr[0]), sharpe, float(max_drawdowns(equity)[0])


def _distribution(observed: float, values: Float64Array) -> Distribution:
    defined = values[np.isfinite(values)]
    if len(defined) == 0:
        return Distribution(observed, math.nan, (math.nan,) * len(LEVELS), values)
    quantiles = tuple(float(q) for q in np.quantile(defined, LEVELS))
    return Distribution(observed, float(defined.mean()), quantiles, values)


def _shuffles(trades: Float64Array, paths: int, seed: int) -> Distribution:
    observed = float(max_drawdowns(_curves(trades[None, :]))[0])
    if len(trades) == 0:
        return _distribution(observed, np.full(paths, math.nan))
    generator = np.random.default_rng(seed)
    rows = max(1, _SHUFFLED_AT_ONCE // len(trades))
    drawdowns = []
    for first in range(0, paths, rows):
        table = np.tile(trades, (min(rows, paths - first), 1))
        drawdowns.append(max_drawdowns(_curves(generator.permuted(table, axis=1))))
    return _distribution(observed, np.concatenate(drawdowns))


def _stress(
    rerun: Rerun, config: MonteCarloConfig, seed: int, days_per_year: float
) -> tuple[StressRow, ...]:
    cases: list[tuple[str, float, int, int | None]] = [("as tested", 1.0, 0, None)]
    cases += [(f"costs x{multiple:g}", multiple, 0, None) for multiple in config.stress]
    cases += [(f"{bars} bar{'s' * (bars > 1)} late", 1.0, bars, None) for bars in config.latency]
    if config.price_noise > 0:
        cases += [
            (f"price noise {k + 1}", 1.0, 0, seed_for(seed, f"monte_carlo.noise.{k}"))
            for k in range(_NOISE_RUNS)
        ]
    return tuple(_stress_row(rerun, case, days_per_year) for case in cases)


def _stress_row(
    rerun: Rerun, case: tuple[str, float, int, int | None], days_per_year: float
) -> StressRow:
    name, multiple, latency, noise = case
    daily = checked_returns(rerun(multiple, latency, noise), f"rerun {name}")
    return StressRow(name, multiple, latency, noise is not None, *_statistics(daily, days_per_year))
