"""Compiled kernels: functions on arrays that see numpy and numba only.

numba's own disk cache does not notice an edit in another file. So compiled code is kept in a
folder whose name is a digest of all kernel sources, the numba and numpy versions and the
processor: an edit anywhere changes the folder, and a read-only installation works. Where the user
has no folder that can be written to, each process compiles into a temporary one of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator


def _cache_dir() -> Path:
    digest = hashlib.blake2b(digest_size=12)
    for part in (numba.__version__, np.__version__, platform.machine(), platform.python_version()):
        digest.update(part.encode() + b"\0")
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    for base in _bases():
        folder = base / "ares" / "kernels" / digest.hexdigest()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    # numba's next choice would be the package's own folder, where stale code may lie.
    return Path(tempfile.mkdtemp(prefix="ares-kernels-"))


def _bases() -> Iterator[Path]:
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        if os.environ.get(name):
            yield Path(os.environ[name])
    with contextlib.suppress(RuntimeError):  # a user without a home
        yield Path.home() / ".cache"


numba.config.CACHE_DIR = str(_cache_dir())
