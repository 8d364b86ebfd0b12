"""Bars as they were read: row order, duplicates and faults included, before any check.

A reader makes `RawBars` and keeps, for every row, the file and the row number that an error names.
"""

from __future__ import annotations

import dataclasses
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

import numpy as np

from ares.core.errors import DataError, one_line
from ares.market.timeframe import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from ares.core.types import Float64Array, Int64Array

COLUMNS: Final = ("timestamp", "open", "high", "low", "close", "volume")
PRICES: Final = ("open", "high", "low", "close")
NO_TIME: Final = int(np.iinfo(np.int64).min)
"""Timestamp of a row whose time could not be read (the int64 of NumPy's NaT)."""


@dataclasses.dataclass(frozen=True)
class CellProblem:
    """A cell that could not be read: position of the row in `RawBars`, column, and its text.

    `rule` and `remedy` say more than that it must be a number or a time; empty where there is no more.
    """

    row: int
    column: str
    text: str
    rule: str = ""
    remedy: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class RawBars:
    """Rows of one market in the order they were read; nothing is checked yet.

    Attributes:
        timestamp: Open time of each row, int64 ns UTC; `NO_TIME` where it could not be read.
        open: Open prices, float64; NaN where a cell was empty or unreadable. So are the others.
        high: High prices.
        low: Low prices.
        close: Close prices.
        volume: Traded volume.
        files: Names of the sources, for error messages.
        file_of_row: Index into `files` per row; None where all rows come from one source.
        row_of: Number of each row in its source, as a reader counts (from 1); None where that is
            the position + 1.
        problems: Cells whose text was not a number or a time.
    """

    timestamp: Int64Array
    open: Float64Array
    high: Float64Array
    low: Float64Array
    close: Float64Array
    volume: Float64Array
    files: tuple[str, ...] = ()
    file_of_row: npt.NDArray[np.integer] | None = None
    row_of: npt.NDArray[np.integer] | None = None
    problems: tuple[CellProblem, ...] = ()

    def __post_init__(self) -> None:
        for name in COLUMNS:
            dtype = np.int64 if name == "timestamp" else np.float64
            column = np.ascontiguousarray(getattr(self, name), dtype=dtype)
            if column.shape != (len(self.timestamp),):
                raise DataError(
                    "all columns must have one value per row",
                    value=column.shape,
                    where=f"column {name}",
                )
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        return len(self.timestamp)

    def where(self, row: int, column: str = "", *, short: bool = False) -> str:
        """File, row number and column of the row at position `row`, as errors name them.

        `short` leaves the folder out: what is stored must not depend on where files lie.
        """
        number = row + 1 if self.row_of is None else int(self.row_of[row])
        file = 0 if self.file_of_row is None else int(self.file_of_row[row])
        parts = list(self.files[file : file + 1])
        if short:
            parts = [PurePath(name).name for name in parts]
        if number:
            parts.append(f"row {number}")
        if column:
            parts.append(f"column {column}")
        return one_line(", ".join(parts))  # a file may be called anything

    @staticmethod
    def concat(parts: Sequence[RawBars]) -> RawBars:
        """The rows of several sources one after the other.

        Raises:
            DataError: there is no part.
        """
        if not parts:
            raise DataError("there must be at least one source of bars")
        if len(parts) == 1:
            return parts[0]
        starts = np.cumsum([0, *(len(p) for p in parts)])
        first_file = np.cumsum([0, *(max(len(p.files), 1) for p in parts)])
        columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in COLUMNS}
        return RawBars(
            **columns,
            files=tuple(name for p in parts for name in (p.files or ("unnamed source",))),
            file_of_row=np.concatenate(
                [
                    np.full(len(p), first) if p.file_of_row is None else p.file_of_row + first
                    for p, first in zip(parts, first_file, strict=False)
                ]
            ),
            row_of=np.concatenate(
                [np.arange(1, len(p) + 1) if p.row_of is None else p.row_of for p in parts]
            ),
            problems=tuple(
                dataclasses.replace(problem, row=problem.row + int(start))
                for p, start in zip(parts, starts, strict=False)
                for problem in p.problems
            ),
        )


