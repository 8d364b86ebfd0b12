"""`StreamingDataProcessor`: files of bars as a stream of chunks, at constant memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.backtest.indicators import MAX_DECIMALS, Carried
from ares.core.errors import ConfigError
from ares.kernels.indicators import decimal_places
from ares.market.raw import COLUMNS
from ares.market.reading.columns import declared_columns
from ares.market.resample import Resampler
from ares.market.stored.derived import coarse_pieces
from ares.market.streaming import (
    checked_bars,
    frame_of,
    rechunked,
    report_files,
    row_columns,
)
from ares.store.atomic import write_atomic
from ares.store.tables import needs_pyarrow

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping
    from typing import BinaryIO, Unpack

    import pandas as pd

    from ares.market.files import Paths
    from ares.market.quality import QualityReport
    from ares.market.reading.columns import Columns
    from ares.market.stored.writing import DoorOptions

CORE_INDICATORS: Final = {
    "sma_20": ("sma", 20, ("close",)),
    "sma_50": ("sma", 50, ("close",)),
    "ema_12": ("ema", 12, ("close",)),
    "ema_26": ("ema", 26, ("close",)),
    "rsi": ("rsi", 14, ("close",)),
    "atr": ("atr", 14, ("high", "low", "close")),
    "volatility": ("volatility", 20, ("close",)),
    "volume_sma": ("sma", 20, ("volume",)),
}
"""Name of a column: indicator, period, and the columns it is computed of."""


class StreamingDataProcessor:
    """Reads CSV, CSV.gz, Parquet and Feather files of bars chunk by chunk, whatever their size.

    `iter_chunks`, `process_data_stream` and `to_parquet` give rows in file order and unchecked.
    `quality`, `bars`, `resample` and `indicators` pass the door, as `load_bars` does, and equal what
    the whole market in memory gives, bit for bit, for every chunk size. A path may then also be
    several files or a folder; checked bars lie in a temporary folder meanwhile.

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
        for chunk in rechunked(row_columns(Path(path), self._columns), self.chunk_size):
            yield frame_of(chunk)

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
        rows = row_columns(Path(source), self._columns)
        return _write(rechunked(rows, self.chunk_size), target, COLUMNS)

    def quality(
        self, path: Paths, *, timeframe: str | None = None, **door: Unpack[DoorOptions]
    ) -> QualityReport:
        """What the check finds: counts and first examples; impossible rows are counted.

        Args:
            path: A file, several, or a folder.
            timeframe: Interval of the rows; None: their most common distance.
            door: `calendar`, `adjusted` and `max_print`, as `load_bars`.

        Raises:
            DataError: No report can be made: the files cannot be read as rows of bars at all.
            ConfigError: As `load_bars`.
        """
        return report_files(
            path,
            timeframe=timeframe,
            columns=self._columns,
            calendar=door.get("calendar"),
            adjusted=door.get("adjusted", "none"),
            max_print=door.get("max_print", 2.0),
        )

    def bars(
        self, path: Paths, *, timeframe: str | None = None, **door: Unpack[DoorOptions]
    ) -> Iterator[pd.DataFrame]:
        """The checked bars, `chunk_size` at a time: those of `load_bars`.

        Args:
            path: A file, several, or a folder.
            timeframe: Interval of the rows; None: what the first rows show.
            door: `calendar`, `adjusted`, `bad_prints` and `max_print`, as `load_bars`.

        Raises:
            DataError: As `load_bars`.
            ConfigError: As `load_bars`.
            StoreError: No temporary file can be written.
        """
        with self._checked(path, timeframe, door) as (files, _):
            for chunk in rechunked(files.columns(), self.chunk_size):
                yield frame_of(chunk)

    def resample(
        self, path: Paths, to: str, *, timeframe: str | None = None, **door: Unpack[DoorOptions]
    ) -> Iterator[pd.DataFrame]:
        """Coarser bars, `chunk_size` at a time: those of `resample(load_bars(...), to)`.

        Args:
            path: A file, several, or a folder.
            to: A multiple of the timeframe.
            timeframe: As `bars`.
            door: As `bars`.

        Raises:
            DataError: As `bars`, or `to` is no multiple.
            ConfigError: As `bars`.
            StoreError: As `bars`.
        """
        for chunk in self._coarse(path, to, timeframe, door):
            yield frame_of(chunk)

    def resample_to_parquet(
        self,
        path: Paths,
        target: str | os.PathLike[str],
        to: str,
        *,
        timeframe: str | None = None,
        **door: Unpack[DoorOptions],
    ) -> int:
        """Write what `resample` gives as Parquet, all at once or not at all; the number of bars.

        Raises:
            DataError: As `resample`; nothing is written then.
            ConfigError: As `resample`.
            StoreError: As `to_parquet`.
        """
        return _write(self._coarse(path, to, timeframe, door), target, COLUMNS)

    def indicators(
        self, path: Paths, *, timeframe: str | None = None, **door: Unpack[DoorOptions]
    ) -> Iterator[pd.DataFrame]:
        """The checked bars with `CORE_INDICATORS` beside them, `chunk_size` at a time.

        They are those of `CachedBacktester.technical_indicators`; NaN where undefined.

        Args:
            path: As `bars`.
            timeframe: As `bars`.
            door: As `bars`.

        Raises:
            DataError: As `bars`.
            ConfigError: As `bars`.
            StoreError: As `bars`.
        """
        for chunk in self._indicators(path, timeframe, door):
            yield frame_of(chunk)

    def indicators_to_parquet(
        self,
        path: Paths,
        target: str | os.PathLike[str],
        *,
        timeframe: str | None = None,
        **door: Unpack[DoorOptions],
    ) -> int:
        """Write what `indicators` gives as Parquet, all at once or not at all; the number of bars.

        Raises:
            DataError: As `bars`; nothing is written then.
            ConfigError: As `bars`.
            StoreError: As `to_parquet`.
        """
        chunks = self._indicators(path, timeframe, door)
        return _write(chunks, target, (*COLUMNS, *CORE_INDICATORS))

    def _checked(self, path: Paths, timeframe: str | None, door: DoorOptions) -> Any:
        return checked_bars(path, timeframe=timeframe, columns=self._columns, door=door)

    def _coarse(
        self, path: Paths, to: str, timeframe: str | None, door: DoorOptions
    ) -> Iterator[dict[str, Any]]:
        with self._checked(path, timeframe, door) as (files, base):
            pieces = coarse_pieces(Resampler(base, to, str(path)), files.columns())
            yield from rechunked(pieces, self.chunk_size)

    def _indicators(
        self, path: Paths, timeframe: str | None, door: DoorOptions
    ) -> Iterator[dict[str, Any]]:
        with self._checked(path, timeframe, door) as (files, _):
            places = _places(files.columns(), ("close", "volume"))
            running = {
                name: Carried(kind, period, decimals=places.get(columns[0], -1))
                for name, (kind, period, columns) in CORE_INDICATORS.items()
            }
            for chunk in rechunked(files.columns(), self.chunk_size):
                for name, (_, _, columns) in CORE_INDICATORS.items():
                    chunk[name] = running[name].push(*(chunk[column] for column in columns))
                yield chunk


