"""The sixteen steps: short functions that delegate downward. Nothing here has side effects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ares.core.identity import seed_for
from ares.learn.chain_fit import calibrate_chain, chained_loss, ensemble_chain, fit_chain
from ares.learn.features import in_pieces
from ares.learn.incremental import IncrementalTrainer
from ares.learn.regime_chain import fit_regime_chain, regime_states
from ares.learn.splits import forward_chain
from ares.learn.track import make_dataset, view_track
from ares.market.bars import split_holdout
from ares.market.memory import Demand
from ares.market.resample import resample
from ares.pipeline.compare import compare_on_holdout
from ares.pipeline.optimise import optimise
from ares.pipeline.saving import run_files
from ares.pipeline.signals import analyst_columns, analyst_sides, calibrated_signals
from ares.pipeline.step import Volatile, step
from ares.pipeline.stress import stressed_rerun
from ares.pipeline.values import Artifact, MarketData, Splits, WalkForward
from ares.pipeline.walk import Market, equity_returns, test_window
from ares.validate.evidence import judge
from ares.validate.monte_carlo import monte_carlo
from ares.validate.overfitting import search_overfitting
from ares.validate.walk_forward import stitch, walk_forward

if TYPE_CHECKING:
    from collections.abc import Callable

    from ares.backtest.costs import Costs
    from ares.core.config import (
        ABTestConfig,
        CalibrationConfig,
        EnsembleConfig,
        MonteCarloConfig,
        RegimeConfig,
        SearchConfig,
        SplitConfig,
        WalkForwardConfig,
    )
    from ares.core.types import Fill, Float64Array
    from ares.learn.chain_fit import CalibrationChain, EnsembleChain, TrackFit
    from ares.learn.regime_chain import RegimeChain
    from ares.learn.splits import Chain
    from ares.learn.track import Dataset, ExtraColumns, Track
    from ares.market.bars import Bars, Holdout
    from ares.model.trading_model import TradingModel
    from ares.pipeline.values import Calibrated, Plan, Predictions, Recipe, Tools, Trained
    from ares.validate.ab_test import ABReport
    from ares.validate.monte_carlo import MonteCarloReport
    from ares.validate.walk_forward import Window, WindowResult


_NOTHING = Demand(0)


class Loader(Volatile):
    """Reads the market that a source digest stands for.

    Args:
        load: Reads and checks the bars.
        demand: What that is predicted to take.
    """

    def __init__(self, load: Callable[[], Bars], demand: Demand = _NOTHING) -> None:
        self.load = load
        self.demand = demand


@dataclass(frozen=True)
class _Tested:
    """What step 13 keeps of a window."""

    result: WindowResult
    score: Float64Array
    predictions: Predictions
    model: TradingModel
    trials: int
    notes: tuple[str, ...]


class Refit(Volatile):
    """Runs steps 2 to 12 on the bars of one window.

    Args:
        train: Takes the window's number and its bars.
    """

    def __init__(self, train: Callable[[int, Bars], Trained]) -> None:
        self.train = train


@step(1, "data collection")
def collect_data(loader: Loader, source: str, holdout: float) -> MarketData:
    """Read the market that `source` identifies and seal its last share away."""
    del source  # it is the identity of what the loader reads
    bars = loader.load()
    _, sealed = split_holdout(bars, holdout)
    quality = bars.quality.to_dict() if bars.quality else {}
    return MarketData(sealed, quality)


@step(2, "market regime classification")
def classify_regimes(
    bars: Bars, config: RegimeConfig, splits: SplitConfig, max_gap: int, seed: int
) -> RegimeChain:
    """Fit a causal regime model before every chunk of the forward chain."""
    chain = forward_chain(len(bars), splits)
    return fit_regime_chain(bars, config, chain, seed_for(seed, "regimes"), max_gap=max_gap)


@step(3, "regime data splitting")
def split_by_regime(bars: Bars, regimes: RegimeChain, splits: SplitConfig) -> Splits:
    """Cut the forward chain and weigh each bar by the regimes known at its close."""
    chain = forward_chain(len(bars), splits)
    regime = np.full(len(bars), -1, dtype=np.int8)
    occupancy = np.zeros((len(regimes.models), 3))
    coarse = resample(bars, regimes.timeframe)
    for chunk, model in enumerate(regimes.models):
        states = regime_states(model, coarse)
        start, stop = chain.borders[chunk : chunk + 2].tolist()
        for part in in_pieces(0, stop):
            begin = part.start
            probabilities = states.at(bars[part])
            before = probabilities[: max(start - begin, 0)]
            occupancy[chunk] += np.nan_to_num(before).sum(axis=0)
            inside = probabilities[len(before) :]
            known = np.flatnonzero(np.isfinite(inside).all(axis=1))
            regime[begin + len(before) + known] = np.argmax(inside[known], axis=1)
        occupancy[chunk] /= max(start, 1)
    return Splits(chain, occupancy, regime)


@step(4, "analyst labeling and feature engineering")
def label_analyst(bars: Bars, track: Track, costs: Costs, fill: Fill) -> Dataset:
    """Features and triple-barrier labels of the direction, with uniqueness weights."""
    return make_dataset(bars, track, costs=costs, fill=fill)


@step(5, "analyst specialist training")
def train_analysts(
    bars: Bars, track: Track, dataset: Dataset, regimes: RegimeChain, splits: Splits, seed: int
) -> TrackFit:
    """One model per regime and chunk, with default hyperparameters."""
    return _fit(bars, track, dataset, regimes, splits.chain, seed, enhance=False)


@step(6, "analyst enhancement")
def enhance_analysts(
    bars: Bars, track: Track, dataset: Dataset, regimes: RegimeChain, splits: Splits,
    plain: TrackFit, seed: int,
) -> TrackFit:  # fmt: skip
    """Select features and hyperparameters inside each chunk's training rows and refit."""
    fit = _fit(bars, track, dataset, regimes, splits.chain, seed, enhance=True)
    before, after = (chained_loss(dataset, each) for each in (plain, fit))
    note = f"log loss of the chained general model: {before:.4f} before, {after:.4f} after"
    return replace(fit, notes=(*fit.notes, note))


