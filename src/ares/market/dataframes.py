"""Data frames made small without loss, kept in Parquet and cut into views."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, TypeAlias

import numpy as np

from ares.core.errors import AresError, DataError
from ares.market.reading.arrowfile import (
    DECIMALS_KEY,
    check_footer,
    check_parquet_frame,
    decimals_of,
)
from ares.market.reading.frames import exact_of_float32
from ares.market.reading.table import guarded
from ares.market.shrink import smaller
from ares.store import csvtable
from ares.store.atomic import write_atomic
from ares.store.tables import (
    parquet_footer,
    read_parquet,
    reader_errors,
    table_engine,
    write_parquet,
)
from ares.store.tabletypes import as_note

if TYPE_CHECKING:
    import os

    import pandas as pd

_log = logging.getLogger("ares.market.dataframes")

Compression: TypeAlias = Literal["zstd", "snappy", "gzip", "lz4", "none"]

DECIMALS: Final = "decimals"
"""Key of `df.attrs`: column name to the decimals that its float32 values stand for."""

_ATTRS_KEY: Final = "PANDAS_ATTRS"  # pandas writes and reads `attrs` under it, too


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
        float64. Strings with few distinct values become categories. NaN stays NaN; a missing
        text, be it None or NaN, is NaN in a category. Everything else stays as it is.

        Raises:
            DataError: Two columns have one name.
        """
        if not df.columns.is_unique:
            raise DataError("each column may be named once", where="optimize_dataframe")
        noted = _decimals(df)
        decimals: dict[Any, int] = {}
        columns: dict[Any, Any] = {}
        changes: list[str] = []
        for name in df.columns:
            column = df[name]
            columns[name], places = smaller(column)
            if places is not None:
                decimals[name] = places
            elif name in noted and column.dtype == np.float32:
                decimals[name] = noted[name]
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
        columns: dict[Any, Any] = {name: df[name] for name in df.columns}
        for name, places in _decimals(df).items():
            if name in columns and columns[name].dtype == np.float32:
                values = columns[name].to_numpy(dtype=np.float64)
                columns[name] = exact_of_float32(values, places)
        result = _frame_like(df, columns) if columns else df.assign()
        result.attrs = {key: value for key, value in df.attrs.items() if key != DECIMALS}
        return result

    def save_to_parquet(
        self,
        df: pd.DataFrame,
        path: str | os.PathLike[str],
        compression: Compression = "zstd",
    ) -> Path:
        """Write a frame, its index and its `attrs` as Parquet, all at once or not at all.

        A missing text in a column of objects, be it None, NaN or `pd.NA`, comes back as NaN.

        Without pyarrow it goes through fastparquet; without both it becomes gzipped CSV beside
        `path`, which `load_from_parquet(path)` finds, and an older file at `path` goes.

        Returns:
            The file that was written.

        Raises:
            DataError: A column's name or type, or a value of `attrs`, that cannot be written.
            ConfigError: An unknown compression.
            StoreError: The disk is full, read-only or failing; an older file is then intact.
        """
        target = Path(path)
        notes = _notes_of(df)
        if table_engine() == "csv":
            stand_in = _beside(target, csvtable.SUFFIX)
            write_atomic(stand_in, csvtable.encode(df, notes))
            target.unlink(missing_ok=True)
            return stand_in

        refusals: tuple[type[Exception], ...] = (*reader_errors(), TypeError, NotImplementedError)

        def write(file: BinaryIO) -> None:
            try:
                write_parquet(file, df, notes=notes, compression=compression)
            except AresError:
                raise
            except refusals as error:
                if isinstance(error, OSError):  # of the disk
                    raise
                reason = " ".join(map(str, error.args))[:200]
                raise DataError(f"this cannot be written as Parquet: {reason}") from None

        write_atomic(target, write)
        return target

    def load_from_parquet(self, path: str | os.PathLike[str]) -> pd.DataFrame:
        """The frame that `save_to_parquet` wrote, with its types, index and `attrs`.

        Where there is no Parquet file, the CSV of that name beside it is read, a chunk at a time:
        one that `save_to_parquet` made comes back as it was, any other must hold bars. A warning
        says so.

        Raises:
            DataError: Missing, damaged, or more to decode than the file can honestly hold.
            InputError: Nothing that reads Parquet is installed.
        """
        where, file_path = str(path), Path(path)
        if not file_path.exists():
            stand_in = next(filter(Path.exists, _stand_ins(file_path)), None)
            if stand_in is not None:
                if table_engine() != "csv":
                    _log.warning("%s does not exist: %s is read", path, stand_in.name)
                return _of_csv(stand_in)
        with guarded(where):
            check_parquet_frame(file_path, where)
            check_footer(parquet_footer(file_path), file_path.stat().st_size, where)
            df, notes = read_parquet(file_path)
        _put_notes(df, notes, where)
        return df

    def get_subset(self, df: pd.DataFrame, start: Any, end: Any) -> pd.DataFrame:
        """Rows from `start` to `end` (exclusive) as a view: nothing is copied.

        Args:
            df: The frame; its column `timestamp`, else its index, must hold sorted times to cut
                by time.
            start: Row position (from the end where negative), or a time; None is the first row.
            end: Row position or time after the last row; None is the end. Times without a zone are
                in the zone of the frame's.

        Returns:
            A frame that shares memory with `df`; writing to it never reaches `df`.

        Raises:
            DataError: A bound is neither, ends come before starts, or the times are not sorted.
        """
        first = 0 if start is None else _position(df, start)
        last = len(df) if end is None else _position(df, end)
        if first > last:
            raise DataError(
                "a subset must not end before it starts",
                value=f"{start!r} to {end!r}, rows {first} to {last}",
                where="get_subset",
            )
        return df.iloc[first:last]


