"""Digests of files, one by one or in a thread while the files are read."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import threading
from typing import TYPE_CHECKING, Final

from ares.market.files import open_regular
from ares.market.reading.table import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

CHANGED: Final = "changed while it was read"
"""In place of a digest: it equals none, so that the file is read again the next time."""
_STEP: Final = 1 << 20


def file_digest(path: Path, stop: threading.Event | None = None) -> str:
    """SHA-256 of a file's bytes; of some of them where it was told to stop.

    Raises:
        DataError: It is missing, unreadable, or no regular file: a pipe or a device need not end.
    """
    found = hashlib.sha256()
    with guarded(str(path)), open_regular(path) as file:
        while (stop is None or not stop.is_set()) and (data := file.read(_STEP)):
            found.update(data)
    return found.hexdigest()


@contextlib.contextmanager
def digesting(paths: Sequence[Path]) -> Iterator[Callable[[], tuple[str, ...]]]:
    """Take the digests in a thread for the time of a `with` block; it gives a function that waits.

    Files that another process has changed since the block began are `CHANGED`: their rows may be
    older than their digest.

    Raises:
        DataError: As `file_digest`; also what the function raises.
    """
    begun = [_state(path) for path in paths]
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1, "ares-digest") as worker:
        task = worker.submit(lambda: [file_digest(path, stop) for path in paths])

        def digests() -> tuple[str, ...]:
            found = zip(paths, begun, task.result(), strict=True)
            return tuple(digest if _state(path) == was else CHANGED for path, was, digest in found)

        try:
            yield digests
        finally:
            stop.set()


def _state(path: Path) -> tuple[int, ...]:
    """What tells that a file was written or replaced."""
    with guarded(str(path)):
        status = path.stat()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