@step(7, "analyst ensemble creation")
def ensemble_analysts(
    bars: Bars, track: Track, dataset: Dataset, fit: TrackFit, regimes: RegimeChain,
    splits: Splits, config: EnsembleConfig,
) -> EnsembleChain:  # fmt: skip
    """Gate by regime probability and stack on chained predictions."""
    view = view_track(bars, track)
    return ensemble_chain(view, dataset, fit, regimes, splits.chain, config)


@step(8, "tactician labeling")
def label_tactician(
    bars: Bars, track: Track, analyst: Track, ensemble: EnsembleChain, splits: Splits,
    costs: Costs, fill: Fill, direction: str,
) -> Dataset:  # fmt: skip
    """Meta-labels: given the analyst's chained side, did entering here pay after costs?"""
    columns = analyst_columns(bars, track, analyst, ensemble.p, direction)
    return make_dataset(
        bars,
        track,
        costs=costs,
        fill=fill,
        first=int(splits.chain.borders[0]),
        side=analyst_sides(columns, len(view_track(bars, track).bars)),
        extra=columns,
        extra_names=("analyst_p", "analyst_side"),
    )


@step(9, "tactician specialist training")
def train_tacticians(
    bars: Bars, track: Track, analyst: Track, dataset: Dataset, ensemble: EnsembleChain,
    regimes: RegimeChain, splits: Splits, seed: int, direction: str,
) -> TrackFit:  # fmt: skip
    """As step 5, on meta-labels."""
    columns = analyst_columns(bars, track, analyst, ensemble.p, direction)
    return _fit(bars, track, dataset, regimes, splits.chain, seed, enhance=False, extra=columns)


@step(10, "tactician ensemble creation")
def ensemble_tacticians(
    bars: Bars, track: Track, dataset: Dataset, fit: TrackFit, regimes: RegimeChain,
    splits: Splits, config: EnsembleConfig,
) -> EnsembleChain:  # fmt: skip
    """As step 7."""
    view = view_track(bars, track)
    return ensemble_chain(view, dataset, fit, regimes, splits.chain, config)


@step(11, "confidence calibration")
def calibrate_confidence(
    bars: Bars, tracks: tuple[Track, Track], datasets: tuple[Dataset, Dataset],
    ensembles: tuple[EnsembleChain, EnsembleChain], splits: Splits, config: CalibrationConfig,
    direction: str,
) -> tuple[CalibrationChain, CalibrationChain, Calibrated]:  # fmt: skip
    """Calibrate both tracks on their own later windows; Brier and ECE before and after."""
    chains = [
        calibrate_chain(view_track(bars, track), dataset, ensemble.p, splits.chain, config)
        for track, dataset, ensemble in zip(tracks, datasets, ensembles, strict=True)
    ]
    signals = calibrated_signals(
        bars, tracks, datasets, ensembles, (chains[0], chains[1]), splits, config, direction
    )
    return chains[0], chains[1], signals


