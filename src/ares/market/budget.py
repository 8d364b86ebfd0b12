"""How much memory this process may use, and uses: limits, sizes, and resident memory."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Final

from ares.core.errors import ConfigError

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
_CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
_CGROUP_SELF: Final = Path("/proc/self/cgroup")
_M_MMAP_THRESHOLD: Final = -3
_STATUS: Final = Path("/proc/self/status")
_UNLIMITED: Final = 1 << 60
"""Limits from here on mean none: cgroup v1 writes the largest page-aligned int64."""


def parse_size(text: str) -> int:
    """Bytes of a size such as `2GiB`, `500 MB` or `1073741824`; KB is 1000, KiB 1024, K 1024.

    Raises:
        ConfigError: Another form, or zero.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise ConfigError(
            "a size is a number and B, KiB, MiB, GiB or TiB", value=text, remedy="For example 2GiB."
        )
    decimal = text.strip().lower().endswith("b") and not match[3]
    base = 1000 if decimal else 1024
    return int(float(match[1]) * base ** " KMGT".index(match[2].upper() or " "))


def tree_bytes() -> int:
    """Resident memory of this process and its children, in bytes; shared pages count in each."""
    import psutil

    total = 0
    own = psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            total += int(process.memory_info().rss)
    return total


def give_back() -> None:
    """Return memory that is free, but held by allocators, to the system."""
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        arrow.default_memory_pool().release_unused()
    with contextlib.suppress(AttributeError, OSError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def steady_allocator() -> None:
    """Let arrays from 1 MiB on go back to the system as soon as they are freed.

    glibc moves that size up to 32 MiB by itself, and never gives back what threads freed at the end
    of their heaps.
    """
    with contextlib.suppress(AttributeError, OSError):  # glibc alone has it
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def peak_of_process() -> int:
    """Highest resident memory of this process since it began, in bytes; 0 where unknown."""
    try:
        text = _STATUS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    match = re.search(r"^VmHWM:\s*(\d+) kB$", text, re.MULTILINE)
    return 0 if match is None else int(match[1]) * 1024


def memory_limit() -> int:
    """Bytes of physical memory, or of the cgroup's limit where that is smaller."""
    import psutil

    physical = int(psutil.virtual_memory().total)
    limit = cgroup_limit()
    return physical if limit is None else min(physical, limit)


def cgroup_limit(*, root: Path = _CGROUP_ROOT, own: Path = _CGROUP_SELF) -> int | None:
    """Smallest memory limit of this process's cgroup (v1 or v2) and its parents, or None.

    Args:
        root: Where the cgroup file systems are mounted.
        own: The file that names the process's cgroups.
    """
    try:
        lines = own.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found: list[int] = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            found.extend(_limits(root, path, "memory.max"))
        elif "memory" in controllers.split(","):
            found.extend(_limits(root / "memory", path, "memory.limit_in_bytes"))
    return min(found, default=None)


def _limits(root: Path, path: str, name: str) -> list[int]:
    """Limits of the group at `path` and of all groups above it."""
    parts = [part for part in PurePosixPath(path).parts if part not in {"/", "..", "."}]
    limits = []
    for depth in range(len(parts) + 1):
        try:
            text = root.joinpath(*parts[:depth], name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit() and 0 < int(text) < _UNLIMITED:
            limits.append(int(text))
    return limits
