"""Large stored values as maps of their files: in memory is only what is touched."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
import threading
import weakref
from typing import TYPE_CHECKING, Final

from ares.core.errors import ArtifactError
from ares.store import codecs

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

LARGE: Final = 1 << 20
_CHUNK: Final = 1 << 20


class Maps:
    """Reads stored files, and maps the large ones.

    It is a cache that a memory manager can evict: pages that are let go of are read again from the
    file when they are touched.
    """

    def __init__(self) -> None:
        self._open: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
        self._lock = threading.Lock()

    def add(self, made: mmap.mmap) -> None:
        """Evict this map, too, as long as it lives."""
        with self._lock:
            self._open.add(made)

    @property
    def nbytes(self) -> int:
        """Bytes that are mapped; no more of them than these are in memory."""
        with self._lock:
            return sum(len(each) for each in self._open)

    def evict(self) -> int:
        """Let go of all pages, and return how many bytes are mapped."""
        with self._lock:
            held = list(self._open)
        for each in held:
            with contextlib.suppress(OSError, ValueError):
                each.madvise(mmap.MADV_DONTNEED)
        return sum(len(each) for each in held)

    def read(self, path: Path, digest: str | None) -> bytes | mmap.mmap:
        """Content of a stored file, whose checksum holds and is `digest`, where that is given.

        Raises:
            ArtifactError: missing, unreadable, no regular file, cut or changed.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb", buffering=0) as stream:
                return self._checked(stream, path, digest)
        except OSError as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(
                "the file must be readable", value=error.strerror, where=str(path)
            ) from error

    def _checked(self, stream: FileIO, path: Path, digest: str | None) -> bytes | mmap.mmap:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError("a regular file must be here", where=str(path))
        if status.st_size < LARGE:
            data = stream.readall()
            codecs.check(data, where=str(path))
            found = codecs.content_digest(data)
        else:
            found = _checksum(stream, status.st_size)
        if digest is not None and found != digest:
            raise ArtifactError("the content must be the one of its name", where=str(path))
        if status.st_size < LARGE:
            return data
        made = mmap.mmap(stream.fileno(), status.st_size, prot=mmap.PROT_READ)
        self.add(made)
        codecs.check_head(made, found, where=str(path))
        return made


def _checksum(stream: FileIO, size: int) -> str:
    """The SHA-256 that the content of a stored file should end with."""
    digest = hashlib.sha256()
    left = size - codecs.DIGEST_BYTES
    while left > 0:
        chunk = stream.read(min(_CHUNK, left))
        if not chunk:
            break
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()
