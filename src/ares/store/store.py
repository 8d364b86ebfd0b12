"""The content-addressed store: action key -> content digest -> object.

    <root>/v1/actions/ab/<sha256 of the key>    the key, the digest and the size of its object
    <root>/v1/objects/ab/<digest>               an encoded value; the digest is its checksum
    <root>/v1/quarantine/                       damaged files, out of the way until the next gc
    <root>/v1/lock                              shared by writers, exclusive for gc

Everything is disposable: whatever cannot be read whole is a miss, and is made anew. `v1` is the
schema number of this layout, so versions with another layout share the folder without meeting.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ares.core.errors import ArtifactError
from ares.store import codecs
from ares.store.atomic import (
    FileLock,
    durability_point,
    sync_file,
    sync_folder,
    write_atomic,
    writing,
)
from ares.store.mapped import Maps
from ares.store.temporaries import sweep_orphans, temporary_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SCHEMA: Final = 1
_log = logging.getLogger("ares.store")


class Miss(enum.Enum):
    """The type of `MISS`."""

    MISS = "miss"


MISS: Final = Miss.MISS
MissType: TypeAlias = Literal[Miss.MISS]


@dataclass(frozen=True)
class StoreStats:
    """What a store holds, and what one `Store` object has met since it was made.

    Attributes:
        entries: Action keys.
        objects: Distinct values.
        total_bytes: Size of the objects.
        quarantined: Damaged files set aside.
        hits: Values that `get` returned.
        misses: Calls of `get` that returned `MISS`.
    """

    entries: int
    objects: int
    total_bytes: int
    quarantined: int
    hits: int
    misses: int


@dataclass(frozen=True)
class GcReport:
    """What `Store.gc` did; sizes are bytes of objects."""

    removed_objects: int
    removed_bytes: int
    kept_objects: int
    kept_bytes: int


@dataclass(frozen=True)
class VerifyReport:
    """What `Store.verify` found.

    Attributes:
        objects: Objects that were read.
        damaged: Names of objects and entries that were quarantined, sorted.
        dangling: Keys whose object is gone, sorted; they are misses.
    """

    objects: int
    damaged: tuple[str, ...]
    dangling: tuple[str, ...]


@dataclass(frozen=True)
class _Object:
    path: Path
    size: int
    used: int


class Store:
    """Values by action key, checked on every read; safe for any number of processes.

    Making the object touches no file. Two writers of one key both succeed, and the last one's
    value stays. Values must be of the types of `ares.store.codecs`.

    Args:
        root: Folder of the store; `put` creates it.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        base = self.root / f"v{SCHEMA}"
        self._actions = base / "actions"
        self._objects = base / "objects"
        self._quarantine = base / "quarantine"
        self._lock_path = base / "lock"
        self._hits = 0
        self._misses = 0
        self._mutex = threading.Lock()
        self.maps = Maps()

    def get(self, key: str) -> object | MissType:
        """The value that was put under `key`, or `MISS`.

        A damaged entry or object is logged once, set aside and is a miss; so is a value of another
        schema number and a store that cannot be read. Never raises on account of stored content.
        """
        digest = self.digest_of(key)
        value = MISS if digest is None else self.load(digest)
        with self._mutex:
            if value is MISS:
                self._misses += 1
            else:
                self._hits += 1
        return value

    def put(self, key: str, value: object) -> str:
        """Keep `value` under `key`, durably; an earlier value of the key is replaced.

        Returns:
            The content digest, equal for equal values.

        Raises:
            StoreError: full, read-only or failing disk. An earlier value of the key stays.
            FingerprintError: `value` is of no type that can be stored.
        """
        parts = codecs.encode_parts(value)
        digest, size = str(parts[-1].hex()), sum(map(len, parts))
        entry = codecs.encode({"key": key, "digest": digest, "bytes": size})
        with writing(self.root), FileLock(self._lock_path, shared=True, timeout=None):
            self._put_object(self._object_path(digest), digest, parts)
            durability_point("store.object")
            write_atomic(self._action_path(key), entry)
        return digest

    def digest_of(self, key: str) -> str | None:
        """Content digest under `key`, or None; the object itself is not read."""
        path = self._action_path(key)
        entry = self._read(path, None)
        if not _is_entry(entry):
            return None
        if entry["key"] != key:
            _log.warning("another key's entry, made anew: %s", path)
            return None
        return str(entry["digest"])

    def load(self, digest: str) -> object | MissType:
        """The value with this content digest, or `MISS`; the call counts as a use for `gc`."""
        if not _is_digest(digest):
            return MISS
        path = self._object_path(digest)
        value: object = self._read(path, digest)
        if value is not MISS:
            _touch(path)
        return value

    def digests(self) -> dict[str, str]:
        """Content digest of every readable key, in the order of the keys; no object is read.

        A run that records the digests it used can hand them to `gc` as roots later.
        """
        entries = self._entries(locked=False)
        return dict(sorted((e["key"], e["digest"]) for _, e in entries if e is not None))

    def stats(self) -> StoreStats:
        """Counts and sizes; reads no content."""
        objects = self._list_objects()
        return StoreStats(
            entries=sum(1 for _ in _files(self._actions)),
            objects=len(objects),
            total_bytes=sum(item.size for item in objects.values()),
            quarantined=sum(1 for _ in _files(self._quarantine)),
            hits=self._hits,
            misses=self._misses,
        )

    def verify(self) -> VerifyReport:
        """Read every entry and object; damaged ones are quarantined, and so become misses."""
        damaged = [path.name for path in _files(self._actions) if self._is_damaged(path, None)]
        objects = self._list_objects()
        for digest, item in objects.items():
            if self._is_damaged(item.path, digest):
                damaged.append(digest)
        kept = self._list_objects()
        dangling = sorted(key for key, digest in self.digests().items() if digest not in kept)
        return VerifyReport(len(objects), tuple(sorted(damaged)), tuple(dangling))

    def gc(self, max_bytes: int | None = None, *, roots: Iterable[str] = ()) -> GcReport:
        """Remove what nobody needs, then the values unused for longest until `max_bytes` are left.

        Quarantined files, remains of crashed writers, entries without their object and objects
        without an entry go first. Objects under `roots` always stay, even above `max_bytes`.

        Args:
            max_bytes: Size of the objects to keep; None only removes what nobody needs.
            roots: Action keys or content digests.

        Raises:
            StoreError: the store cannot be locked or written.
        """
        with writing(self.root), FileLock(self._lock_path, timeout=None):
            return self._collect(max_bytes, set(roots))

    def clear(self) -> GcReport:
        """Remove every value.

        Raises:
            StoreError: as `gc`.
        """
        return self.gc(0)

    def _collect(self, max_bytes: int | None, roots: set[str]) -> GcReport:
        sweep_orphans(self.root)
        objects = self._list_objects()
        size = size_before = sum(item.size for item in objects.values())
        count_before = len(objects)
        digests: dict[str, str] = {}
        keys: dict[str, list[str]] = {}
        for path, entry in list(self._entries(locked=True)):
            if entry is None or entry["digest"] not in objects:
                path.unlink(missing_ok=True)
            else:
                digests[entry["key"]] = entry["digest"]
                keys.setdefault(entry["digest"], []).append(entry["key"])
        for path in list(_files(self._quarantine)):
            path.unlink(missing_ok=True)
        limit = size if max_bytes is None else max_bytes
        held = {digests.get(root, root) for root in roots}
        # Unreachable ones first, then by last use; equal times by digest, so that repeats agree.
        for digest in sorted(objects, key=lambda d: (d in keys, objects[d].used, d)):
            if digest in held or (digest in keys and size <= limit):
                continue
            for key in keys.get(digest, ()):
                self._action_path(key).unlink(missing_ok=True)
            durability_point("gc.entry")
            gone = objects.pop(digest)
            gone.path.unlink(missing_ok=True)
            size -= gone.size
        return GcReport(count_before - len(objects), size_before - size, len(objects), size)

    def _put_object(self, path: Path, digest: str, parts: list[Any]) -> None:
        try:
            self.maps.read(path, digest)
        except ArtifactError:
            write_atomic(path, parts)
            return
        sync_file(path)  # its writer may have died between rename and flush
        sync_folder(path.parent)
        _touch(path)

    def _entries(self, *, locked: bool) -> Iterator[tuple[Path, Any]]:
        """Every entry file with its content, None where that is of no use."""
        for path in _files(self._actions):
            entry = self._read(path, None, locked=locked)
            usable = _is_entry(entry) and self._action_path(entry["key"]) == path
            yield path, entry if usable else None

    def _read(self, path: Path, digest: str | None, *, locked: bool = False) -> Any:
        """Decoded content of a file of the store, or MISS; what is damaged is set aside."""
        try:
            return codecs.decode(self.maps.read(path, digest), where=str(path), checked=True)
        except codecs.ForeignSchemaError as error:
            _log.info("not usable by this version, made anew: %s", error)
        except ArtifactError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                self._set_aside(path, digest, error, locked=locked)
        return MISS

    def _is_damaged(self, path: Path, digest: str | None) -> bool:
        try:
            self.maps.read(path, digest)
        except codecs.ForeignSchemaError:
            return False
        except ArtifactError as error:
            if isinstance(error.__cause__, FileNotFoundError):  # removed meanwhile
                return False
            self._set_aside(path, digest, error)
            return True
        return False

    def _set_aside(
        self, path: Path, digest: str | None, reason: ArtifactError, *, locked: bool = False
    ) -> None:
        """Quarantine a damaged file, unless somebody has replaced it since it was read."""
        lock = contextlib.nullcontext() if locked else FileLock(self._lock_path, timeout=None)
        try:
            with lock:  # no writer is at work now
                try:
                    self.maps.read(path, digest)
                except ArtifactError as error:
                    if isinstance(error.__cause__, FileNotFoundError):
                        return
                    self._quarantine.mkdir(parents=True, exist_ok=True)
                    path.replace(self._quarantine / f"{path.name}{temporary_name()}")
                    _log.warning("damaged, set aside and made anew: %s", error)
                else:
                    _log.info("whole at the second reading: %s", reason)
        except OSError as error:
            _log.warning("damaged, cannot be set aside: %s (%s)", reason, error)

    def _list_objects(self) -> dict[str, _Object]:
        found = {}
        for path in _files(self._objects):
            try:
                status = path.stat()
            except OSError:
                continue
            if _is_digest(path.name):
                found[path.name] = _Object(path, status.st_size, status.st_mtime_ns)
        return found

    def _action_path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return self._actions / name[:2] / name

    def _object_path(self, digest: str) -> Path:
        return self._objects / digest[:2] / digest


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("key"), str)
        and _is_digest(entry.get("digest"))
    )


def _files(folder: Path) -> Iterator[Path]:
    """Files below `folder` but no temporary ones; nothing where it cannot be read."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(root, name)


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except OSError:  # a read-only store still serves
        _log.debug("cannot note the use of %s", path)
