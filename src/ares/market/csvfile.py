"""CSV and CSV.gz into columns: pyarrow for speed, a plain second reading to explain a refusal.

A number is read as the float64 nearest to its decimal text. Nothing of the file but numbers and
times ever leaves this module, so hostile text in headers or spare columns has nowhere to go.
"""

from __future__ import annotations

import csv
import dataclasses
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np

from ares.core.errors import DataError
from ares.market.columns import (
    HOW_TO_DECLARE,
    PRICES,
    ROLES,
    Layout,
    check_width,
    is_header,
    kline_layout,
    named_layout,
    ochlv_layout,
    ohlcv_layout,
)
from ares.market.csvplain import TimeKind, read_plain, rows_of, time_kind
from ares.market.raw import NO_TIME
from ares.market.table import EMPTY, ISO, NUMBER, ZONED, Table, as_array, guarded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

    from ares.core.types import Int64Array

MAX_LINE: Final = 64 * 1024
MAX_BYTES: Final = 8 * 1024**3
MAX_RATIO: Final = 200
FREE_BYTES: Final = 64 * 1024**2
"""Decompressed sizes up to this one are harmless whatever the ratio."""

NEWLINE: Final = b"\n"
_GZIP: Final = b"\x1f\x8b"
_GZIP_ONLY: Final = 31  # zlib: a gzip header, largest window
_BOM: Final = b"\xef\xbb\xbf"
_WIDE_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")
_STEP: Final = 4 * 1024**2


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
    data = _content(path, where)
    start, first = _first_line(data, where)
    delimiter = max(",;\t", key=first.count)
    cells = next(csv.reader([first], delimiter=delimiter), [])
    check_width(len(cells), where)
    headed = _looks_like_header(cells, columns, where)
    if headed and columns is not None:
        raise DataError(
            "a file whose columns are declared must have no header line",
            where=f"{where}, row 1",
            value=[cell[:40] for cell in cells[:8]],
            remedy="Leave the declaration away: the header names the columns.",
        )
    reader = _Reader(data, where, start, delimiter, headed, date_format)
    if headed:
        return reader.read(named_layout(cells, f"{where}, row 1"))
    if columns is not None:
        return reader.read(_declared_layout(columns, len(cells), where))
    return _read_unnamed(reader, len(cells), where)


def _read_unnamed(reader: _Reader, width: int, where: str) -> Table:
    """Recognise the layout of a file with neither header nor declaration, or refuse."""
    if width == len(kline_layout().names):
        return reader.read(kline_layout())
    if width != len(ROLES):
        raise DataError(
            "the columns have no names",
            where=where,
            value=f"{width} columns",
            remedy=HOW_TO_DECLARE,
        )
    usual = reader.read(ohlcv_layout(width))
    swapped = reader.read(ochlv_layout(width))
    fits = [_ordered_everywhere(table) for table in (usual, swapped)]
    if fits == [True, False]:
        return usual.noted(
            "columns without names, recognised as timestamp,open,high,low,close,volume"
        )
    if fits == [False, True]:
        return swapped.noted(
            "columns without names, recognised as timestamp,open,close,high,low,volume"
        )
    rule = "both orders fit every row" if fits[0] else "no known order fits every row"
    raise DataError(
        f"the columns have no names, and {rule} (open,high,low,close or open,close,high,low)",
        where=where,
        remedy=HOW_TO_DECLARE,
    )


def _ordered_everywhere(table: Table) -> bool:
    """Whether low <= min(open, close) and max(open, close) <= high in every row."""
    o, h, low, c = (table.values[name] for name in ("open", "high", "low", "close"))
    return bool(np.all((low <= np.minimum(o, c)) & (np.maximum(o, c) <= h)))


def _declared_layout(columns: tuple[str, ...], width: int, where: str) -> Layout:
    if width != len(columns):
        raise DataError(
            f"{len(columns)} columns are declared",
            where=f"{where}, row 1",
            value=f"{width} columns",
            remedy="Declare every column of the file in order; unused ones may have any name.",
        )
    return named_layout(columns, where)


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


