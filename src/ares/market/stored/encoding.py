"""Columns to Parquet bytes and back, without the detours of pyarrow by way of pandas.

`pa.table`, `pq.read_table` and `to_numpy` import pandas, which takes longer and more memory than a year
of bars does; buffers need none of it, and share their memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.market.raw import PRICES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

_SPARE_BITS: Final = 2
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing


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


def write_options(columns: Mapping[str, Any]) -> dict[str, Any]:
    """How columns are encoded; a function of their values alone."""
    # Prices repeat, volumes hardly do: their bytes compress in half the time when apart. So do those
    # of small integers, and are read in a third of it.
    encodings = {
        "timestamp": "DELTA_BINARY_PACKED",
        "volume": "BYTE_STREAM_SPLIT",
        "missing": "BYTE_STREAM_SPLIT",
    }
    return {
        "compression": "lz4",
        "use_dictionary": [n for n, c in columns.items() if n in PRICES and _repeats(c)],
        "column_encoding": {name: encodings[name] for name in columns if name in encodings},
        "write_statistics": False,
    }


def _repeats(column: Any) -> bool:
    """Whether values recur so that a dictionary of them pays: it is slow and large where they do not.

    The values mark the places of their hashes in a table; half of them must hit a marked one.
    """
    values = np.ascontiguousarray(column).view(np.uint64)
    values = values ^ (values >> np.uint64(32))  # the last bits of short decimals are regular
    bits = max(len(values) - 1, 1).bit_length() + _SPARE_BITS
    marked = np.zeros(1 << bits, dtype=np.bool_)
    marked[(values * _GOLDEN) >> np.uint64(64 - bits)] = True
    return bool(2 * np.count_nonzero(marked) <= len(values))


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
    if len(chunks) == 1:
        return chunks[0]
    return np.concatenate(chunks, out=allocated(sum(map(len, chunks)), chunks[0].dtype))


def allocated(rows: int, dtype: Any) -> Any:
    """An array in memory that Arrow has had before: the system's would be faulted in page by page."""
    import pyarrow as pa

    return np.frombuffer(pa.allocate_buffer(rows * dtype.itemsize), dtype)
