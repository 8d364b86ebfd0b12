"""The two levels of the backtest cache: a bounded memory of results over an SQLite file."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from ares.core.errors import ArtifactError
from ares.search.blocks import BlockResults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_log = logging.getLogger("ares.search")

_SCHEMA: Final = 1
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, body BLOB, digest BLOB);
CREATE TABLE IF NOT EXISTS quarantine (key TEXT, body BLOB, digest BLOB);
"""
_SLICE: Final = 500


class Memory:
    """Least recently used results, at most `max_entries`."""

    def __init__(self, max_entries: int) -> None:
        self.max_entries = max_entries
        self.evictions = 0
        self._entries: OrderedDict[str, BlockResults] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes of the results held, without what Python adds."""
        with self._lock:
            return sum(entry.nbytes for entry in self._entries.values())

    def get(self, key: str) -> BlockResults | None:
        """The entry, which becomes the most recent one."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: str, value: BlockResults) -> None:
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
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        with self._guard():
            self._database = self._opened()

    def get_many(self, keys: Sequence[str]) -> dict[str, BlockResults]:
        """The results that are there and intact."""
        found: dict[str, BlockResults] = {}
        with self._lock, self._guard():
            if self._database is None:
                return found
            for at in range(0, len(keys), _SLICE):
                part = list(keys[at : at + _SLICE])
                marks = ",".join("?" * len(part))
                rows = self._database.execute(
                    f"SELECT key, body, digest FROM results WHERE key IN ({marks})",  # noqa: S608  # only marks
                    part,
                ).fetchall()
                for key, body, digest in rows:
                    result = _checked(key, body, digest)
                    if result is None:
                        self._quarantine(key)
                    else:
                        found[key] = result
        return found

    def put_many(self, results: Mapping[str, BlockResults]) -> None:
        """Write all in one transaction."""
        rows = [(k, body, _digest(k, body)) for k, v in results.items() for body in (v.to_bytes(),)]
        with self._lock, self._guard():
            if self._database is not None and rows:
                with self._database:
                    self._database.executemany(
                        "INSERT OR REPLACE INTO results VALUES (?,?,?)", rows
                    )

    def rows(self) -> int:
        """Results in the file."""
        with self._lock, self._guard():
            if self._database is not None:
                return int(self._database.execute("SELECT COUNT(*) FROM results").fetchone()[0])
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
        database = sqlite3.connect(self.path, timeout=10.0, check_same_thread=False)
        try:
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute("PRAGMA journal_mode=WAL")
            with database:
                database.executescript(_TABLES)
                row = database.execute("SELECT value FROM meta WHERE name='schema'").fetchone()
                if row is None or row[0] != _SCHEMA:
                    # Results of another schema are misses.
                    database.execute("DELETE FROM results")
                    database.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (_SCHEMA,))
        except BaseException:
            database.close()
            raise
        return database

    def _quarantine(self, key: str) -> None:
        assert self._database is not None  # noqa: S101  # callers checked
        self.quarantined += 1
        with self._database:
            self._database.execute(
                "INSERT INTO quarantine SELECT key, body, digest FROM results WHERE key=?", (key,)
            )
            self._database.execute("DELETE FROM results WHERE key=?", (key,))
        _log.warning("one cached result of %s was damaged: recomputed", self.path.name)

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


def _digest(key: str, body: bytes) -> bytes:
    return hashlib.blake2b(key.encode() + b"\0" + body, digest_size=16).digest()


def _checked(key: str, body: object, digest: object) -> BlockResults | None:
    if not isinstance(body, bytes) or digest != _digest(key, body):
        return None
    try:
        return BlockResults.from_bytes(body)
    except ArtifactError:
        return None
