"""Temporary files and folders of long work: gone when it ends, and swept where it was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ares.store.atomic import make_folder, temporary_name, writing
from ares.store.locks import is_locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ares.core.types import Int64Array


def scratch_file(folder: Path) -> Any:
    """A binary file in `folder` that has no name, so that nothing of it is ever left behind.

    Raises:
        StoreError: the folder cannot be written.
    """
    with writing(folder):
        make_folder(folder)
        return tempfile.TemporaryFile(dir=folder)  # the caller closes it


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A folder within `folder` for the time of a `with` block; sweepers see that it is in use.

    Raises:
        StoreError: the folder cannot be written.
    """
    path = folder / temporary_name()
    with writing(folder):
        make_folder(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        is_locked(descriptor)  # takes the lock that tells sweepers of work in progress
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


class TimesFile:
    """Times under keys, each written once, in a temporary file that has no name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: Any = None
        self._places: dict[int, tuple[int, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, key: int, times: Int64Array) -> None:
        """Keep the times of a key.

        Raises:
            StoreError: the disk is full, read-only or failing.
        """
        if len(times) == 0:
            return
        self._file = self._file or scratch_file(self._folder)
        with writing(self._folder):
            at = self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(times).data)
        self._places[key] = (at, len(times))

    def read(self, key: int) -> Int64Array:
        """The times of a key; none where none were written."""
        if key not in self._places:
            return np.zeros(0, dtype=np.int64)
        at, count = self._places[key]
        self._file.seek(at)
        return np.frombuffer(self._file.read(8 * count), dtype=np.int64)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
