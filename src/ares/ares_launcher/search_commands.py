"""`ares optimize`."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ares.ares_launcher import options as opt
from ares.ares_launcher.output import guarded, prints_aside
from ares.ares_launcher.param_option import Param, searched_space
from ares.ares_launcher.progress import stage
from ares.ares_launcher.strategy_commands import (
    Fee,
    Fill,
    Slippage,
    Strategy,
    load,
    market_overrides,
    settings_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ares.core.settings import Settings

Trials = Annotated[int | None, typer.Option("--trials", min=1, help="Points to search.")]
Objective = Annotated[
    str | None,
    typer.Option(
        "--objective",
        help="sharpe, sortino, calmar or total_return (each less one standard error, "
        "search.penalty), or path/to/file.py:function of (block results, days per year).",
    ),
]
Engine = Annotated[
    Literal["threads", "processes", "dask"] | None,
    typer.Option("--engine", help="Kind of workers. Never changes a result."),
]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", help="Dask scheduler, tcp://host:port, with --engine dask."),
]
ConfigKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="One configuration key, e.g. search.min_trades=50. Repeatable. "
        "Parameters of the strategy are set by --param."
    ),
]  # fmt: skip

_WORKERS = "computational_optimization.parallelization"
_OPTIONS = {
    "costs.fee": "--fee", "costs.slippage": "--slippage", "search.fill": "--fill",
    "data.symbol": "--symbol", "data.exchange": "--exchange", "data.timeframe": "--timeframe",
    "data.columns": "--columns", "data.calendar": "--calendar",
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command("optimize")(guarded(optimize, resumes=True))


def optimize(
    strategy: Strategy = "sma_cross",
    param: Param = None,
    symbol: opt.Symbol = None,
    exchange: opt.Exchange = None,
    timeframe: opt.Timeframe = None,
    timerange: opt.Timerange = None,
    data: opt.Data = None,
    columns: opt.Columns = None,
    calendar: opt.Calendar = None,
    config: opt.ConfigFile = None,
    set_: ConfigKeys = None,
    trials: Trials = None,
    objective: Objective = None,
    fee: Fee = None,
    slippage: Slippage = None,
    fill: Fill = None,
    seed: opt.Seed = None,
    jobs: opt.Jobs = None,
    engine: Engine = None,
    scheduler: Scheduler = None,
    memory: opt.Memory = None,
    home: opt.Home = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Search a strategy's parameters on the first 80 % of the bars.

    With --timerange on all of them.

    The direction is long unless `--param direction=...` or the configuration's search.direction says
    otherwise. Interrupted, the same command goes on. Exit code 1: not one point has a score.
    """
    market = market_overrides(symbol, exchange, timeframe, timerange, data, columns, calendar)
    costs = {"costs.fee": fee, "costs.slippage": slippage, "search.fill": fill}
    search = {"search.trials": trials, "enhanced_training_manager.seed": seed}
    tools = _tools(jobs, engine, scheduler, memory)
    from ares.ares_launcher.search_show import search_bar, show_search

    with prints_aside(as_json=as_json):
        with stage("Starting", quiet=as_json):
            from ares.enhanced_training_manager_optimized import EnhancedTrainingManagerOptimized
            from ares.pipeline import single_search

            options = {**market, **costs, **search, **tools}
            chosen, settings, said = _settings(strategy, objective, config, options, set_)
            command = _Next(strategy, said, config, home)
            request = _request(chosen, param, objective, settings, command, whole=bool(timerange))
            toolkit = EnhancedTrainingManagerOptimized(settings, home=home)
            toolkit.initialize()
        try:
            with stage("Reading bars", quiet=as_json):
                bars = load(toolkit)
            budget = toolkit.config.search.trials
            with toolkit.remembering(), search_bar(budget, quiet=as_json) as progress:
                done = single_search.optimize(toolkit, bars, request, progress=progress)
        finally:
            toolkit.cleanup()
    if not show_search(done, request, toolkit, as_json=as_json):
        raise typer.Exit(1)