def _places(pieces: Iterable[Mapping[str, Any]], names: tuple[str, ...]) -> dict[str, int]:
    """What `decimals_of` gives for whole columns."""
    places, largest = dict.fromkeys(names, 0), dict.fromkeys(names, 0.0)
    for columns in pieces:
        for name in names:
            if places[name] >= 0:
                places[name] = int(decimal_places(columns[name], places[name], MAX_DECIMALS))
            largest[name] = max(largest[name], float(columns[name].max()))
    # The largest value decides whether all fit into the integers of the last decimals.
    return {
        name: -1 if n < 0 else int(decimal_places(np.array([largest[name]]), n, n))
        for name, n in places.items()
    }


def _write(
    chunks: Iterable[Mapping[str, Any]], target: str | os.PathLike[str], names: tuple[str, ...]
) -> int:
    needs_pyarrow("a stream into Parquet", str(target))
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [("timestamp", pa.timestamp("ns", "UTC"))]
    schema = pa.schema(fields + [(name, pa.float64()) for name in names[1:]])
    rows = 0

    def write(file: BinaryIO) -> None:
        nonlocal rows
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for chunk in chunks:
                arrays = [pa.array(chunk["timestamp"]).cast(schema.field(0).type)]
                arrays += [pa.array(chunk[name]) for name in names[1:]]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                rows += len(arrays[0])

    write_atomic(target, write)
    return rows
