"""Which column of a file is which: by the header's names, by a declared order, or by layout."""

from __future__ import annotations

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
    """

    positions: tuple[int, ...]
    width: int
    names: tuple[str, ...]
    note: str = ""

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
                "each column may be named once", where=f"{where}, column {role}", value=found
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
    return Layout(tuple(positions), len(names), tuple(str(name)[:40] for name in names))


def is_header(cells: Iterable[str]) -> bool:
    """Whether a first line names columns: at least three of its cells name a role."""
    known = {name for names in _SYNONYMS.values() for name in names}
    return sum(_plain(cell) in known for cell in cells) >= 3


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
            f"a file of bars may have at most {MAX_COLUMNS} columns", where=where, value=width
        )


def _ordered(order: tuple[str, ...]) -> Layout:
    positions = tuple(order.index(role) for role in ROLES)
    note = "columns without names, recognised as " + ",".join(order[: len(ROLES)])
    return Layout(positions, len(order), order, note)


def _plain(name: str) -> str:
    text = str(name).strip().strip("<>").strip().lower()
    return "".join("_" if c in " -." else c for c in text)
