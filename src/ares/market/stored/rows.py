"""Rows of files as a stream of chunks with times in ns, as one file after the other is read."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import numpy as np

from ares.market.ahead import ahead
from ares.market.files import file_format, source_files
from ares.market.raw import NO_TIME, RawBars, normalise_timestamps
from ares.market.reading.arrowfile import stream_feather
from ares.market.reading.columns import declared_columns
from ares.market.reading.csvfile import stream_csv
from ares.market.reading.parquetfile import stream_parquet
from ares.market.reading.table import guarded
from ares.market.reading.textfile import NEWLINE, blocks_of
from ares.market.stored.pieces import LateRowsError, taken
from ares.store.tables import table_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from ares.market.files import Paths
    from ares.market.reading.columns import Columns
    from ares.market.reading.table import Table

Progress: TypeAlias = "Callable[[int, int | None], object]"
"""Called with the rows read, and the rows there are to read as far as that is known."""

_STREAMS: Final = {"csv": stream_csv, "parquet": stream_parquet, "feather": stream_feather}
_GZIP: Final = b"\x1f\x8b"


class Rows(Protocol):
    """Where the check takes rows from: as often as it asks, the same ones."""

    def arranged(self, *, exact: bool) -> tuple[tuple[str, ...], Iterator[RawBars]]:
        """Names of the files by the first time in each, and their rows in that order.

        `file_of_row` counts the names. Without `exact` the order may be a guess, and the rows end
        in a `LateRowsError` where it was wrong.
        """


class FileRows:
    """Rows of files; arguments and errors as `load_bars`.

    Attributes:
        notes: What was recognised rather than declared, after the rows were read.
    """

    def __init__(
        self, paths: Paths, *, columns: Columns | None = None, progress: Progress | None = None
    ) -> None:
        self.files = source_files(paths)
        self.notes: tuple[str, ...] = ()
        self._columns = declared_columns(columns)
        self._progress = progress
        self._notes: dict[int, tuple[str, ...]] = {}

    def arranged(self, *, exact: bool) -> tuple[tuple[str, ...], Iterator[RawBars]]:
        """See `Rows`."""
        firsts = [self._first_time(file, exact=exact) for file in self._several()]
        order = sorted(range(len(self.files)), key=lambda n: firsts[n] if firsts else 0)
        names = tuple(str(self.files[n]) for n in order)
        return names, self._rows(names, order)

    def _several(self) -> list[Path]:
        return self.files if len(self.files) > 1 else []

    def _first_time(self, file: Path, *, exact: bool) -> int:
        """First time of a file: of all its rows, or else of its first chunk."""
        first = NO_TIME
        for raw in raw_chunks(file, columns=self._columns):
            first = _earlier(first, raw)
            if not exact:
                break
        return first

    def _rows(self, names: tuple[str, ...], order: list[int]) -> Iterator[RawBars]:
        firsts = [NO_TIME] * len(order)
        counter = _Counter([self.files[n] for n in order], self._progress)
        for rank, number in enumerate(order):
            notes: dict[str, None] = {}
            tables = raw_chunks(self.files[number], columns=self._columns, notes=notes)
            with contextlib.closing(ahead(tables)) as chunks:
                for raw in chunks:
                    if len(order) > 1:
                        firsts[rank] = _earlier(firsts[rank], raw)
                    counter.count(rank, len(raw))
                    yield raw if len(order) == 1 else _tagged(raw, names, rank)
            self._notes[number] = tuple(f"{names[rank]}: {note}" for note in notes)
        if sorted(zip(firsts, order, strict=True)) != list(zip(firsts, order, strict=True)):
            raise LateRowsError
        every = (note for number in sorted(self._notes) for note in self._notes[number])
        self.notes = tuple(dict.fromkeys(every))


def rows_of_times(rows: Rows, times: Collection[int]) -> dict[int, RawBars]:
    """The row that the check takes of each time, alone; those that are not there are left out."""
    found = {}
    for raw in rows.arranged(exact=True)[1]:
        for row in np.flatnonzero(np.isin(raw.timestamp, list(times))):  # the last one wins
            found[int(raw.timestamp[row])] = taken(raw, np.array([row]))
    return found


class _Counter:
    """Tells how many rows were read, and about how many there are."""

    def __init__(self, files: list[Path], progress: Progress | None) -> None:
        self._progress = progress
        expected = [_expected_rows(file) for file in files] if progress else []
        self._expected = [0 if rows is None else rows for rows in expected]
        self._known = None not in expected
        self._rows = [0] * len(files)

    def count(self, file: int, rows: int) -> None:
        """The next rows of a file."""
        self._rows[file] += rows
        if self._progress is None:
            return
        self._expected[file] = max(self._expected[file], self._rows[file])
        self._expected[:file] = self._rows[:file]  # those are over
        self._progress(sum(self._rows), sum(self._expected) if self._known else None)


def _expected_rows(file: Path) -> int | None:
    """Rows of a file: what its footer says, or about as many as its first lines are short."""
    where = str(file)
    kind = file_format(file)
    if kind == "feather" or (kind == "parquet" and table_engine() != "pyarrow"):
        return None
    if kind == "parquet":
        import pyarrow.parquet as pq

        with guarded(where):
            return int(pq.read_metadata(file).num_rows)
    block, _ = next(blocks_of(file, where))
    with guarded(where), file.open("rb") as stream:
        size = file.stat().st_size
        if stream.read(2) == _GZIP:
            stream.seek(-4, 2)
            size = int.from_bytes(stream.read(4), "little")  # of the text, modulo 4 GiB
    return max(len(block), size) * block.count(NEWLINE) // max(len(block), 1)


def raw_chunks(
    file: Path, *, columns: tuple[str, ...] | None, notes: dict[str, None] | None = None
) -> Iterator[RawBars]:
    """Rows of one file with times in ns; a unit that changes is found as in the whole file.

    Raises:
        DataError: the file cannot be read as bars.
    """
    before: Any = None
    for table in _STREAMS[file_format(file)](file, columns=columns):
        if notes is not None:
            notes.update(dict.fromkeys(table.notes))
        yield _in_ns(table, before).raw()
        times = table.timestamp
        if times.dtype.kind != "M":
            known = times[np.isfinite(times) if times.dtype.kind == "f" else times != NO_TIME]
            before = known[-1:] if len(known) else before


def _in_ns(table: Table, before: Any) -> Table:
    """The table with its times in ns, their unit compared with that of the time before them."""
    times = table.timestamp
    if times.dtype.kind == "M":
        return table
    joined = times if before is None else np.concatenate([before, times])
    known = len(joined) - len(times)

    def where(row: int) -> str:
        number = row - known
        if table.row_of is not None and number >= 0:
            number = int(table.row_of[number]) - 1
        return f"{table.where}, row {number + 1}, column timestamp"

    nanoseconds = normalise_timestamps(joined, where=where)[known:]
    return dataclasses.replace(table, timestamp=nanoseconds.view("M8[ns]"))


def _earlier(first: int, raw: RawBars) -> int:
    known = raw.timestamp[raw.timestamp != NO_TIME]
    if not len(known):
        return first
    least = int(known.min())
    return least if first == NO_TIME else min(first, least)


def _tagged(raw: RawBars, names: tuple[str, ...], rank: int) -> RawBars:
    """The rows as those of one among several files."""
    return dataclasses.replace(
        raw, files=names, file_of_row=np.full(len(raw), rank, dtype=np.int32)
    )
