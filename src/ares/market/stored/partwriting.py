"""Writers of Parquet parts: row groups go to a temporary file while rows come, then get a name.

Where a row group ends depends on the number of rows alone: any cut into pieces gives the same bytes.
"""

from __future__ import annotations

import collections
import concurrent.futures
import hashlib
import shutil
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import DataError, StoreError
from ares.market.raw import COLUMNS
from ares.market.stored.digests import file_digest
from ares.market.stored.encoding import joined, table_of, write_options
from ares.market.stored.parts import GAPS, Part, year_of
from ares.market.stored.scratch import let_go, scratch_file
from ares.store.atomic import write_atomic, writing
from ares.store.tables import needs_pyarrow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self

    from ares.market.checking.spacing import GapRows

_GROUP: Final = 1 << 16  # half of the values that fill pyarrow's dictionary
_MOST: Final = _GROUP + _GROUP // 2  # rows of the last group, so that none is tiny
_WAITING: Final = _GROUP
_OPEN: Final = 4  # years that wait to be published: each holds a file and rows of a group
_BUFFER: Final = 1 << 19  # bytes; each write waits for the interpreter's lock


class GroupedFile:
    """A Parquet file of columns that come piece by piece; rows of about one group are held."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = scratch_file(folder)
        self._hashed = _Hashed(self._file)
        self._writer: Any = None
        self._sink: Any = None
        self._held: list[Mapping[str, Any]] = []
        self._rows = 0
        self._span: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the temporary file."""
        self._hashed.abandoned = True
        self._writer = self._sink = None  # each holds a buffer, and there may be many years
        let_go(self._file)

    def add(self, columns: Mapping[str, Any]) -> None:
        """The next rows: int64 and float64 arrays of one length, by name.

        Raises:
            StoreError: The disk is full, read-only or failing.
        """
        times = columns["timestamp"]
        if len(times):
            first = int(times[0]) if self._span is None else self._span[0]
            self._span = (first, int(times[-1]))
        elif self._held:
            return
        self._held.append(columns)
        if sum(len(piece["timestamp"]) for piece in self._held) >= _MOST:
            self._write(_MOST)

    def publish(self, stem: str) -> Part:
        """The file in its folder; where the same content is there, nothing is written.

        Raises:
            StoreError: As `add`.
        """
        self._write(1)
        self._held = []  # what is left are views, which keep whole arrays
        with writing(self._folder):
            self._writer.close()
            self._sink.close()
            self._file.flush()
            size = self._file.tell()
        digest = self._hashed.digest.hexdigest()
        part = Part(
            f"{stem}-{digest[:16]}.parquet", self._rows, *(self._span or (0, 0)), digest, size
        )
        path = self._folder / part.file
        if not _holds(path, digest):
            self._file.seek(0)
            write_atomic(
                path,
                lambda out: shutil.copyfileobj(self._file, out),
                check=lambda written: _refuse_other(written, digest),
            )
        return part

    def _write(self, least: int) -> None:
        """Write groups as long as `least` rows are held."""
        names = list(self._held[0])
        columns = {name: joined([piece[name] for piece in self._held]) for name in names}
        rows = len(columns["timestamp"])
        at = 0
        with writing(self._folder):
            if self._writer is None:
                self._open(columns)
            while rows - at >= least:
                stop = at + _GROUP if rows - at >= _MOST else rows
                group = table_of({name: column[at:stop] for name, column in columns.items()})
                self._writer.write_table(group, row_group_size=_MOST)
                at = stop
        self._rows += at
        self._held = [{name: column[at:] for name, column in columns.items()}]

    def _open(self, columns: Mapping[str, Any]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        first = {name: column[:_GROUP] for name, column in columns.items()}
        self._sink = pa.BufferedOutputStream(pa.PythonFile(self._hashed, mode="w"), _BUFFER)
        self._writer = pq.ParquetWriter(self._sink, table_of(first).schema, **write_options(first))


class _Hashed:
    """What pyarrow writes to: a file, and the digest of all that it was given."""

    closed = False
    abandoned = False

    def __init__(self, file: Any) -> None:
        self.digest = hashlib.sha256()
        self._file = file

    def write(self, data: Any) -> None:
        if not self.abandoned:  # pyarrow's destructors still write after a failure
            self.digest.update(data)
            self._file.write(data)

    def flush(self) -> None:
        """Nothing is held here."""

    def close(self) -> None:
        """The file is closed by its owner, once it was copied."""


class _YearFile:
    """The bars of one year: in a new file, or in the known one if that holds these very bars."""

    def __init__(
        self, folder: Path, year: int, known: tuple[Part, Mapping[str, Any]] | None
    ) -> None:
        self._stem = str(year)
        self._known = known
        self._same = 0
        self._file = GroupedFile(folder)

    def add(self, columns: Mapping[str, Any]) -> None:
        if self._known is not None:
            _, content = self._known
            stop = self._same + len(columns["timestamp"])
            if all(
                np.array_equal(columns[name], content[name][self._same : stop]) for name in COLUMNS
            ):
                self._same = stop
                return
            self._known = None
            self._take_over(content)
        self._file.add(columns)

    def finish(self) -> Part:
        with self._file:
            if self._known is not None:
                part, content = self._known
                self._known = None
                if part.rows == self._same:
                    return part
                self._take_over(content)
            return self._file.publish(self._stem)

    def _take_over(self, content: Mapping[str, Any]) -> None:
        """Write what was the same so far."""
        if self._same:
            self._file.add({name: content[name][: self._same] for name in COLUMNS})

    def close(self) -> None:
        """Let go of the temporary file."""
        self._file.close()


def _finished(file: _YearFile, added: concurrent.futures.Future[None]) -> Part:
    """The part of a year, once its last bars were added."""
    added.result()
    return file.finish()


class PartWriter:
    """Writes bars as one file per year into `folder`; a worker encodes while the next ones come.

    Use it in a `with` block: files that a failure leaves are named by no manifest.
    """

    def __init__(self, folder: Path) -> None:
        needs_pyarrow("a dataset", str(folder))
        self._folder = folder
        self._parts: list[concurrent.futures.Future[Part]] = []
        self._known: dict[int, tuple[Part, Mapping[str, Any]]] = {}
        self._year: int | None = None
        self._encoder = concurrent.futures.ThreadPoolExecutor(1, "ares-parts")  # in order
        self._publisher = concurrent.futures.ThreadPoolExecutor(2, "ares-publish")
        self._given: collections.deque[tuple[concurrent.futures.Future[None], int]]
        self._given = collections.deque()
        self._files: list[_YearFile] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in (self._encoder, self._publisher):
            worker.shutdown(wait=True, cancel_futures=True)
        for file in self._files:
            file.close()

    def expect(self, part: Part, columns: Mapping[str, Any]) -> None:
        """A file in the folder that is kept where its year turns out to hold these very bars."""
        self._known[part.year] = (part, columns)

    def add(self, columns: Mapping[str, Any]) -> None:
        """The next bars, by time: arrays of one length, by name."""
        times = columns["timestamp"]
        if len(times) == 0:
            return
        first, last = (int(year) for year in year_of(times[[0, -1]]))
        years = year_of(times) if first != last else None
        for year in range(first, last + 1):
            start, stop = (
                (0, len(times)) if years is None else np.searchsorted(years, [year, year + 1])
            )
            if start < stop:
                self._give(year, {name: columns[name][start:stop] for name in COLUMNS})

    def finish(self) -> tuple[Part, ...]:
        """The files, by year.

        Raises:
            StoreError: one cannot be written.
        """
        self._flush()
        self._settle(0)
        return tuple(part.result() for part in self._parts)

    def _give(self, year: int, columns: Mapping[str, Any]) -> None:
        if year != self._year:
            self._flush()
            self._year = year
            self._files.append(_YearFile(self._folder, year, self._known.pop(year, None)))
        self._settle(_WAITING)
        added = self._encoder.submit(self._files[-1].add, columns)
        self._given.append((added, len(columns["timestamp"])))

    def _flush(self) -> None:
        """The year is over."""
        if self._year is not None:
            added, _ = self._given[-1]
            if len(self._parts) >= _OPEN:
                self._parts[-_OPEN].result()  # a slow disk holds the rows up, not the memory
            self._parts.append(self._publisher.submit(_finished, self._files[-1], added))

    def _settle(self, most: int) -> None:
        """Wait until few rows are waiting to be encoded, so that few are held."""
        while sum(rows for _, rows in self._given) > most:
            given, _ = self._given.popleft()
            given.result()


class GapWriter:
    """Writes gaps as they are found."""

    def __init__(self, folder: Path) -> None:
        self._file = GroupedFile(folder)
        self._file.add({name: np.zeros(0, dtype=np.int64) for name in GAPS})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, gaps: GapRows) -> None:
        """The next gaps."""
        self._file.add({"timestamp": gaps.time, "missing": gaps.missing})

    def finish(self) -> Part:
        """The file.

        Raises:
            StoreError: It cannot be written.
        """
        return self._file.publish("gaps")


def _holds(path: Path, digest: str) -> bool:
    try:
        return not path.is_symlink() and file_digest(path) == digest
    except DataError:
        return False  # there is none


def _refuse_other(path: Path, digest: str) -> None:
    if not _holds(path, digest):
        raise StoreError(
            "what is read back must be what was written", where=str(path), remedy="Check the disk."
        )
