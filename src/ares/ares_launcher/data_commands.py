"""`ares data check|list|repair|resample` and `ares import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ares.ares_launcher import options as opt
from ares.ares_launcher.load_commands import data_repair
from ares.ares_launcher.output import emit, guarded, say, size, table
from ares.ares_launcher.progress import rows_bar

if TYPE_CHECKING:
    from ares.market.stored.datasets import ImportResult

Paths = Annotated[list[Path] | None, typer.Argument(help="Files or folders, joined in time order.")]


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    data = typer.Typer(help="Look at market data and at the dataset store.", no_args_is_help=True)
    data.command("check")(guarded(data_check))
    data.command("list")(guarded(data_list))
    data.command("repair")(guarded(data_repair, resumes=True))
    data.command("resample")(guarded(data_resample))
    app.add_typer(data, name="data")
    app.command("import")(guarded(import_))


def split_columns(columns: str | None) -> tuple[str, ...] | None:
    """`a,b,c` as a tuple of names."""
    return tuple(name.strip() for name in columns.split(",")) if columns else None


def _all_paths(paths: list[Path] | None, data: list[Path] | None) -> list[Path]:
    from ares.core.errors import DataError

    given = [*(paths or []), *(data or [])]
    if not given:
        raise DataError("no file was named", remedy="For example: ares data check bars.csv.gz")
    return given


def data_check(
    paths: Paths = None,
    data: opt.Data = None,
    columns: opt.Columns = None,
    symbol: opt.Symbol = None,
    exchange: opt.Exchange = None,
    timeframe: opt.Timeframe = None,
    calendar: opt.Calendar = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Report every fault of market data.

    Gaps, duplicates, bad prints, impossible bars and more.
    """
    from ares.market.streaming import report_files

    files = _all_paths(paths, data)
    with rows_bar("Checking", quiet=as_json) as progress:
        report = report_files(
            files,
            timeframe=timeframe,
            columns=split_columns(columns),
            calendar=calendar,
            progress=progress,
        )
    if as_json:
        emit(report.to_dict())
    else:
        for line in report.lines():
            say(line)


def data_list(home: opt.Home = None, as_json: opt.Json = False, debug: opt.Debug = False) -> None:
    """List the datasets in the workspace."""
    from ares.market.stored.datasets import list_datasets
    from ares.store.workspace import Workspace

    found = list_datasets(Workspace.locate(home))
    if as_json:
        emit(
            {
                "datasets": [
                    {**vars(d), "first": _time(d.first), "last": _time(d.last)} for d in found
                ]
            }
        )
    elif not found:
        say("No datasets yet. For example: ares import bars.csv.gz --symbol BTCUSD --timeframe 1m")
    else:
        rows = [
            (
                d.exchange,
                d.symbol,
                d.timeframe,
                f"{d.bars:,}",
                _minute(d.first),
                _minute(d.last),
                size(d.size_bytes),
            )
            for d in found
        ]
        header = ("exchange", "symbol", "bar", "bars", "first (UTC)", "last (UTC)", "size")
        table("", header, rows)


def data_resample(
    symbol: Annotated[str, typer.Option("--symbol", help="As `ares data list` shows it.")],
    timeframe: Annotated[str, typer.Option("--timeframe", help="The timeframe that is there.")],
    to: Annotated[str, typer.Option("--to", help="A multiple of it: 15m, 1h, 1d ...")],
    exchange: Annotated[str, typer.Option("--exchange", help="Name of the exchange.")] = "local",
    home: opt.Home = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Make the dataset of a coarser timeframe from a stored one.

    Doing it again changes nothing.
    """
    from ares.market.stored.derived import resample_dataset
    from ares.store.workspace import Workspace

    with rows_bar("Resampling", quiet=as_json) as progress:
        workspace = Workspace.locate(home)
        result = resample_dataset(workspace, symbol, exchange, timeframe, to, progress=progress)
    if as_json:
        emit({**vars(result), "quality": result.quality.to_dict()})
        return
    for line in result.quality.lines():
        say(line)
    if result.changed:  # all bars were made anew, so they are not told apart into added and gone
        say(f"{result.before:,} bars before, {result.after:,} now in {result.path}")
    else:
        say(f"Nothing new; {result.after:,} bars in {result.path}")


def import_(
    paths: Paths = None,
    data: opt.Data = None,
    columns: opt.Columns = None,
    symbol: opt.Symbol = None,
    exchange: opt.Exchange = None,
    timeframe: opt.Timeframe = None,
    calendar: opt.Calendar = None,
    home: opt.Home = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Bring files into the dataset store.

    They are checked and joined with what is there.
    """
    from ares.core.errors import DataError
    from ares.market.stored.datasets import import_files
    from ares.store.workspace import Workspace

    files = _all_paths(paths, data)
    if not symbol or not timeframe:
        raise DataError(
            "a dataset needs a symbol and a timeframe",
            remedy="For example: --symbol BTCUSD --exchange bitfinex --timeframe 1m",
        )
    with rows_bar("Importing", quiet=as_json) as progress:
        result = import_files(
            Workspace.locate(home),
            files,
            symbol=symbol,
            exchange="local" if exchange is None else exchange,
            timeframe=timeframe,
            columns=split_columns(columns),
            options={"calendar": calendar} if calendar else None,
            progress=progress,
        )
    if as_json:
        emit({**vars(result), "quality": result.quality.to_dict()})
        return
    for line in result.quality.lines():
        say(line)
    _say_change(result)


def _say_change(result: ImportResult) -> None:
    """What became of the dataset."""
    if result.changed:
        added = max(result.after - result.before, 0)
        changes = f"{result.replaced:,} replaced, {result.dropped:,} dropped"
        say(f"{added:,} bars added, {changes}; {result.after:,} in {result.path}")
    else:
        say(f"Nothing new; {result.after:,} bars in {result.path}")


def _time(time_ns: int) -> str:
    from ares.market.quality import time_text

    return time_text(time_ns) or "-"


def _minute(time_ns: int) -> str:
    """A time for a table, where it folds between day and minute."""
    return _time(time_ns)[:16].replace("T", " ")
