"""Parquet and Feather into columns, with caps taken from the footer before anything is decoded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ares.core.errors import DataError
from ares.market.raw import NO_TIME
from ares.market.reading.columns import (
    PRICES,
    ROLES,
    Layout,
    clock_error,
    kind_error,
    layout_of,
    no_rows_error,
)
from ares.market.reading.frames import exact_of_float32
from ares.market.reading.ipccheck import check_feather
from ares.market.reading.limits import MAX_STAMP, check_decoded, check_rows
from ares.market.reading.parquetcheck import MAX_FOOTER, ParquetCheck
from ares.market.reading.table import ZONED, Table, as_array, guarded
from ares.store.tables import needs_pyarrow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    Batches: TypeAlias = Iterator[tuple[pa.RecordBatch, pa.Schema, Layout]]


DECIMALS_KEY: Final = b"ares.decimals"
"""Schema metadata: JSON object, column name to the decimals its float32 values stand for."""

_BATCH: Final = 1 << 16


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
    import pyarrow as pa

    where = str(path)
    with guarded(where):
        check = ParquetCheck(path, where)
        with _opened(path) as file:
            schema = file.schema_arrow
            layout = _layout(schema, columns, where)
        names = [schema.names[position] for position in layout.positions]
        check.check_pages(names)
        stamps = schema.field(layout.position("timestamp"))
        texts = [stamps.name] if _is_text(stamps.type) else []
        with _opened(path, texts) as file:
            for batch in file.iter_batches(batch_size=_BATCH, columns=names):
                if not texts:
                    yield batch, schema, layout
                    continue
                column = _short_texts(batch.column(stamps.name), where)
                index = batch.schema.get_field_index(stamps.name)
                field = pa.field(stamps.name, column.type)
                yield batch.set_column(index, field, column), schema, layout


def _opened(path: Path, texts: Sequence[str] = ()) -> Any:
    """The file as pyarrow reads it; the columns `texts` as dictionaries.

    Its column chunks are not asked for: pyarrow 26 aborts the process where their statistics lie.
    """
    import pyarrow.parquet as pq

    return pq.ParquetFile(
        path,
        read_dictionary=list(texts) or None,
        thrift_string_size_limit=MAX_FOOTER,
        thrift_container_size_limit=1_000_000,
    )


def _feather_batches(path: Path, columns: tuple[str, ...] | None) -> Batches:
    import pyarrow as pa

    where = str(path)
    with guarded(where), path.open("rb") as file:
        check_feather(path, where)
        schema = pa.ipc.open_file(file).schema
        layout = _layout(schema, columns, where)
        options = pa.ipc.IpcReadOptions(included_fields=sorted(layout.positions))
        reader = pa.ipc.open_file(file, options=options)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            batch.validate(full=True)
            yield batch, schema, layout


def _joined(batches: Batches, where: str) -> Table:
    import pyarrow as pa

    parts = list(batches)
    if sum(batch.num_rows for batch, _, _ in parts) == 0:
        raise no_rows_error(where)
    _, schema, layout = parts[0]
    return _table(pa.Table.from_batches([batch for batch, _, _ in parts]), schema, layout, where)


def _tables(batches: Batches, where: str) -> Iterator[Table]:
    import pyarrow as pa

    rows = 0
    for batch, schema, layout in batches:
        if batch.num_rows:
            table = _table(pa.Table.from_batches([batch]), schema, layout, where)
            yield table.numbered_from(rows)
            rows += batch.num_rows
    if rows == 0:
        raise no_rows_error(where)


def check_parquet_frame(path: Path, where: str) -> None:
    """Check the frame, the footer and the pages of all columns of any Parquet file.

    Raises:
        DataError: It is empty, cut, no Parquet file, or would decode to too much.
    """
    ParquetCheck(path, where).check_pages()


def check_footer(metadata: Any, size: int, where: str) -> None:
    """Refuse what the footer says would be too much to decode, or contradicts itself.

    Raises:
        DataError: More rows, or more decoded bytes per byte of the file, than is sane.
    """
    check_rows(metadata.num_rows, size, where)
    counted = unpacked = 0
    for group in range(metadata.num_row_groups):
        # Its columns are not asked: pyarrow 26 aborts the process where their statistics lie.
        block = metadata.row_group(group)
        counted += block.num_rows
        if block.num_rows < 0 or block.total_byte_size < 0:
            raise DataError(
                "the Parquet footer contradicts itself",
                where=where,
                remedy="The file is damaged; fetch it again.",
            )
        unpacked += block.total_byte_size
    if counted != metadata.num_rows:
        raise DataError(
            "the Parquet footer contradicts itself on its rows",
            where=where,
            remedy="The file is damaged; fetch it again.",
        )
    check_decoded(unpacked, size, where)


def _layout(schema: pa.Schema, columns: tuple[str, ...] | None, where: str) -> Layout:
    """Find the six columns and refuse types that bars do not have, before any is decoded."""
    import pyarrow as pa

    layout = layout_of(schema.names, columns, where)
    for role, position in zip(ROLES, layout.positions, strict=True):
        field = schema.field(position)
        if not _is_plain(field.type, role) or schema.names.count(field.name) > 1:
            raise kind_error(role, field.type, where)
    stamps = schema.field(layout.position("timestamp")).type
    if layout.clock is not None and pa.types.is_date(stamps):
        raise clock_error(f"{stamps}, {schema.field(layout.clock).type}", where)
    return layout


def _is_plain(kind: pa.DataType, role: str) -> bool:
    import pyarrow as pa

    if bool(pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return True
    if role == "timestamp":
        return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind) or _is_text(kind))
    return bool(pa.types.is_decimal(kind))


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _short_texts(column: pa.Array, where: str) -> pa.Array:
    """Texts of a column read as a dictionary: a few long ones could fill any memory."""
    import pyarrow.compute as pc

    longest = pc.max(pc.binary_length(column.dictionary)).as_py() or 0
    if longest > MAX_STAMP:
        raise DataError(
            f"a timestamp may have {MAX_STAMP} characters",
            where=f"{where}, column timestamp",
            value=f"{longest} characters",
            remedy="Is this the column of times? --columns declares the order.",
        )
    return column.dictionary_decode()


def _table(table: pa.Table, schema: pa.Schema, layout: Layout, where: str) -> Table:
    """Convert the six decoded columns."""
    import pyarrow as pa

    decimals = decimals_of(schema.metadata, where)
    with guarded(where):
        by_name = dict(zip(ROLES, (schema.names[n] for n in layout.positions), strict=True))
        values = {}
        for role in PRICES:
            column = table.column(by_name[role])
            if pa.types.is_decimal(column.type):  # pyarrow's own cast is off in the last bits
                column = column.cast(pa.string())
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
        raise DataError(
            "the note on decimals is damaged",
            where=where,
            value=text[:80],
            remedy="Write the file again.",
        )
    return decimals
