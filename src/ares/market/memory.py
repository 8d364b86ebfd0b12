"""Memory: data frames made small without loss."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from ares.core.errors import DataError
from ares.market.arrowfile import DECIMALS_KEY, check_footer, check_parquet_frame, decimals_of
from ares.market.frames import exact_of_float32
from ares.market.shrink import smaller
from ares.market.table import guarded
from ares.store.atomic import write_atomic

if TYPE_CHECKING:
    import os

    import pandas as pd

_log = logging.getLogger("ares.market.memory")

Compression: TypeAlias = Literal["zstd", "snappy", "gzip", "lz4", "none"]

DECIMALS: Final = "decimals"
"""Key of `df.attrs`: column name to the decimals that its float32 values stand for."""


@dataclasses.dataclass(frozen=True)
class OptimizationReport:
    """What `optimize_dataframe` did: bytes before and after, and the columns it changed."""

    bytes_before: int
    bytes_after: int
    changes: tuple[str, ...]

    @property
    def saved(self) -> int:
        """Bytes saved."""
        return self.bytes_before - self.bytes_after


class MemoryEfficientDataManager:
    """Makes frames smaller without losing a bit, keeps them in Parquet and hands out views."""

    def __init__(self) -> None:
        self._report: OptimizationReport | None = None

    @property
    def report(self) -> OptimizationReport | None:
        """What the last `optimize_dataframe` did."""
        return self._report

    def optimize_dataframe(self, df: pd.DataFrame) -> pd.DataFrame:
        """A smaller frame with the same values; `df` is not modified.

        Integers get the smallest type that holds them. A float64 column becomes float32 only
        where every value comes back exactly at the column's decimals, which are kept in
        `attrs["decimals"]` of the result: `restore` and `Bars.from_frame` return the exact
        float64. Strings with few distinct values become categories. NaN stays NaN.

        Raises:
            DataError: Two columns have one name.
        """
        if not df.columns.is_unique:
            raise DataError("each column may be named once", where="optimize_dataframe")
        decimals = dict(df.attrs.get(DECIMALS, {}))
        columns: dict[Any, Any] = {}
        changes: list[str] = []
        for name in df.columns:
            column = df[name]
            columns[name], places = smaller(column)
            if places is not None:
                decimals[name] = places
            if columns[name].dtype != column.dtype:
                note = f" at {places} decimals" if places is not None else ""
                changes.append(f"{name}: {column.dtype} to {columns[name].dtype}{note}")
        result = df.assign() if not columns else _frame_like(df, columns)
        result.attrs = {**df.attrs, DECIMALS: decimals}
        self._report = OptimizationReport(_bytes_of(df), _bytes_of(result), tuple(changes))
        _log.info("optimize_dataframe: %s", self._report)
        return result

    def restore(self, df: pd.DataFrame) -> pd.DataFrame:
        """The exact float64 columns of a frame that `optimize_dataframe` made."""
        decimals = df.attrs.get(DECIMALS, {})
        exact = {
            name: exact_of_float32(df[name].to_numpy(dtype=np.float64), places)
            for name, places in decimals.items()
            if name in df.columns and df[name].dtype == np.float32
        }
        result = df.assign(**exact)
        result.attrs = {key: value for key, value in df.attrs.items() if key != DECIMALS}
        return result

    def save_to_parquet(
        self,
        df: pd.DataFrame,
        path: str | os.PathLike[str],
        compression: Compression = "zstd",
    ) -> None:
        """Write a frame as Parquet, all at once or not at all; `attrs["decimals"]` goes with it.

        Raises:
            DataError: A column's name or type cannot be written.
            StoreError: The disk is full, read-only or failing; an older file is then intact.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        with guarded(str(path)):
            bare = df.copy(deep=False)
            bare.attrs = {}
            table = pa.Table.from_pandas(bare)
            note = json.dumps(df.attrs.get(DECIMALS, {}), sort_keys=True).encode()
            table = table.replace_schema_metadata({**table.schema.metadata, DECIMALS_KEY: note})
        write_atomic(path, lambda file: pq.write_table(table, file, compression=compression))

    def load_from_parquet(self, path: str | os.PathLike[str]) -> pd.DataFrame:
        """The frame that `save_to_parquet` wrote, types and `attrs["decimals"]` included.

        Raises:
            DataError: Missing, damaged, or more to decode than the file can honestly hold.
        """
        import pyarrow.parquet as pq

        where = str(path)
        file_path = Path(path)
        with guarded(where):
            check_parquet_frame(file_path, where)
            with pq.ParquetFile(file_path) as file:
                check_footer(file.metadata, file_path.stat().st_size, where)
                table = file.read()
            df: pd.DataFrame = table.to_pandas()
            decimals = decimals_of(table.schema.metadata, where)
            if decimals:
                df.attrs[DECIMALS] = decimals
        return df

    def get_subset(self, df: pd.DataFrame, start: Any, end: Any) -> pd.DataFrame:
        """Rows from `start` to `end` (exclusive) as a view: nothing is copied.

        Args:
            df: The frame; its index, or its column `timestamp`, must be sorted to cut by time.
            start: Row position, or a time; None is the first row.
            end: Row position or time after the last row; None is the end.

        Returns:
            A frame that shares memory with `df`; writing to it never reaches `df`.
        """
        first = 0 if start is None else _position(df, start)
        last = len(df) if end is None else _position(df, end)
        return df.iloc[first:last]


def _frame_like(df: pd.DataFrame, columns: dict[Any, Any]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(columns, index=df.index, copy=False)
    frame.columns = df.columns
    return frame


def _bytes_of(df: pd.DataFrame) -> int:
    return int(df.memory_usage(deep=True).sum())


def _position(df: pd.DataFrame, bound: Any) -> int:
    """Row position of a bound that is a position or a time."""
    import pandas as pd

    if isinstance(bound, int | np.integer):
        return int(bound)
    times = df["timestamp"] if "timestamp" in df.columns else df.index
    dtype = times.dtype
    moment = pd.Timestamp(bound)
    zone = getattr(dtype, "tz", None)
    if zone is not None and moment.tzinfo is None:
        moment = moment.tz_localize(zone)
    elif zone is None and moment.tzinfo is not None:
        moment = moment.tz_convert("UTC").tz_localize(None)
    return int(times.searchsorted(moment, side="left"))
