"""Temporary files and folders of long work: gone when it ends, and swept where it was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from ares.core.errors import StoreError
from ares.store.atomic import make_folder, temporary_name
from ares.store.locks import is_locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Turn what a full, read-only or failing disk raises into a `StoreError`."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            "temporary files must be writable",
            value=error.strerror or str(error),
            where=str(folder),
            remedy="Free space or make the folder writable.",
        ) from error


def scratch_file(folder: Path) -> Any:
    """A binary file in `folder` that has no name, so that nothing of it is ever left behind.

    Raises:
        StoreError: the folder cannot be written.
    """
    with disk(folder):
        make_folder(folder)
        return tempfile.TemporaryFile(dir=folder)  # the caller closes it


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A folder within `folder` for the time of a `with` block; sweepers see that it is in use.

    Raises:
        StoreError: the folder cannot be written.
    """
    path = folder / temporary_name()
    with disk(folder):
        make_folder(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        is_locked(descriptor)  # takes the lock that tells sweepers of work in progress
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)