def _tools(
    jobs: int | None, engine: str | None, scheduler: str | None, memory: str | None
) -> dict[str, Any]:
    return {
        f"{_WORKERS}.max_workers": jobs,
        f"{_WORKERS}.workers": engine,
        f"{_WORKERS}.scheduler": scheduler,
        "computational_optimization.memory_management.budget": memory,
    }


def _settings(
    strategy: str,
    objective: str | None,
    config: Path | None,
    options: dict[str, Any],
    set_: list[str] | None,
) -> tuple[Any, Settings, dict[str, Any]]:
    """The strategy, the settings, and what was said of them on the command line."""
    from ares.ares_launcher.config_commands import parse_set
    from ares.backtest.user import load_strategy
    from ares.core.errors import ConfigError
    from ares.search.user_objective import NAMES

    chosen = load_strategy(strategy)
    given = parse_set(set_)
    for name in given:
        if name in chosen.space.names:
            raise ConfigError(
                "--set gives configuration keys here",
                value=name,
                remedy=f"Parameters of the strategy: --param {name}={given[name]} fixes one, "
                f"--param {name}=LOW:HIGH narrows it.",
            )
    options["search.objective"] = objective if objective in NAMES else None
    said = given | {key: value for key, value in options.items() if value is not None}
    settings = settings_of(config, options, set_)
    workers = settings.config.computational_optimization.parallelization
    if options[f"{_WORKERS}.scheduler"] is not None and workers.workers != "dask":
        raise ConfigError(
            "a scheduler serves --engine dask only",
            value=options[f"{_WORKERS}.scheduler"],
            where="--scheduler",
            remedy="Add --engine dask, or leave it out.",
        )
    return chosen, settings, said


def _request(
    chosen: Any,
    param: list[str] | None,
    objective: str | None,
    settings: Settings,
    command: _Next,
    *,
    whole: bool,
) -> Any:
    from ares.pipeline.single_search import request_of
    from ares.search.user_objective import load_objective

    search = settings.config.search
    explicit = settings.origins["search.direction"] != "default"
    return request_of(
        chosen,
        searched_space(chosen.space, param),
        settings.config,
        load_objective(objective or search.objective),
        direction=search.direction if explicit else None,
        whole=whole,
        next_command=command,
    )


@dataclass(frozen=True)
class _Next:
    """Writes the command that tries the winner on the bars that the search did not see.

    What `ares backtest` has no option for is set in its environment.
    """

    strategy: str
    said: Mapping[str, Any]
    config: Path | None
    home: Path | None

    def __call__(self, params: Mapping[str, Any], held_back: str | None) -> str | None:
        if held_back is None:  # --timerange was given: what comes after it was not looked at
            end = str(self.said["data.timerange"]).partition("-")[2]
            if not end:
                return None
            held_back = f"{end}-"
        words = ["ares", "backtest", "--strategy", self.strategy]
        for name, value in params.items():
            words += ["--set", f"{name}={_written(value)}"]
        words += ["--timerange", held_back]
        files = self.said.get("data.data") or ()
        for path in (files,) if isinstance(files, str) else files:
            words += ["--data", str(path)]
        environment = []
        for key, value in self.said.items():
            if key in _OPTIONS:
                words += [
                    _OPTIONS[key],
                    ",".join(value) if isinstance(value, tuple) else str(value),
                ]
            elif key.startswith(("data.", "costs.")) and key not in {"data.data", "data.timerange"}:
                name = "ARES_" + key.replace(".", "__").upper()
                environment.append(f"{name}={shlex.quote(_written(value))}")
        for option, path_ in (("--config", self.config), ("--home", self.home)):
            if path_ is not None:
                words += [option, str(path_)]
        return " ".join([*environment, shlex.join(words)])


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
