"""The plain reading of a CSV: cell by cell, for files that the fast reader refuses.

It finds what is wrong, where, and goes on, so that a check can count and an error can name the
row, the column and the value. A number is read as the float64 nearest to its decimal text, as the
fast reader does.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from ares.core.errors import DataError
from ares.market.raw import NO_TIME, CellProblem
from ares.market.reading.columns import PRICES, Layout
from ares.market.reading.table import EMPTY, INTEGER, ISO, MAX_PROBLEMS, NUMBER, ZONED, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

TimeKind: TypeAlias = Literal["integer", "number", "iso", "zoned", "formatted"]

_NANOSECONDS: Final = re.compile(r"\.(\d{1,9})")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LOOKED_AT: Final = 100


def rows_of(
    data: bytes, where: str, *, delimiter: str, headed: bool, rows_before: int
) -> Iterator[tuple[int, list[str]]]:
    """Row number in the file (from 1) and cells of each data row that is not blank.

    Raises:
        DataError: The text breaks the rules of CSV.
    """
    text = io.TextIOWrapper(
        io.BytesIO(data), encoding="utf-8-sig", errors="backslashreplace", newline=""
    )
    reader = csv.reader(text, delimiter=delimiter)
    skip = int(headed)
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and cells[0].strip()):
                if skip:
                    skip -= 1
                else:
                    yield rows_before + reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise DataError(
            f"the text is no CSV: {error}",
            where=f"{where}, row {rows_before + reader.line_num}",
            remedy="Correct that row.",
        ) from None


def time_kind(rows: Iterator[tuple[int, list[str]]], position: int, where: str) -> TimeKind:
    """How timestamps are written, by the first readable one.

    Raises:
        DataError: None of the first rows holds a timestamp in a known form.
    """
    seen: str | None = None
    place = where
    for count, (row, cells) in enumerate(rows):
        if count == _LOOKED_AT:
            break
        cell = cells[position] if position < len(cells) else ""
        kind = _kind_of(cell)
        if kind is not None:
            return kind
        if seen is None:
            seen, place = cell, f"{where}, row {row}, column timestamp"
    if seen is None:
        raise DataError(
            "the file holds a header but no rows", where=where, remedy="Fetch it again."
        )
    raise DataError(
        "timestamps must be whole numbers (s, ms, us or ns since 1970) or ISO 8601 dates",
        where=place,
        value=seen,
        remedy="Write dates as 2024-01-31 or 2024-01-31T23:59:00Z.",
    )


def read_plain(
    data: bytes,
    layout: Layout,
    kind: TimeKind,
    where: str,
    *,
    delimiter: str,
    headed: bool,
    rows_before: int,
    date_format: str,
) -> Table:
    """Read every row; cells that are neither numbers nor times become `problems`.

    `date_format` is that of `formatted` times, in the letters of `strftime`.

    Raises:
        DataError: A row has another number of columns than the first one.
    """
    times: list[int | float] = []
    values: dict[str, list[float]] = {name: [] for name in PRICES}
    numbers: list[int] = []
    problems: list[CellProblem] = []
    rows = rows_of(data, where, delimiter=delimiter, headed=headed, rows_before=rows_before)
    for row, cells in rows:
        if len(cells) != layout.width:
            raise DataError(
                f"every row must have {layout.width} columns, as the first one has",
                where=f"{where}, row {row}",
                value=f"{len(cells)} columns",
                remedy="Correct or remove the row; the last one may be cut: fetch the file again.",
            )
        at = len(numbers)
        numbers.append(row)
        time = _time(cells[layout.position("timestamp")], kind, date_format)
        times.append(NO_TIME if time is None else time)
        if time is None:
            _note(problems, at, "timestamp", cells[layout.position("timestamp")])
        for name in PRICES:
            cell = cells[layout.position(name)]
            readable = NUMBER.fullmatch(cell) is not None or _is_special(cell)
            values[name].append(float(cell) if readable else np.nan)
            if not readable and cell not in EMPTY:
                _note(problems, at, name, cell)
    stamps = np.array(times, dtype=np.float64 if kind == "number" else np.int64)
    if kind == "number":
        stamps[stamps == float(NO_TIME)] = np.nan
    return Table(
        timestamp=stamps if kind in {"integer", "number"} else stamps.view("datetime64[ns]"),
        numbers={name: np.array(column, dtype=np.float64) for name, column in values.items()},
        where=where,
        row_of=np.array(numbers, dtype=np.int64),
        problems=tuple(problems),
    )


def _note(problems: list[CellProblem], row: int, column: str, text: str) -> None:
    if len(problems) < MAX_PROBLEMS:
        problems.append(CellProblem(row, column, text[:80]))


def _is_special(cell: str) -> bool:
    return cell.lower().lstrip("+-") in {"inf", "infinity", "nan"}


def _kind_of(cell: str) -> TimeKind | None:
    if INTEGER.fullmatch(cell):
        return "integer"
    if NUMBER.fullmatch(cell):
        return "number"
    if ISO.fullmatch(cell):
        return "iso"
    return "zoned" if ZONED.fullmatch(cell) else None


def _time(cell: str, kind: TimeKind, date_format: str) -> int | float | None:
    """A timestamp in the column's own unit, or ns since 1970 for a date; None: unreadable."""
    match kind:
        case "integer":
            return int(cell) if INTEGER.fullmatch(cell) else None
        case "number":
            return float(cell) if NUMBER.fullmatch(cell) else None
        case "iso" | "zoned":
            pattern = ISO if kind == "iso" else ZONED
            return _nanoseconds(cell) if pattern.fullmatch(cell) else None
        case "formatted":
            return _formatted(cell, date_format)


def _formatted(cell: str, date_format: str) -> int | None:
    try:
        moment = dt.datetime.strptime(cell, date_format).replace(tzinfo=dt.UTC)
    except ValueError:
        return None
    return (moment - _EPOCH) // dt.timedelta(microseconds=1) * 1000


def _nanoseconds(cell: str) -> int | None:
    fraction = _NANOSECONDS.search(cell)
    digits = fraction.group(1) if fraction else ""
    try:
        moment = dt.datetime.fromisoformat(_NANOSECONDS.sub("", cell))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    seconds = (moment - _EPOCH) // dt.timedelta(seconds=1)
    total = seconds * 10**9 + int(digits.ljust(9, "0"))
    return total if abs(total) < 2**63 else None
