"""Steps 2 to 12 as a program: what the pipeline runs once and every walk-forward window again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ares.core.errors import ConfigError, DataError
from ares.learn.regime_chain import refuse_short, regime_timeframe
from ares.learn.splits import forward_chain
from ares.learn.track import Track, analyst_track, tactician_track
from ares.market.timeframe import timeframe_ns
from ares.model.trading_model import TrackModel, TradingModel
from ares.pipeline import steps
from ares.pipeline.values import Recipe, Trained
from ares.validate.walk_forward import windows

if TYPE_CHECKING:
    from ares.backtest.costs import Costs
    from ares.core.config import Config, WalkForwardConfig
    from ares.learn.chain_fit import CalibrationChain, EnsembleChain, TrackFit
    from ares.learn.regime_chain import RegimeChain
    from ares.market.bars import Bars
    from ares.pipeline.step import Runner
    from ares.pipeline.values import MarketData, Plan, Tools


def recipe_of(config: Config, costs: Costs) -> Recipe:
    """The part of the configuration that a refit depends on."""
    patience = config.computational_optimization.early_stopping.patience
    return Recipe(
        regimes=config.regimes,
        splits=config.splits,
        analyst=config.analyst,
        tactician=config.tactician,
        ensembles=config.ensembles,
        calibration=config.calibration,
        search=config.search,
        costs=costs,
        max_gap=config.data.max_gap,
        early_stopping=config.stops_early,
        patience=patience if config.stops_early else None,
        seed=config.enhanced_training_manager.seed,
    )


def refuse_timeframes(base: str, recipe: Recipe) -> None:
    """Refuse timeframes that do not go together, before anything is computed of them.

    Raises:
        ConfigError: the regimes' bars cannot be made of the analyst's, or the tactician's are no
            base bars.
    """
    tactician_track(base, recipe.tactician, recipe.max_gap)
    analyst = analyst_track(base, recipe.analyst, recipe.max_gap).timeframe
    regimes = regime_timeframe(base, recipe.regimes)
    if timeframe_ns(regimes) % timeframe_ns(analyst):
        raise ConfigError(
            f"the regimes' timeframe must be a multiple of the analyst's, which is {analyst}",
            value=regimes,
            where="regimes.timeframe",
            remedy=f"Set analyst.timeframe to {regimes}, too, or regimes.timeframe to a longer one.",
        )


def refuse_few_bars(data: MarketData, recipe: Recipe, config: WalkForwardConfig) -> None:
    """Refuse now what a refit of the whole range or of the shortest window would for want of bars.

    Raises:
        DataError: one of them has too few; the error says how the bars are shared out.
    """
    bars, held = data.bars, data.holdout.n_bars
    total = len(bars) + held
    out = f"Of {total:,} bars the last {held:,} are held out (data.holdout)"
    shortest = windows(len(bars), config)[0].train_stop  # first: its error says how much is missing
    for stop in (shortest, len(bars)):
        try:
            chain = forward_chain(stop, recipe.splits)
        except DataError as error:
            raise DataError(
                f"{total:,} bars are too few to train on: {error.rule}",
                value=stop,
                where=f"{bars.symbol} {bars.exchange} {bars.timeframe}",
                remedy=f"{out}. {error.remedy}",
            ) from error
        window = (
            f", the first window trains on {stop:,} of the other {len(bars):,} (walk_forward.first)"
            if stop < len(bars)
            else ""
        )
        account = (
            f"{out}{window}, and {chain.borders[0]:,} of these {stop:,} come before the first chunk"
            " (splits.first), the first part that is predicted"
        )
        refuse_short(bars[:stop], recipe.regimes, chain, total, account)


def refit(runner: Runner, bars: Bars, recipe: Recipe, tools: Tools) -> Trained:
    """Run steps 2 to 12 on `bars`."""
    run, r, seed = runner.run, recipe, recipe.seed
    fill, direction = r.search.fill, r.search.direction
    analyst = analyst_track(bars.timeframe, r.analyst, r.max_gap)
    tactician = tactician_track(bars.timeframe, r.tactician, r.max_gap)

    regimes = run(steps.classify_regimes, bars, r.regimes, r.splits, r.max_gap, seed)
    splits = run(steps.split_by_regime, bars, regimes, r.splits)
    labels = run(steps.label_analyst, bars, analyst, r.costs, fill)
    plain = run(steps.train_analysts, bars, analyst, labels, regimes, splits, seed)
    fit = run(steps.enhance_analysts, bars, analyst, labels, regimes, splits, plain, seed)
    ensemble = run(
        steps.ensemble_analysts, bars, analyst, labels, fit, regimes, splits, r.ensembles
    )
    meta = run(
        steps.label_tactician,
        bars, tactician, analyst, ensemble, splits, r.costs, fill, direction,
    )  # fmt: skip
    meta_fit = run(
        steps.train_tacticians,
        bars, tactician, analyst, meta, ensemble, regimes, splits, seed, direction,
    )  # fmt: skip
    meta_ensemble = run(
        steps.ensemble_tacticians, bars, tactician, meta, meta_fit, regimes, splits, r.ensembles
    )
    tracks, datasets, ensembles = (analyst, tactician), (labels, meta), (ensemble, meta_ensemble)
    first, second, calibrated = run(
        steps.calibrate_confidence,
        bars, tracks, datasets, ensembles, splits, r.calibration, direction,
    )  # fmt: skip
    plan = run(
        steps.optimize_parameters,
        bars, calibrated, tactician, r.search, r.costs, r.early_stopping, r.patience, seed, tools,
    )  # fmt: skip
    calibrations = (first, second)
    fits = (plain, fit, meta_fit)
    model = assemble(bars, recipe, tracks, regimes, (fit, meta_fit), ensembles, calibrations, plan)
    return Trained(
        tracks, regimes, splits, datasets, fits, ensembles, calibrations, calibrated, plan, model
    )


def assemble(
    bars: Bars,
    recipe: Recipe,
    tracks: tuple[Track, Track],
    regimes: RegimeChain,
    fits: tuple[TrackFit, TrackFit],
    ensembles: tuple[EnsembleChain, EnsembleChain],
    calibrations: tuple[CalibrationChain, CalibrationChain],
    plan: Plan,
) -> TradingModel:
    """The final models of both tracks and the plan, as one value."""
    analyst, tactician = (
        _final(track, fit, ensemble, calibration)
        for track, fit, ensemble, calibration in zip(
            tracks, fits, ensembles, calibrations, strict=True
        )
    )
    return TradingModel(
        symbol=bars.symbol,
        exchange=bars.exchange,
        timeframe=bars.timeframe,
        calendar=bars.calendar,
        regime_timeframe=regimes.timeframe,
        regimes=regimes.models[-1],
        analyst=analyst,
        tactician=tactician,
        params=dict(plan.params),
        max_gap=recipe.max_gap,
        valid_from=int(bars.timestamp[-1]) + bars.interval_ns,
    )


def _final(
    track: Track, fit: TrackFit, ensemble: EnsembleChain, calibration: CalibrationChain
) -> TrackModel:
    specialists = fit.specialists[-1]
    assert specialists is not None  # noqa: S101  # fit_chain refuses to end without final models
    return TrackModel(
        timeframe=track.timeframe,
        features=track.features,
        specialists=specialists,
        stacker=ensemble.stackers[-1],
        calibrator=calibration.calibrators[-1],
    )
