"""Arrays that would be large in memory: maps of files without a name, gone with the array.

Pages of such an array are let go of like those of stored results, and are read again where they are
touched. Its bytes are written before it is used, so that a full disk is noticed here, where memory
stands in: a map of a file that the disk has no room for ends the process.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from ares.core.errors import StoreError
from ares.store.atomic import make_folder, writing
from ares.store.mapped import LARGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ares.store.store import Store

_log = logging.getLogger("ares.store")

_active: list[Store] = []


@contextlib.contextmanager
def scratching(store: Store | None) -> Iterator[None]:
    """Put large arrays of all threads of this process into files beside a store; None: do not.

    It never changes what an array holds.
    """
    if store is None:
        yield
        return
    _active.append(store)
    try:
        yield
    finally:
        _active.remove(store)


def full(shape: int | tuple[int, ...], value: float, dtype: npt.DTypeLike = np.float64) -> Any:
    """A new array of one value, in C order, that may be written to."""
    array = np.full(shape, value, dtype) if not _active or _size(shape, dtype) < LARGE else None
    if array is None:
        room = _room(_active[-1], _size(shape, dtype), np.asarray(value, dtype))
        array = np.full(shape, value, dtype) if room is None else np.frombuffer(room, dtype)
    return array.reshape(shape)


def copy(values: npt.NDArray[Any]) -> Any:
    """The same values in C order, in a file where they are many."""
    array = full(values.shape, 0, values.dtype)
    array[...] = values
    return array


def relax() -> None:
    """Let go of the pages of all maps: those that are needed come back by themselves."""
    for store in _active:
        store.maps.evict()


def _size(shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def _room(store: Store, size: int, value: npt.NDArray[Any]) -> mmap.mmap | None:
    """A map of `size` bytes that repeat `value`; None where the disk takes no more."""
    piece = np.full(min(size, LARGE) // value.itemsize, value).tobytes()
    try:
        with writing(store.root):
            make_folder(store.root)
            with tempfile.TemporaryFile(dir=store.root) as file:
                for begin in range(0, size, len(piece)):
                    file.write(piece[: size - begin])
                file.flush()
                room = mmap.mmap(file.fileno(), size)
    except StoreError as error:
        _log.warning("memory is used instead of a file: %s", error)
        return None
    store.maps.add(room)
    return room
