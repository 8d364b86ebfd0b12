"""Parquet files of checked bars: one per year, one of gaps, each named by its content's digest.

The writers take bars piece by piece and hold one year at most; any cut gives the same files.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import shutil
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import ArtifactError
from ares.market.ahead import ahead
from ares.market.checking.door import Times
from ares.market.raw import COLUMNS
from ares.market.stored.encoding import (
    allocated,
    decoded,
    encoded,
    joined,
    table_of,
    write_options,
)
from ares.market.stored.scratch import TimesFile, scratch_file
from ares.store.atomic import read_checked, write_atomic, writing
from ares.store.tables import needs_pyarrow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from ares.core.types import Int64Array
    from ares.market.checking.spacing import GapRows

REMEDY: Final = "`ares data repair` removes damaged parts; import the files again."
GAPS_REMEDY: Final = "`ares data repair` finds the gaps of the bars again; no bar is lost."
GAPS: Final = ("timestamp", "missing")
_GAP_GROUP: Final = 1 << 18
_WORKERS: Final = 2


@dataclasses.dataclass(frozen=True)
class Part:
    """One Parquet file: its name, rows, first and last open time, digest and size."""

    file: str
    rows: int
    first: int
    last: int
    sha256: str
    size: int

    @property
    def year(self) -> int:
        """Year (UTC) of the bars."""
        return int(year_of(np.array([self.first]))[0])


class PartWriter:
    """Writes bars as one file per year into `folder`; workers encode while the next year comes.

    Use it in a `with` block: files that a failure leaves are named by no manifest.
    """

    def __init__(self, folder: Path) -> None:
        needs_pyarrow("a dataset", str(folder))
        self._folder = folder
        self._parts: dict[int, Part | None] = {}
        self._year: int | None = None
        self._held: list[dict[str, Any]] = []
        self._aside: list[Int64Array] = []
        self._known: dict[int, tuple[Part, Mapping[str, Any]]] = {}
        self._left_out = TimesFile(folder)
        self._workers = concurrent.futures.ThreadPoolExecutor(_WORKERS, "ares-parts")
        self._pending: dict[int, concurrent.futures.Future[Part]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._left_out.close()

    def expect(self, part: Part, columns: Mapping[str, Any]) -> None:
        """A file in the folder that is kept where its year turns out to hold these very bars."""
        self._known[part.year] = (part, columns)

    def add(self, columns: Mapping[str, Any], distinct: Int64Array | None = None) -> None:
        """The next bars, by time.

        Args:
            columns: Arrays of one length, by name.
            distinct: All open times among them, where some of those have no bar.
        """
        times = columns["timestamp"]
        aside = times[:0]
        if distinct is not None and len(distinct) != len(times):
            aside = np.setdiff1d(distinct, times, assume_unique=True)
        ends = [own[[0, -1]] for own in (times, aside) if len(own)]
        if not ends:
            return
        first, last = (int(year) for year in np.sort(year_of(np.concatenate(ends)))[[0, -1]])
        if first == last:
            self._hold(first, dict(columns), aside)
            return
        years, years_aside = year_of(times), year_of(aside)
        for year in range(first, last + 1):
            own, own_aside = years == year, aside[years_aside == year]
            if own.any() or len(own_aside):
                self._hold(year, {name: columns[name][own] for name in COLUMNS}, own_aside)

    def finish(self) -> tuple[Part, ...]:
        """The files, by year.

        Raises:
            StoreError: one cannot be written.
        """
        self._flush()
        self._settle(0)
        return tuple(part for part in self._parts.values() if part is not None)

    def times(self) -> Iterator[Times]:
        """Open times of each year once more, after `finish`."""
        for year, part in self._parts.items():
            kept = np.zeros(0, dtype=np.int64)
            if part is not None:
                kept = joined(decoded(self._folder / part.file, ["timestamp"])["timestamp"])
            aside = self._left_out.read(year)
            yield Times(np.sort(np.concatenate([kept, aside])) if len(aside) else kept, kept)

    def _hold(self, year: int, columns: dict[str, Any], aside: Int64Array) -> None:
        if year != self._year:
            self._flush()
            self._year = year
        self._held.append(columns)
        self._aside.append(aside)

    def _flush(self) -> None:
        """Give the year that is over to a worker."""
        if self._year is None:
            return
        year, self._year = self._year, None
        columns = {name: joined([piece.pop(name) for piece in self._held]) for name in COLUMNS}
        self._left_out.write(year, np.concatenate(self._aside))
        self._held, self._aside = [], []
        self._settle(_WORKERS - 1)
        self._parts[year] = None
        known, content = self._known.pop(year, (None, columns))
        if known is not None and _equal(columns, content):
            self._parts[year] = known
        elif len(columns["timestamp"]):
            self._pending[year] = self._workers.submit(write_part, self._folder, str(year), columns)

    def _settle(self, most: int) -> None:
        """Wait until few years are being encoded, so that few are held."""
        while len(self._pending) > most:
            year = min(self._pending)
            self._parts[year] = self._pending.pop(year).result()


class GapWriter:
    """Writes gaps as they are found into a temporary file, and publishes it in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = scratch_file(folder)
        self._held: list[GapRows] = []
        self._writer: Any = None
        self._rows = 0
        self._span: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, gaps: GapRows) -> None:
        """The next gaps."""
        if len(gaps.time) == 0:
            return
        first = int(gaps.time[0]) if self._span is None else self._span[0]
        self._span = (first, int(gaps.time[-1]))
        self._held.append(gaps)
        self._write(_GAP_GROUP)

    def finish(self) -> Part:
        """The file.

        Raises:
            StoreError: it cannot be written.
        """
        self._write(1)
        with writing(self._folder):
            if self._writer is None:
                self._open()
            self._writer.close()
            size = self._file.seek(0, 2)
            self._file.seek(0)
            digest = hashlib.file_digest(self._file, "sha256").hexdigest()
        first, last = self._span or (0, 0)
        part = Part(f"gaps-{digest[:16]}.parquet", self._rows, first, last, digest, size)
        self._file.seek(0)
        path = self._folder / part.file
        if not _holds(path, part):
            write_atomic(
                path,
                lambda out: shutil.copyfileobj(self._file, out),
                check=lambda written: read_checked(written, sha256=digest, size=size),
            )
        return part

    def _write(self, least: int) -> None:
        """Write full row groups, or all that is held: pieces must not show in the file."""
        held = sum(len(gaps.time) for gaps in self._held)
        if held < least:
            return
        time, missing = (
            np.concatenate([getattr(gaps, name) for gaps in self._held])
            for name in ("time", "missing")
        )
        stop = held - held % _GAP_GROUP if least > 1 else held
        with writing(self._folder):
            if self._writer is None:
                self._open()
            table = table_of({"timestamp": time[:stop], "missing": missing[:stop]})
            self._writer.write_table(table, row_group_size=_GAP_GROUP)
        self._rows += stop
        before = np.concatenate([gaps.before for gaps in self._held])
        self._held = [type(self._held[0])(before[stop:], time[stop:], missing[stop:])]

    def _open(self) -> None:
        import pyarrow.parquet as pq

        none = {name: np.zeros(0, dtype=np.int64) for name in GAPS}
        self._writer = pq.ParquetWriter(self._file, table_of(none).schema, **write_options(none))


