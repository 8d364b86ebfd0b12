"""The dataset store: bars of a workspace, imported once, loaded in milliseconds.

A dataset is a folder `data/<exchange>/<slug>/<timeframe>/` of the workspace. One process at a time
writes it, under a kernel lock; readers need none. Importing the same rows again changes nothing.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Final

from ares.core.errors import ArtifactError, DataError
from ares.core.identity import fingerprint
from ares.market.calendars import parse_calendar
from ares.market.checking.door import Door
from ares.market.checking.faults import place_in_rows
from ares.market.files import cut, with_notes
from ares.market.reading.columns import declared_columns
from ares.market.stored.catalogue import (
    DatasetInfo,
    finer_dataset,
    has_dataset,
    list_datasets,
    missing_dataset,
    resample_hint,
)
from ares.market.stored.digests import digesting, file_digest
from ares.market.stored.intake import check_rows, keep, merged_pieces
from ares.market.stored.mending import repair_dataset
from ares.market.stored.merging import added
from ares.market.stored.partitions import (
    MANIFEST,
    ImportRecord,
    Manifest,
    consistent,
    intact,
    read_bars,
    read_manifest,
    write_manifest,
)
from ares.market.stored.rows import FileRows, rows_of_times
from ares.market.stored.scratch import scratch_folder
from ares.market.stored.writing import DoorOptions, door_rules, locked, manifest_of
from ares.market.timerange import parse_timerange

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ares.market.bars import Bars
    from ares.market.checking.door import DoorRules
    from ares.market.checking.faults import Place
    from ares.market.files import Paths
    from ares.market.quality import Finding, QualityReport
    from ares.market.raw import RawBars
    from ares.market.reading.columns import Columns
    from ares.market.stored.parts import Part
    from ares.market.stored.rows import Progress
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
    "refuse_derived",
    "repair_dataset",
    "resample_hint",
]

_log = logging.getLogger("ares.market.stored.datasets")

_SIDES: Final = ("the dataset", "the files")


@dataclasses.dataclass(frozen=True)
class ImportResult:
    """What an import did: bars in the dataset before and after, and what the files showed.

    `replaced` counts the bars that the files have otherwise than the dataset had them, `dropped`
    those that were left out as bad prints: of a first import, or where files and dataset meet.
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
        ArtifactError: The dataset is damaged; so is one that would take nothing new.
        BusyError: Another process has been writing the dataset for half a minute.
        StoreError: The workspace cannot be written; the dataset is then as it was.
    """
    door: DoorOptions = {**(options or {})}
    rules = door_rules(timeframe, door)
    folder = workspace.dataset(exchange, symbol, timeframe)
    rows = FileRows(paths, columns=columns, progress=progress)
    read_as = fingerprint((declared_columns(columns), dict(door)))
    with digesting(rows.files) as digests, locked(folder) as old:
        if old is None:
            checked = check_rows(folder, rows, rules)
            report = with_notes(checked.report, rows.notes)
            imports = (ImportRecord(digests(), read_as, report),)
            new = manifest_of(checked, report, (symbol, exchange, timeframe), rules, imports)
            write_manifest(folder, new)
            return ImportResult(0, new.rows, True, report, folder, dropped=_dropped(report, rules))
        refuse_derived(old, folder)
        last = old.imports[-1]
        if (last.sources, last.options) == (digests(), read_as) and intact(folder, old):
            return ImportResult(old.rows, old.rows, False, last.quality, folder)
        again = FileRows(rows.files, columns=columns)  # without progress
        new, seam = _appended(folder, old, (rows, again), rules, lambda: (digests(), read_as))
        changed = new.identity != old.identity
        if changed:
            _warn_of_calendar(old, new, declared=rules.calendar is not None)
            write_manifest(folder, new)
    found = (new.imports[-1].quality, folder, seam.conflicts, _dropped(seam, rules))
    return ImportResult(old.rows, new.rows, changed, *found)


def _dropped(report: QualityReport, rules: DoorRules) -> int:
    return 0 if rules.bad_prints == "keep" else report.bad_prints


def _warn_of_calendar(old: Manifest, new: Manifest, *, declared: bool) -> None:
    """Say so where a dataset gets another calendar: it shapes results though no bar changes."""
    if new.calendar != old.calendar:
        _log.warning(
            "the calendar of the dataset was %s and is %s now, as %s: gaps are counted by it, and"
            " metrics have its days per year; `ares import ... --calendar '%s'` takes it back",
            *(old.calendar, new.calendar, "declared" if declared else "all bars show"),
            old.calendar,
        )


def _appended(
    folder: Path,
    old: Manifest,
    readers: tuple[FileRows, FileRows],
    rules: DoorRules,
    key: Callable[[], tuple[tuple[str, ...], str]],
) -> tuple[Manifest, QualityReport]:
    """The rows joined with the dataset's bars: not committed yet; and what their meeting showed.

    `key` is asked once the rows were read: it must know of a file that was changed until then.
    """
    rows, files = readers
    _check_adjusted(old, rules, folder)
    inferred = rules.calendar is None and old.quality.calendar_inferred
    if rules.calendar is None:
        rules = dataclasses.replace(rules, calendar=parse_calendar(old.calendar))
    with scratch_folder(folder) as scratch:
        # Prints are judged once, beside the dataset's: a bad first row would damn good ones.
        checked = check_rows(scratch, rows, dataclasses.replace(rules, bad_prints="keep"))
        report = with_notes(checked.report, rows.notes)
        if inferred:
            rules = dataclasses.replace(rules, calendar=None)
            report = dataclasses.replace(report, calendar_inferred=True)
        record = ImportRecord(*key(), report)
        return _merged(folder, old, (scratch, checked.parts), rules, record, _Places(files))


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

    def read(manifest: Manifest) -> Bars:
        _check_names(manifest, (symbol, exchange, timeframe), folder)
        if manifest.parts[-1].last < span[0] or manifest.parts[0].first >= span[1]:
            return cut(read_bars(folder, manifest), span)  # raises: says what there is
        bars = read_bars(folder, manifest, span)
        _warn_of_old_bars(workspace, manifest)
        return bars

    return consistent(folder, read)


def _warn_of_old_bars(workspace: Workspace, manifest: Manifest) -> None:
    """Say so where bars were resampled from others that have changed since."""
    if manifest.origin is None:
        return
    symbol, exchange, finer = manifest.symbol, manifest.exchange, manifest.origin.timeframe
    source = workspace.dataset(exchange, symbol, finer)
    try:
        same = read_manifest(source).identity == manifest.origin.identity
    except ArtifactError:  # it is gone or damaged: these bars are what there is
        return
    if not same:
        _log.warning(
            "%s %s %s was resampled from bars of %s that have changed since; `ares data resample"
            " --symbol %s --exchange %s --timeframe %s --to %s` makes it anew",
            *(symbol, exchange, manifest.timeframe, finer),
            *(symbol, exchange, finer, manifest.timeframe),
        )


def refuse_derived(manifest: Manifest, folder: Path) -> None:
    """Raise where bars were resampled: bars from elsewhere would mix with them.

    Raises:
        DataError: They were.
    """
    if manifest.origin is None:
        return
    finer = manifest.origin.timeframe
    raise DataError(
        f"this dataset was resampled from bars of {finer}, and takes no others",
        where=str(folder),
        remedy=f"Import under another exchange or symbol name; or add bars of {finer} to the finer"
        " dataset, and `ares data resample` makes this one anew.",
    )


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


class _Places:
    """Names file and row of the bad prints that files have beside the bars of a dataset.

    The bars that meet have lost their rows, so the files are read once more, when the first place is
    asked for: by then the times of all are known.
    """

    def __init__(self, rows: FileRows) -> None:
        self._rows = rows
        self._times: list[int] = []
        self._found: dict[int, RawBars] | None = None

    def __call__(self, piece: RawBars, row: int, column: str) -> Place:
        vague = place_in_rows(piece, row, column)
        if piece.file_of_row is None or int(piece.file_of_row[row]) == 0:
            return vague
        time = int(piece.timestamp[row])
        self._times.append(time)

        def place() -> tuple[str, str]:
            if self._found is None:
                self._found = rows_of_times(self._rows, self._times)
            alone = self._found.get(time)
            return vague() if alone is None else place_in_rows(alone, 0, column)()

        return place


def _merged(
    folder: Path,
    old: Manifest,
    new: tuple[Path, tuple[Part, ...]],
    rules: DoorRules,
    record: ImportRecord,
    places: _Places,
) -> tuple[Manifest, QualityReport]:
    """Bars of both, where they conflict the new ones, and what is found where they meet.

    The report of the bars adds up what both showed. Years that stay as they are keep their files.
    """
    sides = ((folder, old.parts), new)
    door = Door(rules, _SIDES, place=places)
    checked = keep(folder, door, lambda writer: merged_pieces(sides, _SIDES, writer))
    seam = checked.report
    kept = rules.bad_prints == "keep"
    own = door.bad_prints(1)
    # Prints that stay in the dataset are found by every import, and were counted by their own.
    judged = _with_prints(record.quality, own if kept else door.bad_prints())
    out = 0 if kept else sum(found.count for found in own)
    judged = dataclasses.replace(judged, bars=judged.bars - out)
    if judged.bad_prints:
        found = next(f for f in judged.findings if f.kind == "bad_prints")
        _log.warning(
            "%d bars are bad prints beside those of the dataset (%s), the first: %s",
            *(found.count, found.action, found.examples[0]),
        )
    report = added(old.quality, judged, _with_prints(seam, []))
    names = (old.symbol, old.exchange, old.timeframe)
    record = dataclasses.replace(record, quality=judged)
    return manifest_of(checked, report, names, rules, (record,)), seam


def _with_prints(report: QualityReport, prints: list[Finding]) -> QualityReport:
    """The report with these bad prints in place of its own."""
    findings = [f for f in report.findings if f.kind != "bad_prints"] + prints
    count = sum(f.count for f in prints)
    return dataclasses.replace(report, bad_prints=count, findings=tuple(findings))