@step(12, "final parameters optimization")
def optimize_parameters(
    bars: Bars, calibrated: Calibrated, track: Track, config: SearchConfig, costs: Costs,
    early_stopping: bool, patience: int | None, seed: int, tools: Tools,
) -> Plan:  # fmt: skip
    """Search thresholds, stops, holding time and cooldown; then size by the volatility target."""
    return optimise(
        bars.afresh(),
        calibrated,
        track,
        config,
        costs,
        early_stopping=early_stopping,
        patience=patience,
        seed=seed,
        tools=tools,
    )


@step(13, "walk-forward validation")
def validate_walk_forward(
    bars: Bars, recipe: Recipe, config: WalkForwardConfig, refit: Refit
) -> WalkForward:
    """Refit steps 2 to 12 inside every window, trade its test bars, stitch and judge."""
    market = Market(recipe.costs, recipe.search.fill, recipe.max_gap)

    def one(window: Window) -> _Tested:
        trained = refit.train(window.index, bars[: window.train_stop])
        model, plan = trained.model, trained.plan
        del trained  # the rest of it is large, and not needed any more
        result, signals, said = test_window(bars, model, plan, window, market)
        return _Tested(result, signals.score, said, model, len(plan.trials), plan.notes)

    done = walk_forward(len(bars), config, one)
    results = tuple(tested.result for tested in done)
    oos = stitch(results, days_per_year=bars.days_per_year)
    evidence = judge(
        oos.daily_returns,
        oos.benchmark_returns,
        exposure=oos.exposure,
        n_trades=oos.n_trades,
        days_per_year=bars.days_per_year,
        seed=recipe.seed,
    )
    return WalkForward(
        oos=oos,
        results=results,
        models=tuple(tested.model for tested in done),
        scores=tuple(tested.score for tested in done),
        predictions=tuple(tested.predictions for tested in done),
        evidence=evidence,
        trials=sum(tested.trials for tested in done),
        notes=tuple(
            f"window {tested.result.window.index}: {note}"
            for tested in done
            for note in tested.notes
        ),
    )


@step(14, "Monte Carlo validation")
def validate_monte_carlo(
    bars: Bars, walk: WalkForward, recipe: Recipe, config: MonteCarloConfig
) -> MonteCarloReport:
    """Resample the stitched curve and trade it again under stress."""
    market = Market(recipe.costs, recipe.search.fill, recipe.max_gap)
    rerun = stressed_rerun(bars, walk.results, walk.models, walk.scores, market, config.price_noise)
    return monte_carlo(
        walk.oos.daily_returns,
        np.concatenate([equity_returns(result.trades) for result in walk.results]),
        config,
        seed=recipe.seed,
        days_per_year=bars.days_per_year,
        rerun=rerun,
    )


@step(15, "A/B testing")
def compare_ab(
    model: TradingModel, champion: TradingModel | None, holdout: Holdout, recipe: Recipe,
    config: ABTestConfig, looks_before: int,
) -> ABReport:  # fmt: skip
    """Challenger against champion and baselines on the opened holdout."""
    market = Market(recipe.costs, recipe.search.fill, recipe.max_gap)
    return compare_on_holdout(model, champion, holdout, market, config, looks_before, recipe.seed)


@step(16, "saving")
def save(
    data: MarketData, trained: Trained, walk: WalkForward, stress: MonteCarloReport,
    comparison: ABReport, recipe: Recipe, config_toml: str,
) -> Artifact:  # fmt: skip
    """The files of the run as a value; publishing them is the manager's work."""
    search = search_overfitting(
        trained.plan.daily_returns,
        trained.plan.full_runs,
        n_trials=len(trained.plan.trials) + walk.trials,
        days_per_year=data.bars.days_per_year,
        seed=recipe.seed,
    )
    return Artifact(run_files(data, trained, walk, stress, comparison, search, config_toml))


def _fit(
    bars: Bars, track: Track, dataset: Dataset, regimes: RegimeChain, chain: Chain, seed: int,
    *, enhance: bool, extra: ExtraColumns | None = None,
) -> TrackFit:  # fmt: skip
    return fit_chain(
        view_track(bars, track),
        track,
        dataset,
        regimes,
        chain,
        seed=seed_for(seed, f"{track.name} models"),
        trainer=IncrementalTrainer({}),
        enhance=enhance,
        extra=extra,
    )
