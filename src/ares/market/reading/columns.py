"""Which column of a file is which: by the header's names, by a declared order, or by layout."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from ares.core.errors import DataError

ROLES: Final = ("timestamp", "open", "high", "low", "close", "volume")
PRICES: Final = ("open", "high", "low", "close", "volume")
MAX_COLUMNS: Final = 256
HOW_TO_DECLARE: Final = (
    "Name the columns in a header line, or declare their order, for example"
    " --columns timestamp,open,high,low,close,volume."
)

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_CLOCK: Final = re.compile(r"\d{1,2}:\d\d(:\d\d(\.\d*)?)?", re.ASCII)

Columns: TypeAlias = str | Sequence[str]

# In order of preference: an earlier synonym wins where a file has several.
_SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    "timestamp": (
        "timestamp",
        "open_time",
        "opentime",
        "datetime",
        "date",
        "time",
        "unix",
        "epoch",
        "ts",
        "t",
        "__index_level_0__",
    ),
    "open": ("open", "o", "open_price", "first"),
    "high": ("high", "h", "high_price"),
    "low": ("low", "l", "low_price"),
    "close": ("close", "c", "close_price"),
    "volume": ("volume", "vol", "v", "base_volume"),
}
_KLINE: Final = (*ROLES, *(f"ignored {n}" for n in range(6)))


@dataclass(frozen=True)
class Layout:
    """Where each role stands.

    Attributes:
        positions: Column index of each of `ROLES`, in that order.
        width: Number of columns of the file.
        names: Name of each column, for messages.
        note: How the layout was found, when it was recognised and not named.
        clock: Column index of a column `time` beside the one of dates.
    """

    positions: tuple[int, ...]
    width: int
    names: tuple[str, ...]
    note: str = ""
    clock: int | None = None

    def position(self, role: str) -> int:
        """Column index of `role`."""
        return self.positions[ROLES.index(role)]


def declared_columns(columns: Columns | None) -> tuple[str, ...] | None:
    """Split `"timestamp,open,..."` or a sequence into names and check that all roles are there.

    Names that are no role (or synonym of one) declare columns that are not read.

    Raises:
        DataError: A role is missing or declared twice.
    """
    if columns is None:
        return None
    parts = columns.split(",") if isinstance(columns, str) else list(columns)
    names = tuple(str(part).strip() for part in parts)
    named_layout(names, "columns")
    return names


def named_layout(names: Sequence[str], where: str) -> Layout:
    """Find the roles by name, ignoring case and punctuation.

    Raises:
        DataError: A role is missing, or two columns have one name.
    """
    check_width(len(names), where)
    plain = [_plain(name) for name in names]
    positions: list[int] = []
    missing: list[str] = []
    for role in ROLES:
        found = next((name for name in _SYNONYMS[role] if name in plain), None)
        if found is None:
            missing.append(role)
        elif plain.count(found) > 1:
            raise DataError(
                "each column may be named once",
                where=f"{where}, column {role}",
                value=found,
                remedy="Rename the one that is not meant.",
            )
        else:
            positions.append(plain.index(found))
    if missing:
        raise DataError(
            f"the columns {', '.join(missing)} are missing",
            where=where,
            value=[str(name)[:40] for name in names[:16]],
            remedy=HOW_TO_DECLARE,
        )
    clock = plain.index("time") if plain[positions[0]] == "date" and "time" in plain else None
    shown = tuple(str(name)[:40] for name in names)
    return Layout(tuple(positions), len(names), shown, clock=clock)


def declared_layout(declared: Sequence[str], width: int, where: str) -> Layout:
    """Layout of a file of `width` columns whose order was declared.

    Raises:
        DataError: Another number of columns was declared, or a role is missing.
    """
    if width != len(declared):
        raise DataError(
            f"{len(declared)} columns are declared",
            where=where,
            value=f"{width} columns",
            remedy=HOW_TO_DECLARE,
        )
    return named_layout(declared, where)


def layout_of(names: Sequence[str], declared: Sequence[str] | None, where: str) -> Layout:
    """Layout of a file whose columns always have names, as Parquet and Feather.

    A declaration serves columns that are called nothing of bars, as "0" or "f1". It may not turn a
    column of bars into another one: a close that is called high would be wrong without a word.

    Raises:
        DataError: As `declared_layout`, or the declaration contradicts a name of the file.
    """
    check_width(len(names), where)
    if declared is None:
        return named_layout(names, where)
    layout = declared_layout(declared, len(names), where)
    if not is_header(names):  # a lone "c" is a name among a, b, c
        return layout
    for name, given in zip(names, declared, strict=True):
        own, role = _role(name), _role(given)
        if own is not None and role is not None and own != role:
            raise DataError(
                f"the file names a column of {own}, which is declared as {role}",
                where=f"{where}, column {str(name)[:40]}",
                value=",".join(declared),
                remedy="Leave --columns away: the file names its columns.",
            )
    return layout


def _role(name: str) -> str | None:
    """The role that a name means, if any."""
    plain = _plain(name)
    return next((role for role, names in _SYNONYMS.items() if plain in names), None)


def is_header(cells: Iterable[str]) -> bool:
    """Whether a first line names columns: at least three of its cells name a role."""
    known = {name for names in _SYNONYMS.values() for name in names}
    return sum(_plain(cell) in known for cell in cells) >= 3


def refuse_clock(stamp: str, clock: str, where: str) -> None:
    """Refuse a date whose time of day stands in a column of its own: it would be lost.

    Raises:
        DataError: `stamp` is a date alone and `clock` a time of day.
    """
    if _DATE.fullmatch(stamp) and _CLOCK.fullmatch(clock):
        raise clock_error(f"{stamp}, {clock}", where)


def clock_error(value: str, where: str) -> DataError:
    """Says that date and time of day stand apart."""
    return DataError(
        "date and time of day must stand in one column",
        where=f"{where}, columns date and time",
        value=value,
        remedy="Join the two columns: 2024-01-31T23:59:00Z.",
    )


def kind_error(column: str, kind: object, where: str) -> DataError:
    """Says that a column holds what no bars have."""
    return DataError(
        "a column of bars must hold plain numbers, or times for the timestamp",
        where=f"{where}, column {column}",
        value=str(kind)[:80],
        remedy="Write it as float64 or integers, the times as timestamps in UTC.",
    )


def no_rows_error(where: str) -> DataError:
    """Says that a file holds no rows."""
    return DataError("the file holds no rows", where=where, remedy="Fetch it again.")


def ohlcv_layout() -> Layout:
    """Six columns in the usual order, close last."""
    return _ordered(ROLES)


def ochlv_layout() -> Layout:
    """Six columns in Bitfinex's order, close before high."""
    return _ordered(("timestamp", "open", "close", "high", "low", "volume"))


def kline_layout() -> Layout:
    """Layout of Binance's bulk dump of klines: twelve columns, the first six of them used."""
    return _ordered(_KLINE)


def check_width(width: int, where: str) -> None:
    """Refuse files with more columns than bars can need."""
    if width > MAX_COLUMNS:
        raise DataError(
            f"a file of bars may have at most {MAX_COLUMNS} columns",
            where=where,
            value=width,
            remedy="Write the six columns of bars into a file of their own.",
        )


def _ordered(order: tuple[str, ...]) -> Layout:
    positions = tuple(order.index(role) for role in ROLES)
    note = "columns without names, recognised as " + ",".join(order[: len(ROLES)])
    return Layout(positions, len(order), order, note)


def _plain(name: str) -> str:
    text = str(name).strip().strip("<>").strip().lower()
    return "".join("_" if c in " -." else c for c in text)
