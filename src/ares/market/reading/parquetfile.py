"""Parquet files of bars by the engine that is here: pyarrow, else fastparquet under the same caps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import DataError
from ares.market.raw import NO_TIME
from ares.market.reading import arrowfile
from ares.market.reading.columns import (
    PRICES,
    ROLES,
    clock_error,
    kind_error,
    layout_of,
    no_rows_error,
)
from ares.market.reading.frames import exact_of_float32, numbers_of
from ares.market.reading.table import ISO, ZONED, Table, guarded
from ares.market.timeframe import DAY
from ares.store.tables import checking_nothing, open_fastparquet, parquet_footer, table_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd

_NUMERIC: Final = "iuf"
_DECIMAL: Final = 5  # of Parquet's ConvertedType


def read_parquet(path: Path, *, columns: tuple[str, ...] | None = None) -> Table:
    """Read the six columns of one Parquet file; arguments and errors as `arrowfile.read_parquet`.

    Raises:
        DataError: The file is damaged, hostile, or holds no bars.
        InputError: Neither pyarrow nor fastparquet is installed.
    """
    if table_engine() == "pyarrow":
        return arrowfile.read_parquet(path, columns=columns)
    parts = list(_tables(path, columns))
    return Table(
        timestamp=np.concatenate([part.timestamp for part in parts]),
        numbers={name: np.concatenate([part.numbers[name] for part in parts]) for name in PRICES},
        where=str(path),
    )


def stream_parquet(path: Path, *, columns: tuple[str, ...] | None = None) -> Iterator[Table]:
    """The rows of `read_parquet`, at most a row group at a time."""
    if table_engine() == "pyarrow":
        yield from arrowfile.stream_parquet(path, columns=columns)
        return
    rows = 0
    for table in _tables(path, columns):
        yield table.numbered_from(rows)
        rows += len(table)


def _tables(path: Path, columns: tuple[str, ...] | None) -> Iterator[Table]:
    """Row groups through fastparquet."""
    where = str(path)
    rows = 0
    with guarded(where):
        arrowfile.check_parquet_frame(path, where)
        arrowfile.check_footer(parquet_footer(path), path.stat().st_size, where)
        with checking_nothing(path):
            file = open_fastparquet(path)
            names = list(file.columns)
            decimals = file.key_value_metadata.get(arrowfile.DECIMALS_KEY.decode(), "{}")
        layout = layout_of(names, columns, where)
        roles = dict(zip(ROLES, (names[n] for n in layout.positions), strict=True))
        places = arrowfile.decimals_of({arrowfile.DECIMALS_KEY: str(decimals).encode()}, where)
        _refuse_decimals(file, roles, where)
        for frame in _groups(path, file, list(roles.values())):
            if len(frame):
                table = _table(frame, roles, places, where)
                if layout.clock is not None and not rows:
                    _refuse_dates(table.timestamp, names[layout.clock], where)
                yield table
            rows += len(frame)
    if rows == 0:
        raise no_rows_error(where)


def _groups(path: Path, file: Any, names: list[str]) -> Iterator[pd.DataFrame]:
    with checking_nothing(path):
        yield from file.iter_row_groups(columns=names, index=False)


def _refuse_decimals(file: Any, roles: dict[str, str], where: str) -> None:
    """Fastparquet scales decimals by a product, which is off in the last bit."""
    for name in roles.values():
        if file.schema.schema_element(name).converted_type == _DECIMAL:
            raise DataError(
                "decimals are read by pyarrow only",
                where=f"{where}, column {name}",
                remedy="Install pyarrow, or write the column as float64.",
            )


def _refuse_dates(times: Any, clock: str, where: str) -> None:
    """Dates beside a column of times of day lost the latter."""
    if times.dtype.kind == "M" and not (times.astype(np.int64) % DAY).any():
        raise clock_error(f"dates, and a column {clock}", where)


def _table(
    frame: pd.DataFrame, names: dict[str, str], decimals: dict[str, int], where: str
) -> Table:
    """Six decoded columns as numbers and times."""
    numbers = {}
    for role in PRICES:
        column = frame[names[role]]
        if column.dtype.kind not in _NUMERIC:
            raise kind_error(names[role], column.dtype, where)
        values, _ = numbers_of(column)
        if names[role] in decimals and column.dtype == np.float32:
            values = exact_of_float32(values, decimals[names[role]])
        numbers[role] = values
    return Table(
        timestamp=_times(frame[names["timestamp"]], where, names["timestamp"]),
        numbers=numbers,
        where=where,
    )


def _times(column: pd.Series[Any], where: str, name: str) -> Any:
    """int64 or float64 of an unknown unit, or datetime64[ns] in UTC."""
    import pandas as pd

    kind = column.dtype.kind
    if kind in "iu":
        return column.fillna(NO_TIME).to_numpy(dtype=np.int64)
    if kind == "f":
        return column.to_numpy(dtype=np.float64)
    if kind != "M":
        texts = column.astype("str")
        if not len(texts) or not (ISO.fullmatch(texts.iloc[0]) or ZONED.fullmatch(texts.iloc[0])):
            raise kind_error(name, column.dtype, where)
        column = pd.to_datetime(texts, format="ISO8601", utc=True)
    moments = pd.DatetimeIndex(column)
    moments = moments if moments.tz is None else moments.tz_convert("UTC").tz_localize(None)
    return moments.to_numpy().astype("datetime64[ns]")
