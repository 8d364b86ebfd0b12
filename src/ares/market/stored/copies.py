"""Parquet copies of CSV files that a command loaded: made once, used while the CSV is unchanged.

A copy lies in the workspace under the digest of the files' bytes and of how they were read, never
beside the user's file; a newer CSV has another digest, so a stale copy is never found.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from typing import TYPE_CHECKING, Final

from ares.core.errors import ArtifactError, BusyError, StoreError
from ares.core.identity import fingerprint
from ares.market.bars import refuse_nameless
from ares.market.files import cut, load_bars, source_files, with_notes
from ares.market.reading.columns import declared_columns
from ares.market.stored.datasets import file_digest
from ares.market.stored.intake import check_rows
from ares.market.stored.partitions import (
    MANIFEST,
    SCHEMA,
    ImportRecord,
    read_bars,
    read_manifest,
    sweep,
    write_manifest,
)
from ares.market.stored.rows import FileRows
from ares.market.stored.writing import DoorOptions, door_rules, manifest_of
from ares.market.timerange import parse_timerange
from ares.store.locks import FileLock
from ares.store.tables import table_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ares.market.bars import Bars
    from ares.market.files import Paths
    from ares.market.reading.columns import Columns
    from ares.store.workspace import Workspace

_log = logging.getLogger("ares.market.stored.copies")

COPIES_KEPT: Final = 32
_DOOR: Final = 1
"""Raised when the check at the door changes what it lets through."""


def load_files(
    workspace: Workspace,
    paths: Paths,
    *,
    symbol: str,
    exchange: str,
    timeframe: str,
    columns: Columns | None = None,
    timerange: str | None = None,
    options: DoorOptions | None = None,
) -> Bars:
    """What `load_bars` returns, from the workspace's copy where there is one.

    A workspace that cannot be written costs the copy, not the bars: one warning is logged.

    Raises:
        DataError: As `load_bars`.
    """
    span = parse_timerange(timerange)
    refuse_nameless(symbol, exchange)
    files = source_files(paths)
    door: DoorOptions = {**(options or {})}
    if not any(_is_text(path) for path in files) or table_engine() != "pyarrow":
        bars = load_bars(
            files, symbol=symbol, exchange=exchange, timeframe=timeframe, columns=columns, **door
        )
        return cut(bars, span)
    digests = tuple(file_digest(path) for path in files)
    names = tuple(str(path) for path in files)  # the report's examples name them
    market = (symbol, exchange, timeframe)
    how = (SCHEMA, _DOOR, declared_columns(columns), dict(door))
    key = fingerprint((names, digests, market, how))
    folder = workspace.private / "copies" / key
    copy = _read_copy(folder)
    if copy is None:
        copy = _made_copy(folder, FileRows(files, columns=columns), market, door, digests)
    if copy is None:
        copy = load_bars(
            files, symbol=symbol, exchange=exchange, timeframe=timeframe, columns=columns, **door
        )
    return cut(copy, span)


def _is_text(path: Path) -> bool:
    return path.suffix.lower() not in {".parquet", ".feather"}


def _read_copy(folder: Path) -> Bars | None:
    """The copy, or None where there is none or it is damaged."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        return read_bars(folder, read_manifest(folder))
    except ArtifactError as error:
        _log.warning("a copy is damaged and will be made anew: %s", error)
        return None


def _made_copy(
    folder: Path,
    rows: FileRows,
    market: tuple[str, str, str],
    door: DoorOptions,
    digests: tuple[str, ...],
) -> Bars | None:
    """The bars by way of a new copy, so that the text of the files is never held.

    None where no copy can be written, or where the files changed while they were read.
    """
    rules = door_rules(market[2], door)
    try:
        with FileLock(folder / ".lock", timeout=0.0), _swept(folder):
            checked = check_rows(folder, rows, rules)
            if tuple(file_digest(path) for path in rows.files) != digests:
                return None
            report = with_notes(checked.report, rows.notes)
            record = ImportRecord(digests, "", report)
            write_manifest(folder, manifest_of(checked, report, market, rules, (record,)))
        _prune(folder.parent)
        return read_bars(folder, read_manifest(folder))
    except (StoreError, BusyError, ArtifactError, OSError) as error:
        _log.warning("no copy of the CSV is kept: %s", error)
        return None


@contextlib.contextmanager
def _swept(folder: Path) -> Iterator[None]:
    """Leave nothing in the folder but what a manifest made within names."""
    (folder / MANIFEST).unlink(missing_ok=True)
    try:
        yield
    finally:
        if not (folder / MANIFEST).exists():
            sweep(folder, None)


def _prune(root: Path) -> None:
    """Remove the oldest copies beyond `COPIES_KEPT`."""
    manifests = sorted(root.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
    for manifest in manifests[:-COPIES_KEPT]:
        shutil.rmtree(manifest.parent, ignore_errors=True)
