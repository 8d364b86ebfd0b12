"""What code and which libraries compute a result: the part of every key that nobody can forget."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Final

from ares.core.identity import fingerprint

NUMERIC_LIBRARIES: Final = (
    "arch", "lightgbm", "llvmlite", "numba", "numpy", "pandas", "pyarrow", "scikit-learn",
    "scipy", "TA-Lib",
)  # fmt: skip
"""Distributions whose version can change a number."""


@functools.cache
def source_digest() -> str:
    """Digest of all installed `ares` sources, names and contents."""
    root = Path(__file__).parents[1]
    digest = hashlib.blake2b(digest_size=20)
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).parts):
        name, body = "/".join(path.relative_to(root).parts).encode(), path.read_bytes()
        digest.update(b"%d %d " % (len(name), len(body)) + name + body)
    return digest.hexdigest()


@functools.cache
def library_versions() -> dict[str, str]:
    """Installed versions of the numeric libraries; "missing" where one is absent."""
    versions = {}
    for name in NUMERIC_LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "missing"
    return versions


@functools.cache
def code_digest() -> str:
    """Digest of the `ares` sources and the versions of Python and the numeric libraries."""
    return fingerprint((source_digest(), platform.python_version(), library_versions()))


@functools.cache
def environment_salt() -> str:
    """`code_digest` and the processor's kind and features: results may differ in the last bit."""
    return fingerprint((code_digest(), platform.machine(), _cpu_features()))


def _cpu_features() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
