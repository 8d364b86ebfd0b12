"""Parquet and Feather into columns, with caps taken from the footer before anything is decoded."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from ares.core.errors import DataError
from ares.market.columns import (
    HOW_TO_DECLARE,
    PRICES,
    ROLES,
    Layout,
    check_width,
    clock_error,
    named_layout,
)
from ares.market.frames import exact_of_float32
from ares.market.raw import NO_TIME
from ares.market.table import ZONED, Table, as_array, guarded
from ares.store.tables import needs_pyarrow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

    Batches: TypeAlias = Iterator[tuple[pa.RecordBatch, pa.Schema, Layout]]


MAX_ROWS: Final = 200_000_000
MAX_RATIO: Final = 200
FREE_BYTES: Final = 64 * 1024**2
"""Decoded sizes up to this one are harmless whatever the ratio."""
MAX_FOOTER: Final = 16 * 1024**2
DECIMALS_KEY: Final = b"ares.decimals"
"""Schema metadata: JSON object, column name to the decimals its float32 values stand for."""

_ROW_BYTES: Final = 8 * len(ROLES)
_BATCH: Final = 1 << 16
_PARQUET: Final = b"PAR1"
_ARROW: Final = b"ARROW1"
_OLD_FEATHER: Final = b"FEA1"


def read_parquet(path: Path, *, columns: tuple[str, ...] | None = None) -> Table:
    """Read the six columns of one Parquet file; others are never decoded.

    Args:
        path: The file.
        columns: Declared order of its columns; without it they are found by name.

    Raises:
        DataError: The file is damaged, hostile, or holds no bars.
    """
    return _joined(_parquet_batches(path, columns), str(path))


def read_feather(path: Path, *, columns: tuple[str, ...] | None = None) -> Table:
    """Read the six columns of one Feather (Arrow IPC) file; others are never decoded.

    Args:
        path: The file.
        columns: Declared order of its columns; without it they are found by name.

    Raises:
        DataError: The file is damaged, hostile, or holds no bars.
    """
    needs_pyarrow("a Feather file", str(path))
    return _joined(_feather_batches(path, columns), str(path))


def stream_parquet(path: Path, *, columns: tuple[str, ...] | None = None) -> Iterator[Table]:
    """The rows of `read_parquet`, some ten thousand at a time."""
    return _tables(_parquet_batches(path, columns), str(path))


def stream_feather(path: Path, *, columns: tuple[str, ...] | None = None) -> Iterator[Table]:
    """The rows of `read_feather`, one record batch at a time."""
    needs_pyarrow("a Feather file", str(path))
    return _tables(_feather_batches(path, columns), str(path))


def _parquet_batches(path: Path, columns: tuple[str, ...] | None) -> Batches:
    import pyarrow.parquet as pq

    where = str(path)
    with guarded(where):
        check_parquet_frame(path, where)
        with pq.ParquetFile(
            path, thrift_string_size_limit=MAX_FOOTER, thrift_container_size_limit=1_000_000
        ) as file:
            check_width(file.metadata.num_columns, where)
            check_footer(file.metadata, path.stat().st_size, where)
            schema = file.schema_arrow
            layout = _layout(schema, columns, where)
            names = [schema.names[position] for position in layout.positions]
            for batch in file.iter_batches(batch_size=_BATCH, columns=names):
                yield batch, schema, layout


def _feather_batches(path: Path, columns: tuple[str, ...] | None) -> Batches:
    import pyarrow as pa

    where = str(path)
    with guarded(where), path.open("rb") as file:
        _check_feather_frame(file.read(8), where)
        schema = pa.ipc.open_file(file).schema
        layout = _layout(schema, columns, where)
        options = pa.ipc.IpcReadOptions(included_fields=sorted(layout.positions))
        cap = max(FREE_BYTES, MAX_RATIO * path.stat().st_size)
        rows = 0
        reader = pa.ipc.open_file(file, options=options)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            batch.validate(full=True)
            rows += batch.num_rows
            if rows > MAX_ROWS or rows * _ROW_BYTES > cap:
                raise DataError(f"a compressed file may expand {MAX_RATIO}-fold", where=where)
            yield batch, schema, layout


def _joined(batches: Batches, where: str) -> Table:
    import pyarrow as pa

    parts = list(batches)
    if sum(batch.num_rows for batch, _, _ in parts) == 0:
        raise DataError("the file holds no rows", where=where)
    _, schema, layout = parts[0]
    return _table(pa.Table.from_batches([batch for batch, _, _ in parts]), schema, layout, where)


def _tables(batches: Batches, where: str) -> Iterator[Table]:
    import pyarrow as pa

    rows = 0
    for batch, schema, layout in batches:
        if batch.num_rows:
            table = _table(pa.Table.from_batches([batch]), schema, layout, where)
            numbers = np.arange(rows + 1, rows + 1 + len(table), dtype=np.int64)
            yield dataclasses.replace(table, row_of=numbers)
            rows += batch.num_rows
    if rows == 0:
        raise DataError("the file holds no rows", where=where)


def check_parquet_frame(path: Path, where: str) -> None:
    """Check the magic bytes at both ends, and that the footer fits between them.

    Raises:
        DataError: It is empty, cut, or no Parquet file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size == 0:
            raise DataError("the file is empty", where=where)
        if file.read(4) != _PARQUET:
            raise DataError("this is no Parquet file", where=where)
        file.seek(max(0, size - 8))
        tail = file.read(8)
    footer = int.from_bytes(tail[:4], "little")
    if size < 12 or tail[4:] != _PARQUET or footer > min(size - 12, MAX_FOOTER):
        raise DataError(
            "the Parquet file has no valid footer",
            where=where,
            remedy="The file is truncated; fetch it again.",
        )


