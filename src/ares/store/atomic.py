"""The one commit primitive: a file or folder is there complete, or it is not there.

A file is written under a temporary name beside its final one, flushed to the disk, read back,
renamed, and the folder is flushed. After a crash at any moment the final name holds the old
content or the new one. Temporary files carry the process id of their writer and are locked by it,
so `sweep_orphans` can tell a crashed writer's remains from work in progress.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias

from ares.core.errors import ArtifactError, StoreError
from ares.core.interrupts import check_interrupted
from ares.store.faults import durability_point, reset_faults
from ares.store.jsonio import json_bytes, parse_json
from ares.store.locks import FileLock, is_locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "FileLock",
    "durability_point",
    "is_temporary",
    "make_folder",
    "publish_dir",
    "read_checked",
    "read_json",
    "read_regular",
    "reset_faults",
    "sweep_orphans",
    "sync_file",
    "sync_folder",
    "temporary_name",
    "write_atomic",
    "write_json",
    "writing",
]

Writer: TypeAlias = "Callable[[BinaryIO], object]"

_TEMPORARY: Final = re.compile(r"\.ares-tmp-(\d{1,10})-[0-9a-f]{16}")
_CHUNK: Final = 1 << 20
_RECYCLED_SECONDS: Final = 3600.0
_PUBLISH_LOCK: Final = ".ares-publish.lock"


def write_atomic(
    path: str | os.PathLike[str],
    data: bytes | list[Any] | Writer,
    *,
    check: Callable[[Path], object] | None = None,
) -> None:
    """Replace the file at `path` by `data`, durably and all at once.

    Args:
        path: Final name; missing parent folders are created.
        data: The content, as one or as several buffers, or a function that writes it to the binary
            file it is given.
        check: Called with the temporary file before the rename; if it raises, nothing changes.

    Raises:
        StoreError: the disk is full, read-only or failing. `path` then holds the old content, or
            the new one where only the last flush of the folder failed.
    """
    final = Path(path)
    temporary = final.parent / temporary_name()
    with writing(final):
        try:
            make_folder(final.parent)
            durability_point("write.begin")
            _write_temporary(temporary, data, check)
            durability_point("write.synced")
            check_interrupted()
            temporary.replace(final)
            durability_point("write.replaced")
            sync_folder(final.parent)
            durability_point("write.committed")
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def publish_dir(
    temporary: str | os.PathLike[str], final: str | os.PathLike[str], *, first_suffix: int = 2
) -> Path:
    """Give the finished folder `temporary` its final name, durably and all at once.

    Where the name is taken, `-2`, `-3` and so on is appended; nothing is ever replaced. A folder
    on another file system is copied beside the final name first.

    Returns:
        The name that the folder got.

    Raises:
        StoreError: the disk is full, read-only or failing. `temporary` is then still there, or
            has its final name where only the last flush of the folder failed.
    """
    source, wanted = Path(temporary), Path(final)
    with writing(wanted):
        make_folder(wanted.parent)
        durability_point("publish.begin")
        source = _beside(source, wanted.parent)
        _sync_tree(source)
        durability_point("publish.synced")
        check_interrupted()
        with FileLock(wanted.parent / _PUBLISH_LOCK, timeout=None):
            target, suffix = wanted, first_suffix
            while os.path.lexists(target):
                target = wanted.with_name(f"{wanted.name}-{suffix}")
                suffix += 1
            source.rename(target)
        durability_point("publish.renamed")
        sync_folder(wanted.parent)
        if source == Path(temporary):
            sync_folder(source.parent)
        else:
            shutil.rmtree(temporary, ignore_errors=True)
        durability_point("publish.committed")
    return target


def read_checked(path: str | os.PathLike[str], *, sha256: str, size: int | None = None) -> bytes:
    """Content of a regular file whose SHA-256 (and size, where given) is as expected.

    What was checked is what is returned: the file is read once.

    Raises:
        ArtifactError: the file is missing, unreadable, no regular file, or differs.
    """
    data = read_regular(path)
    if size is not None and len(data) != size:
        raise ArtifactError(
            f"the file must have {size} bytes",
            value=len(data),
            where=str(path),
            remedy="It was cut or changed; restore it or make it anew.",
        )
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ArtifactError(
            f"the file's SHA-256 must be {sha256}",
            value=found,
            where=str(path),
            remedy="It was changed; restore it or make it anew.",
        )
    return data


def read_regular(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> bytes:
    """Content of a regular file; a symbolic link as the last component is refused.

    Raises:
        ArtifactError: missing, unreadable, larger than `max_bytes`, or not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ArtifactError("a regular file must be here", where=str(path))
            if max_bytes is not None and status.st_size > max_bytes:
                raise ArtifactError(
                    f"the file may have {max_bytes} bytes", value=status.st_size, where=str(path)
                )
            return stream.read()
    except (OSError, ValueError) as error:
        if isinstance(error, ArtifactError):
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ArtifactError("the file must be readable", value=reason, where=str(path)) from error


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write `value` atomically as JSON with sorted keys; equal values make equal bytes.

    NaN is written as null, since JSON has no NaN.

    Raises:
        FingerprintError: `value` holds something that JSON cannot say.
        StoreError: as `write_atomic`.
    """
    write_atomic(path, json_bytes(value))


def read_json(path: str | os.PathLike[str], *, max_bytes: int = 1 << 28) -> object:
    """Parse a JSON file.

    Raises:
        ArtifactError: missing, too large or not JSON.
    """
    return parse_json(read_regular(path, max_bytes=max_bytes), where=str(path))


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


def make_folder(folder: Path) -> None:
    """Create `folder` and its missing parents, each flushed into its parent folder."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        if folder == folder.parent:
            break
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to the disk, where the file system can do that."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Flush the content of the file at `path` to the disk."""
    _sync(path, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems without flush
            raise
    finally:
        os.close(descriptor)


def _write_temporary(
    path: Path, data: bytes | list[Any] | Writer, check: Callable[[Path], object] | None
) -> None:
    parts = [data] if isinstance(data, bytes) else data
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o666)
    with os.fdopen(descriptor, "w+b") as stream:
        is_locked(descriptor)  # takes the lock that tells sweepers of work in progress
        if isinstance(parts, list):
            _write_halves(stream, parts)
        else:
            parts(stream)
        stream.flush()
        durability_point("write.written")
        os.fsync(descriptor)
        if isinstance(parts, list):
            _verify(stream, parts, path)
        if check is not None:
            check(path)