def _decimals(df: pd.DataFrame) -> dict[Any, int]:
    """Decimals by column, as far as `attrs` holds usable ones."""
    found = df.attrs.get(DECIMALS)
    return found if isinstance(found, dict) else {}


def _notes_of(df: pd.DataFrame) -> dict[str, str]:
    """Metadata of the file: decimals by column, and `attrs`.

    Raises:
        DataError: Names that are equal as text, or a value that JSON would not give back.
    """
    names = [str(name) for name in df.columns]
    if len(set(names)) < len(names):
        raise DataError("columns need names that differ as text", value=names[:8])
    decimals = {str(name): places for name, places in _decimals(df).items()}
    attrs = {key: value for key, value in df.attrs.items() if key != DECIMALS}
    for key, value in attrs.items():
        if not isinstance(key, str) or not _is_plain(value):
            raise DataError(
                "attrs can be kept where they are numbers, text, lists and dicts",
                where=f"attrs[{key!r}]",
                value=value,
                remedy="Convert it, or take it out of df.attrs.",
            )
    whole = {**attrs, DECIMALS: decimals} if DECIMALS in df.attrs else attrs
    return {DECIMALS_KEY.decode(): as_note(decimals), _ATTRS_KEY: as_note(whole)}


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or type(value) in {bool, int, float, str}


def _put_notes(df: pd.DataFrame, notes: dict[str, str], where: str) -> None:
    """Put decimals and `attrs` back on a frame."""
    try:
        attrs = json.loads(notes.get(_ATTRS_KEY, "{}"))
    except ValueError:
        attrs = None
    if not isinstance(attrs, dict):
        raise DataError("the note on attrs is damaged", where=where)
    kept = DECIMALS in attrs
    encoded = {key.encode(): text.encode() for key, text in notes.items()}
    decimals = decimals_of(encoded, where)
    known = {name: decimals[str(name)] for name in df.columns if str(name) in decimals}
    df.attrs = {**attrs, DECIMALS: known} if kept or known else attrs


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name.removesuffix(".parquet") + suffix)


def _stand_ins(path: Path) -> list[Path]:
    return [_beside(path, suffix) for suffix in (csvtable.SUFFIX, ".csv")]


def _of_csv(path: Path) -> pd.DataFrame:
    """The frame of a CSV: one with types as it was, any other as bars."""
    import pandas as pd

    from ares.market.streaming import frame_of, row_columns

    where = str(path)
    with guarded(where):
        if csvtable.read_note(path) is None:
            chunks = [frame_of(columns) for columns in row_columns(path, None)]
            return pd.concat(chunks, ignore_index=True)
        df, notes = csvtable.read(path)
    _put_notes(df, notes, where)
    return df


def _frame_like(df: pd.DataFrame, columns: dict[Any, Any]) -> pd.DataFrame:
    """The columns, in order, under the index and the labels of `df`."""
    import pandas as pd

    numbered = dict(enumerate(columns.values()))  # labels may be of any kind
    frame = pd.DataFrame(numbered, index=df.index, copy=False)
    frame.columns = df.columns
    return frame


def _bytes_of(df: pd.DataFrame) -> int:
    return int(df.memory_usage(deep=True).sum())


def _position(df: pd.DataFrame, bound: Any) -> int:
    """Row position of a bound that is a position or a time."""
    import pandas as pd

    if isinstance(bound, int | np.integer) and not isinstance(bound, bool):
        return slice(int(bound), None).indices(len(df))[0]
    times = pd.Index(df["timestamp"]) if "timestamp" in df.columns else df.index
    if not isinstance(times, pd.DatetimeIndex):
        raise DataError(
            "rows are cut by position, or by time where `timestamp` or the index holds times",
            where="get_subset",
            value=bound,
        )
    if not times.is_monotonic_increasing:
        raise DataError("times must be sorted to cut by them", where="get_subset")
    try:
        moment: Any = pd.Timestamp(bound)  # NaT, too
        if times.tz is not None and moment.tzinfo is None:
            moment = moment.tz_localize(times.tz)
        elif times.tz is None and moment.tzinfo is not None:
            moment = moment.tz_convert("UTC").tz_localize(None)
        if pd.isna(moment):
            found = None
        else:  # the first row at or after it, in the frame's unit
            found = int(times.searchsorted(moment.ceil(times.unit).as_unit(times.unit)))
    except (TypeError, ValueError, OverflowError):
        found = None
    if found is None:
        raise DataError("a bound must be a row position or a time", where="get_subset", value=bound)
    return found
