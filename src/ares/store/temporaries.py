"""Temporary names, and what is left under them when a writer crashes.

Temporary files carry the process id of their writer and are locked by it, so `sweep_orphans` can
tell a crashed writer's remains from work in progress.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ares.store.locks import is_locked

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["is_temporary", "sweep_orphans", "temporary_name"]

_TEMPORARY: Final = re.compile(r"\.ares-tmp-(\d{1,10})-[0-9a-f]{16}")
_RECYCLED_SECONDS: Final = 3600.0


def temporary_name() -> str:
    """A fresh name that `sweep_orphans` knows as a temporary one of this process."""
    return f".ares-tmp-{os.getpid()}-{secrets.token_hex(8)}"


def is_temporary(name: str) -> bool:
    """Whether `name` was made by `temporary_name`."""
    return _TEMPORARY.fullmatch(name) is not None


def sweep_orphans(folder: str | os.PathLike[str]) -> int:
    """Remove what crashed writers left below `folder`; work in progress is kept.

    A temporary file or folder is an orphan when nobody locks it and its writer is dead (or it is
    over an hour old: process ids are used again).

    Returns:
        How many were removed. What cannot be removed stays, without an error.
    """
    removed = 0
    for path in _temporaries(Path(folder)):
        if _is_orphan(path):
            with contextlib.suppress(OSError):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
                removed += 1
    return removed


def _temporaries(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        for name in files:
            if is_temporary(name):
                yield Path(root, name)
        for name in [name for name in folders if is_temporary(name)]:
            folders.remove(name)
            yield Path(root, name)


def _is_orphan(path: Path) -> bool:
    match = _TEMPORARY.fullmatch(path.name)
    if match is None:
        return False
    try:
        age = time.time() - path.lstat().st_mtime
        if _alive(int(match.group(1))) and age < _RECYCLED_SECONDS:
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return path.is_symlink()  # never made by a writer
    try:
        return not is_locked(descriptor)
    finally:
        os.close(descriptor)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
