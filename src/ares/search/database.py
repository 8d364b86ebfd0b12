"""How the search opens its SQLite files: one write-ahead log, one page size, no lost openings."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE: Final = 10.0
_PAUSE: Final = 0.02


def connect(path: str | Path, *, threads: bool = False) -> sqlite3.Connection:
    """Open a database; transactions are begun by hand.

    A power failure may take the last transactions, never part of one.

    Args:
        path: The file, or ":memory:".
        threads: Whether several threads take turns.

    Raises:
        sqlite3.Error: it cannot be opened, or is no database.
    """
    database = sqlite3.connect(
        path, timeout=_PATIENCE, isolation_level=None, check_same_thread=not threads
    )
    try:
        database.execute("PRAGMA page_size=16384")  # rows take 1.5 KB: less is left over
        _write_ahead(database)
        database.execute("PRAGMA synchronous=NORMAL")
    except BaseException:
        database.close()
        raise
    return database


def _write_ahead(database: sqlite3.Connection) -> None:
    """Switch to the write-ahead log, which does not wait by itself for another process's switch."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(_PAUSE)
        else:
            return
