"""Datasets made of others: coarser bars of a stored market, at constant memory."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from typing import TYPE_CHECKING, Final

from ares.core.errors import DataError
from ares.market.checking.door import Door
from ares.market.raw import COLUMNS, RawBars
from ares.market.resample import Resampler
from ares.market.stored.datasets import ImportResult, missing_dataset
from ares.market.stored.intake import Checked, keep
from ares.market.stored.partitions import (
    MANIFEST,
    ImportRecord,
    Manifest,
    Origin,
    intact,
    read_manifest,
    write_manifest,
)
from ares.market.stored.parts import read_part
from ares.market.stored.writing import door_rules, lock_of, locked, manifest_of
from ares.market.timeframe import timeframe_ns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from ares.market.stored.parts import Part
    from ares.market.stored.rows import Progress
    from ares.store.workspace import Workspace

_log = logging.getLogger("ares.market.stored.derived")

_FILES: Final = ("dataset",)


def resample_dataset(
    workspace: Workspace,
    symbol: str,
    exchange: str,
    timeframe: str,
    to: str,
    *,
    progress: Progress | None = None,
) -> ImportResult:
    """Make the dataset of a coarser timeframe from a stored one; its bars are those of `resample`.

    Nothing is done where it was made from the same bars before; years that stay as they are keep
    their files. The manifest names the origin.

    Args:
        workspace: Where the datasets lie.
        symbol: What is traded.
        exchange: Where it is traded.
        timeframe: The timeframe that is there.
        to: A multiple of it.
        progress: Called with the bars read, and with all bars there are.

    Raises:
        DataError: There is no such dataset, the timeframe is no multiple, no interval is over yet, or
            the coarser dataset was imported from files.
        ArtifactError: The dataset is damaged.
        BusyError: Another process has been writing one of the datasets for half a minute.
        StoreError: The workspace cannot be written; the coarser dataset is then as it was.
    """
    names = (symbol, exchange, to)
    Resampler(timeframe, to, f"{symbol} {exchange}")  # refuses what is no multiple
    if timeframe_ns(to) == timeframe_ns(timeframe):
        raise DataError(
            "this is the timeframe of the dataset",
            value=to,
            where=" ".join(names),
            remedy="There is nothing to resample; a coarser timeframe is a multiple of it.",
        )
    source = workspace.dataset(exchange, symbol, timeframe)
    if not (source / MANIFEST).exists():
        raise missing_dataset(workspace, symbol, exchange, timeframe)
    folder = workspace.dataset(exchange, symbol, to)
    with lock_of(source), locked(folder) as old:  # the files must stay while they are read
        fine = read_manifest(source)
        origin = Origin(timeframe, fine.identity)
        if old is not None and old.origin is None:
            raise DataError(
                "the coarser dataset was imported from files, and is not replaced",
                where=str(folder),
                remedy="Remove that folder, or import finer bars under another exchange name.",
            )
        if old is not None and old.origin == origin and intact(folder, old):
            return ImportResult(old.rows, old.rows, False, old.quality, folder)
        new = _resampled(source, fine, folder, names, origin, progress)
        write_manifest(folder, new)
    before = 0 if old is None else old.rows
    changed = old is None or new.identity != old.identity
    return ImportResult(before, new.rows, changed, new.quality, folder)


def _resampled(
    source: Path,
    fine: Manifest,
    folder: Path,
    names: tuple[str, str, str],
    origin: Origin,
    progress: Progress | None,
) -> Manifest:
    resampler = Resampler(fine.timeframe, names[2])
    coarse = coarse_pieces(resampler, columns_by_year(source, fine.parts, progress))
    first = next((columns for columns in coarse if len(columns["timestamp"])), None)
    if first is None:
        raise DataError(
            f"the dataset must hold a whole interval of {names[2]}",
            value=f"{fine.rows:,} bars of {fine.timeframe}",
            where=" ".join(names),
            remedy="Choose a shorter timeframe, or add bars.",
        )
    pieces = itertools.chain([first], coarse)
    checked, tick = keep_derived(folder, pieces, fine, names[2])
    rules = door_rules(names[2], {"calendar": checked.report.calendar, "adjusted": fine.adjusted})
    quality = dataclasses.replace(
        checked.report, calendar_inferred=fine.quality.calendar_inferred, rows=checked.report.bars
    )
    record = ImportRecord((origin.identity,), "", quality)
    made = manifest_of(checked, quality, names, rules, (record,), origin)
    return dataclasses.replace(made, tick=tick)


def keep_derived(
    folder: Path, pieces: Iterator[dict[str, Any]], fine: Manifest, timeframe: str
) -> tuple[Checked, float]:
    """Bars computed from checked ones as files, and their decimal step: that of the finer bars.

    Raises:
        DataError: there is no bar.
    """
    rules = dataclasses.replace(
        door_rules(timeframe, {"calendar": fine.calendar, "adjusted": fine.adjusted}), derived=True
    )
    rows = (RawBars(**columns, files=_FILES) for columns in pieces if len(columns["timestamp"]))
    return keep(folder, Door(rules, _FILES), lambda _: rows), fine.tick


def columns_by_year(
    folder: Path, parts: tuple[Part, ...], progress: Progress | None = None
) -> Iterator[dict[str, Any]]:
    """Columns of a dataset's bars, file by file, after the digest of each was checked.

    Raises:
        ArtifactError: A file is damaged.
    """
    done, total = 0, sum(part.rows for part in parts)
    for part in parts:
        yield read_part(folder, part, COLUMNS)
        done += part.rows
        if progress is not None:
            progress(done, total)


def coarse_pieces(
    resampler: Resampler, pieces: Iterator[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Columns of the coarse bars, piece by piece."""
    for columns in pieces:
        yield resampler.push(columns)
    yield resampler.finish()
