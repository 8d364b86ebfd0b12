"""The dataset store: bars of a workspace, imported once, loaded in milliseconds.

A dataset is a folder `data/<exchange>/<slug>/<timeframe>/` of the workspace. One process at a time
writes it, under a kernel lock; readers need none. Importing the same rows again changes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
from typing import TYPE_CHECKING, Final, TypedDict

from ares.core.errors import ArtifactError, DataError
from ares.core.identity import fingerprint
from ares.market.bars import check_bars
from ares.market.columns import declared_columns
from ares.market.files import cut, load_bars, source_files
from ares.market.partitions import (
    MANIFEST,
    ImportRecord,
    Manifest,
    read_bars,
    read_manifest,
    read_part,
    report_of,
    sweep,
    write_bars,
)
from ares.market.raw import COLUMNS, RawBars
from ares.market.table import guarded
from ares.market.tallies import EXAMPLES
from ares.market.timeframe import timeframe_ns
from ares.market.timerange import parse_timerange
from ares.store.locks import FileLock

if TYPE_CHECKING:
    from pathlib import Path

    from ares.market.bars import Adjusted, BadPrints, Bars
    from ares.market.columns import Columns
    from ares.market.files import Paths
    from ares.market.quality import QualityReport
    from ares.store.workspace import Workspace

_log = logging.getLogger("ares.market.datasets")

_LOCK: Final = ".lock"
_WAIT_SECONDS: Final = 30.0
# What one import found in its rows; the merged rows can no longer say it.
_ROW_COUNTS: Final = (
    "rows",
    "duplicates",
    "conflicts",
    "out_of_order",
    "impossible",
    "bad_prints",
)


class DoorOptions(TypedDict, total=False):
    """Options of the check at the door, as `load_bars` takes them."""

    calendar: str | None
    adjusted: Adjusted
    bad_prints: BadPrints
    max_print: float


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


@dataclasses.dataclass(frozen=True)
class ImportResult:
    """What an import did: bars in the dataset before and after, and what the files showed.

    `replaced` counts the bars that the files have otherwise than the dataset had them, `dropped`
    those that are bad prints only beside each other.
    """

    before: int
    after: int
    changed: bool
    quality: QualityReport
    path: Path
    replaced: int = 0
    dropped: int = 0


def import_files(
    workspace: Workspace,
    paths: Paths,
    *,
    symbol: str,
    exchange: str,
    timeframe: str,
    columns: Columns | None = None,
    options: DoorOptions | None = None,
) -> ImportResult:
    """Add the bars of files to a dataset; where bars conflict, the files win.

    Args:
        workspace: Where the dataset lies.
        paths: As `load_bars`.
        symbol: What is traded.
        exchange: Where it is traded.
        timeframe: Interval of the rows.
        columns: As `load_bars`.
        options: As `load_bars`. A calendar that was declared once stays until another one is; an
            inferred one is inferred again from all bars, since the first ones may tell little.

    Raises:
        DataError: As `load_bars`, or the files are adjusted otherwise than the dataset.
        ConfigError: As `load_bars`.
        BusyError: Another process has been writing the dataset for half a minute.
        StoreError: The workspace cannot be written; the dataset is then as it was.
    """
    timeframe_ns(timeframe)
    door: DoorOptions = {**(options or {})}
    calendar = door.get("calendar")
    folder = workspace.dataset(exchange, symbol, timeframe)
    sources = tuple(file_digest(path) for path in source_files(paths))
    record_key = (sources, fingerprint((declared_columns(columns), dict(door))))
    with FileLock(folder / _LOCK, timeout=_WAIT_SECONDS):
        old = _read_existing(folder)
        if old is not None:
            manifest = old[0]
            sweep(folder, manifest)
            last = manifest.imports[-1]
            if (last.sources, last.options) == record_key:
                return ImportResult(manifest.rows, manifest.rows, False, last.quality, folder)
            _check_adjusted(manifest, door, folder)
            door = {**door, "calendar": calendar or manifest.calendar}
            if calendar is None and not manifest.quality.calendar_inferred:
                calendar = manifest.calendar
        new = load_bars(
            paths, symbol=symbol, exchange=exchange, timeframe=timeframe, columns=columns, **door
        )
        record = ImportRecord(*record_key, quality=report_of(new))
        if old is None:
            write_bars(folder, new, (record,))
            return ImportResult(0, len(new), True, record.quality, folder)
        merged, seam = _merged(old[1], new, {**door, "calendar": calendar})
        changed = _identity(merged) != _identity(old[1])
        if changed:
            write_bars(folder, merged, (*old[0].imports, record))
    counts = (seam.conflicts, seam.bad_prints)
    return ImportResult(len(old[1]), len(merged), changed, record.quality, folder, *counts)


def load_dataset(
    workspace: Workspace,
    symbol: str,
    exchange: str,
    timeframe: str,
    timerange: str | None = None,
) -> Bars:
    """Bars of a dataset, as they came out of the door when they were imported.

    Raises:
        DataError: There is no such dataset, or no bar in the time range.
        ArtifactError: The dataset is damaged.
    """
    folder = workspace.dataset(exchange, symbol, timeframe)
    span = parse_timerange(timerange)
    if not (folder / MANIFEST).exists():
        raise _no_dataset(symbol, exchange, timeframe)
    for last_try in (False, True):
        manifest = read_manifest(folder)
        _check_names(manifest, (symbol, exchange, timeframe), folder)
        if manifest.parts[-1].last < span[0] or manifest.parts[0].first >= span[1]:
            return cut(read_bars(folder, manifest), span)  # raises: says what there is
        try:
            return read_bars(folder, manifest, span)
        except ArtifactError:
            # A writer may have replaced manifest and parts between the two readings.
            if last_try or read_manifest(folder) == manifest:
                raise
    raise AssertionError("unreachable")


def _no_dataset(symbol: str, exchange: str, timeframe: str) -> DataError:
    return DataError(
        "there is no such dataset",
        where=f"{symbol} {exchange} {timeframe}",
        remedy="`ares import` makes one from files; `ares data list` shows what is there.",
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


def repair_dataset(
    workspace: Workspace, symbol: str, exchange: str, timeframe: str
) -> tuple[str, ...]:
    """Take damaged parts out of a dataset, so that the rest loads and an import refills it.

    Returns:
        Names of the files that were removed; doing it again removes nothing. Without a readable
        manifest nothing is known of the parts, and the dataset is gone.

    Raises:
        DataError: There is no such dataset.
    """
    folder = workspace.dataset(exchange, symbol, timeframe)
    if not (folder / MANIFEST).exists():
        raise _no_dataset(symbol, exchange, timeframe)
    with FileLock(folder / _LOCK, timeout=_WAIT_SECONDS):
        try:
            manifest = read_manifest(folder)
        except ArtifactError as error:
            _log.warning("%s", error)
            (folder / MANIFEST).unlink()
            return (MANIFEST,)
        good, removed = [], []
        for part in manifest.parts:
            try:
                read_part(folder, part, COLUMNS)
                good.append(part)
            except ArtifactError as error:
                _log.warning("%s", error)
                removed.append(part.file)
        with contextlib.suppress(ArtifactError):
            read_part(folder, manifest.gaps, ("timestamp", "missing"))
            if not removed:
                return ()
        if not good:
            (folder / MANIFEST).unlink()
            return tuple(removed)
        pieces = [RawBars(**read_part(folder, part, COLUMNS)) for part in good]
        bars, _ = check_bars(
            RawBars.concat(pieces),
            symbol=symbol,
            exchange=exchange,
            timeframe=timeframe,
            calendar=manifest.calendar,
            adjusted=manifest.adjusted,
            bad_prints="keep",
        )
        write_bars(folder, bars, (ImportRecord(("repair",), "", report_of(bars)),))
    return tuple(removed) or (manifest.gaps.file,)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        DataError: The file cannot be read.
    """
    with guarded(str(path)), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_existing(folder: Path) -> tuple[Manifest, Bars] | None:
    """Manifest and bars that are there; a damaged dataset is an error, not a blank sheet."""
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_manifest(folder)
    return manifest, read_bars(folder, manifest)


