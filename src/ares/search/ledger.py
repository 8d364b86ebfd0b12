"""The trial ledger: every point that was looked at, in SQLite, one transaction per generation.

Only the parent process writes. A generation is in the file completely or not at all, and carries
a digest: what a torn file lost is run again, with the same result. Nothing of it is held in
memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sqlite3
import struct
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from ares.backtest.result import Outcome
from ares.core.errors import ArtifactError, StoreError
from ares.core.interrupts import check_interrupted
from ares.search.blocks import BlockResults
from ares.search.database import connect
from ares.search.failures import Reason
from ares.search.objective import Score
from ares.search.points import point_bytes, point_of
from ares.store.faults import durability_point

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_log = logging.getLogger("ares.search")

SCHEMA: Final = 4
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS generations (
    generation INTEGER PRIMARY KEY, phase TEXT NOT NULL, first INTEGER NOT NULL,
    trials INTEGER NOT NULL, digest BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS trials (
    number INTEGER PRIMARY KEY, params BLOB NOT NULL,
    value REAL, error REAL, stage INTEGER, revealed REAL, audit REAL,
    outcome TEXT NOT NULL, days INTEGER NOT NULL, n_trades INTEGER NOT NULL,
    reason TEXT, content TEXT NOT NULL, source TEXT NOT NULL, seconds REAL NOT NULL, blocks BLOB NOT NULL);
"""
_FACTS: Final = (
    "number, params, value, error, stage, revealed, audit, outcome, days, n_trades, reason, content"
)
_VOLATILE: Final = "source, seconds"
_COLUMNS: Final = f"{_FACTS}, {_VOLATILE}, blocks"
_MARKS: Final = ",".join("?" * len(_COLUMNS.split(",")))
_N_FACTS: Final = len(_FACTS.split(","))
_PAGE: Final = 4096
_NUMBERS: Final = struct.Struct("<2q5d2q")


@dataclass(frozen=True, slots=True)
class Trial:
    """One parameter point that was looked at."""

    number: int
    generation: int
    phase: str
    params: dict[str, Any]
    score: Score
    seconds: float = field(default=0.0, compare=False)
    packed: bytes = field(default=b"", compare=False)  # `point_bytes` of it, where they are known