_UNITS: Final = ("s", "ms", "us", "ns")
_FACTORS: Final = (SECOND, SECOND // 1000, 1000, 1)
_UNIT_BORDERS: Final = (1e11, 1e14, 1e17)


def _default_where(row: int) -> str:
    return f"row {row + 1}, column timestamp"


def epoch_unit(number: float) -> str:
    """The unit that a number since 1970 has by its magnitude: s, ms, us or ns."""
    return _UNITS[int(np.searchsorted(_UNIT_BORDERS, abs(number), side="right"))]


def normalise_timestamps(
    values: npt.ArrayLike, *, where: Callable[[int], str] = _default_where
) -> Int64Array:
    """Timestamps in s, ms, us or ns since 1970 UTC, told apart by magnitude, as int64 ns.

    Below 1e11 they are seconds, below 1e14 milliseconds, below 1e17 microseconds. One column has
    one unit, except that it may change once from ms to us (Binance dumps did so in 2025).

    Args:
        values: Integers or floats in row order; NaN (an unreadable cell) becomes `NO_TIME`.
        where: Names the row at a position in error messages.

    Raises:
        DataError: units are mixed, or the numbers look like dates written as yyyymmdd.
    """
    numbers = np.asarray(values)
    if numbers.dtype.kind not in "iuf":
        raise DataError("timestamps must be numbers", value=str(numbers.dtype), where=where(0))
    known = np.isfinite(numbers) if numbers.dtype.kind == "f" else numbers != NO_TIME
    if not known.any():
        return np.full(len(numbers), NO_TIME, dtype=np.int64)
    if not known.all():
        result = np.full(len(numbers), NO_TIME, dtype=np.int64)
        rows = np.flatnonzero(known)
        result[rows] = normalise_timestamps(numbers[rows], where=lambda row: where(int(rows[row])))
        return result
    if numbers.dtype == np.int64 and (quick := _of_one_unit(numbers)) is not None:
        return quick
    unit = np.searchsorted(_UNIT_BORDERS, np.abs(numbers.astype(np.float64)), side="right")
    _refuse_mixed_units(numbers, unit, where)
    if not unit.any() and bool(((numbers >= 19000101) & (numbers <= 21001231)).all()):
        raise DataError(
            "timestamps must be s, ms, us or ns since 1970, or ISO dates",
            value=numbers[0].item(),
            where=where(0),
            remedy="This looks like yyyymmdd: write it as yyyy-mm-dd.",
        )
    factor = np.array(_FACTORS, dtype=np.int64)[unit]
    late = np.abs(numbers.astype(np.float64)) * factor >= 2.0**63
    if late.any():
        row = int(late.argmax())
        raise DataError(
            "timestamps must lie between the years 1678 and 2262",
            value=numbers[row].item(),
            where=where(row),
            remedy="Is this the column of times? --columns declares the order.",
        )
    if numbers.dtype.kind != "f":
        return np.asarray(numbers.astype(np.int64) * factor, dtype=np.int64)
    # A float holds a present-day time to about 0.1 us, so the microsecond is what it means.
    micro = np.where(unit < 3, factor // 1000, 1)
    whole = np.floor(numbers)
    fraction = np.where(unit < 3, numbers - whole, 0.0)
    exact = np.where(unit < 3, whole, np.rint(numbers / 1000.0)).astype(np.int64)
    return np.asarray((exact * micro + np.rint(fraction * micro).astype(np.int64)) * 1000)


def _of_one_unit(numbers: Int64Array) -> Int64Array | None:
    """Integers that all are ms, us or ns of one era; None for others, which take longer to judge."""
    least, most = int(numbers.min()), int(numbers.max())
    first, last = np.searchsorted(_UNIT_BORDERS, [least, most], side="right")
    if first != last or first == 0 or float(most) * _FACTORS[last] >= 2.0**63:
        return None
    return np.asarray(numbers * _FACTORS[last])


def _refuse_mixed_units(
    numbers: npt.NDArray[np.generic],
    unit: npt.NDArray[np.intp],
    where: Callable[[int], str],
) -> None:
    changes = np.flatnonzero(unit[1:] != unit[:-1]) + 1
    once_ms_to_us = len(changes) == 1 and (unit[changes[0] - 1], unit[changes[0]]) == (1, 2)
    if len(changes) == 0 or once_ms_to_us:
        return
    # The change that cannot be explained: after a plain ms to us switch it is the second one.
    late = len(changes) > 1 and (unit[changes[0] - 1], unit[changes[0]]) == (1, 2)
    row = int(changes[1] if late else changes[0])
    raise DataError(
        f"one column has timestamps of one unit, but {_UNITS[unit[row - 1]]} are followed by"
        f" {_UNITS[unit[row]]}",
        value=numbers[row].item(),
        where=where(row),
        remedy="Convert the column to one unit.",
    )