def _write_halves(stream: BinaryIO, parts: list[Any]) -> None:
    """Write all parts, passing a durability point in their middle."""
    left = sum(map(len, parts)) // 2
    for part in parts:
        view = memoryview(part)
        if 0 <= left <= len(view):
            stream.write(view[:left])
            stream.flush()
            durability_point("write.middle")
            view, left = view[left:], -1
        left -= len(view) if left >= 0 else 0
        stream.write(view)


def _verify(stream: BinaryIO, parts: list[Any], path: Path) -> None:
    stream.seek(0)
    position, same = 0, True
    for part in parts:
        for begin in range(0, len(part), _CHUNK):
            wanted = memoryview(part)[begin : begin + _CHUNK]
            same = same and stream.read(len(wanted)) == bytes(wanted)  # views compare item by item
            position += len(wanted) if same else 0
    if not same or stream.read(1):
        raise StoreError(
            "what is read back must be what was written",
            value=f"first difference in the MiB from byte {position}",
            where=str(path),
            remedy="Check the disk.",
        )


def _beside(source: Path, parent: Path) -> Path:
    """`source` itself, or a copy of it in `parent` where a rename could not reach."""
    if source.stat().st_dev == parent.stat().st_dev:
        return source
    copy = parent / temporary_name()
    try:
        shutil.copytree(source, copy, symlinks=True)
    except BaseException:
        shutil.rmtree(copy, ignore_errors=True)
        raise
    return copy


def _sync_tree(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for name in files:
            path = Path(root, name)
            if not path.is_symlink():
                sync_file(path)
        sync_folder(Path(root))


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


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a full, read-only or failing disk raises into a `StoreError`."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        converted = StoreError(
            "the disk must be writable",
            value=error.strerror or str(error),
            where=str(path),
            remedy="Free space or make the folder writable.",
        )
        converted.errno = error.errno
        raise converted from error
