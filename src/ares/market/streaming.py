"""Files as a stream of chunks, at constant memory: for data larger than it should take."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import ConfigError, DataError
from ares.market.arrowfile import stream_feather
from ares.market.columns import declared_columns
from ares.market.csvfile import stream_csv
from ares.market.files import file_format, source_files
from ares.market.infer import infer_timeframe
from ares.market.parquetfile import stream_parquet
from ares.market.raw import COLUMNS, RawBars
from ares.store.atomic import write_atomic
from ares.store.tables import needs_pyarrow

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from typing import BinaryIO

    import pandas as pd

    from ares.market.columns import Columns
    from ares.market.files import Paths
    from ares.market.table import Table

_STREAMS: Final = {"csv": stream_csv, "parquet": stream_parquet, "feather": stream_feather}


def seen_timeframe(path: Paths, *, columns: Columns | None = None) -> str:
    """The timeframe that the first rows of the first file show, where nobody named it.

    Args:
        path: As `load_bars`.
        columns: As `load_bars`.

    Raises:
        DataError: The file cannot be read as bars, or its rows show no timeframe.
    """
    file = source_files(path)[0]
    first = next(_STREAMS[file_format(file)](file, columns=declared_columns(columns)), None)
    if first is None:
        raise DataError("the file holds no rows", where=str(file))
    return infer_timeframe(first.raw())


class StreamingDataProcessor:
    """Reads files of bars chunk by chunk; chunks joined are what reading at once gives.

    Rows come in file order and unchecked: the check at the door needs the whole market.

    Args:
        chunk_size: Rows of a chunk; the last one may be shorter.
        columns: Order of the columns of a file without header, as `load_bars`.

    Raises:
        ConfigError: `chunk_size` is not positive.
    """

    def __init__(self, chunk_size: int = 10_000, *, columns: Columns | None = None) -> None:
        if chunk_size < 1:
            raise ConfigError("chunk_size must be positive", value=chunk_size, where="chunk_size")
        self.chunk_size = int(chunk_size)
        self._columns = declared_columns(columns)

    def iter_chunks(self, path: str | os.PathLike[str]) -> Iterator[pd.DataFrame]:
        """Frames of `chunk_size` rows: `timestamp` (datetime64[ns, UTC]), o, h, l, c and volume.

        A cell that is no number is NaN, a time that cannot be read is NaT.

        Raises:
            DataError: The file cannot be read as rows of bars.
        """
        for chunk in self._chunks(Path(path)):
            yield _frame(chunk)

    def process_data_stream(self, path: str | os.PathLike[str]) -> pd.DataFrame:
        """All chunks as one frame.

        Raises:
            DataError: As `iter_chunks`.
        """
        import pandas as pd

        return pd.concat(list(self.iter_chunks(path)), ignore_index=True)

    def to_parquet(self, source: str | os.PathLike[str], target: str | os.PathLike[str]) -> int:
        """Write the rows of `source` as Parquet (zstd), all at once or not at all.

        Returns:
            The number of rows.

        Raises:
            DataError: As `iter_chunks`; nothing is written then.
            StoreError: The disk is full, read-only or failing; an older target is then intact.
        """
        needs_pyarrow("a stream into Parquet", str(target))
        import pyarrow as pa
        import pyarrow.parquet as pq

        fields = [("timestamp", pa.timestamp("ns", "UTC"))]
        schema = pa.schema(fields + [(name, pa.float64()) for name in COLUMNS[1:]])
        rows = 0

        def write(file: BinaryIO) -> None:
            nonlocal rows
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for chunk in self._chunks(Path(source)):
                    arrays = [pa.array(chunk["timestamp"]).cast(schema.field(0).type)]
                    arrays += [pa.array(chunk[name]) for name in COLUMNS[1:]]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                    rows += len(arrays[0])

        write_atomic(target, write)
        return rows

    def _chunks(self, path: Path) -> Iterator[dict[str, Any]]:
        """Columns of exactly `chunk_size` rows each, but for the last."""
        waiting: list[dict[str, Any]] = []
        held = 0
        for raw in _in_one_unit(_STREAMS[file_format(path)](path, columns=self._columns)):
            columns = {name: getattr(raw, name) for name in COLUMNS}
            at = 0
            while at < len(raw):
                take = min(self.chunk_size - held, len(raw) - at)
                waiting.append({name: array[at : at + take] for name, array in columns.items()})
                held, at = held + take, at + take
                if held == self.chunk_size:
                    yield _joined(waiting)
                    waiting, held = [], 0
        if held:
            yield _joined(waiting)


def _in_one_unit(tables: Iterator[Table]) -> Iterator[RawBars]:
    """Rows with times in ns; a unit that changes between two tables is found as inside of one."""
    before: Table | None = None
    for table in tables:
        times = table.timestamp
        if before is None or times.dtype.kind == "M" or before.timestamp.dtype != times.dtype:
            yield table.raw()
        else:
            seam = np.concatenate([before.timestamp[-1:], times])
            rows = table.row_of
            if rows is not None:
                rows = np.concatenate([rows[:1] - 1, rows])
            values = {n: np.concatenate([v[:1], v]) for n, v in table.numbers.items()}
            joined = dataclasses.replace(
                table, timestamp=seam, numbers=values, row_of=rows, problems=()
            ).raw()
            yield RawBars(**{name: getattr(joined, name)[1:] for name in COLUMNS})
        before = table


def _joined(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in COLUMNS}


def _frame(columns: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    times = pd.DatetimeIndex(columns["timestamp"].view("datetime64[ns]"), tz="UTC")
    return pd.DataFrame({**columns, "timestamp": times})
