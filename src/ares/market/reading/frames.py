"""Data frames to rows: columns found by name, times of any kind, exact decimals restored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.core.errors import DataError
from ares.market.raw import COLUMNS, NO_TIME, CellProblem, RawBars, normalise_timestamps
from ares.market.reading.columns import refuse_clock
from ares.market.reading.timeforms import time_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from ares.core.types import Float64Array, Int64Array

TIME_NAMES: Final = ("timestamp", "date", "datetime", "time", "open_time")
_PROBLEMS: Final = 1000
_EXACT_DECIMALS: Final = 22  # powers of ten up to here are exact floats


def raw_from_frame(df: pd.DataFrame, *, name: str = "") -> RawBars:
    """Rows of a frame in their order; unreadable cells become NaN and are remembered.

    Args:
        df: See `Bars.from_frame`. The frame is not modified.
        name: Source, for error messages.

    Raises:
        DataError: a column is missing or ambiguous, or times have mixed units.
    """
    prefix = f"{name}, " if name else ""

    def where(row: int) -> str:
        return f"{prefix}row {row + 1}, column timestamp"

    columns, time = _find_columns(df, name)
    problems: list[CellProblem] = []
    timestamp, texts = timestamps_of(time, where=where)
    readable = np.flatnonzero(timestamp != NO_TIME)
    first = str(time.iloc[readable[0]]).strip() if texts and len(readable) else ""
    problems.extend(time_problem(row, text, first) for row, text in texts)
    decimals = df.attrs.get("decimals", {})
    values: dict[str, Float64Array] = {}
    for column in COLUMNS[1:]:
        series = columns[column]
        values[column], texts = numbers_of(series)
        digits = decimals.get(series.name) if isinstance(decimals, dict) else None
        if series.dtype == np.float32 and isinstance(digits, int):
            values[column] = exact_of_float32(values[column], digits)
        problems.extend(CellProblem(row, column, text) for row, text in texts)
    return RawBars(
        timestamp=timestamp,
        open=values["open"],
        high=values["high"],
        low=values["low"],
        close=values["close"],
        volume=values["volume"],
        files=(name,) if name else (),
        problems=tuple(problems[:_PROBLEMS]),
    )


def _find_columns(df: pd.DataFrame, name: str) -> tuple[dict[str, pd.Series[Any]], pd.Series[Any]]:
    """The five value columns by their lower-case names, and the times."""
    by_name: dict[str, list[int]] = {}
    for position, label in enumerate(df.columns):
        by_name.setdefault(str(label).strip().lower(), []).append(position)

    def only(column: str) -> pd.Series[Any]:
        places = by_name.get(column, [])
        if len(places) != 1:
            raise DataError(
                f"there must be one column {column}",
                value=[str(label) for label in df.columns],
                where=name or "frame",
                remedy="Rename the columns, or declare their order.",
            )
        return df.iloc[:, places[0]]

    columns = {column: only(column) for column in COLUMNS[1:]}
    named = [column for column in TIME_NAMES if column in by_name]
    if named:
        if named[0] == "date" and "time" in by_name and len(df):
            date, clock = (str(only(column).iloc[0]).strip() for column in ("date", "time"))
            refuse_clock(date, clock, name or "frame")
        return columns, only(named[0])
    if df.index.dtype.kind == "M" or str(df.index.name).lower() in TIME_NAMES:
        return columns, df.index.to_series()
    raise DataError(
        f"the open time must be the index or a column {', '.join(TIME_NAMES)}",
        value=[str(label) for label in df.columns],
        where=name or "frame",
        remedy="Rename the column of times.",
    )


def timestamps_of(
    times: pd.Series[Any], *, where: Callable[[int], str]
) -> tuple[Int64Array, list[tuple[int, str]]]:
    """Open times as int64 ns UTC, and the texts of those that could not be read, by position.

    Numbers are s, ms, us or ns; times without a zone are UTC; text is ISO 8601 or a number.
    """
    import pandas as pd

    if isinstance(times.dtype, pd.DatetimeTZDtype) or times.dtype.kind == "M":
        utc = pd.DatetimeIndex(times)
        utc = utc.tz_localize("UTC") if utc.tz is None else utc.tz_convert("UTC")
        return _int64_ns(utc), []
    if times.dtype.kind in "iuf":
        if times.hasnans:
            numbers = times.to_numpy(dtype=np.float64, na_value=np.nan)
            return normalise_timestamps(numbers, where=where), []
        return normalise_timestamps(times.to_numpy(), where=where), []
    text = times.astype("str").str.strip()
    numeric = pd.to_numeric(text, errors="coerce")
    if len(text) and bool(numeric.notna().any()):
        missing = np.flatnonzero(numeric.isna())
        digits = numeric.dropna()
        stamps = np.full(len(text), NO_TIME, dtype=np.int64)
        rows = np.flatnonzero(numeric.notna())
        stamps[rows] = normalise_timestamps(digits.to_numpy(), where=lambda k: where(int(rows[k])))
    else:
        stamps = _int64_ns(_parsed(text))
        missing = np.flatnonzero(stamps == NO_TIME)
    return stamps, [(int(row), str(text.iloc[row])) for row in missing[:_PROBLEMS]]


def _parsed(text: pd.Series[str]) -> pd.DatetimeIndex:
    import pandas as pd

    return pd.DatetimeIndex(pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce"))


def _int64_ns(index: pd.DatetimeIndex) -> Int64Array:
    return index.tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)


def numbers_of(series: pd.Series[Any]) -> tuple[Float64Array, list[tuple[int, str]]]:
    """Values as float64 with NaN for unreadable cells, and the texts of those, by position."""
    import pandas as pd

    if series.dtype.kind in "iufb" and isinstance(series.dtype, np.dtype):
        return series.to_numpy(dtype=np.float64), []
    numbers = pd.to_numeric(series, errors="coerce")
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    unreadable = np.flatnonzero(np.isnan(values) & series.notna().to_numpy())
    return values, [(int(row), str(series.iloc[row])) for row in unreadable[:_PROBLEMS]]


def exact_of_float32(values: Float64Array, decimals: int) -> Float64Array:
    """What float32 numbers stood for before they were made from decimals of `decimals` digits.

    The note on decimals may be older than the numbers: where one of them is not the float32 of
    such a decimal, the column was computed since, and stays as it is.
    """
    exact = restore_decimals(values, decimals)
    with np.errstate(over="ignore"):
        same = np.array_equal(exact.astype(np.float32), values.astype(np.float32), equal_nan=True)
    return exact if same else values


def restore_decimals(values: Float64Array, decimals: int) -> Float64Array:
    """The float64 nearest to each value's decimal text of `decimals` digits, exactly.

    A column that went through float32 and came back is off in its last bits; its decimals say
    which number was meant. Values too large for that are left as they are.
    """
    if not 0 <= decimals <= _EXACT_DECIMALS:
        return values
    scale = 10.0**decimals
    units = np.rint(values * scale)
    return np.asarray(np.where(np.abs(units) < 2.0**53, units / scale, values))
