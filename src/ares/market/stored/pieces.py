"""Rows in the order of files made into spans of time, oldest first, at constant memory.

A piece is a month (UTC) with all of its rows, in the order of the files. Rows that come month by month
are only held until their month is over. Where a row comes after its month was given out
(`LateRowsError`), `spooled` takes the same rows by way of a temporary file.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from ares.market.checking.faults import MOST_REPEATS, repeated_error, stable_order
from ares.market.checking.tallies import changes
from ares.market.raw import COLUMNS, NO_TIME, RawBars
from ares.market.stored.scratch import let_go, scratch_file
from ares.store.atomic import writing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ares.core.types import Int64Array

MOST_ROWS: Final = 1 << 20
"""Rows that a piece may have to be held in memory; a month of minutes has 44,640."""

_RECORD: Final = np.dtype(
    [(name, "<i8" if name == "timestamp" else "<f8") for name in COLUMNS]
    + [("file", "<i4"), ("row", "<i8")]
)
_SAMPLE: Final = 1 << 16


class LateRowsError(Exception):
    """A row belongs to a month that was given out, or a month has more rows than are held."""


def in_order(chunks: Iterable[RawBars]) -> Iterator[RawBars]:
    """Pieces of rows that come month by month; rows without a time are left out.

    Raises:
        LateRowsError: they do not come so.
    """
    held: dict[int, list[RawBars]] = {}
    closed: int | None = None
    for chunk in chunks:
        months = by_month(chunk)
        if not months:
            continue
        first = months[0][0]
        if closed is not None and first <= closed:
            raise LateRowsError
        for month in sorted(held):
            if month < first:
                closed = month
                yield joined(held.pop(month))
        for month, rows in months:
            held.setdefault(month, []).append(rows)
            if sum(len(part) for part in held[month]) > MOST_ROWS:
                raise LateRowsError
    for month in sorted(held):
        yield joined(held.pop(month))


def spooled(chunks: Iterable[RawBars], folder: Path) -> Iterator[RawBars]:
    """Pieces of rows in any order, by way of a temporary file in `folder`.

    Raises:
        DataError: one time has more than `MOST_REPEATS` rows.
        StoreError: the disk is full, read-only or failing.
    """
    with _Spool(folder) as spool:
        for chunk in chunks:
            spool.files = chunk.files
            for month, rows in by_month(chunk):
                spool.add(month, rows)
        for month in spool.ranked():
            if spool.rows(month) <= MOST_ROWS:
                yield spool.read(month)
            else:
                yield from _split(spool, month, folder)


def by_month(raw: RawBars) -> list[tuple[int, RawBars]]:
    """The rows of each month (months since 1970), by month; rows without a time are left out."""
    times = raw.timestamp
    known = times != NO_TIME
    if not known.all():
        raw = taken(raw, np.flatnonzero(known))
        times = raw.timestamp
    if len(times) == 0:
        return []
    first, last = (int(n) for n in month_of(np.array([times.min(), times.max()])))
    if first == last:
        return [(first, raw)]
    months = month_of(times)
    order = stable_order(months)
    months = months[order]
    starts = np.flatnonzero(changes(months))
    return [
        (int(months[start]), taken(raw, order[start:stop]))
        for start, stop in zip(starts, [*starts[1:], len(months)], strict=True)
    ]


def month_of(times: Int64Array) -> Int64Array:
    """Months since 1970 of int64 ns UTC."""
    return np.asarray(times.view("M8[ns]").astype("M8[M]").astype(np.int64))


def taken(raw: RawBars, rows: Int64Array) -> RawBars:
    """Some rows, without what is noted of single cells."""
    where: Any = rows
    if len(rows) and int(rows[-1]) - int(rows[0]) == len(rows) - 1 and (rows[1:] > rows[:-1]).all():
        where = slice(int(rows[0]), int(rows[-1]) + 1)  # a view of neighbours
    return RawBars(
        **{name: getattr(raw, name)[where] for name in COLUMNS},
        files=raw.files,
        file_of_row=None if raw.file_of_row is None else raw.file_of_row[where],
        row_of=rows + 1 if raw.row_of is None else raw.row_of[where],
    )


def joined(parts: list[RawBars]) -> RawBars:
    """Rows of the same files, one part after the other; all number their rows, or none does."""
    if len(parts) == 1:
        return parts[0]

    def column(name: str) -> Any:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    names = (*COLUMNS, "file_of_row", "row_of")
    return RawBars(**{name: column(name) for name in names}, files=parts[0].files)


def _split(spool: _Spool, key: int, folder: Path) -> Iterator[RawBars]:
    """A piece of too many rows as smaller ones; the rows of one time stay together."""
    parts = 2 * spool.rows(key) // MOST_ROWS + 1
    step = max(1, spool.rows(key) // _SAMPLE)
    sample = np.concatenate([rows.timestamp[::step] for rows in spool.scan(key)])
    edges = np.unique(np.quantile(sample, np.arange(1, parts) / parts, method="lower"))
    with _Spool(folder, spool.files) as finer:
        for rows in spool.scan(key):
            place = np.searchsorted(edges, rows.timestamp, side="right")
            for part in np.unique(place):
                finer.add(int(part), taken(rows, np.flatnonzero(place == part)))
        for part in finer.ranked():
            if finer.rows(part) > MOST_REPEATS:
                _refuse_repeated(finer, part)
            yield finer.read(part)


def _refuse_repeated(spool: _Spool, key: int) -> None:
    """Raise where one time has more rows than are held: they cannot be taken apart.

    Raises:
        DataError: it has.
    """
    counts: Counter[int] = Counter()
    for rows in spool.scan(key):
        times, repeats = np.unique(rows.timestamp, return_counts=True)
        counts.update(dict(zip(times.tolist(), repeats.tolist(), strict=True)))
    over = [time for time, count in counts.items() if count > MOST_REPEATS]
    if over:
        first = min(over)
        raise repeated_error(first, counts[first], MOST_REPEATS, spool.files)


class _Spool:
    """Rows under keys in a temporary file that has no name, so that nothing is ever left behind."""

    def __init__(self, folder: Path, files: tuple[str, ...] = ()) -> None:
        self.files = files
        self._folder = folder
        self._file = scratch_file(folder)
        self._places: dict[int, list[tuple[int, int]]] = {}
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        let_go(self._file)

    def ranked(self) -> list[int]:
        """The keys, ascending."""
        return sorted(self._places)

    def rows(self, key: int) -> int:
        """How many rows lie under a key."""
        return sum(count for _, count in self._places[key])

    def add(self, key: int, raw: RawBars) -> None:
        """Append rows under a key."""
        records = np.empty(len(raw), dtype=_RECORD)
        for name in COLUMNS:
            records[name] = getattr(raw, name)
        records["file"] = -1 if raw.file_of_row is None else raw.file_of_row
        records["row"] = np.arange(1, len(raw) + 1) if raw.row_of is None else raw.row_of
        with writing(self._folder):
            self._file.seek(self._end)
            self._file.write(records.view(np.uint8).data)
        self._places.setdefault(key, []).append((self._end, len(raw)))
        self._end += records.nbytes

    def scan(self, key: int) -> Iterator[RawBars]:
        """The rows under a key as they were added."""
        for at, count in self._places[key]:
            with writing(self._folder):  # it writes what is buffered
                self._file.seek(at)
            data = self._file.read(count * _RECORD.itemsize)
            records = np.frombuffer(data, dtype=_RECORD)
            one_file = count > 0 and records["file"][0] < 0
            columns: dict[str, Any] = {name: records[name] for name in COLUMNS}
            yield RawBars(
                **columns,
                files=self.files,
                file_of_row=None if one_file else np.array(records["file"]),
                row_of=np.array(records["row"]),
            )

    def read(self, key: int) -> RawBars:
        """All rows under a key."""
        return joined(list(self.scan(key)))
