"""Market regimes: a three-state Gaussian hidden Markov model, used by its filter alone.

Observed are the one-bar log return and the logarithm of realised volatility, standardised by the
training data. Probabilities at bar t use bars up to t: filtered, never smoothed.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.core.errors import DataError
from ares.core.types import readonly
from ares.kernels.hmm import filter_states, fit_gaussian, gaussian_emission
from ares.kernels.rolling import log_change, log_ratio, rolling_mean
from ares.learn.splits import stretches
from ares.store.codecs import register

if TYPE_CHECKING:
    from ares.core.config import RegimeConfig
    from ares.core.types import Float64Array, Int64Array
    from ares.market.bars import Bars

STATES: Final = 3
DIRECTIONS: Final = ("bear", "sideways", "bull")
VOLATILITIES: Final = ("calm", "normal", "wild")
NAMES: Final = (*DIRECTIONS, *VOLATILITIES)
"""All names that regimes have."""

_FLOOR: Final = 1e-3  # least variance of a state, in training variances
_RARE: Final = 0.01  # a state with a smaller share of the rows is degenerate
_LEAST_VOLATILITY: Final = 1e-8
_MIN_ROWS: Final = 50
_STAY: Final = 0.9
_T_APART: Final = 2.0


@register(schema=1)
@dataclass(frozen=True, eq=False)
class RegimeModel:
    """A fitted model; its states are in the order of `names`.

    Attributes:
        names: ("bear", "sideways", "bull"), or ("calm", "normal", "wild") where the means of the
            lowest and the highest state cannot be told apart.
        start: float64 (3,), the stationary distribution: what is believed before any bar.
        transition: float64 (3, 3), rows sum to 1.
        means: float64 (3, 2), of log return and log realised volatility, in their own units.
        covariances: float64 (3, 2, 2), likewise.
        occupancy: float64 (3,), share of the training rows by filtered probability.
        t_statistic: Of the difference between the highest and the lowest mean return.
        log_likelihood: Of the training rows, per row, in standardised units.
        window: Bars of realised volatility.
        least_volatility: Realised volatility below it counts as this much.
        max_gap: Longest gap, in expected bars, that the filter passes without a restart.
        degenerate: True where some state holds under 1 % of the training rows.
    """

    names: tuple[str, ...]
    start: Float64Array
    transition: Float64Array
    means: Float64Array
    covariances: Float64Array
    occupancy: Float64Array
    t_statistic: float
    log_likelihood: float
    window: int
    least_volatility: float
    max_gap: int | None
    degenerate: bool

    def __post_init__(self) -> None:
        for name in ("start", "transition", "means", "covariances", "occupancy"):
            readonly(getattr(self, name))

    def filter(self, bars: Bars) -> Float64Array:
        """Probability of each state at each close, given the bars up to it.

        Args:
            bars: Bars of the timeframe that the model was fitted on.

        Returns:
            float64 (n, 3), read-only; NaN in the first `window` bars of each stretch between gaps
            longer than `max_gap`, where the filter starts anew.
        """
        x = observations(bars, self.window, self.least_volatility, self.max_gap)
        out = np.full((len(bars), STATES), np.nan)
        rows, starts = _defined(x)
        if len(rows):
            emission = gaussian_emission(
                np.ascontiguousarray(x[rows]), self.means, self.covariances
            )
            out[rows], _ = filter_states(self.start, self.transition, emission, starts)
        readonly(out)
        return out

    def match_to(self, previous: RegimeModel) -> RegimeModel:
        """The same model with its states in the order that is nearest to `previous`.

        Nearest is the permutation with the least sum of Kullback-Leibler divergences from each
        state to the previous one; names are taken over.
        """
        cost = np.array(
            [
                [
                    _divergence(
                        self.means[i],
                        self.covariances[i],
                        previous.means[j],
                        previous.covariances[j],
                    )
                    for j in range(STATES)
                ]
                for i in range(STATES)
            ]
        )
        order = min(
            itertools.permutations(range(STATES)),
            key=lambda states: math.fsum(cost[states[j], j] for j in range(STATES)),
        )
        return _reordered(self, order, previous.names)


def observations(
    bars: Bars, window: int, least_volatility: float, max_gap: int | None
) -> Float64Array:
    """Log return and log realised volatility at each close, float64 (n, 2).

    Realised volatility is the root mean square of the last `window` one-bar log returns. Rows are
    NaN until it is defined, at the start and after each long gap.
    """
    change, volatility = _moves(bars, window, max_gap)
    floored = np.maximum(volatility, least_volatility)
    change = np.where(np.isnan(volatility), np.nan, change)
    return np.column_stack([change, log_ratio(floored, np.ones(len(bars)))])


def _moves(bars: Bars, window: int, max_gap: int | None) -> tuple[Float64Array, Float64Array]:
    """One-bar log returns and their root mean square, stretch by stretch."""
    moves = np.full((2, len(bars)), np.nan)
    for stretch in stretches(bars, max_gap):
        change = log_change(bars.close[stretch], 1)
        moves[0, stretch] = change
        moves[1, stretch] = np.sqrt(rolling_mean(change * change, window))
    return moves[0], moves[1]


def fit_regimes(
    bars: Bars, config: RegimeConfig, seed: int, *, max_gap: int | None = 60
) -> RegimeModel:
    """Fit the model by expectation maximisation from several starts; the likeliest wins.

    The first start cuts the rows into thirds by volatility, the others by directions drawn from
    `seed`. Starts that end with a state under 1 % of the rows lose against any other.

    Args:
        bars: Training bars of the regime timeframe.
        config: Window, restarts, iterations, tolerance.
        seed: Of the drawn directions.
        max_gap: Longest gap, in expected bars, inside one stretch.

    Raises:
        DataError: too few bars.
    """
    window = config.volatility_window
    least = _least_volatility(_moves(bars, window, max_gap)[1])
    x = observations(bars, window, least, max_gap)
    rows, starts = _defined(x)
    if len(rows) < _MIN_ROWS:
        raise DataError(
            f"a regime model needs {_MIN_ROWS} bars after {window} bars of warm-up",
            value=len(rows),
            where=f"{bars.symbol} {bars.exchange} {bars.timeframe}",
            remedy="Load more data, or choose a shorter regimes.timeframe.",
        )
    x = np.ascontiguousarray(x[rows])
    centre, spread = x.mean(axis=0), x.std(axis=0)
    spread[spread == 0.0] = 1.0
    z = np.ascontiguousarray((x - centre) / spread)
    directions = np.random.default_rng(seed).uniform(0.0, math.pi, config.restarts - 1)
    angles = (math.pi / 2.0, *directions.tolist())
    fits = [_fit_from(z, starts, angle, config) for angle in angles]
    best = max(fits, key=lambda fit: (not fit.degenerate, fit.log_likelihood))
    scale = spread[:, None] * spread[None, :]
    model = replace(
        best,
        means=best.means * spread + centre,
        covariances=np.ascontiguousarray(best.covariances * scale),
        least_volatility=least,
        max_gap=max_gap,
    )
    return _named(model, len(rows))


def _defined(x: Float64Array) -> tuple[Int64Array, Int64Array]:
    """Rows with observations, and which of these begin a stretch."""
    rows = np.flatnonzero(np.isfinite(x).all(axis=1)).astype(np.int64)
    breaks = np.flatnonzero(np.diff(rows) > 1) + 1
    starts = np.concatenate([np.zeros(min(len(rows), 1), dtype=np.int64), breaks])
    return rows, starts.astype(np.int64)


def _least_volatility(volatility: Float64Array) -> float:
    """One hundredth of the median volatility where there was any."""
    moved = volatility[volatility > 0.0]
    return max(float(np.median(moved)) / 100.0, _LEAST_VOLATILITY) if len(moved) else 1e-4


def _fit_from(
    z: Float64Array, starts: Int64Array, angle: float, config: RegimeConfig
) -> RegimeModel:
    """One fit in standardised units, begun by thirds along a direction."""
    along = z[:, 0] * math.cos(angle) + z[:, 1] * math.sin(angle)
    third = np.argsort(np.argsort(along, kind="stable"), kind="stable") * STATES // len(z)
    means = np.array([z[third == state].mean(axis=0) for state in range(STATES)])
    covariances = np.array([np.cov(z[third == state].T, ddof=0) for state in range(STATES)])
    transition = np.full((STATES, STATES), (1.0 - _STAY) / (STATES - 1))
    np.fill_diagonal(transition, _STAY)
    _, transition, means, covariances, history = fit_gaussian(
        z,
        starts,
        np.full(STATES, 1.0 / STATES),
        transition,
        means,
        covariances,
        max_iterations=config.max_iterations,
        tolerance=config.tolerance,
        floor=_FLOOR,
    )
    start = stationary(transition)
    filtered, _ = filter_states(start, transition, gaussian_emission(z, means, covariances), starts)
    occupancy = filtered.mean(axis=0)
    return RegimeModel(
        names=DIRECTIONS,
        start=start,
        transition=transition,
        means=means,
        covariances=covariances,
        occupancy=occupancy,
        t_statistic=0.0,
        log_likelihood=float(history[-1]) / len(z),
        window=config.volatility_window,
        least_volatility=0.0,
        max_gap=None,
        degenerate=bool(occupancy.min() < _RARE),
    )


def stationary(transition: Float64Array) -> Float64Array:
    """Stationary distribution of a chain, from the uniform one by repeated squaring.

    The chain is mixed with a trace of the uniform one, so that it always has a single answer.
    """
    k = len(transition)
    power = (1.0 - 1e-9) * transition + 1e-9 / k
    for _ in range(64):
        power = power @ power
        power /= power.sum(axis=1, keepdims=True)
    return np.asarray(power.mean(axis=0) / power.mean(axis=0).sum())


def _named(model: RegimeModel, n: int) -> RegimeModel:
    """Order and name the states: by mean over volatility, or by volatility alone."""
    mean = model.means[:, 0]
    variance = model.covariances[:, 0, 0]
    low, high = int(mean.argmin()), int(mean.argmax())
    rows = np.maximum(model.occupancy * n, 1.0)
    error = math.sqrt(variance[low] / rows[low] + variance[high] / rows[high])
    t = float(mean[high] - mean[low]) / error if error > 0.0 else 0.0
    model = replace(model, t_statistic=t)
    if t >= _T_APART:
        key, names = mean / np.sqrt(np.maximum(variance, 1e-300)), DIRECTIONS
    else:
        key, names = model.means[:, 1], VOLATILITIES
    return _reordered(model, tuple(np.argsort(key, kind="stable").tolist()), names)


def _reordered(model: RegimeModel, order: tuple[int, ...], names: tuple[str, ...]) -> RegimeModel:
    index = np.array(order)
    return replace(
        model,
        names=names,
        start=model.start[index],
        transition=np.ascontiguousarray(model.transition[index][:, index]),
        means=np.ascontiguousarray(model.means[index]),
        covariances=np.ascontiguousarray(model.covariances[index]),
        occupancy=model.occupancy[index],
    )


def _divergence(
    mean: Float64Array, covariance: Float64Array, to_mean: Float64Array, to_covariance: Float64Array
) -> float:
    """Kullback-Leibler divergence of two normal distributions of pairs."""
    a, b, d = (float(to_covariance[cell]) for cell in ((0, 0), (0, 1), (1, 1)))
    p, q, s = (float(covariance[cell]) for cell in ((0, 0), (0, 1), (1, 1)))
    determinant, own = a * d - b * b, p * s - q * q
    u, v = (float(gap) for gap in to_mean - mean)
    trace = (d * p - 2.0 * b * q + a * s) / determinant
    distance = (d * u * u - 2.0 * b * u * v + a * v * v) / determinant
    return 0.5 * (trace + distance - 2.0 + math.log(determinant / own))
