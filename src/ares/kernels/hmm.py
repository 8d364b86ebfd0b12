"""Hidden Markov models: forward filter, expectation and maximisation, Gaussian densities.

The filter takes a matrix of emission log likelihoods, so any emission law can be used. Every row
is one step of one recursion: the filtered probabilities of the first k rows never depend on the
rows after them. `starts` are the rows at which a new stretch begins (the first is 0): there the
chain is drawn from the start distribution again. Observations are pairs.

Equations: Hamilton (1989) for the filter, Kim (1994) for the backward pass, Baum et al. (1970) for
the re-estimation.
"""

from __future__ import annotations

import math
from typing import Final

import numba
import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

_LOG_2PI: Final = math.log(2.0 * math.pi)
_F1: Final = numba.types.Array(numba.float64, 1, "C", readonly=True)
_F2: Final = numba.types.Array(numba.float64, 2, "C", readonly=True)
_F3: Final = numba.types.Array(numba.float64, 3, "C", readonly=True)
_I1: Final = numba.types.Array(numba.int64, 1, "C", readonly=True)
_O1: Final = numba.float64[::1]
_O2: Final = numba.float64[:, ::1]
_O3: Final = numba.float64[:, :, ::1]


def filter_states(
    start: Float64Array, transition: Float64Array, emission: Float64Array, starts: Int64Array
) -> tuple[Float64Array, float]:
    """Filtered state probabilities and the log likelihood.

    Args:
        start: float64 (k,), distribution at the beginning of a stretch.
        transition: float64 (k, k), rows sum to 1.
        emission: float64 (n, k), log likelihood of each row under each state.
        starts: int64, increasing rows at which stretches begin, the first 0.

    Returns:
        float64 (n, k), P(state at t | rows up to t of its stretch), and the log likelihood.

    Raises:
        ValueError: shapes that do not fit.
    """
    n, k = emission.shape
    if start.shape != (k,) or transition.shape != (k, k):
        raise ValueError(f"start and transition must have {k} states")
    if n and (not len(starts) or starts[0] != 0 or starts[-1] >= n):
        raise ValueError("the first stretch starts at row 0, the others inside")
    filtered = np.empty((n, k))
    predicted = np.empty((n, k))
    likelihood = _forward(start, transition, emission, starts, filtered, predicted)
    return filtered, float(likelihood)


def gaussian_emission(
    x: Float64Array, means: Float64Array, covariances: Float64Array
) -> Float64Array:
    """Log density of each pair (n, 2) under each state, means (k, 2), covariances (k, 2, 2)."""
    if x.ndim != 2 or x.shape[1] != 2 or covariances.shape != (len(means), 2, 2):
        raise ValueError("observations are pairs, covariances 2 x 2 per state")
    out = np.empty((len(x), len(means)))
    _gaussian(x, means, covariances, out)
    return out


def fit_gaussian(
    x: Float64Array,
    starts: Int64Array,
    start: Float64Array,
    transition: Float64Array,
    means: Float64Array,
    covariances: Float64Array,
    *,
    max_iterations: int,
    tolerance: float,
    floor: float,
) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array, Float64Array]:
    """Expectation maximisation from a given start.

    Every covariance is kept at least `floor` times the unit matrix by clipping its eigenvalues,
    which is the constrained maximum, so the likelihood never falls. A state that no row belongs to
    keeps its parameters.

    Args:
        x: float64 (n, 2), finite.
        starts: int64, rows at which stretches begin.
        start: float64 (k,).
        transition: float64 (k, k).
        means: float64 (k, 2).
        covariances: float64 (k, 2, 2).
        max_iterations: At most so many rounds.
        tolerance: Stop when the mean log likelihood per row gains less.
        floor: Least eigenvalue of a covariance.

    Returns:
        Start, transition, means, covariances, and the log likelihood before each round and after
        the last.
    """
    start, transition = start.copy(), transition.copy()
    means, covariances = means.copy(), covariances.copy()
    history = np.full(max_iterations + 1, np.nan)
    rounds = _fit(
        x, starts, start, transition, means, covariances, max_iterations, tolerance, floor, history
    )
    return start, transition, means, covariances, history[: rounds + 1]


@numba.njit(
    numba.float64(_F1, _F2, _F2, _I1, _O2, _O2), cache=True, nogil=True, error_model="numpy"
)
def _forward(start, transition, emission, starts, filtered, predicted):  # type: ignore[no-untyped-def]
    """Fill filtered and one-step predicted probabilities; return the log likelihood."""
    n, k = emission.shape
    likelihood = 0.0
    stretch = 0
    for t in range(n):
        begins = stretch < len(starts) and starts[stretch] == t
        if begins:
            stretch += 1
        top = -np.inf
        for j in range(k):
            p = start[j]
            if not begins:
                p = 0.0
                for i in range(k):
                    p += filtered[t - 1, i] * transition[i, j]
            predicted[t, j] = p
            weight = -np.inf
            if p > 0.0:
                weight = math.log(p) + emission[t, j]
            filtered[t, j] = weight
            top = max(top, weight)
        if top == -np.inf:  # an impossible row says nothing about the state
            likelihood = -np.inf
            for j in range(k):
                filtered[t, j] = predicted[t, j]
            continue
        total = 0.0
        for j in range(k):
            filtered[t, j] = math.exp(filtered[t, j] - top)
            total += filtered[t, j]
        for j in range(k):
            filtered[t, j] /= total
        likelihood += top + math.log(total)
    return likelihood


