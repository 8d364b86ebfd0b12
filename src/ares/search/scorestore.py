"""The two levels of the backtest cache: a bounded memory of results over an SQLite file."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from ares.core.errors import ArtifactError
from ares.search.blocks import BlockResults
from ares.search.database import connect

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_log = logging.getLogger("ares.search")

_SCHEMA: Final = 3
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS problems (problem INTEGER PRIMARY KEY, identity TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS results (
    key BLOB PRIMARY KEY, problem INTEGER, params BLOB, blocks TEXT, body BLOB, digest BLOB,
    written INTEGER);
CREATE TABLE IF NOT EXISTS quarantine (key BLOB, params BLOB, blocks TEXT, body BLOB, digest BLOB);
"""
_SLICE: Final = 500
_SCANNED: Final = 1000


class Request(NamedTuple):
    """What one entry answers: the parameters of a point in bytes, and which blocks of it.

    Attributes:
        key: Digest of problem, environment, parameters and blocks.
        params: `point_bytes` of the normalised point.
        blocks: "" is the continuous run, "32:0,5,9" flat-start blocks of 32.
    """

    key: bytes
    params: bytes
    blocks: str


class Memory:
    """Least recently used results, at most `max_entries`."""

    def __init__(self, max_entries: int) -> None:
        self.max_entries = max_entries
        self.evictions = 0
        self._entries: OrderedDict[bytes, BlockResults] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes of the results held, without what Python adds."""
        with self._lock:
            return sum(entry.nbytes for entry in self._entries.values())

    def get(self, key: bytes) -> BlockResults | None:
        """The entry, which becomes the most recent one."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: bytes, value: BlockResults) -> None:
        """Add an entry; the least recently used one leaves when there are too many."""
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            self._shrink(self.max_entries)

    def evict(self, share: float = 0.5) -> int:
        """Drop this share of the entries, the least recently used first; how many went."""
        with self._lock:
            before = len(self._entries)
            self._shrink(before - round(before * share))
            return before - len(self._entries)

    def _shrink(self, size: int) -> None:
        while len(self._entries) > size:
            self._entries.popitem(last=False)
            self.evictions += 1


