"""The forms in which text tells a time: told apart, read, and named where a column mixes them."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from ares.core.errors import DataError
from ares.market.quality import time_text
from ares.market.raw import CellProblem, epoch_unit, normalise_timestamps
from ares.market.reading.table import INTEGER, ISO, NUMBER, ZONED

if TYPE_CHECKING:
    from collections.abc import Iterator

TimeKind: TypeAlias = Literal["integer", "number", "iso", "zoned", "formatted"]

_NANOSECONDS: Final = re.compile(r"\.(\d{1,9})")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LOOKED_AT: Final = 100
_IN_NS: Final = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}
_SMALL: Final = 1e8
"""Numbers below are hardly a time: as seconds they would lie before 1973."""


def first_time(
    rows: Iterator[tuple[int, list[str]]], position: int, where: str
) -> tuple[TimeKind, str]:
    """How timestamps are written, by the first readable one; and that one.

    Raises:
        DataError: None of the first rows holds a timestamp in a known form.
    """
    seen: str | None = None
    place = where
    for count, (row, cells) in enumerate(rows):
        if count == _LOOKED_AT:
            break
        cell = cells[position] if position < len(cells) else ""
        kind = kind_of(cell)
        if kind is not None:
            return kind, cell
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


def kind_of(cell: str) -> TimeKind | None:
    """The form of a cell; None where it has none of them."""
    if INTEGER.fullmatch(cell):
        return "integer"
    if NUMBER.fullmatch(cell):
        return "number"
    if ISO.fullmatch(cell):
        return "iso"
    return "zoned" if ZONED.fullmatch(cell) else None


def parse_time(cell: str, kind: TimeKind, date_format: str) -> int | float | None:
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


def time_problem(row: int, cell: str, first: str) -> CellProblem:
    """Notes a cell that is no time in the form of the first one of its column.

    Where it is a time in another form, the note says which two forms there are, and how the cell
    would be written in the first one's.
    """
    kind, usual = kind_of(cell), kind_of(first)
    text = cell[:80]
    if kind is None or usual is None or kind == usual:
        return CellProblem(row, "timestamp", text)
    rule = (
        f"one column has timestamps of one form, but the first is {_form(first, usual)} ({first[:40]})"
        f" and this one {_form(cell, kind)}"
    )
    same = _rewritten(cell, kind, first, usual)
    remedy = "Write the column in one form" if same is None else f"Write {same} there"
    return CellProblem(row, "timestamp", text, rule, remedy)


def _form(cell: str, kind: TimeKind) -> str:
    if kind == "iso":
        return "an ISO 8601 time without a zone"
    if kind == "zoned":
        return "an ISO 8601 time with a zone"
    if abs(float(cell)) < _SMALL:
        return "a number"
    unit = f"{epoch_unit(float(cell))} since 1970"
    return unit if kind == "integer" else f"{unit} with decimals"


def _rewritten(cell: str, kind: TimeKind, first: str, usual: TimeKind) -> str | None:
    """The time of `cell` in the form of `first`; None where that cannot be said exactly."""
    nanoseconds: int | None = None
    if kind in {"iso", "zoned"}:
        nanoseconds = _nanoseconds(cell)
    elif abs(float(cell)) >= _SMALL and (kind == "integer" or float(cell).is_integer()):
        number = int(cell) if kind == "integer" else int(float(cell))
        with contextlib.suppress(DataError):
            nanoseconds = int(normalise_timestamps(np.array([number]))[0])
    if nanoseconds is None:
        return None
    if usual in {"iso", "zoned"}:
        text = time_text(nanoseconds)
        return text.removesuffix("Z") if text and usual == "iso" else text
    count, rest = divmod(nanoseconds, _IN_NS[epoch_unit(float(first))])
    return None if rest else str(count)


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
