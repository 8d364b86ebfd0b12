"""CSV and CSV.gz into columns: plain cells by a kernel, else pyarrow, and a plain reading of faults.

A number is read as the float64 nearest to its decimal text. Nothing of the file but numbers and
times ever leaves this module, so hostile text in headers or spare columns has nowhere to go.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.core.errors import DataError
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
from ares.market.reading.csvplain import TimeKind, read_plain, rows_of, time_kind
from ares.market.reading.csvquick import read_quick
from ares.market.reading.table import EMPTY, ISO, NUMBER, ZONED, Table, as_array, guarded
from ares.market.reading.textfile import NEWLINE, blocks_of, first_line, text_of
from ares.store.tables import table_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

    from ares.core.types import Int64Array


_BLOCK: Final = 4 * 1024**2


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
    where = str(path)
    reader, layout = _opened(text_of(path, where), where, columns, date_format)
    return _read_unnamed(reader) if layout is None else reader.read(layout)


def stream_csv(path: Path, *, columns: tuple[str, ...] | None = None) -> Iterator[Table]:
    """The rows of `read_csv` in file order, some ten thousand at a time, at constant memory.

    A file whose columns have no names is read twice: which order fits is known at its end.

    Raises:
        DataError: As `read_csv`; rows before the fault have been given out by then.
    """
    where = str(path)
    layout: Layout | None = None
    reader: _Reader | None = None
    note = ""
    for block, rows_before in blocks_of(path, where):
        if reader is None:
            reader, layout = _opened(block, where, columns, None)
            if layout is None:
                layout = _streamed_layout(path, reader)
                note = layout.note
            reader = dataclasses.replace(reader, kind=reader.kind_of(layout))
        else:
            reader = dataclasses.replace(
                reader, data=block, start=0, headed=False, rows_before=rows_before
            )
        if layout is not None and block.strip():
            table = reader.read(layout)
            yield table.noted(note) if note else table
    if reader is None:
        raise DataError("the file is empty", where=where, remedy="Fetch it again.")


def _streamed_layout(path: Path, reader: _Reader) -> Layout:
    """Which of the two orders of unnamed columns fits every row of a file."""
    if reader.width != len(ROLES):
        return _only_layout(reader)
    fits = [True, True]
    reader = dataclasses.replace(reader, kind=reader.kind_of(ohlcv_layout()))
    for number, (block, rows_before) in enumerate(blocks_of(path, reader.where)):
        start = 0 if number else reader.start
        part = dataclasses.replace(reader, data=block, start=start, rows_before=rows_before)
        if block.strip():
            for n, layout in enumerate((ohlcv_layout(), ochlv_layout())):
                fits[n] = fits[n] and _ordered_everywhere(part.read(layout))
    return _fitting(fits, reader.where)


def _opened(
    data: bytes, where: str, columns: tuple[str, ...] | None, date_format: str | None
) -> tuple[_Reader, Layout | None]:
    """A reader, and the layout where names say it."""
    start, first = first_line(data, where)
    delimiter = max(",;\t", key=first.count)
    try:
        cells = next(csv.reader([first], delimiter=delimiter), [])
    except csv.Error as error:
        raise DataError(
            f"the text is no CSV: {error}",
            where=f"{where}, row 1",
            value=first[:40],
            remedy="Write it as text with commas, a row per bar.",
        ) from None
    check_width(len(cells), where)
    headed = _looks_like_header(cells, columns, where)
    if headed and columns is not None:
        raise DataError(
            "a file whose columns are declared must have no header line",
            where=f"{where}, row 1",
            value=[cell[:40] for cell in cells[:8]],
            remedy="Leave the declaration away: the header names the columns.",
        )
    reader = _Reader(data, where, start, delimiter, headed, date_format, len(cells))
    if headed:
        return reader, named_layout(cells, f"{where}, row 1")
    return reader, None if columns is None else declared_layout(columns, len(cells), where)


def _read_unnamed(reader: _Reader) -> Table:
    """Recognise the layout of a file with neither header nor declaration, or refuse."""
    if reader.width != len(ROLES):
        layout = _only_layout(reader)
        return reader.read(layout).noted(layout.note)
    tables = [reader.read(layout) for layout in (ohlcv_layout(), ochlv_layout())]
    layout = _fitting([_ordered_everywhere(table) for table in tables], reader.where)
    return tables[layout.note == ochlv_layout().note].noted(layout.note)


def _only_layout(reader: _Reader) -> Layout:
    """Layout that the number of unnamed columns alone says."""
    if reader.width == kline_layout().width:
        return kline_layout()
    raise DataError(
        "the columns have no names",
        where=reader.where,
        value=f"{reader.width} columns",
        remedy=HOW_TO_DECLARE,
    )


def _fitting(fits: list[bool], where: str) -> Layout:
    """The one of the two orders that fits every row."""
    if fits == [True, False]:
        return ohlcv_layout()
    if fits == [False, True]:
        return ochlv_layout()
    rule = "both orders fit every row" if fits[0] else "no known order fits every row"
    raise DataError(
        f"the columns have no names, and {rule} (open,high,low,close or open,close,high,low)",
        where=where,
        remedy=HOW_TO_DECLARE,
    )


def _ordered_everywhere(table: Table) -> bool:
    """Whether low <= min(open, close) and max(open, close) <= high in every row."""
    o, h, low, c = (table.numbers[name] for name in ("open", "high", "low", "close"))
    return bool(np.all((low <= np.minimum(o, c)) & (np.maximum(o, c) <= h)))


def _looks_like_header(cells: list[str], columns: tuple[str, ...] | None, where: str) -> bool:
    """Whether the first line names columns; a line that is neither names nor values is refused."""
    if is_header(cells):
        return True
    values = sum(_is_value(cell.strip()) for cell in cells)
    if columns is not None or 2 * values >= len(cells):
        return False
    named_layout(cells, f"{where}, row 1")  # raises: names the missing columns
    return True


def _is_value(cell: str) -> bool:
    return any(pattern.fullmatch(cell) for pattern in (NUMBER, ISO, ZONED))


@dataclasses.dataclass(frozen=True)
class _Reader:
    """The guarded bytes of one file, read under a layout."""

    data: bytes
    where: str
    start: int
    delimiter: str
    headed: bool
    date_format: str | None
    width: int
    rows_before: int = 0
    kind: TimeKind | None = None

    def read(self, layout: Layout) -> Table:
        """Parse the six columns of `layout`, fast where every cell is in order.

        Raises:
            DataError: Rows differ in length, or no timestamp can be read.
        """
        kind = self.kind or self.kind_of(layout)
        if kind != "formatted" and (quick := self._quick(layout, kind)) is not None:
            return quick
        table = None
        if table_engine() == "pyarrow":
            try:
                with guarded(self.where):
                    table = self._parse(layout, kind)
            except DataError:
                if kind == "formatted":
                    raise
        if table is None:
            return read_plain(
                self.data,
                layout,
                kind,
                self.where,
                delimiter=self.delimiter,
                headed=self.headed,
                rows_before=self.rows_before,
                date_format=self.date_format or "",
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

    def _quick(self, layout: Layout, kind: TimeKind) -> Table | None:
        return read_quick(
            self.data,
            layout,
            kind,
            self.where,
            start=self.start,
            delimiter=self.delimiter,
            headed=self.headed,
            rows_before=self.rows_before,
        )

    def kind_of(self, layout: Layout) -> TimeKind:
        """How timestamps are written."""
        if self.date_format is not None:
            return "formatted"
        if layout.clock is not None:
            for row, cells in itertools.islice(self._rows(), 1):
                if len(cells) == layout.width:
                    stamp, clock = cells[layout.positions[0]], cells[layout.clock]
                    refuse_clock(stamp, clock, f"{self.where}, row {row}")
        return time_kind(self._rows(), layout.position("timestamp"), self.where)

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        return rows_of(self.data, self.delimiter, self.headed)

    def _parse(self, layout: Layout, kind: TimeKind) -> pa.Table:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        names = [f"unused {n}" for n in range(layout.width)]
        for role, position in zip(ROLES, layout.positions, strict=True):
            names[position] = role
        time_type = {"integer": pa.int64(), "number": pa.float64()}.get(
            kind, pa.timestamp("ns", "UTC" if kind == "zoned" else None)
        )
        return arrow_csv.read_csv(
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

    def _row_numbers(self, rows: int) -> Int64Array:
        """Row of the file of each data row; blank lines are counted, but are no rows."""
        first = 1 + self.rows_before
        skipped = int(self.headed)
        ends = self.data.count(NEWLINE) + (not self.data.endswith(NEWLINE))
        if ends != rows + skipped:  # there are blank lines
            lines = self.data.split(NEWLINE)
            numbers = [n for n, line in enumerate(lines, first) if line.strip()][skipped:]
            if len(numbers) == rows:
                return np.array(numbers, dtype=np.int64)
        return np.arange(first + skipped, first + skipped + rows, dtype=np.int64)