@numba.njit(numba.void(_F2, _F2, _F3, _O2), cache=True, nogil=True, error_model="numpy")
def _gaussian(x, means, covariances, out):  # type: ignore[no-untyped-def]
    for j in range(len(means)):
        a, b, c = covariances[j, 0, 0], covariances[j, 0, 1], covariances[j, 1, 1]
        determinant = a * c - b * b
        constant = -_LOG_2PI - 0.5 * math.log(determinant)
        for t in range(len(x)):
            u = x[t, 0] - means[j, 0]
            v = x[t, 1] - means[j, 1]
            out[t, j] = constant - 0.5 * (c * u * u - 2.0 * b * u * v + a * v * v) / determinant


@numba.njit(numba.void(_F2, _I1, _F2, _F2, _O2, _O2), cache=True, nogil=True, error_model="numpy")
def _backward(transition, starts, filtered, predicted, smoothed, moves):  # type: ignore[no-untyped-def]
    """Smoothed probabilities, and expected moves between states. Used inside a fit only."""
    n, k = filtered.shape
    moves[:, :] = 0.0
    stretch = len(starts) - 1
    for t in range(n - 1, -1, -1):
        ends = t == n - 1 or (stretch + 1 < len(starts) and starts[stretch + 1] == t + 1)
        for i in range(k):
            if ends:
                smoothed[t, i] = filtered[t, i]
                continue
            total = 0.0
            for j in range(k):
                if predicted[t + 1, j] > 0.0:
                    move = transition[i, j] * smoothed[t + 1, j] / predicted[t + 1, j]
                    total += move
                    moves[i, j] += filtered[t, i] * move
            smoothed[t, i] = filtered[t, i] * total
        if stretch >= 0 and starts[stretch] == t:
            stretch -= 1


@numba.njit(
    numba.void(numba.float64, numba.float64, numba.float64, numba.float64, _O2),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def _floored(a, b, c, floor, out):  # type: ignore[no-untyped-def]
    """Write the symmetric matrix (a b; b c) with its eigenvalues raised to `floor`."""
    middle, half = 0.5 * (a + c), 0.5 * (a - c)
    radius = math.sqrt(half * half + b * b)
    low, high = middle - radius, middle + radius
    if low < floor:
        cosine, sine = 1.0, 0.0  # of the doubled angle of the first eigenvector
        if radius > 0.0:
            cosine, sine = half / radius, b / radius
        low, high = floor, max(high, floor)
        middle, radius = 0.5 * (high + low), 0.5 * (high - low)
        a, b, c = middle + radius * cosine, radius * sine, middle - radius * cosine
    out[0, 0], out[0, 1], out[1, 0], out[1, 1] = a, b, b, c


@numba.njit(
    numba.void(_F2, _F2, _F2, _I1, numba.float64, _O1, _O2, _O2, _O3),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def _maximise(x, smoothed, moves, starts, floor, start, transition, means, covariances):  # type: ignore[no-untyped-def]
    """Re-estimate all parameters from smoothed probabilities and expected moves."""
    n, k = smoothed.shape
    for j in range(k):
        start[j] = 0.0
        for s in range(len(starts)):
            start[j] += smoothed[starts[s], j]
        start[j] /= len(starts)
        row = 0.0
        for i in range(k):
            row += moves[j, i]
        if row > 0.0:
            for i in range(k):
                transition[j, i] = moves[j, i] / row
        weight = first = second = 0.0
        for t in range(n):
            weight += smoothed[t, j]
            first += smoothed[t, j] * x[t, 0]
            second += smoothed[t, j] * x[t, 1]
        if weight <= 1e-8:
            continue
        means[j, 0] = first / weight
        means[j, 1] = second / weight
        a = b = c = 0.0
        for t in range(n):
            u = x[t, 0] - means[j, 0]
            v = x[t, 1] - means[j, 1]
            a += smoothed[t, j] * u * u
            b += smoothed[t, j] * u * v
            c += smoothed[t, j] * v * v
        _floored(a / weight, b / weight, c / weight, floor, covariances[j])


@numba.njit(
    numba.int64(_F2, _I1, _O1, _O2, _O2, _O3, numba.int64, numba.float64, numba.float64, _O1),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def _fit(x, starts, start, transition, means, covariances, rounds, tolerance, floor, history):  # type: ignore[no-untyped-def]
    """Alternate expectation and maximisation in place; return the rounds made."""
    n, k = len(x), len(start)
    emission, filtered = np.empty((n, k)), np.empty((n, k))
    predicted, smoothed = np.empty((n, k)), np.empty((n, k))
    moves = np.empty((k, k))
    for j in range(k):
        a, b, c = covariances[j, 0, 0], covariances[j, 0, 1], covariances[j, 1, 1]
        _floored(a, b, c, floor, covariances[j])
    _gaussian(x, means, covariances, emission)
    history[0] = _forward(start, transition, emission, starts, filtered, predicted)
    for done in range(rounds):
        _backward(transition, starts, filtered, predicted, smoothed, moves)
        _maximise(x, smoothed, moves, starts, floor, start, transition, means, covariances)
        _gaussian(x, means, covariances, emission)
        history[done + 1] = _forward(start, transition, emission, starts, filtered, predicted)
        if not history[done + 1] - history[done] > tolerance * n:
            return done + 1
    return rounds
