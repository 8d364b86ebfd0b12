"""What code and settings a strategy consists of: the part of a cache key that names it."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import inspect
import logging
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ares.backtest.user import UserStrategy
from ares.core.errors import FingerprintError
from ares.core.identity import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_log = logging.getLogger("ares.search")
_MAX_FILES: Final = 500


def strategy_identity(strategy: Any) -> str | None:
    """Digest of a strategy: its class, its settings and its code.

    The code of a user's class is its file, every file that it imports outside the standard
    library and site-packages, and the versions of the distributions imported on the way; the code
    of a built-in is part of the environment salt.

    Returns:
        None where there is no source file (a notebook) or a setting has no canonical encoding:
        such a strategy cannot be cached.
    """
    if isinstance(strategy, UserStrategy):  # a guard around the user's object
        strategy = strategy.inner
    kind = type(strategy)
    try:
        settings = fingerprint(_settings(strategy))
    except FingerprintError as error:
        _log.warning("results of %s are not cached: %s", kind.__qualname__, error)
        return None
    if kind.__module__.partition(".")[0] == "ares":
        return fingerprint((kind.__module__, kind.__qualname__, settings))
    try:
        source = inspect.getsourcefile(kind)
    except TypeError:
        source = None
    if source is None or not Path(source).is_file():
        _log.warning(
            "results of %s are not cached: its class has no source file", kind.__qualname__
        )
        return None
    return fingerprint((kind.__qualname__, settings, code_closure(Path(source))))


def callable_identity(function: str | Callable[..., Any]) -> str | None:
    """Digest of a function by its name and the code of its file; of a name by itself.

    Returns:
        None where there is no source file, or where the function carries values of its own.
    """
    if isinstance(function, str):
        return fingerprint(function)
    name = getattr(function, "__qualname__", None)
    if not inspect.isfunction(function) or function.__closure__ or name is None:
        return None
    source = inspect.getsourcefile(function)
    if source is None or not Path(source).is_file():
        return None
    return fingerprint((name, code_closure(Path(source))))


def _settings(strategy: Any) -> dict[str, Any]:
    values = dict(getattr(strategy, "__dict__", {}))
    for base in type(strategy).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(strategy, name):
                values[name] = getattr(strategy, name)
    return {k: v for k, v in values.items() if not isinstance(v, functools.cached_property)}


def code_closure(start: Path) -> dict[str, Any]:
    """Digests of `start` and of the local files that it imports, and versions of the rest."""
    files: dict[Path, str] = {}
    versions: dict[str, str] = {}
    waiting = [start.resolve()]
    while waiting and len(files) < _MAX_FILES:
        path = waiting.pop()
        if path in files:
            continue
        body = path.read_bytes()
        files[path] = hashlib.blake2b(body, digest_size=20).hexdigest()
        for name in sorted(set(_imported(body, path))):
            local = _local_file(name, path)
            if local is not None:
                waiting.append(local)
            elif (top := name.partition(".")[0]) not in sys.stdlib_module_names:
                versions[top] = _version(top)
    # Paths are no identity: the same files elsewhere are the same code.
    return {"files": sorted(files.values()), "first": files[start.resolve()], "versions": versions}


def _imported(body: bytes, path: Path) -> Iterator[str]:
    """Names of modules that a source file imports, anywhere in it; relative ones made absolute."""
    try:
        tree = ast.parse(body, filename=str(path))
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield prefix
            joint = "" if prefix.endswith(".") or not prefix else "."
            yield from (f"{prefix}{joint}{alias.name}" for alias in node.names)


def _local_file(name: str, importer: Path) -> Path | None:
    """The file of an imported module, unless it belongs to Ares, Python or site-packages."""
    dots = len(name) - len(name.lstrip("."))
    parts = [p for p in name.lstrip(".").split(".") if p]
    if dots:
        folder = importer.parents[dots - 1] if dots <= len(importer.parents) else importer.parent
        return _module_file(folder, parts)
    if not parts or parts[0] == "ares" or parts[0] in sys.stdlib_module_names:
        return None
    loaded = getattr(sys.modules.get(name), "__file__", None)
    candidates = [Path(loaded)] if loaded else []
    for folder in (importer.parent, *(Path(p or ".") for p in sys.path)):
        found = _module_file(folder, parts)
        if found is not None:
            candidates.append(found)
    mine = [c.resolve() for c in candidates if c.suffix == ".py" and not _installed(c.resolve())]
    return mine[0] if mine else None


def _module_file(folder: Path, parts: list[str]) -> Path | None:
    target = folder.joinpath(*parts)
    for path in (target.with_name(target.name + ".py"), target / "__init__.py"):
        if path.is_file():
            return path.resolve()
    return None


def _installed(path: Path) -> bool:
    roots = {sysconfig.get_path(k) for k in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(path.is_relative_to(root) for root in map(Path, sorted(r for r in roots if r)))


@functools.cache
def _version(top: str) -> str:
    try:
        return importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(top), "__version__", "unknown"))
