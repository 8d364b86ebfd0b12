"""Where bars come from: the embedded sample, files, or the workspace's datasets."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ares.core.errors import DataError
from ares.market.bars import check_bars
from ares.market.calendars import parse_calendar
from ares.market.files import cut, load_bars
from ares.market.reading.csvfile import read_csv
from ares.market.stored.catalogue import near_dataset
from ares.market.stored.copies import load_files
from ares.market.stored.datasets import finer_dataset, has_dataset, load_dataset, resample_hint
from ares.market.timeframe import timeframe_ns
from ares.market.timerange import parse_timerange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ares.market.bars import Bars
    from ares.market.checking.door import Adjusted, BadPrints
    from ares.market.reading.columns import Columns
    from ares.market.stored.datasets import DoorOptions
    from ares.store.workspace import Workspace

_log = logging.getLogger("ares.market.sources")

SAMPLE: Final = ("IXIC", "nasdaq", "1d")
"""Symbol, exchange and timeframe of the embedded sample."""

_SAMPLE_CALENDAR: Final = "session:America/New_York 09:30-16:00"
_SAMPLE_FILE: Final = Path("data", "nasdaq", "nasdaq.csv.gz")


def sample(*, bad_prints: BadPrints = "drop", max_print: float = 2.0) -> Bars:
    """Daily bars of the Nasdaq Composite, 1999-01-04 to 2018-12-31, timestamps 00:00 UTC.

    They are real and lie in the `arch` distribution, which is found without importing it.

    Args:
        bad_prints: As `load_bars`.
        max_print: As `load_bars`.

    Raises:
        DataError: `arch` is not installed, or has no such file.
    """
    spec = importlib.util.find_spec("arch")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = next((f for f in (Path(d) / _SAMPLE_FILE for d in folders) if f.is_file()), None)
    if path is None:
        raise DataError(
            "the embedded sample must be installed",
            where="sample",
            remedy="Install the package arch, or give files with --data.",
        )
    symbol, exchange, timeframe = SAMPLE
    raw = read_csv(path, date_format="%m/%d/%Y").raw()
    bars, _ = check_bars(
        dataclasses.replace(raw, files=("sample",)),
        symbol=symbol,
        exchange=exchange,
        timeframe=timeframe,
        calendar=_SAMPLE_CALENDAR,
        bad_prints=bad_prints,
        max_print=max_print,
    )
    return bars


def resolve(
    symbol: str,
    exchange: str,
    timeframe: str,
    *,
    data: str | Path | Sequence[str | Path] | None = None,
    workspace: Workspace | None = None,
    columns: Columns | None = None,
    timerange: str | None = None,
    calendar: str | None = None,
    adjusted: Adjusted = "none",
    bad_prints: BadPrints = "drop",
    max_print: float = 2.0,
) -> Bars:
    """Bars that (symbol, exchange, timeframe) means: files, else the dataset, else the sample.

    Args:
        symbol: What is traded.
        exchange: Where it is traded.
        timeframe: Interval of a bar.
        data: Files or folders; they win over the dataset.
        workspace: Where datasets and copies of CSV files lie; without it files are read directly.
        columns: Order of the columns of files, as `load_bars`; the sample refuses it, and for a
            dataset, whose columns are named, there is a warning.
        timerange: "20200101-20210101", end exclusive.
        calendar: As `load_bars`, for files; a dataset and the sample keep their own, and must agree.
        adjusted: As `calendar`; "none" agrees with all.
        bad_prints: As `load_bars`; a dataset was cleaned when it was imported, which is warned of.
        max_print: As `bad_prints`.

    Raises:
        DataError: Nothing is known under these names, or the data cannot be used.
        ConfigError: An option is not allowed.
    """
    timeframe_ns(timeframe)
    market = {"symbol": symbol, "exchange": exchange, "timeframe": timeframe}
    door: DoorOptions = {
        "calendar": calendar,
        "adjusted": adjusted,
        "bad_prints": bad_prints,
        "max_print": max_print,
    }
    if data is not None and data != ():
        if workspace is None:
            return load_bars(data, columns=columns, timerange=timerange, **market, **door)
        return load_files(
            workspace, data, columns=columns, timerange=timerange, options=door, **market
        )
    bars = _known(workspace, symbol, exchange, timeframe, columns, timerange, bad_prints, max_print)
    if calendar is not None:
        _check_agrees(bars, "calendar", str(parse_calendar(calendar)))
    if adjusted != "none":
        _check_agrees(bars, "adjusted", adjusted)
    return bars


def _known(
    workspace: Workspace | None,
    symbol: str,
    exchange: str,
    timeframe: str,
    columns: Columns | None,
    timerange: str | None,
    bad_prints: BadPrints,
    max_print: float,
) -> Bars:
    """The bars of the dataset, else of the sample."""
    if workspace is not None and has_dataset(workspace, symbol, exchange, timeframe):
        if columns is not None or (bad_prints, max_print) != ("drop", 2.0):
            _log.warning(
                "columns, bad_prints and max_print do nothing to a dataset: name its files instead"
            )
        return load_dataset(workspace, symbol, exchange, timeframe, timerange)
    if (symbol, exchange, timeframe) != SAMPLE:
        raise _unknown(workspace, symbol, exchange, timeframe)
    if columns is not None:
        raise _no_files(columns)
    return cut(sample(bad_prints=bad_prints, max_print=max_print), parse_timerange(timerange))


def _check_agrees(bars: Bars, name: str, asked: str) -> None:
    own = getattr(bars, name)
    if asked != own:
        raise DataError(
            f"these bars have {name} {own!r}",
            where=f"{bars.symbol} {bars.exchange} {bars.timeframe}",
            value=asked,
            remedy=f"Leave {name} away, or give the files with it.",
        )


def _no_files(columns: Columns) -> DataError:
    return DataError(
        "an order of columns is that of files, and none are given",
        where=" ".join(SAMPLE),
        value=columns,
        remedy="Give the files with --data, or leave columns away.",
    )


def _unknown(workspace: Workspace | None, symbol: str, exchange: str, timeframe: str) -> DataError:
    remedy = (
        f"Give files with --data, or load them once: ares import --symbol {symbol}"
        f" --exchange {exchange} --timeframe {timeframe} --data FILES; `ares load` fetches bars from"
        " an exchange."
    )
    if workspace is not None:
        remedy = near_dataset(workspace, symbol, exchange, timeframe, [SAMPLE]) + remedy
    finer = None if workspace is None else finer_dataset(workspace, symbol, exchange, timeframe)
    if finer is not None:
        remedy = f"{resample_hint(symbol, exchange, finer, timeframe)} Or give files with --data."
    where = "" if workspace is None else f", workspace {workspace.home}"
    return DataError(
        "no bars are known under these names",
        where=f"{symbol} {exchange} {timeframe}{where}",
        remedy=remedy,
    )
