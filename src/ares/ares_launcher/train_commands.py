"""`ares train` and `ares blank`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ares.ares_launcher import options as opt
from ares.ares_launcher.output import emit, guarded, number, percent, say, size, table
from ares.ares_launcher.strategy_commands import market_overrides, settings_of

Mode = Annotated[str | None, typer.Option("--mode", help="quick (a first look) or full.")]
Until = Annotated[int | None, typer.Option("--until", min=1, max=16, help="End after this step.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Compute every step anew.")]
RequireEdge = Annotated[
    bool,
    typer.Option("--require-edge", help="Exit with code 3 where there is no evidence of edge."),
]


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command("train")(guarded(train, resumes=True))
    app.command("blank")(guarded(blank, resumes=True))


RECOMMENDATIONS = {
    "promote": "Holdout: better than what it must beat (`ares runs promote` makes it champion).",
    "hold": "Holdout: no significant difference to what it must beat, so no promotion.",
    "reject": "Holdout: significantly worse than what it must beat, so no promotion.",
}


def counted() -> str:
    """What the candidates of a verdict are."""
    from ares.validate.evidence import COUNTED

    return COUNTED


def show_metrics(found: Mapping[str, float | None]) -> None:
    """Print the out-of-sample metrics of a training run."""
    dsr = found.get("dsr")
    known = dsr is not None and math.isfinite(dsr)  # without trades there is none
    cut = math.floor(1000 * dsr) / 1000 if known and dsr is not None else None  # never rounded up
    shown = [
        ("total return", percent(found.get("total_return"))),
        ("CAGR", percent(found.get("cagr"))),
        ("Sharpe ratio", number(found.get("sharpe"))),
        ("max drawdown", percent(found.get("max_drawdown"))),
        ("trades", number(found.get("n_trades"), 0)),
        ("exposure", percent(found.get("exposure"))),
        ("deflated Sharpe ratio", number(cut, 3)),
        ("p against buy and hold", number(found.get("p_value"), 4)),
        ("Sharpe of buy and hold", number(found.get("benchmark_sharpe"))),
        ("walk-forward efficiency", number(found.get("walk_forward_efficiency"))),
    ]
    table("Out of sample (walk-forward, net of costs)", ("", "value"), shown)


def train(
    symbol: opt.Symbol = None,
    exchange: opt.Exchange = None,
    timeframe: opt.Timeframe = None,
    timerange: opt.Timerange = None,
    data: opt.Data = None,
    columns: opt.Columns = None,
    calendar: opt.Calendar = None,
    config: opt.ConfigFile = None,
    set_: opt.Set = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Points to search.")] = None,
    mode: Mode = None,
    seed: opt.Seed = None,
    jobs: opt.Jobs = None,
    memory: opt.Memory = None,
    until: Until = None,
    fresh: Fresh = False,
    require_edge: RequireEdge = False,
    home: opt.Home = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Run the whole pipeline, by default on the embedded sample.

    Sixteen steps from bars to a validated model. What is finished is kept: an interrupted run
    continues where it was, and a changed option repeats only what it can reach.
    """
    market = market_overrides(symbol, exchange, timeframe, timerange, data, columns, calendar)
    overrides = {
        **market,
        "search.trials": trials,
        "enhanced_training_manager.mode": mode,
        "enhanced_training_manager.seed": seed,
        "computational_optimization.parallelization.max_workers": jobs,
        "computational_optimization.memory_management.budget": memory,
    }
    _train(config, set_, overrides, home, until, fresh, require_edge, as_json=as_json)


def blank(
    symbol: opt.Symbol = None,
    exchange: opt.Exchange = None,
    timeframe: opt.Timeframe = None,
    data: opt.Data = None,
    columns: opt.Columns = None,
    config: opt.ConfigFile = None,
    set_: opt.Set = None,
    home: opt.Home = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Run `ares train --mode quick`: a first look at a market."""
    market = market_overrides(symbol, exchange, timeframe, None, data, columns, None)
    overrides = {**market, "enhanced_training_manager.mode": "quick"}
    _train(config, set_, overrides, home, None, False, False, as_json=as_json)


def _train(
    config: Path | None,
    set_: list[str] | None,
    overrides: dict[str, Any],
    home: Path | None,
    until: int | None,
    fresh: bool,
    require_edge: bool,
    *,
    as_json: bool,
) -> None:
    from ares.ares_launcher.progress import watched

    settings = settings_of(config, overrides, set_)
    with watched(quiet=as_json) as observer:
        from ares.enhanced_training_manager import EnhancedTrainingManager

        manager = EnhancedTrainingManager(
            settings, home=home, until=until, fresh=fresh, observer=observer
        )
        result = manager.execute_enhanced_training({})
    if as_json:
        emit(_as_json(result))
    else:
        _show(result)
    if require_edge and result.run_dir is not None and not result.edge:
        raise typer.Exit(3)


def _as_json(result: Any) -> dict[str, Any]:
    steps = [
        {
            "number": record.number,
            "name": record.name,
            "cached": record.cached,
            "seconds": round(record.seconds, 3),
            "peak_memory_bytes": record.peak_memory_bytes,
        }
        for record in result.steps
        if not record.scope
    ]
    return {
        "run_id": result.run_id,
        "run_dir": result.run_dir,
        "verdict": result.verdict,
        "edge": result.edge,
        "recommendation": result.recommendation,
        "metrics": result.metrics,
        "costs": result.costs,
        "fallbacks": list(result.fallbacks),
        "features": result.features,
        "searches": result.searches,
        "unstopped": list(result.unstopped),
        "steps": steps,
    }


def _show(result: Any) -> None:
    rows = [
        (
            record.number,
            record.name,
            "kept" if record.cached else "made",
            f"{record.seconds:.2f} s",
            size(record.peak_memory_bytes),
        )
        for record in result.steps
        if not record.scope
    ]
    table("", ("step", "name", "", "time", "peak memory"), rows)
    if result.features.get("recalled"):
        recalled, made = result.features["recalled"], result.features["made"]
        say(f"Feature matrices: {recalled:,} recalled from the cache, {made:,} made.")
    if result.run_dir is None:
        say("Stopped as asked; the same command without --until continues from here.")
        return
    if result.unstopped:
        say(
            f"Early stopping was off in {len(result.unstopped):,} of {result.searches:,} searches (one"
            " on all training bars, one per window); steps/12.json and steps/13.json of the run say why."
        )
    show_metrics(result.metrics)
    costs = result.costs
    say(
        f"Costs per side: fee {1e4 * costs['fee']:g} bp, slippage {1e4 * costs['slippage']:g} bp"
        f" ({costs['source']})."
    )
    say(RECOMMENDATIONS[result.recommendation])
    say(counted())
    say(result.verdict)
    say(f"Report: {result.run_dir / 'report.html'}")
