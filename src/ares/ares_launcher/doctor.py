"""What `ares doctor` looks at."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ares.ares_launcher.output import size


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, what was found, and what to do where it is not ok."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def examine(home: Path | None) -> list[Check]:
    """Run all checks; none raises."""
    checks = [_python(), *_distributions(), _processors(), _memory(), _workspace(home)]
    checks += [_kernel_cache(), _kernels(), _sample()]
    return checks


def _python() -> Check:
    version = platform.python_version()
    return Check("Python", sys.version_info >= (3, 11), version, "Ares needs 3.11 or later.")


def _distributions() -> Iterator[Check]:
    from ares.core.environment import library_versions

    missing = [name for name, version in library_versions().items() if version == "missing"]
    found = ", ".join(f"{name} {v}" for name, v in library_versions().items())
    remedy = "Reinstall ares-trainer." if missing else ""
    yield Check("libraries", not missing, found, remedy)
    for extra, names in (
        ("exchange", ("ccxt",)),
        ("dask", ("distributed",)),
        ("optuna", ("optuna",)),
    ):
        yield Check(f"extra {extra}", True, ", ".join(map(_installed, names)))


def _installed(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{name} not installed (optional)"


def _processors() -> Check:
    return Check("processors", True, str(len(os.sched_getaffinity(0))))


def _memory() -> Check:
    from ares.market.memory_manager import MemoryManager

    profile = MemoryManager().profile_memory_usage()
    budget = float(profile["budget_bytes"])
    ok = budget >= 1 << 30
    return Check("memory budget", ok, size(budget), "" if ok else "Ares wants 1 GiB at least.")


def _workspace(home: Path | None) -> Check:
    from ares.store.workspace import Workspace

    try:
        workspace = Workspace.locate(home)
        return _writable("workspace", workspace.home)
    except Exception as error:  # noqa: BLE001  # a check reports, it never raises
        return Check("workspace", False, str(error), "Choose another folder with --home.")


def _writable(name: str, folder: Path) -> Check:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check(name, False, f"{folder}: {error.strerror}", "Make it writable.")
    return Check(name, True, str(folder))


def _kernel_cache() -> Check:
    import numba

    import ares.kernels  # noqa: F401  # it chooses the folder

    return _writable("kernel cache", Path(str(numba.config.CACHE_DIR)))


def _timed(name: str, work: Callable[[], str]) -> Check:
    started = time.perf_counter()
    try:
        found = work()
    except Exception as error:  # noqa: BLE001  # a check reports, it never raises
        return Check(
            name, False, f"{type(error).__name__}: {error}", "Run with --debug; report it."
        )
    return Check(name, True, f"{found} ({time.perf_counter() - started:.2f} s)")


def _kernels() -> Check:
    def compile_all() -> str:
        import importlib
        import pkgutil

        import ares.kernels as package

        names = [module.name for module in pkgutil.iter_modules(package.__path__)]
        for name in names:
            importlib.import_module(f"ares.kernels.{name}")
        return f"{len(names)} modules compiled"

    return _timed("kernels", compile_all)


def _sample() -> Check:
    def load() -> str:
        from ares.market.sources import sample

        bars = sample()
        return f"{len(bars):,} bars of {bars.symbol}"

    return _timed("embedded sample", load)
