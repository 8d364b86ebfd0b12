"""`ares precompute`: features ahead of training."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ares.ares_launcher import options as opt
from ares.ares_launcher.output import emit, guarded, say, size, table
from ares.ares_launcher.progress import stage
from ares.ares_launcher.strategy_commands import Fee, Fill, Slippage, market_overrides, settings_of
from ares.ares_launcher.train_commands import Mode

if TYPE_CHECKING:
    from ares.pipeline.precompute import Precomputed


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command("precompute")(guarded(precompute, resumes=True))


def precompute(
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy", help="Keep this one's slow columns, too (bollinger_reversion has some)."
        ),
    ] = None,
    symbol: opt.Symbol = None,
    exchange: opt.Exchange = None,
    timeframe: opt.Timeframe = None,
    timerange: opt.Timerange = None,
    data: opt.Data = None,
    columns: opt.Columns = None,
    calendar: opt.Calendar = None,
    config: opt.ConfigFile = None,
    set_: opt.Set = None,
    mode: Mode = None,
    fee: Fee = None,
    slippage: Slippage = None,
    fill: Fill = None,
    memory: opt.Memory = None,
    home: opt.Home = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Compute the features of a market ahead of `ares train`.

    With the same options it finds them. They are kept in the workspace by the content of bars, configuration and code; results are the
    same bit for bit. With --strategy, `ares optimize` finds the strategy's slow columns.
    """
    market = market_overrides(symbol, exchange, timeframe, timerange, data, columns, calendar)
    others = {
        "enhanced_training_manager.mode": mode,
        "costs.fee": fee,
        "costs.slippage": slippage,
        "search.fill": fill,
        "computational_optimization.memory_management.budget": memory,
    }
    with stage("Computing features", quiet=as_json):
        from ares.backtest.user import load_strategy
        from ares.enhanced_training_manager_optimized import EnhancedTrainingManagerOptimized
        from ares.pipeline import precompute as ahead

        settings = settings_of(config, {**market, **others}, set_)
        toolkit = EnhancedTrainingManagerOptimized(settings, home=home)
        chosen = None if strategy is None else load_strategy(strategy)
        done = ahead.precompute(toolkit, chosen)
    if as_json:
        emit(_as_json(done))
    else:
        _show(done, named=strategy is not None)


def _as_json(done: Precomputed) -> dict[str, Any]:
    return {
        "bars": done.bars,
        "features": [{"scope": scope, **asdict(kept)} for scope, kept in done.features],
        "steps": [
            {"scope": s.scope, "number": s.number, "name": s.name, "cached": s.cached}
            for s in done.steps
        ],
        "columns": done.columns[0],
        "column_bytes": done.column_bytes,
        "made": done.columns[1]
        + sum(kept.made for _, kept in done.features)
        + sum(not s.cached for s in done.steps),
        "store_bytes": done.store_bytes,
        "added_bytes": done.added_bytes,
    }


def _show(done: Precomputed, *, named: bool) -> None:
    rows: list[tuple[object, ...]] = [
        (
            f"features, {kept.track} {kept.timeframe}",
            scope or "whole range",
            f"{kept.rows:,} x {kept.columns}",
            size(kept.nbytes) if kept.nbytes else "shared",
            "made" if kept.made else "kept",
        )
        for scope, kept in done.features
    ]
    rows += [
        (
            f"step {s.number}, {s.name}",
            s.scope or "whole range",
            "",
            "",
            "kept" if s.cached else "made",
        )
        for s in done.steps
    ]
    wanted, made = done.columns
    if wanted:
        how = "made" if made == wanted else f"{made:,} made" if made else "kept"
        rows.append(
            (
                "columns of the strategy",
                "searched bars",
                f"{wanted:,}",
                size(done.column_bytes),
                how,
            )
        )
    table(f"Of {done.bars:,} bars of the training range", ("what", "of", "rows", "size", ""), rows)
    say(f"Added {size(done.added_bytes)}; the store holds {size(done.store_bytes)}.")
    say("`ares train` with the same options takes steps and features from there.")
    if wanted:
        say("`ares optimize` with the same strategy and options takes the columns.")
    elif named:
        say("This strategy has no slow columns: nothing was kept for `ares optimize`.")
