"""How large a file of bars may be, and what it may become when it is decoded."""

from __future__ import annotations

from typing import Final

from ares.core.errors import DataError
from ares.market.reading.columns import ROLES

MAX_ROWS: Final = 200_000_000
MAX_RATIO: Final = 200
"""Decoded bytes per byte of a Parquet or Feather file. Real bars reach 10, constant ones 100."""
FREE_BYTES: Final = 64 * 1024**2
"""Decoded sizes up to this one are harmless whatever the ratio."""
ROW_BYTES: Final = 8 * len(ROLES)
MAX_STAMP: Final = 64
"""Characters of a timestamp written as text."""


def check_rows(rows: int, size: int, where: str) -> None:
    """Refuse more rows than a file of `size` bytes can honestly have.

    Raises:
        DataError: There are too many, or fewer than none.
    """
    if not 0 <= rows <= MAX_ROWS:
        raise DataError(
            f"a file of bars may have {MAX_ROWS} rows",
            where=where,
            value=rows,
            remedy="Split it; a folder of files is read as one.",
        )
    check_decoded(rows * ROW_BYTES, size, where)


def check_decoded(decoded: int, size: int, where: str) -> None:
    """Refuse `size` bytes that decode to more than they should.

    Raises:
        DataError: They do.
    """
    if decoded > max(FREE_BYTES, MAX_RATIO * size):
        raise DataError(
            f"a compressed file may expand {MAX_RATIO}-fold",
            where=where,
            value=f"{size} bytes that decode to {decoded}",
            remedy="Bars do not compress so well: the file is damaged or hostile.",
        )
