"""Compiled kernels: functions on arrays that see numpy and numba only.

numba's own disk cache does not notice an edit in another file. So compiled code is kept in a
folder whose name is a digest of all kernel sources, the numba and numpy versions and the
processor: an edit anywhere changes the folder, and a read-only installation works.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import numba
import numpy as np


def _cache_dir() -> Path:
    digest = hashlib.blake2b(digest_size=12)
    for part in (numba.__version__, np.__version__, platform.machine(), platform.python_version()):
        digest.update(part.encode() + b"\0")
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base else Path.home() / ".cache"
    return root / "ares" / "kernels" / digest.hexdigest()


numba.config.CACHE_DIR = str(_cache_dir())
