"""What a workspace remembers beyond single runs: looks at holdouts, validations, champions."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

from ares.core.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA: Final = 1
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS looks(holdout TEXT NOT NULL, model TEXT NOT NULL,
  UNIQUE(holdout, model));
CREATE TABLE IF NOT EXISTS validations(data TEXT NOT NULL, recipe TEXT NOT NULL,
  UNIQUE(data, recipe));
CREATE TABLE IF NOT EXISTS champions(number INTEGER PRIMARY KEY, market TEXT NOT NULL,
  run_id TEXT NOT NULL);
"""


class History:
    """The history database of one workspace. Order of insertion is the order of time.

    Args:
        path: SQLite file; made with its folder at the first use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def looks_before(self, holdout: str, model: str) -> int:
        """How many *other* models looked at this holdout before this one did (or will)."""
        return self._before("looks", "holdout", "model", holdout, model)

    def record_look(self, holdout: str, model: str) -> None:
        """Remember that `model` looked at `holdout`; a repeat changes nothing."""
        self._insert("INSERT OR IGNORE INTO looks(holdout, model) VALUES (?, ?)", holdout, model)

    def validations_before(self, data: str, recipe: str) -> int:
        """How many *other* recipes were validated on this data before this one was (or will be)."""
        return self._before("validations", "data", "recipe", data, recipe)

    def record_validation(self, data: str, recipe: str) -> None:
        """Remember that `recipe` was validated on `data`; a repeat changes nothing."""
        self._insert("INSERT OR IGNORE INTO validations(data, recipe) VALUES (?, ?)", data, recipe)

    def champion(self, market: str) -> str | None:
        """Run id of the champion of `market`; None where there is none."""
        query = "SELECT run_id FROM champions WHERE market = ? ORDER BY number DESC LIMIT 1"
        rows = self._rows(query, market)
        return str(rows[0][0]) if rows else None

    def promote(self, market: str, run_id: str) -> None:
        """Make a run the champion of `market`."""
        self._insert("INSERT INTO champions(market, run_id) VALUES (?, ?)", market, run_id)

    def _before(self, table: str, scope: str, item: str, scoped: str, wanted: str) -> int:
        query = f"SELECT {item} FROM {table} WHERE {scope} = ? ORDER BY rowid"  # noqa: S608  # own names
        seen = [row[0] for row in self._rows(query, scoped)]
        return seen.index(wanted) if wanted in seen else len(seen)

    def _rows(self, query: str, *values: str) -> list[tuple[object, ...]]:
        if not self._path.exists():
            return []
        with closing(self._open()) as database:
            return database.execute(query, values).fetchall()

    def _insert(self, statement: str, *values: str) -> None:
        with closing(self._open()) as database, database:
            database.execute(statement, values)

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self._path, timeout=30)
            found = database.execute("PRAGMA user_version").fetchone()[0]
            if found not in {0, SCHEMA}:
                database.close()
                raise StoreError(
                    f"the history has schema number {SCHEMA}",
                    value=found,
                    where=str(self._path),
                    remedy="Use the version of Ares that wrote it.",
                )
            database.executescript(_TABLES + f"PRAGMA user_version = {SCHEMA};")
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                "the workspace's history must be readable and writable",
                value=str(error),
                where=str(self._path),
                remedy="Make it writable; or move it away to begin anew.",
            ) from error
        return database
