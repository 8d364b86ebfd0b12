"""Temporary files and folders of long work: gone when it ends, and swept where it was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ares.market.checking.door import Times
from ares.store.atomic import make_folder, writing
from ares.store.locks import is_locked
from ares.store.temporaries import temporary_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def scratch_file(folder: Path) -> Any:
    """A binary file in `folder` that has no name, so that nothing of it is ever left behind.

    Raises:
        StoreError: the folder cannot be written.
    """
    with writing(folder):
        make_folder(folder)
        return tempfile.TemporaryFile(dir=folder)  # the caller closes it


def let_go(file: Any) -> None:
    """Close a scratch file; what it still buffers is of no use, and a full disk would refuse it."""
    with contextlib.suppress(OSError):
        file.close()


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
    """Times of pieces as the door returns them, in a temporary file that has no name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: Any = None
        self._lengths: list[tuple[int, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            let_go(self._file)

    def add(self, times: Times) -> None:
        """Keep the times of the next piece.

        Raises:
            StoreError: the disk is full, read-only or failing.
        """
        self._file = self._file or scratch_file(self._folder)
        same = len(times.kept) == len(times.distinct)  # those of bars are among the distinct ones
        with writing(self._folder):
            for own in times[:1] if same else times:
                self._file.write(np.ascontiguousarray(own).data)
        self._lengths.append((len(times.distinct), len(times.kept)))

    def pieces(self) -> Iterator[Times]:
        """The times of each piece, as often as it is called."""
        at = 0
        for distinct, kept in self._lengths:
            same = distinct == kept
            with writing(self._folder):  # it writes what is buffered
                self._file.seek(8 * at)
            every = np.frombuffer(
                self._file.read(8 * (distinct if same else distinct + kept)), np.int64
            )
            at += len(every)
            yield Times(every[:distinct], every if same else every[distinct:])
