"""Options that several commands share: one spelling, one help text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

_PARALLEL = "computational_optimization.parallelization"
SPELLED = {
    "data.symbol": "--symbol",
    "data.exchange": "--exchange",
    "data.timeframe": "--timeframe",
    "data.timerange": "--timerange",
    "data.data": "--data",
    "data.columns": "--columns",
    "data.calendar": "--calendar",
    "costs.fee": "--fee",
    "costs.slippage": "--slippage",
    "search.fill": "--fill",
    "search.trials": "--trials",
    "search.objective": "--objective",
    "enhanced_training_manager.mode": "--mode",
    "enhanced_training_manager.seed": "--seed",
    f"{_PARALLEL}.max_workers": "--jobs",
    f"{_PARALLEL}.workers": "--engine",
    f"{_PARALLEL}.scheduler": "--scheduler",
    "computational_optimization.memory_management.budget": "--memory",
}
"""The option that sets a configuration key, by key: errors name what was typed."""


def spelled(options: Iterable[str], pairs: Iterable[str] = ()) -> dict[str, str]:
    """What was typed for each key, with the key: of options, and of pairs for `--set`."""
    typed = {key: f"--set {key}" for key in pairs}
    return typed | {key: f"{SPELLED[key]} ({key})" for key in options}


Symbol = Annotated[str | None, typer.Option("--symbol", help="As the exchange writes it.")]
Exchange = Annotated[str | None, typer.Option("--exchange", help="Name of the exchange.")]
Timeframe = Annotated[
    str | None, typer.Option("--timeframe", help="Length of a bar: 1m, 5m, 15m, 1h, 4h, 1d ...")
]
Timerange = Annotated[
    str | None, typer.Option("--timerange", help="20200101-20210101; either side may be empty.")
]
Data = Annotated[
    list[Path] | None,
    typer.Option("--data", help="CSV, CSV.gz, Parquet or Feather file, or a folder. Repeatable."),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns", help="Order of the columns, e.g. timestamp,open,high,low,close,volume."
    ),
]
Calendar = Annotated[
    str | None,
    typer.Option("--calendar", help="24/7, 24/5 or 'session:<IANA zone> hh:mm-hh:mm'."),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML or JSON file; `ares config init` writes one."),
]
Set = Annotated[list[str] | None, typer.Option("--set", help="One value, key=value. Repeatable.")]
Home = Annotated[
    Path | None,
    typer.Option(
        "--home", help="Workspace with runs/ and data/. Default: ARES_HOME, else this folder."
    ),
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Workers. Never changes a result.")
]
Memory = Annotated[str | None, typer.Option("--memory", help="Memory budget, e.g. 2GiB.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of every random stream.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