def _check_adjusted(manifest: Manifest, door: DoorOptions, folder: Path) -> None:
    adjusted = door.get("adjusted", "none")
    if adjusted != manifest.adjusted:
        raise DataError(
            f"the bars of this dataset are adjusted {manifest.adjusted!r}",
            where=str(folder),
            value=adjusted,
            remedy="Prices adjusted in different ways do not mix; use another workspace.",
        )


def _check_names(manifest: Manifest, names: tuple[str, str, str], folder: Path) -> None:
    found = (manifest.symbol, manifest.exchange, manifest.timeframe)
    if found != names:
        raise ArtifactError("the folder holds another dataset", where=str(folder), value=found)


def _identity(bars: Bars) -> tuple[str, bool]:
    """What makes a dataset another one: its bars, and whether its calendar was declared."""
    return bars.digest, report_of(bars).calendar_inferred


def _merged(old: Bars, new: Bars, door: DoorOptions) -> tuple[Bars, QualityReport]:
    """Bars of both, where they conflict the new ones, and what is found where they meet.

    The report of the bars adds up what both showed.
    """
    parts = [
        RawBars(**{name: getattr(bars, name) for name in COLUMNS}, files=(label,))
        for bars, label in ((old, "dataset"), (new, "import"))
    ]
    merged, seam = check_bars(
        RawBars.concat(parts),
        symbol=new.symbol,
        exchange=new.exchange,
        timeframe=new.timeframe,
        **door,
    )
    if seam.bad_prints:
        dropped = next(f for f in seam.findings if f.kind == "bad_prints")
        _log.warning(
            "%d bars are bad prints beside those of the dataset (%s), the first: %s",
            *(dropped.count, dropped.action, dropped.examples[0]),
        )
    quality = _added(report_of(old), report_of(new), seam)
    return dataclasses.replace(merged, quality=quality), seam


def _added(old: QualityReport, new: QualityReport, seam: QualityReport) -> QualityReport:
    """The report on merged bars: structure from `seam`, faults of rows from all three."""
    reports = (old, new, seam)
    counts = {name: sum(getattr(r, name) for r in reports) for name in _ROW_COUNTS}
    counts["rows"] -= seam.rows  # these are bars of the other two
    counts["out_of_order"] -= seam.out_of_order
    findings = [f for f in seam.findings if f.kind not in _ROW_COUNTS]
    for kind in _ROW_COUNTS:
        same = [f for r in reports for f in r.findings if f.kind == kind]
        if same and counts[kind]:
            examples = tuple(e for f in same for e in f.examples)[:EXAMPLES]
            findings.append(dataclasses.replace(same[0], count=counts[kind], examples=examples))
    return dataclasses.replace(seam, **counts, findings=tuple(findings))