class Ledger:
    """The trials of one search, found again by the digest of its request.

    Args:
        path: The SQLite file; None keeps the trials in memory only.
        request: Digest of all that shapes the search; None opens whatever search it is, to read.

    Raises:
        ArtifactError: the file belongs to another search, or its schema is newer.
        StoreError: the file cannot be opened or written.
    """

    def __init__(self, path: str | Path | None, request: str | None) -> None:
        self.path = None if path is None else Path(path)
        self.request = request
        self._generations = 0
        self._trials = 0
        self._database = self._opened()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._trials

    @property
    def generations(self) -> int:
        """How many generations are committed and intact."""
        return self._generations

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def append(self, trials: Sequence[Trial]) -> None:
        """Commit one generation.

        Raises:
            StoreError: the file cannot be written.
            KeyboardInterrupt: one came while they were made.
        """
        check_interrupted()
        with self._readable("written"):
            self._commit(trials)
        self._generations += 1
        self._trials += len(trials)

    def replay(self) -> Iterator[list[Trial]]:
        """The committed generations in their order, one in memory at a time.

        Raises:
            StoreError: the file cannot be read.
        """
        for generation in range(self._generations):
            with self._readable("read"):
                phase, first, count, _ = self._head(generation)
                trials = [
                    _trial(row, generation, phase) for row in self._rows(first, first + count)
                ]
            yield trials

    def trial(self, number: int) -> Trial:
        """One trial.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._readable("read"):
            generation, phase = self._database.execute(
                "SELECT generation, phase FROM generations WHERE first<=? ORDER BY first DESC",
                (number,),
            ).fetchone()
            return _trial(next(self._rows(number, number + 1)), generation, phase)

    def pages(self, *, blocks: bool = False) -> Iterator[dict[str, list[Any]]]:
        """All trials in their order, as they are stored: the columns of a generation at a time.

        Besides the columns of the file there are `generation` and `phase`.

        Args:
            blocks: With the block results, in bytes.

        Raises:
            StoreError: the file cannot be read.
        """
        columns = _COLUMNS if blocks else f"{_FACTS}, {_VOLATILE}"
        names = columns.split(", ")
        for generation in range(self._generations):
            with self._readable("read"):
                phase, first, count, _ = self._head(generation)
                found = self._database.execute(
                    f"SELECT {columns} FROM trials WHERE number>=? AND number<? ORDER BY number",  # noqa: S608  # fixed names
                    (first, first + count),
                ).fetchall()
            page: dict[str, list[Any]] = {
                "generation": [generation] * count,
                "phase": [phase] * count,
            }
            yield page | dict(zip(names, map(list, zip(*found, strict=True)), strict=True))

    def _commit(self, trials: Sequence[Trial]) -> None:
        database = self._database
        rows = [_row(trial) for trial in trials]
        durability_point("ledger.before")
        with database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(
                "INSERT INTO generations VALUES (?,?,?,?,?)",
                (self._generations, trials[0].phase, self._trials, len(rows), _digest(rows)),
            )
            database.executemany(
                f"INSERT INTO trials ({_COLUMNS}) VALUES ({_MARKS})",  # noqa: S608  # fixed names
                rows,
            )
            durability_point("ledger.inside")
        durability_point("ledger.after")

    def _opened(self) -> sqlite3.Connection:
        if self.path is None:
            return self._connected(":memory:")
        with self._readable("opened"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return self._connected(self.path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                aside = self.path.with_name(self.path.name + ".damaged")
                self.path.replace(aside)
                _log.warning(
                    "%s is damaged (%s): moved to %s; starting anew", self.path, error, aside.name
                )
                return self._connected(self.path)
        raise AssertionError("unreachable")

    def _connected(self, path: str | Path) -> sqlite3.Connection:
        database = connect(path)
        try:
            database.execute("BEGIN IMMEDIATE")  # whoever opens it at the same time waits
            for statement in _TABLES.split(";"):
                database.execute(statement)
            self._check_owner(database)
            self._count_intact(database)
            database.execute("COMMIT")
        except BaseException:
            database.close()
            raise
        return database

    def _check_owner(self, database: sqlite3.Connection) -> None:
        known = dict(database.execute("SELECT name, value FROM meta"))
        if not known:
            database.executemany(
                "INSERT INTO meta VALUES (?,?)",
                [("schema", str(SCHEMA)), ("request", self.request or "")],
            )
        elif known.get("schema") != str(SCHEMA):
            raise ArtifactError(
                f"the trial ledger must have schema {SCHEMA}",
                value=known.get("schema"),
                where=str(self.path),
                remedy="Move the file away to search anew.",
            )
        elif self.request is not None and known.get("request") != self.request:
            raise ArtifactError(
                "the trial ledger belongs to another search",
                where=str(self.path),
                remedy="Use another file, or move this one away to search anew.",
            )

    def _count_intact(self, database: sqlite3.Connection) -> None:
        """Count the intact generations; drop everything from the first damaged one on."""
        self._database = database
        self._generations = self._trials = 0
        heads = database.execute("SELECT COUNT(*) FROM generations").fetchone()[0]
        for generation in range(heads):
            head = self._head(generation)
            rows = [] if head is None else list(self._rows(head[1], head[1] + head[2]))
            if head is None or (head[1], head[2]) != (self._trials, len(rows)):
                break
            if not _intact(rows, head[3]):
                break
            self._generations += 1
            self._trials += len(rows)
        if self._generations < heads:
            _log.warning(
                "%s: generation %d is damaged: run again from there", self.path, self._generations
            )
            database.execute("DELETE FROM generations WHERE generation>=?", (self._generations,))
            database.execute("DELETE FROM trials WHERE number>=?", (self._trials,))

    def _head(self, generation: int) -> Any:
        return self._database.execute(
            "SELECT phase, first, trials, digest FROM generations WHERE generation=?",
            (generation,),
        ).fetchone()

    def _rows(self, first: int, end: int) -> Iterator[tuple[Any, ...]]:
        for begin in range(first, end, _PAGE):
            yield from self._database.execute(
                f"SELECT {_COLUMNS} FROM trials WHERE number>=? AND number<? ORDER BY number",  # noqa: S608  # fixed names
                (begin, min(begin + _PAGE, end)),
            ).fetchall()

    @contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"the trial ledger cannot be {what}: {error}",
                where=str(self.path),
                remedy="Free space or make the folder writable, then start the same command again:"
                " it resumes.",
            ) from error


def _row(trial: Trial) -> tuple[Any, ...]:
    score = trial.score
    body = score.blocks.to_bytes()
    return (
        trial.number,
        trial.packed or point_bytes(trial.params),
        score.value + 0.0,  # SQLite has no -0.0
        _or_none(score.error),
        score.stage,
        _or_none(score.revealed),
        None if score.audit is None else score.audit + 0.0,
        score.outcome.name,
        sum(score.blocks.n.tolist()),
        sum(score.blocks.trades.tolist()),
        None if score.reason is None else json.dumps(score.reason),
        _content(body),
        score.source,
        trial.seconds,
        body,
    )


def _trial(row: tuple[Any, ...], generation: int, phase: str) -> Trial:
    number, params, value, error, stage, revealed, audit, outcome, _, _, reason, *_, blocks = row
    score = Score(
        value=value,
        outcome=Outcome[outcome],
        blocks=BlockResults.from_bytes(blocks),
        error=math.nan if error is None else error,
        stage=stage,
        revealed=math.nan if revealed is None else revealed,
        audit=audit,
        source="ledger",
        reason=None if reason is None else Reason(*json.loads(reason)),
    )
    return Trial(number, generation, phase, point_of(params), score, packed=params)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value + 0.0  # SQLite has neither NaN nor -0.0


def _content(body: object) -> str:
    """Digest of block results."""
    return hashlib.blake2b(body if isinstance(body, bytes) else b"", digest_size=16).hexdigest()


def _digest(rows: Sequence[tuple[Any, ...]]) -> bytes:
    """Digest of all that is stored of the trials; their block results enter by their own."""
    return hashlib.blake2b(b"".join(map(_facts, rows)), digest_size=20).digest()


def _facts(row: tuple[Any, ...]) -> bytes:
    number, params, *numbers, outcome, days, n_trades, reason, content = row[:_N_FACTS]
    words = [math.nan if value is None else value for value in numbers]  # SQLite has no NaN
    fixed = _NUMBERS.pack(len(params), number, *words, days, n_trades)
    why = b"" if reason is None else reason.encode() or b"\0"  # an empty one is none of ours
    return b"".join((fixed, params, outcome.encode(), why, content.encode()))


def _intact(rows: Sequence[tuple[Any, ...]], digest: bytes) -> bool:
    try:
        found = _digest(rows)
    except (struct.error, TypeError, AttributeError):  # of another type than was written
        return False
    return found == digest and all(_content(row[-1]) == row[_N_FACTS - 1] for row in rows)
