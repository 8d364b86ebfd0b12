"""`ares backtest`, and how strategies, markets and costs are named on the command line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ares.ares_launcher import options as opt
from ares.ares_launcher.data_commands import split_columns
from ares.ares_launcher.output import (
    emit,
    guarded,
    number,
    percent,
    prints_aside,
    say,
    table,
)
from ares.ares_launcher.progress import stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ares.core.settings import Settings
    from ares.enhanced_training_manager_optimized import EnhancedTrainingManagerOptimized

BUILT_IN = "sma_cross, ema_cross, rsi_reversion, donchian_breakout, bollinger_reversion"

Strategy = Annotated[
    str, typer.Option("--strategy", help=f"{BUILT_IN}, or path/to/file.py:MyStrategy.")
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="One parameter, e.g. fast=10, direction=both, stop_loss=0.02. Repeatable."
    ),
]
Fee = Annotated[float | None, typer.Option("--fee", help="Fee rate per side, e.g. 0.001.")]
Slippage = Annotated[
    float | None, typer.Option("--slippage", help="Slippage rate per side, e.g. 0.0005.")
]
Fill = Annotated[str | None, typer.Option("--fill", help="next_open (default) or close.")]

_SHARES = {
    "total_return", "cagr", "volatility", "max_drawdown", "win_rate", "exposure", "expectancy",
    "fees_paid",
}  # fmt: skip
_DIGITS = {"n_trades": 0, "days_per_year": 0, "score": 3, "p_value": 4}
_UNNAMED = {"data.symbol": "unnamed", "data.exchange": "unnamed"}


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command("backtest")(guarded(backtest))


def backtest(
    strategy: Strategy = "sma_cross",
    set_: Parameters = None,
    symbol: opt.Symbol = None,
    exchange: opt.Exchange = None,
    timeframe: opt.Timeframe = None,
    timerange: opt.Timerange = None,
    data: opt.Data = None,
    columns: opt.Columns = None,
    calendar: opt.Calendar = None,
    config: opt.ConfigFile = None,
    fee: Fee = None,
    slippage: Slippage = None,
    fill: Fill = None,
    home: opt.Home = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Run one backtest on all bars given.

    At the costs and at twice the costs.
    """
    market = market_overrides(symbol, exchange, timeframe, timerange, data, columns, calendar)
    costs = {"costs.fee": fee, "costs.slippage": slippage, "search.fill": fill}
    with prints_aside(as_json=as_json), stage("Starting", quiet=as_json):
        from ares.backtest.user import load_strategy
        from ares.pipeline import single

        toolkit = toolkit_of(config, {**market, **costs}, home)
        chosen = load_strategy(strategy)
        params = _parameters(chosen, set_)
    with stage("Reading bars", quiet=as_json):
        bars = load(toolkit)
    with prints_aside(as_json=as_json), stage("Trading and drawing", quiet=as_json):
        done = single.backtest(
            toolkit.workspace,
            bars,
            chosen,
            params,
            toolkit.costs_for(bars.calendar),
            toolkit.config,
        )
    if as_json:
        emit(_as_json(done, bars))
    else:
        _show_backtest(done, chosen, bars, toolkit)


def _parameters(strategy: Any, pairs: list[str] | None) -> dict[str, Any]:
    """The point that --set gives, refused before bars are read where it is not valid."""
    from ares.ares_launcher.config_commands import parse_set
    from ares.core.errors import ConfigError

    params = parse_set(pairs)
    for name in params:
        if name in {"fee", "slippage", "fill"} and name not in strategy.space.names:
            raise ConfigError(
                "--set gives parameters of the strategy",
                value=name,
                remedy=f"This one is an option of its own: --{name} {params[name]}.",
            )
    strategy.space.normalise(params)
    return params


def _as_json(done: Any, bars: Any) -> dict[str, Any]:
    return {
        "metrics": done.result.metrics,
        "metrics_at_twice_the_costs": done.twice.metrics,
        "buy_and_hold": done.held,
        "n_trades": len(done.result.trades),
        "trades_path": done.table("trades"),
        "report_path": done.run_dir / "report.html",
        "outcome": done.result.outcome.name,
        "params": done.params,
        "costs": {"fee": done.costs.fee, "slippage": done.costs.slippage},
        "bars": len(bars),
        "run_dir": done.run_dir,
    }


def _show_backtest(
    done: Any, strategy: Any, bars: Any, toolkit: EnhancedTrainingManagerOptimized
) -> None:
    market = " ".join(dict.fromkeys((bars.symbol, bars.exchange, bars.timeframe)))
    rows = [
        (name.replace("_", " "), metric(name, value), metric(name, done.twice.metrics[name]))
        for name, value in done.result.metrics.items()
    ]
    table(
        f"{strategy.name} on {market}, {_span(bars)}", ("metric", "costs once", "costs twice"), rows
    )
    say(f"Buying at the first open and holding: {percent(done.held)} before costs.")
    say_costs(toolkit, done.costs)
    say_faults(bars)
    if done.result.outcome.name != "OK":
        say(done.result.outcome.value)
    elif not len(done.result.trades):
        say(why_idle(strategy, done.params, bars, toolkit.config.data.max_gap))
    say(f"Trades: {done.table('trades')}")
    say(f"Report: {done.run_dir / 'report.html'}")


