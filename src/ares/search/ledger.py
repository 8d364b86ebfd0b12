"""The trial ledger: every point that was looked at, in SQLite, one transaction per generation.

Only the parent process writes. A generation is in the file completely or not at all, and carries
a digest: what a torn file lost is run again, with the same result.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from ares.backtest.result import Outcome
from ares.core.errors import ArtifactError, StoreError
from ares.core.identity import fingerprint
from ares.search.blocks import BlockResults
from ares.search.objective import Score
from ares.store.faults import durability_point

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger("ares.search")

SCHEMA: Final = 1
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS generations (
    generation INTEGER PRIMARY KEY, phase TEXT NOT NULL, digest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trials (
    number INTEGER PRIMARY KEY, generation INTEGER NOT NULL, params TEXT NOT NULL,
    value REAL, error REAL, stage INTEGER, revealed REAL, audit REAL,
    outcome TEXT NOT NULL, blocks BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS volatile (
    number INTEGER PRIMARY KEY, source TEXT NOT NULL, seconds REAL NOT NULL);
"""
_COLUMNS: Final = (
    "number, generation, params, value, error, stage, revealed, audit, outcome, blocks"
)


@dataclass(frozen=True)
class Trial:
    """One parameter point that was looked at."""

    number: int
    generation: int
    phase: str
    params: dict[str, Any]
    score: Score
    seconds: float = field(default=0.0, compare=False)


class Ledger:
    """The trials of one search, found again by the digest of its request.

    Args:
        path: The SQLite file; None keeps the trials in memory only.
        request: Digest of all that shapes the search.

    Raises:
        ArtifactError: the file belongs to another search, or its schema is newer.
        StoreError: the file cannot be opened or written.
    """

    def __init__(self, path: str | Path | None, request: str) -> None:
        self.path = None if path is None else Path(path)
        self.request = request
        self.generations: list[list[Trial]] = []
        self._database: sqlite3.Connection | None = None
        if self.path is not None:
            self._open(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def append(self, trials: Sequence[Trial]) -> None:
        """Commit one generation.

        Raises:
            StoreError: the file cannot be written.
        """
        if self._database is not None:
            try:
                self._commit(trials)
            except (sqlite3.Error, OSError) as error:
                raise StoreError(
                    f"the trial ledger cannot be written: {error}",
                    where=str(self.path),
                    remedy="Free space, then start the same command again: it resumes.",
                ) from error
        self.generations.append(list(trials))

    def _commit(self, trials: Sequence[Trial]) -> None:
        database = self._database
        if database is None:
            return
        rows = [_row(trial) for trial in trials]
        generation = len(self.generations)
        durability_point("ledger.before")
        with database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(
                "INSERT INTO generations VALUES (?,?,?)",
                (generation, trials[0].phase, _digest(rows)),
            )
            database.executemany(
                f"INSERT INTO trials ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)",  # noqa: S608  # fixed names
                rows,
            )
            database.executemany(
                "INSERT INTO volatile VALUES (?,?,?)",
                [(t.number, t.score.source, t.seconds) for t in trials],
            )
            durability_point("ledger.inside")
        durability_point("ledger.after")

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = self._connected(path)
            self._load(self._database)
        except sqlite3.OperationalError as error:
            self.close()
            raise StoreError(
                f"the trial ledger cannot be opened: {error}",
                where=str(path),
                remedy="Free space or make the folder writable, then start the same command again.",
            ) from error
        except sqlite3.DatabaseError as error:
            self.close()
            aside = path.with_name(path.name + ".damaged")
            path.replace(aside)
            _log.warning("%s is damaged (%s): moved to %s; starting anew", path, error, aside.name)
            self.generations = []
            self._database = self._connected(path)
            self._load(self._database)

    def _connected(self, path: Path) -> sqlite3.Connection:
        database = sqlite3.connect(path, timeout=10.0, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous=FULL")
            database.executescript(_TABLES)
            self._check_owner(database)
        except BaseException:
            database.close()
            raise
        return database

    def _check_owner(self, database: sqlite3.Connection) -> None:
        known = dict(database.execute("SELECT name, value FROM meta"))
        if not known:
            with database:
                database.execute("BEGIN IMMEDIATE")
                database.executemany(
                    "INSERT OR IGNORE INTO meta VALUES (?,?)",
                    [("schema", str(SCHEMA)), ("request", self.request)],
                )
        elif known.get("schema") != str(SCHEMA):
            raise ArtifactError(
                f"the trial ledger must have schema {SCHEMA}",
                value=known.get("schema"),
                where=str(self.path),
                remedy="Move the file away to search anew.",
            )
        elif known.get("request") != self.request:
            raise ArtifactError(
                "the trial ledger belongs to another search",
                where=str(self.path),
                remedy="Use another file, or move this one away to search anew.",
            )

    def _load(self, database: sqlite3.Connection) -> None:
        """Read the intact generations; drop everything from the first damaged one on."""
        heads = database.execute(
            "SELECT generation, phase, digest FROM generations ORDER BY generation"
        ).fetchall()
        for expected, (generation, phase, digest) in enumerate(heads):
            rows = database.execute(
                f"SELECT {_COLUMNS} FROM trials WHERE generation=? ORDER BY number",  # noqa: S608  # fixed names
                (generation,),
            ).fetchall()
            if generation != expected or _digest(rows) != digest:
                _log.warning(
                    "%s: generation %d is damaged: run again from there", self.path, expected
                )
                break
            self.generations.append([_trial(row, phase) for row in rows])
        kept = sum(len(g) for g in self.generations)
        with database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(
                "DELETE FROM generations WHERE generation>=?", (len(self.generations),)
            )
            for table in ("trials", "volatile"):
                database.execute(f"DELETE FROM {table} WHERE number>=?", (kept,))  # noqa: S608  # fixed names


def _row(trial: Trial) -> tuple[Any, ...]:
    score = trial.score
    params = json.dumps(trial.params, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return (
        trial.number,
        trial.generation,
        params,
        score.value,
        _or_none(score.error),
        score.stage,
        _or_none(score.revealed),
        score.audit,
        score.outcome.name,
        score.blocks.to_bytes(),
    )


def _trial(row: tuple[Any, ...], phase: str) -> Trial:
    number, generation, params, value, error, stage, revealed, audit, outcome, blocks = row
    score = Score(
        value=value,
        outcome=Outcome[outcome],
        blocks=BlockResults.from_bytes(blocks),
        error=math.nan if error is None else error,
        stage=stage,
        revealed=math.nan if revealed is None else revealed,
        audit=audit,
        source="ledger",
    )
    return Trial(number, generation, phase, json.loads(params), score)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value  # SQLite has no NaN


def _digest(rows: Sequence[tuple[Any, ...]]) -> str:
    return fingerprint([list(row) for row in rows])
