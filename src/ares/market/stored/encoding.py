"""Columns to Parquet bytes and back, without the detours of pyarrow by way of pandas.

`pa.table`, `pq.read_table` and `to_numpy` import pandas, which takes longer and more memory than a year
of bars does; buffers need none of it, and share their memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ares.market.raw import PRICES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa


def encoded(columns: Mapping[str, Any]) -> memoryview:
    """The bytes of a Parquet file of columns; int64 and float64 arrays of one length."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table_of(columns), sink, **write_options(list(columns)))
    return memoryview(sink.getvalue())


def table_of(columns: Mapping[str, Any]) -> pa.Table:
    """Arrays as a table; they are shared, not copied."""
    import pyarrow as pa

    arrays = [
        pa.Array.from_buffers(
            pa.from_numpy_dtype(column.dtype), len(column), [None, pa.py_buffer(column)]
        )
        for column in map(np.ascontiguousarray, columns.values())
    ]
    return pa.Table.from_arrays(arrays, names=list(columns))


def write_options(names: Sequence[str]) -> dict[str, Any]:
    """How columns are encoded."""
    # Prices repeat, volumes hardly do: their bytes compress in half the time when apart.
    encodings = {"timestamp": "DELTA_BINARY_PACKED", "volume": "BYTE_STREAM_SPLIT"}
    return {
        "compression": "zstd",
        "use_dictionary": [name for name in names if name in PRICES],
        "column_encoding": {name: encodings[name] for name in names if name in encodings},
        "write_statistics": False,
    }


def decoded(source: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of a Parquet file (a path, or a buffer of its bytes), each in chunks.

    Raises:
        pyarrow.ArrowException: It is no Parquet.
        OSError: It cannot be read.
        KeyError: It lacks a column.
        ValueError: A column has nulls, or holds neither int64 nor float64.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(source) as file:
        table = file.read(columns=list(names))
    return {name: _chunks_of(table.column(name)) for name in names}


def _chunks_of(column: pa.ChunkedArray) -> list[Any]:
    """The chunks of a column of numbers, at least one, as arrays that share its memory.

    Raises:
        ValueError: The column has nulls, or holds no numbers.
    """
    kind = str(column.type)
    if kind not in {"int64", "double"}:
        raise ValueError("a column of bars holds int64 or float64")
    dtype = np.dtype(np.int64 if kind == "int64" else np.float64)
    if column.null_count:
        raise ValueError("a column of bars has no nulls")
    arrays = [
        np.frombuffer(chunk.buffers()[1], dtype, len(chunk), chunk.offset * dtype.itemsize)
        for chunk in column.chunks
        if len(chunk)
    ]
    return arrays or [np.zeros(0, dtype)]


def joined(chunks: Sequence[Any]) -> Any:
    """One array; a single chunk is not copied."""
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)


def allocated(rows: int, dtype: Any) -> Any:
    """An array in memory that Arrow has had before: the system's would be faulted in page by page."""
    import pyarrow as pa

    return np.frombuffer(pa.allocate_buffer(rows * dtype.itemsize), dtype)
