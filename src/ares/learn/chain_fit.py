"""Models along the forward chain: chunk j is predicted only by what was fitted before it.

The same four functions serve both tracks: specialists, ensemble, calibration, and the prediction
that chained and final models share.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ares.core.errors import DataError
from ares.core.identity import seed_for
from ares.core.types import readonly
from ares.learn.calibration import Calibrator, fit_calibrator, log_loss
from ares.learn.enhancement import enhance_specialists
from ares.learn.ensembles import Stacker, fit_ensemble, gate
from ares.learn.features import in_pieces
from ares.learn.regime_chain import N_REGIMES, RegimeChain, RegimeStates, regime_states
from ares.learn.specialists import Specialists, fit_specialists
from ares.learn.track import Dataset, Track, TrackView, track_pieces
from ares.market.budget import give_back
from ares.market.resample import resample
from ares.store import scratch
from ares.store.codecs import register

if TYPE_CHECKING:
    from ares.core.config import CalibrationConfig, EnsembleConfig
    from ares.core.types import BoolArray, Float64Array
    from ares.learn.incremental import IncrementalTrainer
    from ares.learn.splits import Chain
    from ares.learn.track import ExtraColumns

_log = logging.getLogger("ares.learn")
_MIN_ROWS = 100
_MIN_CLASS = 10
REGIME_NAMES = tuple(f"regime_{state}" for state in range(N_REGIMES))


@register(schema=1)
@dataclass(frozen=True)
class TrackFit:
    """Specialists per chunk and what they said of their chunk.

    Attributes:
        specialists: Per chunk; None where the rows before it were too few.
        predictions: float64 (track bars, 1 + regimes), probabilities by the general model and the
            specialists; NaN before the first predicted chunk.
        notes: What was chosen, and every fallback taken.
    """

    specialists: tuple[Specialists | None, ...]
    predictions: Float64Array
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        readonly(self.predictions)


@register(schema=1)
@dataclass(frozen=True)
class EnsembleChain:
    """Stackers per chunk and the chained probability of the ensemble.

    Attributes:
        stackers: Per chunk; None where gating alone answers.
        p: float64 (track bars,), NaN before the first predicted chunk.
        notes: Every fallback taken.
    """

    stackers: tuple[Stacker | None, ...]
    p: Float64Array
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        readonly(self.p)


@register(schema=1)
@dataclass(frozen=True)
class CalibrationChain:
    """Calibrators per chunk and the chained calibrated probability.

    Attributes:
        calibrators: One per chunk and, last, the final one (fitted on the last chunk).
        p: float64 (track bars,), NaN before the first predicted chunk.
        first_calibrated: First chunk whose calibrator had data.
        notes: Every fallback taken.
    """

    calibrators: tuple[Calibrator, ...]
    p: Float64Array
    first_calibrated: int
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        readonly(self.p)


def fit_chain(
    view: TrackView,
    track: Track,
    dataset: Dataset,
    regimes: RegimeChain,
    chain: Chain,
    *,
    seed: int,
    trainer: IncrementalTrainer,
    enhance: bool,
    extra: ExtraColumns | None = None,
) -> TrackFit:
    """Fit the specialists of every chunk and predict it with them.

    Raises:
        DataError: the last chunk's models, which are the final ones, have too few rows.
    """
    names = dataset.names + REGIME_NAMES
    fitted: list[Specialists | None] = []
    notes: list[str] = []
    coarse = resample(view.bars, regimes.timeframe)
    states = [regime_states(model, coarse) for model in regimes.models]
    for chunk, state in enumerate(states):
        known = state.of_rows(view.bars, dataset.rows)
        rows = _training_rows(dataset, known, chain, chunk)
        if rows is None:
            fitted.append(None)
            notes.append(f"chunk {chunk}: too few rows for models")
            continue
        known = known[rows]
        arguments = (np.hstack([dataset.X[rows], known]), dataset.y[rows], dataset.weight[rows])
        name_seed = seed_for(seed, f"{track.name} chunk {chunk}")
        if enhance:
            specialists, choice = enhance_specialists(
                *arguments, known, names, track.config, name_seed, trainer,
                t0=dataset.t0[rows], t1=dataset.t1[rows],
            )  # fmt: skip
            notes.append(f"chunk {chunk}: {choice.describe()}")
        else:
            specialists = fit_specialists(
                *arguments, known, names, track.config, name_seed, trainer
            )
        notes += [f"chunk {chunk}: {note}" for note in specialists.fallbacks]
        fitted.append(specialists)
    trainer.clear()
    give_back()  # training took memory that predictions need
    if not fitted or fitted[-1] is None:
        raise DataError(
            f"the {track.name}'s final models need {_MIN_ROWS} labelled rows of both classes",
            value=len(dataset.t0),
            remedy="Load more data, or shorten its horizon.",
        )
    predictions = _chained(view, track, fitted, states, chain, extra)
    return TrackFit(tuple(fitted), predictions, tuple(notes))


def _chained(
    view: TrackView,
    track: Track,
    fitted: list[Specialists | None],
    states: list[RegimeStates],
    chain: Chain,
    extra: ExtraColumns | None,
) -> Float64Array:
    """What each chunk's models say of their chunk, piece by piece."""
    predictions: Float64Array = scratch.full((len(view.bars), 1 + N_REGIMES), np.nan)
    for start, piece in track_pieces(view.bars, track, extra):
        for chunk, (specialists, state) in enumerate(zip(fitted, states, strict=True)):
            inside = _inside(view, chain, chunk)
            begin, end = max(inside.start, start), min(inside.stop, start + len(piece))
            if specialists is not None and begin < end:
                known = state.at(view.bars[begin:end])
                columns = np.hstack([piece[begin - start : end - start], known])
                predictions[begin:end] = specialists.predict(columns)
    return predictions