def check_footer(metadata: Any, size: int, where: str) -> None:
    """Refuse what the footer says would be too much to decode, or contradicts itself.

    Raises:
        DataError: More rows, or more decoded bytes per byte of the file, than is sane.
    """
    rows = metadata.num_rows
    if not 0 <= rows <= MAX_ROWS:
        raise DataError(f"a file of bars may have {MAX_ROWS} rows", where=where, value=rows)
    decoded = rows * _ROW_BYTES
    counted = unpacked = 0
    for group in range(metadata.num_row_groups):
        # Its columns are not asked: pyarrow 26 aborts the process where their statistics lie.
        block = metadata.row_group(group)
        counted += block.num_rows
        if block.num_rows < 0 or block.total_byte_size < 0:
            raise DataError("the Parquet footer contradicts itself", where=where)
        unpacked += block.total_byte_size
    decoded = max(decoded, unpacked)
    if counted != rows:
        raise DataError("the Parquet footer contradicts itself on its rows", where=where)
    if decoded > max(FREE_BYTES, MAX_RATIO * size):
        raise DataError(
            f"a compressed file may expand {MAX_RATIO}-fold",
            where=where,
            value=f"{size} bytes that decode to {decoded}",
        )


def _check_feather_frame(head: bytes, where: str) -> None:
    if not head:
        raise DataError("the file is empty", where=where)
    if head.startswith(_OLD_FEATHER):
        raise DataError(
            "Feather version 1 is not read", where=where, remedy="Write it again as version 2."
        )
    if not head.startswith(_ARROW):
        raise DataError("this is no Feather file", where=where)


def _layout(schema: pa.Schema, columns: tuple[str, ...] | None, where: str) -> Layout:
    """Find the six columns and refuse types that bars do not have, before any is decoded."""
    import pyarrow as pa

    check_width(len(schema.names), where)
    if columns is None:
        layout = named_layout(schema.names, where)
    elif len(columns) != len(schema.names):
        raise DataError(
            f"{len(columns)} columns are declared",
            where=where,
            value=f"{len(schema.names)} columns",
            remedy=HOW_TO_DECLARE,
        )
    else:
        layout = named_layout(columns, where)
    for role, position in zip(ROLES, layout.positions, strict=True):
        field = schema.field(position)
        if not _is_plain(field.type, role) or schema.names.count(field.name) > 1:
            raise DataError(
                "a column of bars must hold plain numbers, or times for the timestamp",
                where=f"{where}, column {layout.names[position]}",
                value=str(field.type),
            )
    stamps = schema.field(layout.position("timestamp")).type
    if layout.clock is not None and pa.types.is_date(stamps):
        raise clock_error(f"{stamps}, {schema.field(layout.clock).type}", where)
    return layout


def _is_plain(kind: pa.DataType, role: str) -> bool:
    import pyarrow as pa

    if bool(pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return True
    if role == "timestamp":
        return bool(
            pa.types.is_timestamp(kind)
            or pa.types.is_date(kind)
            or pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
        )
    return bool(pa.types.is_decimal(kind))


def _table(table: pa.Table, schema: pa.Schema, layout: Layout, where: str) -> Table:
    """Convert the six decoded columns."""
    import pyarrow as pa

    decimals = decimals_of(schema.metadata, where)
    with guarded(where):
        by_name = dict(zip(ROLES, (schema.names[n] for n in layout.positions), strict=True))
        values = {}
        for role in PRICES:
            column = table.column(by_name[role])
            numbers = as_array(column.cast(pa.float64()))
            if by_name[role] in decimals and pa.types.is_float32(column.type):
                numbers = exact_of_float32(numbers, decimals[by_name[role]])
            values[role] = numbers
        times = _times(table.column(by_name["timestamp"]))
    return Table(timestamp=times, numbers=values, where=where)


def _times(column: pa.ChunkedArray) -> Any:
    """int64 of an unknown unit, or datetime64[ns] in UTC."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_integer(kind):
        return as_array(column.cast(pa.int64()).fill_null(NO_TIME))
    if pa.types.is_floating(kind):
        return as_array(column.cast(pa.float64()))
    zone = None
    if pa.types.is_timestamp(kind):
        zone = kind.tz
    elif not pa.types.is_date(kind) and ZONED.fullmatch(str(column[0])):
        zone = "UTC"
    return as_array(column.cast(pa.timestamp("ns", zone)))


def decimals_of(metadata: dict[bytes, bytes] | None, where: str) -> dict[str, int]:
    """Decimals of float32 columns that `MemoryEfficientDataManager` wrote down, by column.

    Raises:
        DataError: The note is no JSON object of integers.
    """
    text = (metadata or {}).get(DECIMALS_KEY, b"{}")
    try:
        decimals = json.loads(text)
    except ValueError:
        decimals = None
    if not isinstance(decimals, dict) or not all(type(n) is int for n in decimals.values()):
        raise DataError("the note on decimals is damaged", where=where, value=text[:80])
    return decimals