class ScoreStore:
    """Block results in SQLite. Damaged rows are misses and move to the table `quarantine`.

    A file that cannot be used is no error here: `failure` holds the reason, and every later call
    does nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failure: str | None = None
        self.quarantined = 0
        self._problems: dict[str, int] = {}
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        with self._guard():
            self._database = self._opened()

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, BlockResults]:
        """The results that are there and intact."""
        found: dict[bytes, BlockResults] = {}
        with self._using() as database:
            if database is None:
                return found
            for at in range(0, len(keys), _SLICE):
                part = list(keys[at : at + _SLICE])
                marks = ",".join("?" * len(part))
                rows = database.execute(
                    f"SELECT key, params, blocks, body, digest FROM results WHERE key IN ({marks})",  # noqa: S608  # only marks
                    part,
                ).fetchall()
                for key, params, blocks, body, digest in rows:
                    result = _checked(Request(key, params, blocks), body, digest)
                    if result is None:
                        self._quarantine(database, key)
                    else:
                        found[key] = result
        return found

    def put_many(self, problem: str, results: Sequence[tuple[Request, BlockResults]]) -> None:
        """Write results of one problem (its digest) in one transaction."""
        now = int(time.time())
        with self._using() as database:
            if database and results:
                with database:
                    database.execute("BEGIN IMMEDIATE")
                    number = self._number(database, problem)
                    database.executemany(
                        "INSERT OR REPLACE INTO results VALUES (?,?,?,?,?,?,?)",
                        [_row(request, result, number, now) for request, result in results],
                    )

    def rows(self, problem: str | None = None) -> int:
        """Results in the file, of one problem or of all."""
        with self._using() as database:
            if not database:
                return 0
            if problem is None:
                return int(database.execute("SELECT COUNT(*) FROM results").fetchone()[0])
            return int(
                database.execute(
                    "SELECT COUNT(*) FROM results JOIN problems USING (problem) WHERE identity=?",
                    (problem,),
                ).fetchone()[0]
            )

    def sample(self, problem: str, count: int, seed: int) -> list[tuple[Request, BlockResults]]:
        """Intact results of one problem, a random sample without replacement."""
        import random

        with self._using() as database:
            if not database:
                return []
            numbers = [
                row[0]
                for row in database.execute(
                    "SELECT results.rowid FROM results JOIN problems USING (problem)"
                    " WHERE identity=? ORDER BY key",
                    (problem,),
                )
            ]
            chosen = random.Random(seed).sample(numbers, min(count, len(numbers)))
            found = []
            for number in chosen:
                key, params, blocks, body, digest = database.execute(
                    "SELECT key, params, blocks, body, digest FROM results WHERE rowid=?",
                    (number,),
                ).fetchone()
                request = Request(key, params, blocks)
                result = _checked(request, body, digest)
                if result is not None:
                    found.append((request, result))
        return found

    def check_digests(self) -> int:
        """Look at every row; damaged ones move to the quarantine. How many were damaged."""
        before, last = self.quarantined, -1
        with self._using() as database:
            while database:
                rows = database.execute(
                    "SELECT rowid, key, params, blocks, body, digest FROM results"
                    " WHERE rowid > ? ORDER BY rowid LIMIT ?",
                    (last, _SCANNED),
                ).fetchall()
                if not rows:
                    break
                for _, key, params, blocks, body, digest in rows:
                    if _checked(Request(key, params, blocks), body, digest) is None:
                        self._quarantine(database, key)
                last = rows[-1][0]
        return self.quarantined - before

    def quarantine(self, key: bytes) -> None:
        """Take a result that proved wrong out of use."""
        with self._using() as database:
            if database:
                self._quarantine(database, key)

    def shrink(self, max_bytes: int) -> int:
        """Drop the oldest results until those left take at most `max_bytes`; how many went."""
        gone = 0
        with self._using() as database:
            if database:
                with database:
                    database.execute("BEGIN IMMEDIATE")
                    gone = database.execute(
                        "DELETE FROM results WHERE rowid IN (SELECT rowid FROM ("
                        " SELECT rowid, SUM(LENGTH(body) + LENGTH(params) + 64)"
                        " OVER (ORDER BY written DESC, rowid DESC) AS total FROM results)"
                        " WHERE total > ?)",
                        (max_bytes,),
                    ).rowcount
                    database.execute("DELETE FROM quarantine")
                database.execute("VACUUM")
        return gone

    def in_quarantine(self) -> int:
        """Rows in quarantine, of all times."""
        with self._using() as database:
            if database:
                return int(database.execute("SELECT COUNT(*) FROM quarantine").fetchone()[0])
        return 0

    def close(self) -> None:
        """Close the file; later calls do nothing."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _opened(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._connected()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) or not self.path.is_file():
                raise
            aside = self.path.with_name(self.path.name + ".damaged")
            self.path.replace(aside)
            self.quarantined += 1
            _log.warning("%s is damaged (%s): moved to %s", self.path.name, error, aside.name)
            return self._connected()

    def _connected(self) -> sqlite3.Connection:
        database = connect(self.path, threads=True)
        try:
            database.execute("BEGIN IMMEDIATE")
            if _schema(database) not in {None, _SCHEMA}:
                # Results of another schema are misses.
                for table in ("results", "quarantine", "problems", "meta"):
                    database.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in _TABLES.split(";"):
                database.execute(statement)
            database.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (_SCHEMA,))
            database.execute("COMMIT")
        except BaseException:
            database.close()
            raise
        return database

    def _number(self, database: sqlite3.Connection, identity: str) -> int:
        if identity not in self._problems:
            database.execute("INSERT OR IGNORE INTO problems (identity) VALUES (?)", (identity,))
            found = database.execute("SELECT problem FROM problems WHERE identity=?", (identity,))
            self._problems[identity] = int(found.fetchone()[0])
        return self._problems[identity]

    def _quarantine(self, database: sqlite3.Connection, key: object) -> None:
        self.quarantined += 1
        with database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(
                "INSERT INTO quarantine SELECT key, params, blocks, body, digest FROM results"
                " WHERE key=?",
                (key,),
            )
            database.execute("DELETE FROM results WHERE key=?", (key,))
        _log.warning("one cached result of %s was damaged: recomputed", self.path.name)

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection | None]:
        """The open database, for this thread alone; None where there is none."""
        with self._lock, self._guard():
            yield self._database

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self.failure = f"{type(error).__name__}: {error}"
            if self._database is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._database.close()
            self._database = None


def _schema(database: sqlite3.Connection) -> int | None:
    """Schema of a file that was used before."""
    known = database.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone()
    if known is None:
        return None
    row = database.execute("SELECT value FROM meta WHERE name='schema'").fetchone()
    return None if row is None else int(row[0])


def _row(request: Request, result: BlockResults, problem: int, now: int) -> tuple[object, ...]:
    body = result.to_bytes()
    digest = _digest(request, body)
    return (request.key, problem, request.params, request.blocks, body, digest, now)


def _digest(request: Request, body: bytes) -> bytes:
    head = request.blocks.encode() + b"\0"
    return hashlib.blake2b(
        b"".join((request.key, head, request.params, b"\0", body)), digest_size=16
    ).digest()


def _checked(request: Request, body: object, digest: object) -> BlockResults | None:
    try:
        if not isinstance(body, bytes) or digest != _digest(request, body):
            return None
        return BlockResults.from_bytes(body)
    except (ArtifactError, AttributeError, TypeError, ValueError):
        return None
