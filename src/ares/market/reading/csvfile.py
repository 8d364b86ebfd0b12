"""CSV and CSV.gz into columns: plain cells by a kernel, else pyarrow, and a plain reading of faults.

A number is read as the float64 nearest to its decimal text. Nothing of the file but numbers and
times ever leaves this module, so hostile text in headers or spare columns has nowhere to go.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import itertools
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.core.errors import DataError
from ares.market.ahead import ahead
from ares.market.raw import NO_TIME
from ares.market.reading.columns import (
    HOW_TO_DECLARE,
    PRICES,
    ROLES,
    Layout,
    check_width,
    declared_layout,
    is_header,
    kline_layout,
    named_layout,
    ochlv_layout,
    ohlcv_layout,
    refuse_clock,
)
from ares.market.reading.csvplain import read_plain, rows_of
from ares.market.reading.csvquick import read_quick
from ares.market.reading.table import EMPTY, ISO, NUMBER, ZONED, Table, as_array, guarded, joined
from ares.market.reading.textfile import BOM, blocks_of, first_line, line_ends
from ares.market.reading.timeforms import first_time
from ares.store.tables import table_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ares.core.types import Int64Array
    from ares.market.reading.timeforms import TimeKind


_BLOCK: Final = 4 * 1024**2
_ORDERS: Final = (ohlcv_layout(), ochlv_layout())


def read_csv(
    path: Path, *, columns: tuple[str, ...] | None = None, date_format: str | None = None
) -> Table:
    """Read one CSV or CSV.gz file.

    Args:
        path: The file; gzip is recognised by its first bytes.
        columns: Declared order of the columns of a file without header.
        date_format: Format of dates that are not ISO (`strftime` letters).

    Raises:
        DataError: The file cannot be read as bars; the message says where and why.
    """
    tables: list[Table] = []
    fits: list[list[bool]] = []
    readers = _readers(path, columns, date_format)
    try:
        for reader in readers:
            tables.append(reader.read())
            if reader.guessed:
                fits.append(_fits(tables[-1]))
    except DataError:
        for _ in readers:  # where the file is damaged, that is what to say: rows are then odd, too
            pass
        raise
    table = joined(tables)
    return _arranged(table, _fitting(fits, str(path))) if fits else table


def stream_csv(path: Path, *, columns: tuple[str, ...] | None = None) -> Iterator[Table]:
    """The rows of `read_csv` in file order, some ten thousand at a time, at constant memory.

    A file of six columns without names is read twice: which order fits is known at its end.

    Raises:
        DataError: As `read_csv`; rows before the fault have been given out by then.
    """
    order: Layout | None = None
    for reader in _readers(path, columns):
        if reader.guessed and order is None:
            fits = [_fits(part.read()) for part in _readers(path, columns)]
            order = _fitting(fits, reader.where)
        table = reader.read()
        yield table if order is None else _arranged(table, order)


def _readers(
    path: Path, columns: tuple[str, ...] | None, date_format: str | None = None
) -> Iterator[_Reader]:
    """A reader of each block of a file; the text is unpacked and checked ahead, in a thread."""
    where = str(path)
    reader: _Reader | None = None
    with contextlib.closing(ahead(blocks_of(path, where))) as blocks:
        for block, rows_before in blocks:
            if not block or block.isspace():
                continue
            if reader is None:
                reader = _opened(block, where, rows_before, columns, date_format)
            else:
                reader = dataclasses.replace(
                    reader, data=block, start=0, headed=False, rows_before=rows_before
                )
            yield reader
    if reader is None:
        raise DataError("the file is empty", where=where, remedy="Fetch it again.")


def _opened(
    data: bytes,
    where: str,
    rows_before: int,
    columns: tuple[str, ...] | None,
    date_format: str | None,
) -> _Reader:
    """A reader of the first block of a file that is not blank."""
    start, first = first_line(data, where, rows_before)
    place = f"{where}, row {rows_before + line_ends(data, 0, start) + 1}"
    delimiter = max(",;\t", key=first.count)
    try:
        cells = next(csv.reader([first], delimiter=delimiter), [])
    except csv.Error as error:
        raise DataError(
            f"the text is no CSV: {error}",
            where=place,
            value=first[:40],
            remedy="Write it as text with commas, a row per bar.",
        ) from None
    check_width(len(cells), where)
    headed = _looks_like_header(cells, columns, place)
    if headed and columns is not None:
        raise DataError(
            "a file whose columns are declared must have no header line",
            where=place,
            value=[cell[:40] for cell in cells[:8]],
            remedy="Leave the declaration away: the header names the columns.",
        )
    if headed:
        layout = named_layout(cells, place)
    elif columns is not None:
        layout = declared_layout(columns, len(cells), where)
    else:
        layout = _unnamed_layout(len(cells), where)
    guessed = not headed and columns is None and len(cells) == len(ROLES)
    reader = _Reader(
        data, where, start, delimiter, headed, date_format, layout, guessed, rows_before
    )
    kind, first_stamp = reader.first_time()
    return dataclasses.replace(reader, kind=kind, first_stamp=first_stamp)


def _unnamed_layout(width: int, where: str) -> Layout:
    """Layout that the number of unnamed columns says; of six, the first of the two orders."""
    for layout in (_ORDERS[0], kline_layout()):
        if width == layout.width:
            return layout
    raise DataError(
        "the columns have no names",
        where=where,
        value=f"{width} columns",
        remedy=HOW_TO_DECLARE,
    )


def _fits(table: Table) -> list[bool]:
    """Whether each of the orders fits every row of a table that was read in the first of them."""
    return [_ordered_everywhere(_arranged(table, layout)) for layout in _ORDERS]


def _arranged(table: Table, layout: Layout) -> Table:
    """A table that was read in the first of the orders as one in another."""
    numbers = {name: table.numbers[ROLES[layout.position(name)]] for name in PRICES}
    return dataclasses.replace(table, numbers=numbers, notes=(layout.note,))


def _fitting(fits: list[list[bool]], where: str) -> Layout:
    """The one of the two orders that fits every row of every part."""
    usual, other = (all(parts) for parts in zip(*fits, strict=True))
    if usual != other:
        return _ORDERS[other]
    rule = "both orders fit every row" if usual else "no known order fits every row"
    raise DataError(
        f"the columns have no names, and {rule} (open,high,low,close or open,close,high,low)",
        where=where,
        remedy=HOW_TO_DECLARE,
    )


def _ordered_everywhere(table: Table) -> bool:
    """Whether low <= min(open, close) and max(open, close) <= high in every row."""
    o, h, low, c = (table.numbers[name] for name in ("open", "high", "low", "close"))
    return bool(np.all((low <= np.minimum(o, c)) & (np.maximum(o, c) <= h)))


def _looks_like_header(cells: list[str], columns: tuple[str, ...] | None, place: str) -> bool:
    """Whether the first line names columns; a line that is neither names nor values is refused."""
    if is_header(cells):
        return True
    values = sum(_is_value(cell.strip()) for cell in cells)
    if columns is not None or 2 * values >= len(cells):
        return False
    named_layout(cells, place)  # raises: names the missing columns
    return True


def _is_value(cell: str) -> bool:
    return any(pattern.fullmatch(cell) for pattern in (NUMBER, ISO, ZONED))


@dataclasses.dataclass(frozen=True)
class _Reader:
    """The guarded text of one block of a file, and how it is to be read.

    `guessed`: the columns have no names, and the layout is the first of `_ORDERS`. `kind` is that of
    `first_stamp`, the first time of the file.
    """

    data: bytes
    where: str
    start: int
    delimiter: str
    headed: bool
    date_format: str | None
    layout: Layout
    guessed: bool
    rows_before: int
    kind: TimeKind = "formatted"
    first_stamp: str = ""

    def read(self) -> Table:
        """Parse the six columns of the layout, fast where every cell is in order.

        Raises:
            DataError: Rows differ in length.
        """
        table = None
        if self.kind != "formatted":
            table = read_quick(
                self.data,
                self.layout,
                self.kind,
                self.where,
                start=self.start,
                delimiter=self.delimiter,
                headed=self.headed,
                rows_before=self.rows_before,
            )
        if table is None and table_engine() == "pyarrow":
            try:
                with guarded(self.where):
                    table = self._by_pyarrow()
            except DataError:
                if self.kind == "formatted":
                    raise
        if table is None:
            table = read_plain(
                self.data,
                self.layout,
                self.kind,
                self.where,
                delimiter=self.delimiter,
                headed=self.headed,
                rows_before=self.rows_before,
                date_format=self.date_format or "",
                first=self.first_stamp,
            )
        return table.noted(self.layout.note) if self.layout.note else table

    def first_time(self) -> tuple[TimeKind, str]:
        """How timestamps are written, and the first one.

        Raises:
            DataError: No timestamp can be read.
        """
        if self.date_format is not None:
            return "formatted", ""
        layout = self.layout
        if layout.clock is not None:
            for row, cells in itertools.islice(self._rows(), 1):
                if len(cells) == layout.width:
                    stamp, clock = cells[layout.positions[0]], cells[layout.clock]
                    refuse_clock(stamp, clock, f"{self.where}, row {row}")
        return first_time(self._rows(), layout.position("timestamp"), self.where)

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        return rows_of(
            self.data,
            self.where,
            delimiter=self.delimiter,
            headed=self.headed,
            rows_before=self.rows_before,
        )

    def _by_pyarrow(self) -> Table:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        layout, kind = self.layout, self.kind
        names = [f"unused {n}" for n in range(layout.width)]
        for role, position in zip(ROLES, layout.positions, strict=True):
            names[position] = role
        time_type = {"integer": pa.int64(), "number": pa.float64()}.get(
            kind, pa.timestamp("ns", "UTC" if kind == "zoned" else None)
        )
        table = arrow_csv.read_csv(
            pa.py_buffer(self.data).slice(self.start),
            read_options=arrow_csv.ReadOptions(
                column_names=names,
                skip_rows=int(self.headed),
                block_size=_BLOCK,
                use_threads=len(self.data) > _BLOCK,  # they cost more than they save on less
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=self.delimiter),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(PRICES, pa.float64()) | {"timestamp": time_type},
                include_columns=list(ROLES),
                null_values=sorted(EMPTY),
                timestamp_parsers=None if self.date_format is None else [self.date_format],
            ),
        )
        times = table.column("timestamp")
        return Table(
            timestamp=as_array(
                times.fill_null(NO_TIME) if times.null_count and kind == "integer" else times
            ),
            numbers={name: as_array(table.column(name)) for name in PRICES},
            where=self.where,
            row_of=self._row_numbers(table.num_rows),
        )

    def _row_numbers(self, rows: int) -> Int64Array:
        """Row of the file of each data row; blank lines are counted, but are no rows."""
        first = 1 + self.rows_before
        skipped = int(self.headed)
        ends = line_ends(self.data) + (not self.data.endswith((b"\n", b"\r")))
        if ends != rows + skipped:  # there are blank lines
            lines = self.data.removeprefix(BOM).splitlines()
            numbers = [n for n, line in enumerate(lines, first) if line.strip()][skipped:]
            if len(numbers) == rows:
                return np.array(numbers, dtype=np.int64)
        return np.arange(first + skipped, first + skipped + rows, dtype=np.int64)
