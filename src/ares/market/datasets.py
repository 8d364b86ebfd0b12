"""The dataset store: bars of a workspace, imported once, loaded in milliseconds.

A dataset is a folder `data/<exchange>/<slug>/<timeframe>/` of the workspace. One process at a time
writes it, under a kernel lock; readers need none. Importing the same rows again changes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
from typing import TYPE_CHECKING, Final

from ares.core.errors import ArtifactError, DataError
from ares.core.identity import fingerprint
from ares.market.calendars import parse_calendar
from ares.market.catalogue import (
    DatasetInfo,
    finer_dataset,
    has_dataset,
    list_datasets,
    missing_dataset,
    resample_hint,
)
from ares.market.columns import declared_columns
from ares.market.door import Door
from ares.market.files import cut, open_regular, with_notes
from ares.market.intake import check_rows, keep, merged_pieces
from ares.market.partitions import (
    MANIFEST,
    ImportRecord,
    Manifest,
    read_bars,
    read_manifest,
    write_manifest,
)
from ares.market.parts import GAPS, read_part
from ares.market.raw import COLUMNS
from ares.market.rows import FileRows
from ares.market.scratch import scratch_folder
from ares.market.table import guarded
from ares.market.tallies import EXAMPLES
from ares.market.timerange import parse_timerange
from ares.market.writing import DoorOptions, door_rules, lock_of, locked, manifest_of

if TYPE_CHECKING:
    from pathlib import Path

    from ares.market.bars import Bars
    from ares.market.columns import Columns
    from ares.market.door import DoorRules
    from ares.market.files import Paths
    from ares.market.parts import Part
    from ares.market.quality import QualityReport
    from ares.market.rows import Progress
    from ares.store.workspace import Workspace

__all__ = [
    "DatasetInfo",
    "DoorOptions",
    "ImportResult",
    "file_digest",
    "finer_dataset",
    "has_dataset",
    "import_files",
    "list_datasets",
    "load_dataset",
    "missing_dataset",
    "repair_dataset",
    "resample_hint",
]

_log = logging.getLogger("ares.market.datasets")

_SIDES: Final = ("dataset", "import")
# What one import found in its rows; the merged rows can no longer say it.
_ROW_COUNTS: Final = (
    "rows",
    "duplicates",
    "conflicts",
    "out_of_order",
    "impossible",
    "bad_prints",
)


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
    progress: Progress | None = None,
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
        progress: Called with the rows read, and the rows expected as far as that is known.

    Raises:
        DataError: As `load_bars`, or the files are adjusted otherwise than the dataset.
        ConfigError: As `load_bars`.
        BusyError: Another process has been writing the dataset for half a minute.
        StoreError: The workspace cannot be written; the dataset is then as it was.
    """
    door: DoorOptions = {**(options or {})}
    rules = door_rules(timeframe, door)
    folder = workspace.dataset(exchange, symbol, timeframe)
    rows = FileRows(paths, columns=columns, progress=progress)
    sources = tuple(file_digest(path) for path in rows.files)
    record_key = (sources, fingerprint((declared_columns(columns), dict(door))))
    with locked(folder) as old:
        if old is None:
            checked = check_rows(folder, rows, rules)
            report = with_notes(checked.report, rows.notes)
            imports = (ImportRecord(*record_key, report),)
            new = manifest_of(checked, report, (symbol, exchange, timeframe), rules, imports)
            write_manifest(folder, new)
            return ImportResult(0, new.rows, True, report, folder)
        if ((last := old.imports[-1]).sources, last.options) == record_key:
            return ImportResult(old.rows, old.rows, False, last.quality, folder)
        _check_adjusted(old, rules, folder)
        if rules.calendar is None:
            rules = dataclasses.replace(rules, calendar=parse_calendar(old.calendar))
        with scratch_folder(folder) as scratch:
            checked = check_rows(scratch, rows, rules)
            record = ImportRecord(*record_key, with_notes(checked.report, rows.notes))
            if door.get("calendar") is None and old.quality.calendar_inferred:
                rules = dataclasses.replace(rules, calendar=None)
            new, seam = _merged(folder, old, (scratch, checked.parts), rules, record)
        changed = new.identity != old.identity
        if changed:
            write_manifest(folder, new)
    found = (seam.conflicts, seam.bad_prints)
    return ImportResult(old.rows, new.rows, changed, record.quality, folder, *found)


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
        raise missing_dataset(workspace, symbol, exchange, timeframe)
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
        raise missing_dataset(workspace, symbol, exchange, timeframe)
    with lock_of(folder):
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
            read_part(folder, manifest.gaps, GAPS)
            if not removed:
                return ()
        if not good:
            (folder / MANIFEST).unlink()
            return tuple(removed)
        options: DoorOptions = {"calendar": manifest.calendar, "bad_prints": "keep"}
        rules = door_rules(timeframe, {**options, "adjusted": manifest.adjusted})
        sides = ((folder, good),)
        door = Door(rules, ("dataset",))
        checked = keep(folder, door, lambda writer: merged_pieces(sides, ("dataset",), writer))
        report = dataclasses.replace(checked.report, rows=checked.report.bars)
        record = ImportRecord(("repair",), "", report)
        names = (symbol, exchange, timeframe)
        # Bars that were resampled are to be made anew: this is no identity of the finer ones.
        origin = manifest.origin and dataclasses.replace(manifest.origin, identity="repair")
        write_manifest(folder, manifest_of(checked, report, names, rules, (record,), origin))
    return tuple(removed) or (manifest.gaps.file,)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        DataError: The file cannot be read, or is none: a pipe or a device need not end.
    """
    with guarded(str(path)), open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_adjusted(manifest: Manifest, rules: DoorRules, folder: Path) -> None:
    if rules.adjusted != manifest.adjusted:
        raise DataError(
            f"the bars of this dataset are adjusted {manifest.adjusted!r}",
            where=str(folder),
            value=rules.adjusted,
            remedy="Prices adjusted in different ways do not mix; use another workspace.",
        )


def _check_names(manifest: Manifest, names: tuple[str, str, str], folder: Path) -> None:
    found = (manifest.symbol, manifest.exchange, manifest.timeframe)
    if found != names:
        raise ArtifactError("the folder holds another dataset", where=str(folder), value=found)


def _merged(
    folder: Path,
    old: Manifest,
    new: tuple[Path, tuple[Part, ...]],
    rules: DoorRules,
    record: ImportRecord,
) -> tuple[Manifest, QualityReport]:
    """Bars of both, where they conflict the new ones, and what is found where they meet.

    The report of the bars adds up what both showed. Years that stay as they are keep their files.
    """
    sides = ((folder, old.parts), new)
    door = Door(rules, _SIDES)
    checked = keep(folder, door, lambda writer: merged_pieces(sides, _SIDES, writer))
    seam = checked.report
    if seam.bad_prints:
        dropped = next(f for f in seam.findings if f.kind == "bad_prints")
        _log.warning(
            "%d bars are bad prints beside those of the dataset (%s), the first: %s",
            *(dropped.count, dropped.action, dropped.examples[0]),
        )
    report = _added(old.quality, record.quality, seam)
    names = (old.symbol, old.exchange, old.timeframe)
    return manifest_of(checked, report, names, rules, (*old.imports, record)), seam


def _added(old: QualityReport, new: QualityReport, seam: QualityReport) -> QualityReport:
    """The report on merged bars: structure from `seam`, faults of rows from all three."""
    reports = (old, new, seam)
    counts = {name: sum(getattr(r, name) for r in reports) for name in _ROW_COUNTS}
    findings = [f for f in seam.findings if f.kind not in _ROW_COUNTS]
    for kind in _ROW_COUNTS:
        same = [f for r in reports for f in r.findings if f.kind == kind]
        if same and counts[kind]:
            examples = tuple(e for f in same for e in f.examples)[:EXAMPLES]
            findings.append(dataclasses.replace(same[0], count=counts[kind], examples=examples))
    return dataclasses.replace(seam, **counts, findings=tuple(findings))