def why_idle(strategy: Any, params: Mapping[str, Any], bars: Any, max_gap: int) -> str:
    """What may be the reason that there were no trades."""
    import numpy as np

    needed = strategy.lookback(params) if hasattr(strategy, "lookback") else 0
    longest = int(np.diff(np.append(bars.segments(max_gap), len(bars))).max())
    if needed <= longest:
        return "There were no trades: the signals never asked for one."
    return (
        f"There were no trades: indicators start anew after more than {max_gap} missing bars, and no"
        f" stretch has the {needed:,} bars to warm up; the longest has {longest:,}. Use shorter"
        " periods or a longer timeframe, or raise data.max_gap in a file for --config."
    )


def _span(bars: Any) -> str:
    first, last = bars.timestamp[[0, -1]].astype("datetime64[ns]").astype("datetime64[D]")
    return f"{len(bars):,} bars, {first} to {last}"


def say_faults(bars: Any) -> None:
    """What the check of the bars found, in one line; the report and `ares data check` say more.

    Of a part of the data the gaps are known; the other counts are of all rows that were read.
    """
    report = bars.quality
    if report is None:
        return
    place = "In the data"
    if len(bars) != report.bars:
        missing = int(bars.gaps[:, 2].sum())
        say(f"In the time range: {len(bars.gaps):,} gaps, {missing:,} missing bars.")
        place = f"In all data as read, the time range and {report.bars - len(bars):,} other bars"
    if report.findings:
        counts = ", ".join(
            f"{f.count:,} {f.kind.replace('_', ' ')}"
            + (" dropped" if f.action == "dropped" else "")
            for f in report.findings
        )
        say(f"{place}: {counts} (the report says more).")


def market_overrides(
    symbol: str | None,
    exchange: str | None,
    timeframe: str | None,
    timerange: str | None,
    data: list[Path] | None,
    columns: str | None,
    calendar: str | None,
) -> dict[str, Any]:
    """The options that name a market, as dotted configuration keys."""
    return {
        "data.symbol": symbol,
        "data.exchange": exchange,
        "data.timeframe": timeframe,
        "data.timerange": timerange,
        "data.data": tuple(str(path) for path in data) if data else None,
        "data.columns": split_columns(columns),
        "data.calendar": calendar,
    }


def toolkit_of(
    config: Path | None,
    overrides: dict[str, Any],
    home: Path | None,
) -> EnhancedTrainingManagerOptimized:
    """The toolkit of a configuration file and the command's options."""
    from ares.enhanced_training_manager_optimized import EnhancedTrainingManagerOptimized

    settings = settings_of(config, overrides)
    return EnhancedTrainingManagerOptimized(settings.config, home=home)


def settings_of(
    config: Path | None, overrides: dict[str, Any], set_: list[str] | None = None
) -> Settings:
    """The settings of a command. What nobody says of given files is not that of the sample.

    A timeframe is read off the first rows; symbol and exchange are "unnamed".
    """
    from ares.ares_launcher.config_commands import parse_set
    from ares.core.settings import Settings, load_settings

    options = {key: value for key, value in overrides.items() if value is not None}
    pairs = parse_set(set_)
    given, typed = pairs | options, opt.spelled(options, pairs)
    settings = load_settings(config, overrides=given, spelled=typed)
    data, origins = settings.config.data, settings.origins
    if data.data:
        from ares.market.streaming import seen_timeframe

        seen = {key: name for key, name in _UNNAMED.items() if origins[key] == "default"}
        if origins["data.timeframe"] == "default":
            seen["data.timeframe"] = seen_timeframe(data.data, columns=data.columns)
        if seen:
            known = load_settings(config, overrides=given | seen, spelled=typed)
            settings = Settings(known.config, origins | dict.fromkeys(seen, "files"))
    return settings


def load(toolkit: EnhancedTrainingManagerOptimized) -> Any:
    """The bars that the configuration names."""
    data = toolkit.config.data
    return toolkit.load_bars(data.symbol, data.exchange, data.timeframe)


def metric(name: str, value: float | None) -> str:
    """A metric of any kind of run, in its unit."""
    if name in _SHARES:
        return percent(value)
    if name == "dsr":  # cut: what is below the threshold never reads as at it
        return number(math.floor(1000 * value) / 1000 if value is not None else None, 3)
    return number(value, _DIGITS.get(name, 2))


def say_costs(toolkit: EnhancedTrainingManagerOptimized, costs: Any) -> None:
    """Say what trading costs, and who said so."""
    source = "given" if toolkit.costs_given else "default; --fee and --slippage change them"
    say(
        f"Costs per side: fee {1e4 * costs.fee:g} bp, slippage {1e4 * costs.slippage:g} bp ({source})."
    )
