"""What a Parquet file will decode to, found out before a native reader sees it.

The footer may lie, and so may the header of each page, whose sizes the footer does not repeat: a
reader allocates what they say. So the pages of the columns to be read are walked, without
decoding any, and must add up to what the footer says of them.

Source: parquet.thrift of Apache Parquet, whose field numbers are used here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from ares.core.errors import DataError
from ares.market.reading.columns import MAX_COLUMNS
from ares.market.reading.limits import check_decoded, check_rows
from ares.market.reading.thrift import LongListError, Thrift, ThriftError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

MAX_FOOTER: Final = 16 * 1024**2
_MAGIC: Final = b"PAR1"
_SCHEMA, _GROUPS = 2, 4
_MAX_GROUPS: Final = 50_000
_FREE_VALUES: Final = 500_000
"""Values of a footer that take a second at most; more need a file that is large, too."""
_BYTES_PER_VALUE: Final = 64
_HEADERS: Final = (512, 1 << 16, 1 << 22)
"""Bytes to read for the header of a page: statistics of long text make some of them long."""
_INDEX_PAGE, _DICTIONARY_PAGE = 1, 2
_COUNTS: Final = {0: 5, 2: 7, 3: 8}
"""Field of a page's header that holds its counts, by the type of the page."""


def check_parquet_frame(path: Path, where: str) -> int:
    """Check the magic bytes at both ends, and that the footer fits between them.

    Returns:
        The length of the footer in bytes.

    Raises:
        DataError: It is empty, cut, or no Parquet file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size == 0:
            raise DataError("the file is empty", where=where, remedy="Fetch it again.")
        if file.read(4) != _MAGIC:
            raise DataError(
                "this is no Parquet file",
                where=where,
                remedy="It is damaged or has a wrong ending; fetch it again.",
            )
        file.seek(max(0, size - 8))
        tail = file.read(8)
    footer = int.from_bytes(tail[:4], "little")
    if size < 12 or tail[4:] != _MAGIC or footer > min(size - 12, MAX_FOOTER):
        raise DataError(
            "the Parquet file has no valid footer",
            where=where,
            remedy="The file is truncated; fetch it again.",
        )
    return footer


class ParquetCheck:
    """The footer of a Parquet file, read without pyarrow.

    Args:
        path: The file.
        where: The file, for messages.

    Raises:
        DataError: The file is cut, contradicts itself, or says of itself that it is too large.
    """

    def __init__(self, path: Path, where: str) -> None:
        self._path = path
        self._where = where
        self._size = path.stat().st_size
        length = check_parquet_frame(path, where)
        with path.open("rb") as file:
            file.seek(self._size - 8 - length)
            data = file.read(length)
        self._end = self._size - 8 - length
        reader = Thrift(
            data,
            most_values=_FREE_VALUES + self._size // _BYTES_PER_VALUE,
            longest={_SCHEMA: 4 * MAX_COLUMNS, _GROUPS: _MAX_GROUPS},
        )
        try:
            self._read(reader.struct())
        except LongListError as error:
            raise self._too_long(error) from None
        except (ThriftError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise self._damaged(f"its footer is no metadata ({error})") from None

    def _read(self, footer: dict[int, Any]) -> None:
        self._leaves = self._flat_schema(footer[_SCHEMA])
        groups = footer[_GROUPS]
        check_rows(footer[3], self._size, self._where)
        if sum(group[3] for group in groups) != footer[3]:
            raise self._damaged("its rows do not add up")
        self._groups = [(group[3], group[1]) for group in groups]
        for rows, chunks in self._groups:
            if rows < 0 or len(chunks) != len(self._leaves):
                raise self._damaged("a row group lacks columns or rows")

    def _flat_schema(self, elements: list[dict[int, Any]]) -> list[tuple[str, bool]]:
        """Top-level name of each leaf column, and whether it stands for itself."""
        leaves: list[tuple[str, bool]] = []
        inner = 0  # elements of the current top-level column that are still to come
        name = ""
        for element in elements[1:]:
            children = element.get(5) or 0
            if not 0 <= children < len(elements):
                raise self._damaged("its schema is no tree")
            flat = inner == 0 and not children and element.get(3) != 2
            if inner == 0:
                name, inner = element[4].decode("utf-8", "replace"), 1
            inner += children - 1
            if not children:
                leaves.append((name, flat))
        if inner:
            raise self._damaged("its schema is no tree")
        return leaves

    def check_pages(self, names: Collection[str] | None = None) -> None:
        """Walk the pages of the columns `names` (None: of all) in every row group.

        Raises:
            DataError: They do not add up, or decode to more than they should.
        """
        # pyarrow takes the part before a dot for the name of a nested column.
        first = {name.split(".")[0] for name in names or ()}
        decoded = 0
        with self._path.open("rb") as file:
            for rows, chunks in self._groups:
                for (name, flat), chunk in zip(self._leaves, chunks, strict=True):
                    if names is None or name.split(".")[0] in first:
                        try:
                            decoded += self._walk(file.fileno(), rows if flat else None, chunk)
                        except (ThriftError, KeyError, TypeError, AttributeError) as error:
                            problem = f"a page of column {name!r} has no header ({error})"
                            raise self._damaged(problem) from None
                        check_decoded(decoded, self._size, self._where)

    def _walk(self, file: int, rows: int | None, chunk: dict[int, Any]) -> int:
        """Decoded bytes of one column chunk of `rows` rows (None: nested, so not known)."""
        if chunk.get(1):
            raise self._damaged("a column lies in another file")
        meta = chunk[3]
        values = meta[5]
        if rows is not None and values != rows:
            raise self._damaged(f"{values} values are claimed for {rows} rows")
        if values == 0:
            return 0
        start = meta[9]
        if 0 < meta.get(11, 0) < start:
            start = meta[11]
        end = start + meta[7]
        if not 4 <= start <= end <= self._end:
            raise self._damaged("a column lies outside of it")
        decoded = seen = 0
        while seen < values:
            kind, counted, packed, unpacked, at = self._page(file, start, end)
            if packed < 0 or unpacked < 0 or at + packed > end:
                raise self._damaged("a page is larger than its column")
            if kind == _DICTIONARY_PAGE and counted > unpacked:
                raise self._damaged(f"a dictionary of {unpacked} bytes has {counted} values")
            if kind not in (_INDEX_PAGE, _DICTIONARY_PAGE):
                seen += counted
            decoded += unpacked
            start = at + packed
        if seen != values:
            raise self._damaged("the values of its pages do not add up")
        return decoded

    def _page(self, file: int, start: int, end: int) -> tuple[int, int, int, int, int]:
        """Type, values, compressed and decoded size of the page at `start`, and where it begins."""
        for length in _HEADERS:
            data = os.pread(file, min(length, end - start), start)
            reader = Thrift(data)
            try:
                header = reader.struct()
                break
            except ThriftError:
                if length >= end - start or length == _HEADERS[-1]:
                    raise
        counts = header[_COUNTS[header[1]]] if header[1] != _INDEX_PAGE else {1: 0}
        if counts[1] < 0:
            raise ThriftError("a negative count")
        return header[1], counts[1], header[3], header[2], start + reader.at

    def _too_long(self, error: LongListError) -> DataError:
        if error.field == _SCHEMA:
            return DataError(
                f"a file of bars may have at most {MAX_COLUMNS} columns",
                where=self._where,
                value=error.size - 1,
                remedy="Write the six columns of bars into a file of their own.",
            )
        return DataError(
            f"a file of bars may have {_MAX_GROUPS} row groups",
            where=self._where,
            value=error.size,
            remedy="Write it again with larger row groups.",
        )

    def _damaged(self, problem: str) -> DataError:
        return DataError(
            f"the Parquet file contradicts itself: {problem[:200]}",
            where=self._where,
            remedy="The file is damaged or forged; fetch it again.",
        )
