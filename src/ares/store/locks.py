"""Kernel locks between processes: a killed holder frees its lock at once."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Final, Self

from ares.core.errors import BusyError, StoreError

_POLL_SECONDS: Final = 0.02


class FileLock:
    """A lock on `path` by flock, held between `with` and its end.

    The lock file stays behind, because removing it would let two processes hold "the" lock; its
    content is the process id of the last exclusive holder and serves messages only. A second lock
    on the same path conflicts within one process, too. Processes forked while it is held keep it.

    Args:
        path: The lock file; missing parent folders are created.
        shared: Any number of shared holders exclude an exclusive one only.
        timeout: Seconds to wait; 0 does not wait, None waits for ever.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, shared: bool = False, timeout: float | None = 0.0
    ) -> None:
        self.path = Path(path)
        self.shared = shared
        self.timeout = timeout
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            BusyError: another process holds it; the message names its process id.
            StoreError: the lock file cannot be opened.
            RuntimeError: this object holds the lock already.
        """
        if self._descriptor is not None:
            raise RuntimeError("this FileLock is held already; use one object per holder")
        descriptor = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.path, flags, 0o666)
            self._wait(descriptor)
        except BaseException as error:
            if descriptor is not None:
                os.close(descriptor)
            if isinstance(error, OSError):
                raise StoreError(
                    "the lock file must be writable", value=error.strerror, where=str(self.path)
                ) from error
            raise
        if not self.shared:
            with contextlib.suppress(OSError):  # the number serves messages only
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Free the lock; does nothing when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _wait(self, descriptor: int) -> None:
        operation = fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX
        if self.timeout is None:
            fcntl.flock(descriptor, operation)
            return
        deadline = time.monotonic() + self.timeout
        while not _try_lock(descriptor, operation):
            if time.monotonic() >= deadline:
                raise BusyError(
                    "only one process at a time may work here",
                    value=self._holder(descriptor),
                    where=str(self.path),
                    remedy="Wait for that process to end, or stop it.",
                )
            time.sleep(_POLL_SECONDS)

    @staticmethod
    def _holder(descriptor: int) -> str:
        text = os.pread(descriptor, 32, 0).strip()
        return f"process {int(text)}" if text.isdigit() else "another process"


def _try_lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def is_locked(descriptor: int) -> bool:
    """Whether somebody else holds a lock on the open file; takes the lock where nobody does."""
    return not _try_lock(descriptor, fcntl.LOCK_EX)
