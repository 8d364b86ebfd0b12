"""Which datasets a workspace holds, and what to do where one is missing."""

from __future__ import annotations

import dataclasses
import difflib
import logging
from typing import TYPE_CHECKING

from ares.core.errors import ArtifactError, DataError
from ares.market.stored.partitions import MANIFEST, read_manifest
from ares.market.timeframe import TIMEFRAMES, timeframe_ns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ares.store.workspace import Workspace

_log = logging.getLogger("ares.market.stored.datasets")


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """One dataset of a workspace; times are int64 ns UTC."""

    symbol: str
    exchange: str
    timeframe: str
    bars: int
    first: int
    last: int
    calendar: str
    adjusted: str
    size_bytes: int
    path: Path


def missing_dataset(workspace: Workspace, symbol: str, exchange: str, timeframe: str) -> DataError:
    """The error that says so, and which finer dataset could be resampled."""
    remedy = "`ares import` makes one from files; `ares data list` shows what is there."
    remedy = near_dataset(workspace, symbol, exchange, timeframe) + remedy
    finer = finer_dataset(workspace, symbol, exchange, timeframe)
    if finer is not None:
        remedy = resample_hint(symbol, exchange, finer, timeframe)
    where = f"{symbol} {exchange} {timeframe}"
    return DataError("there is no such dataset", where=where, remedy=remedy)


def near_dataset(
    workspace: Workspace,
    symbol: str,
    exchange: str,
    timeframe: str,
    others: Sequence[tuple[str, str, str]] = (),
) -> str:
    """Ask whether the stored dataset with the likest name was meant; empty where none is like it.

    The spelling of a symbol matters more than exchange and timeframe, its case and signs not at all.

    Args:
        workspace: Where to look.
        symbol: As it was given.
        exchange: As it was given.
        timeframe: As it was given.
        others: Markets that are known without a dataset.
    """
    known = [(d.symbol, d.exchange, d.timeframe) for d in list_datasets(workspace)] + list(others)
    symbols = {_folded(each[0]) for each in known}
    like = difflib.get_close_matches(_folded(symbol), sorted(symbols), 1, 0.75)
    fitting = {" ".join(each).casefold(): each for each in known if _folded(each[0]) in like}
    wanted = f"{symbol} {exchange} {timeframe}".casefold()
    best = difflib.get_close_matches(wanted, sorted(fitting), 1, 0.0)
    if not best:
        return ""
    options = zip(("--symbol", "--exchange", "--timeframe"), fitting[best[0]], strict=True)
    return f"Did you mean {' '.join(f'{option} {name}' for option, name in options)}? "


def _folded(symbol: str) -> str:
    return "".join(c for c in symbol.casefold() if c.isalnum())


def finer_dataset(workspace: Workspace, symbol: str, exchange: str, timeframe: str) -> str | None:
    """The finest stored timeframe of a market that can be resampled to `timeframe`, if any.

    Raises:
        ConfigError: An unknown timeframe.
    """
    length = timeframe_ns(timeframe)
    fitting = [
        name
        for name, own in TIMEFRAMES.items()
        if own < length and length % own == 0 and has_dataset(workspace, symbol, exchange, name)
    ]
    return fitting[0] if fitting else None


def resample_hint(symbol: str, exchange: str, finer: str, timeframe: str) -> str:
    """What to do where a finer dataset is there."""
    return (
        f"There is one of {finer}: `ares data resample --symbol {symbol} --exchange {exchange}"
        f" --timeframe {finer} --to {timeframe}` makes it."
    )


def has_dataset(workspace: Workspace, symbol: str, exchange: str, timeframe: str) -> bool:
    """Whether the workspace holds this dataset."""
    return (workspace.dataset(exchange, symbol, timeframe) / MANIFEST).is_file()


def list_datasets(workspace: Workspace) -> list[DatasetInfo]:
    """All readable datasets, by exchange, symbol and timeframe; damaged ones are logged."""
    found = []
    for path in sorted(workspace.data.glob(f"*/*/*/{MANIFEST}")):
        try:
            manifest = read_manifest(path.parent)
        except ArtifactError as error:
            _log.warning("%s", error)
            continue
        found.append(
            DatasetInfo(
                symbol=manifest.symbol,
                exchange=manifest.exchange,
                timeframe=manifest.timeframe,
                bars=manifest.rows,
                first=manifest.parts[0].first,
                last=manifest.parts[-1].last,
                calendar=manifest.calendar,
                adjusted=manifest.adjusted,
                size_bytes=manifest.size,
                path=path.parent,
            )
        )
    return sorted(found, key=lambda d: (d.exchange, d.symbol, d.timeframe))