def _content(path: Path, where: str) -> bytes:
    """Whole, decompressed, guarded text of a file as bytes."""
    with guarded(where), path.open("rb") as file:
        if file.read(2) == _GZIP:
            file.seek(0)
            data = b"".join(_inflate(file, where))
        else:
            file.seek(0)
            data = file.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise DataError(f"a CSV file may have {MAX_BYTES >> 30} GiB", where=where)
    if data.startswith(_WIDE_BOMS):
        raise DataError("text must be encoded in UTF-8, this is UTF-16", where=where)
    nul = data.find(b"\0")
    if nul >= 0:
        row = data.count(b"\n", 0, nul) + 1
        raise DataError(
            "text must not contain NUL bytes",
            where=f"{where}, row {row}",
            remedy="The file is damaged or is no CSV; fetch it again.",
        )
    if b"\r" in data[: MAX_LINE + 1] and b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    _check_lines(data, where)
    return data


def _inflate(file: BinaryIO, where: str) -> Iterator[bytes]:
    """Members of a gzip file, decompressed in steps, under a cap on size and ratio."""
    packed = unpacked = 0
    stream = zlib.decompressobj(wbits=_GZIP_ONLY)
    while raw := file.read(_STEP):
        packed += len(raw)
        while raw:
            if stream.eof:
                if not raw.strip(b"\0"):
                    break  # padding after the last member
                stream = zlib.decompressobj(wbits=_GZIP_ONLY)
            piece = stream.decompress(raw, _STEP)
            unpacked += len(piece)
            if unpacked > MAX_BYTES or unpacked > max(FREE_BYTES, MAX_RATIO * packed):
                raise DataError(f"a compressed file may expand {MAX_RATIO}-fold", where=where)
            yield piece
            raw = stream.unused_data if stream.eof else stream.unconsumed_tail
    yield stream.flush()
    if not stream.eof:
        raise DataError(
            "the gzip stream ends too early",
            where=where,
            remedy="The file is truncated; fetch it again.",
        )


def _check_lines(data: bytes, where: str) -> None:
    """Refuse lines over `MAX_LINE` bytes: no bar needs one, and they stall parsers."""
    at = 0
    while at + MAX_LINE < len(data):
        end = data.rfind(b"\n", at, at + MAX_LINE + 1)
        if end < 0:
            raise DataError(
                f"a line may have {MAX_LINE // 1024} KiB",
                where=f"{where}, row {data.count(NEWLINE, 0, at) + 1}",
                remedy="The file is damaged or is no CSV of bars.",
            )
        at = end + 1


def _first_line(data: bytes, where: str) -> tuple[int, str]:
    """Offset and text of the first line that is not blank."""
    at = len(_BOM) if data.startswith(_BOM) else 0
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        line = data[at:end].strip()
        if line:
            try:
                return at, line.decode("utf-8")
            except UnicodeDecodeError:
                raise DataError(
                    "text must be encoded in UTF-8", where=f"{where}, row 1", value=line[:40]
                ) from None
        at = end + 1
    raise DataError("the file is empty", where=where)


@dataclasses.dataclass(frozen=True)
class _Reader:
    """The guarded bytes of one file, read under a layout."""

    data: bytes
    where: str
    start: int
    delimiter: str
    headed: bool
    date_format: str | None

    def read(self, layout: Layout) -> Table:
        """Parse the six columns of `layout`, fast where every cell is in order.

        Raises:
            DataError: Rows differ in length, or no timestamp can be read.
        """
        kind = self._kind(layout)
        try:
            with guarded(self.where):
                table = self._parse(layout, kind)
        except DataError:
            if kind == "formatted":
                raise
            return read_plain(
                self.data,
                layout,
                kind,
                self.where,
                delimiter=self.delimiter,
                headed=self.headed,
            )
        times = table.column("timestamp")
        return Table(
            timestamp=as_array(times.fill_null(NO_TIME) if kind == "integer" else times),
            values={name: as_array(table.column(name)) for name in PRICES},
            where=self.where,
            row_of=self._row_numbers(table.num_rows),
        )

    def _kind(self, layout: Layout) -> TimeKind:
        rows = rows_of(self.data, self.delimiter, self.headed)
        if self.date_format is not None:
            return "formatted"
        return time_kind(rows, layout.position("timestamp"), self.where)

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
                column_names=names, skip_rows=int(self.headed), block_size=_STEP
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
        skipped = int(self.headed)
        if b"\n\n" in self.data or b"\n\r\n" in self.data:
            lines = self.data.split(NEWLINE)
            numbers = [n for n, line in enumerate(lines, 1) if line.strip()][skipped:]
            if len(numbers) == rows:
                return np.array(numbers, dtype=np.int64)
        return np.arange(1 + skipped, 1 + skipped + rows, dtype=np.int64)
