"""Files into bars: CSV, CSV.gz, Parquet and Feather, one, several or a folder of them.

`load_bars` reads, checks once at the door and writes nothing. `read_raw` stops before the check.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from ares.core.errors import DataError, one_line
from ares.market.bars import check_bars
from ares.market.quality import Finding, QualityReport
from ares.market.raw import NO_TIME, RawBars
from ares.market.reading.arrowfile import read_feather
from ares.market.reading.columns import declared_columns
from ares.market.reading.csvfile import read_csv
from ares.market.reading.parquetfile import read_parquet
from ares.market.reading.table import Table, guarded
from ares.market.timerange import parse_timerange

if TYPE_CHECKING:
    import io

    from ares.market.bars import Bars
    from ares.market.checking.door import Adjusted, BadPrints
    from ares.market.reading.columns import Columns

SourcePath: TypeAlias = str | os.PathLike[str]
Paths: TypeAlias = SourcePath | Sequence[SourcePath]

SUFFIXES: Final = (".csv", ".csv.gz", ".parquet", ".feather")
_ARCHIVES: Final = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"PK\x07\x08": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
}
_READERS: Final = {"csv": read_csv, "parquet": read_parquet, "feather": read_feather}


def load_bars(
    path: Paths,
    *,
    symbol: str,
    exchange: str,
    timeframe: str,
    columns: Columns | None = None,
    timerange: str | None = None,
    calendar: str | None = None,
    adjusted: Adjusted = "none",
    bad_prints: BadPrints = "drop",
    max_print: float = 2.0,
) -> Bars:
    """Read bars from files and check them once. Nothing is written.

    Args:
        path: A CSV, CSV.gz, Parquet or Feather file, several of them, or a folder; files are
            joined in time order.
        symbol: What is traded.
        exchange: Where it is traded.
        timeframe: Interval of the rows, "1m" to "1w".
        columns: Order of the columns of files without header, as a tuple or as text:
            "timestamp,open,close,high,low,volume" is Bitfinex's. Names that mean none of the six
            columns declare columns that are not read.
        timerange: "20200101-20210101", end exclusive, cut out after the check.
        calendar: "24/7", "24/5" or "session:<IANA zone> hh:mm-hh:mm"; None infers it.
        adjusted: How the prices were adjusted: "none", "split" or "total".
        bad_prints: Drop, keep or refuse bars beyond `max_print` of the recent median close.
        max_print: That factor, above 1.

    Returns:
        The bars; `bars.quality` reports on all rows that were read.

    Raises:
        DataError: A file or a row that cannot be used; the message names file, row, column,
            rule, value and remedy.
        ConfigError: An unknown timeframe, calendar, time range or choice.
    """
    span = parse_timerange(timerange)
    raw, notes = _read(path, columns)
    bars, report = check_bars(
        raw,
        symbol=symbol,
        exchange=exchange,
        timeframe=timeframe,
        calendar=calendar,
        adjusted=adjusted,
        bad_prints=bad_prints,
        max_print=max_print,
    )
    return cut(dataclasses.replace(bars, quality=with_notes(report, notes)), span)


def read_raw(path: Paths, *, columns: Columns | None = None) -> RawBars:
    """Rows of files, unchecked, oldest file first; arguments and errors as `load_bars`."""
    return _read(path, columns)[0]


def read_table(path: Path, *, columns: Columns | None = None) -> Table:
    """Read one file in whatever format its first bytes say.

    Raises:
        DataError: The file cannot be read as bars.
    """
    return _READERS[file_format(path)](path, columns=declared_columns(columns))


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file to read it; one that may never answer or end is refused without waiting.

    Raises:
        DataError: It is not a regular file.
        OSError: It cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(mode) else "a special file"
        raise DataError(
            "this must be a regular file",
            where=str(path),
            value=kind,
            remedy="Write what it gives into a file first.",
        )
    return os.fdopen(descriptor, "rb")


def file_format(path: Path) -> str:
    """Say "csv", "parquet" or "feather", by the first bytes of a file and then by its ending.

    Raises:
        DataError: Missing, empty, unreadable, not a regular file, or an archive.
    """
    where = str(path)
    with guarded(where), open_regular(path) as file:
        head = file.read(8)
    if not head:
        raise DataError("the file is empty", where=where, remedy="Fetch it again.")
    for magic, kind in _ARCHIVES.items():
        if head.startswith(magic):
            raise DataError(
                "archives are not read", where=where, value=kind, remedy="Unpack it first."
            )
    suffix = path.suffix.lower()
    if head.startswith(b"PAR1") or suffix == ".parquet":
        return "parquet"
    if head.startswith((b"ARROW1", b"FEA1")) or suffix == ".feather":
        return "feather"
    return "csv"


def source_files(path: Paths) -> list[Path]:
    """The files that `path` means; a folder means those in it with a known ending, by name.

    Raises:
        DataError: No path, a path that does not exist, or a folder without such files.
    """
    given = [path] if isinstance(path, str | os.PathLike) else list(path)
    files: list[Path] = []
    for item in given:
        one = Path(item)
        with guarded(str(one)):
            one.stat()
            found = [one]
            if one.is_dir():
                found = sorted(
                    inner
                    for inner in one.iterdir()
                    if inner.name.lower().endswith(SUFFIXES)
                    and not inner.name.startswith(".")
                    and inner.is_file()
                )
        if not found:
            raise DataError(
                "the folder holds no files of bars",
                where=str(one),
                remedy=f"They end in {', '.join(SUFFIXES)}.",
            )
        files.extend(found)
    if not files:
        raise DataError(
            "at least one file must be given", where="data", remedy="Name a file or a folder."
        )
    return files


def cut(bars: Bars, span: tuple[int, int]) -> Bars:
    """Bars that open within [start, end); the report on all rows stays attached.

    Raises:
        DataError: No bar opens there.
    """
    start, stop = (int(n) for n in np.searchsorted(bars.timestamp, span, side="left"))
    if (start, stop) == (0, len(bars)):
        return bars
    if start == stop:
        first, last = bars.timestamp[[0, -1]].astype("datetime64[ns]").astype("datetime64[s]")
        raise DataError(
            "no bars lie in the time range",
            where=f"{bars.symbol} {bars.exchange} {bars.timeframe}",
            remedy=f"There are bars from {first}Z to {last}Z.",
        )
    return dataclasses.replace(bars[start:stop], quality=bars.quality)


def _read(path: Paths, columns: Columns | None) -> tuple[RawBars, tuple[str, ...]]:
    """Rows of all files, ordered by the first time in each, and notes on their layout."""
    tables = [read_table(file, columns=columns) for file in source_files(path)]
    parts = [table.raw() for table in tables]
    parts.sort(key=_first_time)
    notes = dict.fromkeys(one_line(f"{t.where}: {note}") for t in tables for note in t.notes)
    return RawBars.concat(parts), tuple(notes)


def _first_time(raw: RawBars) -> int:
    known = raw.timestamp[raw.timestamp != NO_TIME]
    return int(known.min()) if len(known) else NO_TIME


def with_notes(report: QualityReport, notes: tuple[str, ...]) -> QualityReport:
    """The report with what was recognised of the layout of files."""
    if not notes:
        return report
    finding = Finding("layout", len(notes), "recognised, not declared", notes[:5])
    return dataclasses.replace(report, findings=(*report.findings, finding))