def write_part(folder: Path, stem: str, columns: Mapping[str, Any]) -> Part:
    """Write columns as one file; where the same content is there, nothing is written.

    Raises:
        StoreError: The disk is full, read-only or failing.
    """
    data = encoded(columns)
    digest = hashlib.sha256(data).hexdigest()
    times = columns["timestamp"]
    part = Part(
        file=f"{stem}-{digest[:16]}.parquet",
        rows=len(times),
        first=int(times[0]),
        last=int(times[-1]),
        sha256=digest,
        size=len(data),
    )
    path = folder / part.file
    if not _holds(path, part):
        write_atomic(path, [data])
    return part


def read_part(folder: Path, part: Part, names: Sequence[str]) -> dict[str, Any]:
    """Columns of one file, after its digest was checked.

    Raises:
        ArtifactError: The file is missing, changed, or holds something else.
    """
    columns = _decoded(folder, part, checked_bytes(folder, part), names)
    return {name: joined(chunks) for name, chunks in columns.items()}


def read_parts(folder: Path, parts: Sequence[Part], names: Sequence[str]) -> dict[str, Any]:
    """Columns of files, one after the other.

    One is copied while the next is decoded, and that one while the digest of its next is checked.

    Raises:
        ArtifactError: As `read_part`.
    """
    if len(parts) == 1:
        return read_part(folder, parts[0], names)
    rows = sum(part.rows for part in parts)
    columns: dict[str, Any] = {}
    at = 0
    contents = ahead(checked_bytes(folder, part) for part in parts)
    pieces = ahead(
        _decoded(folder, part, data, names) for part, data in zip(parts, contents, strict=True)
    )
    with contextlib.closing(contents), contextlib.closing(pieces):
        for part, piece in zip(parts, pieces, strict=True):
            for name, chunks in piece.items():
                if not at:
                    columns[name] = allocated(rows, chunks[0].dtype)
                np.concatenate(chunks, out=columns[name][at : at + part.rows])
            at += part.rows
    return columns


def checked_bytes(folder: Path, part: Part) -> bytes:
    """Bytes of a part that have its digest: nothing else is ever given to a decoder.

    Raises:
        ArtifactError: The file is missing or changed.
    """
    if "/" in part.file or part.file.startswith("."):
        raise ArtifactError("a part must lie in its folder", where=str(folder), value=part.file)
    with naming_repair(GAPS_REMEDY if part.file.startswith("gaps-") else REMEDY):
        return read_checked(folder / part.file, sha256=part.sha256, size=part.size)


@contextlib.contextmanager
def naming_repair(remedy: str = REMEDY) -> Iterator[None]:
    """Errors of the store, with the remedy that there is for bars."""
    try:
        yield
    except ArtifactError as error:
        raise ArtifactError(
            error.rule, value=error.value, where=error.where, remedy=remedy
        ) from error


def _decoded(folder: Path, part: Part, data: bytes, names: Sequence[str]) -> dict[str, list[Any]]:
    needs_pyarrow("a dataset", str(folder))
    import pyarrow as pa

    path = folder / part.file
    try:
        columns = decoded(pa.BufferReader(data), names)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise ArtifactError(
            "the part must be Parquet", where=str(path), value=str(error)[:200], remedy=REMEDY
        ) from None
    if any(sum(map(len, chunks)) != part.rows for chunks in columns.values()):
        raise ArtifactError(f"the part must have {part.rows} rows", where=str(path), remedy=REMEDY)
    return columns


def year_of(times: Int64Array) -> Int64Array:
    """Years (UTC) of int64 ns."""
    return np.asarray(times.view("M8[ns]").astype("M8[Y]").astype(np.int64) + 1970)


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in COLUMNS)


def _holds(path: Path, part: Part) -> bool:
    try:
        read_checked(path, sha256=part.sha256, size=part.size)
    except ArtifactError:
        return False
    return True