def ensemble_chain(
    view: TrackView,
    dataset: Dataset,
    fit: TrackFit,
    regimes: RegimeChain,
    chain: Chain,
    config: EnsembleConfig,
) -> EnsembleChain:
    """Combine each chunk's specialists: gating, and stacking once there are chained rows."""
    p: Float64Array = scratch.full(len(view.bars), np.nan)
    stackers: list[Stacker | None] = []
    notes: list[str] = []
    states_at = np.full((len(dataset.rows), N_REGIMES), np.nan)  # each by its chunk's own model
    coarse = resample(view.bars, regimes.timeframe)
    for chunk, model in enumerate(regimes.models):
        inside = _inside(view, chain, chunk)
        states = regime_states(model, coarse)
        own = (dataset.rows >= inside.start) & (dataset.rows < inside.stop)
        states_at[own] = states.of_rows(view.bars, dataset.rows[own])
        stacker = None
        if fit.specialists[chunk] is not None:
            stacker, reason = _stacker(
                dataset, fit, states_at, chain.training_rows(chunk, dataset.t1), config
            )
            for part in in_pieces(inside.start, inside.stop):
                p[part] = combine(stacker, fit.predictions[part], states.at(view.bars[part]))
            if stacker is None:
                notes.append(f"chunk {chunk}: gating alone, {reason}")
        stackers.append(stacker)
    return EnsembleChain(tuple(stackers), p, tuple(notes))


def calibrate_chain(
    view: TrackView,
    dataset: Dataset,
    raw: Float64Array,
    chain: Chain,
    config: CalibrationConfig,
) -> CalibrationChain:
    """Calibrate each chunk's probability on the chunks before it, and fit the final calibrator."""
    p: Float64Array = scratch.full(len(view.bars), np.nan)
    calibrators: list[Calibrator] = []
    notes: list[str] = []
    chunks = len(chain.borders) - 1
    scored = np.isfinite(raw[dataset.rows])
    first = chunks
    for chunk in range(chunks):
        rows = scored & chain.training_rows(chunk, dataset.t1)
        calibrator = _calibrator(dataset, raw, rows, config)
        if calibrator.kind != "identity":
            first = min(first, chunk)
        elif calibrator.reason:
            notes.append(f"chunk {chunk}: identity, {calibrator.reason}")
        inside = _inside(view, chain, chunk)
        for part in in_pieces(inside.start, inside.stop):
            p[part] = calibrator.predict(raw[part])
        calibrators.append(calibrator)
    final = scored & (dataset.t0 >= chain.borders[-2])
    if np.count_nonzero(final) < config.min_rows:
        final = scored
        notes.append("final: fitted on all chained rows, the last chunk has too few")
    calibrators.append(_calibrator(dataset, raw, final, config))
    return CalibrationChain(tuple(calibrators), p, first, tuple(notes))


def chained_loss(dataset: Dataset, fit: TrackFit) -> float:
    """Log loss of the general model's chained predictions on the labelled rows; NaN without any."""
    p = fit.predictions[dataset.rows, 0]
    known = np.isfinite(p)
    return log_loss(p[known], dataset.y[known], dataset.weight[known]) if known.any() else np.nan


def combine(
    stacker: Stacker | None, predictions: Float64Array, states: Float64Array
) -> Float64Array:
    """The ensemble's probability: the stacker's, or the gate's where there is none. Row by row."""
    return gate(predictions, states) if stacker is None else stacker.predict(predictions, states)


def _inside(view: TrackView, chain: Chain, chunk: int) -> slice:
    return view.within(int(chain.borders[chunk]), int(chain.borders[chunk + 1]))


def _training_rows(
    dataset: Dataset, states: Float64Array, chain: Chain, chunk: int
) -> BoolArray | None:
    rows = chain.training_rows(chunk, dataset.t1)
    rows = rows & np.isfinite(states).all(axis=1)
    ones, count = int(dataset.y[rows].sum()), int(np.count_nonzero(rows))
    enough = count >= _MIN_ROWS and min(ones, count - ones) >= _MIN_CLASS
    return rows if enough else None


def _stacker(
    dataset: Dataset,
    fit: TrackFit,
    states_at: Float64Array,
    rows: BoolArray,
    config: EnsembleConfig,
) -> tuple[Stacker | None, str]:
    chained = fit.predictions[dataset.rows]
    rows = rows & np.isfinite(chained).all(axis=1)
    found = fit_ensemble(
        chained[rows], states_at[rows], dataset.y[rows], dataset.weight[rows], config
    )
    return found.stacker, found.reason


def _calibrator(
    dataset: Dataset, raw: Float64Array, rows: BoolArray, config: CalibrationConfig
) -> Calibrator:
    return fit_calibrator(
        raw[dataset.rows[rows]],
        dataset.y[rows],
        dataset.weight[rows],
        dataset.t0[rows],
        config,
        t1=dataset.t1[rows],
    )
