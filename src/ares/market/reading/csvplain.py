"""The plain reading of a CSV: cell by cell, for files that the fast reader refuses.

It finds what is wrong, where, and goes on, so that a check can count and an error can name the
row, the column and the value. A number is read as the float64 nearest to its decimal text, as the
fast reader does.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import numpy as np

from ares.core.errors import DataError
from ares.market.raw import NO_TIME, CellProblem
from ares.market.reading.columns import PRICES, Layout
from ares.market.reading.table import EMPTY, MAX_PROBLEMS, NUMBER, Table
from ares.market.reading.timeforms import parse_time, time_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ares.market.reading.timeforms import TimeKind


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
    first: str,
) -> Table:
    """Read every row; cells that are neither numbers nor times become `problems`.

    `date_format` is that of `formatted` times, in the letters of `strftime`; `first` is the first
    time of the file, whose form the others must have.

    Raises:
        DataError: A row has another number of columns than the first one.
    """
    times: list[int | float] = []
    unreadable = np.nan if kind == "number" else NO_TIME
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
        stamp = cells[layout.position("timestamp")]
        time = parse_time(stamp, kind, date_format)
        times.append(unreadable if time is None else time)
        if time is None and len(problems) < MAX_PROBLEMS:
            problems.append(time_problem(at, stamp, first))
        for name in PRICES:
            cell = cells[layout.position(name)]
            readable = NUMBER.fullmatch(cell) is not None or _is_special(cell)
            values[name].append(float(cell) if readable else np.nan)
            if not readable and cell not in EMPTY and len(problems) < MAX_PROBLEMS:
                problems.append(CellProblem(at, name, cell[:80]))
    stamps = np.array(times, dtype=np.float64 if kind == "number" else np.int64)
    return Table(
        timestamp=stamps if kind in {"integer", "number"} else stamps.view("datetime64[ns]"),
        numbers={name: np.array(column, dtype=np.float64) for name, column in values.items()},
        where=where,
        row_of=np.array(numbers, dtype=np.int64),
        problems=tuple(problems),
    )


def _is_special(cell: str) -> bool:
    return cell.lower().lstrip("+-") in {"inf", "infinity", "nan"}
